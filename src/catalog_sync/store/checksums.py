"""Checksums of a version's content, so that a value which was changed or moved in Redis is never served.

Each field of a version's data hashes has one, computed from its name, its value and the name of the hash. They are
packed in buckets in the meta hash, so that a reader of one bundle fetches only those that it needs along with it; the
meta hash has one over itself. Versions of releases without checksums have none and are read unchecked.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from catalog_sync.domain.index import names_sha256
from catalog_sync.store.errors import CorruptEntryError
from catalog_sync.store.keys import META_CHECKSUMS_PREFIX, META_MANIFEST, VersionKeys

BUCKETS = 64
SIZE = 8
"""Bytes of one checksum: it protects against accidents, not against people who can write to Redis."""
_LARGE = 65_536
"""Bytes from which on a value is not copied to be hashed."""
_ENTRY = "checksums"
"""Key in the manifest: how many buckets there are, and the digest of each hash's field names."""


def checksum(where: str, field: bytes, value: bytes) -> bytes:
    """The checksum of a field of the data hash ``where``. JSON has no NUL, so the hashed text is unambiguous."""
    if len(value) < _LARGE:
        return hashlib.blake2b(b"\0".join((field, value)), digest_size=SIZE, person=where.encode()).digest()
    digest = hashlib.blake2b(field, digest_size=SIZE, person=where.encode())
    digest.update(b"\0")
    digest.update(value)
    return digest.digest()


def meta_digest(*parts: bytes) -> str:
    """The digest of the fields of a version's meta hash, in hexadecimal."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.hexdigest()


class Total:
    """A combined checksum of bundles in any order, each counted once."""

    def __init__(self, checksums: Iterable[bytes] = ()) -> None:
        self._sum = 0
        for each in checksums:
            self.add(each)

    def add(self, checksum: bytes) -> None:
        """Adds the checksum of one bundle."""
        self._sum ^= int.from_bytes(checksum)

    def __str__(self) -> str:
        return f"{self._sum:0{2 * SIZE}x}"


def manifest_entry(names: Mapping[str, str]) -> dict[str, Any]:
    """The manifest's entry on checksums. ``names``: by data hash the SHA-256 over its sorted fields."""
    return {_ENTRY: {"buckets": BUCKETS, "names": dict(names)}}


class Packed:
    """The checksums of a version as stored in its meta hash."""

    def __init__(self) -> None:
        self._buckets = [bytearray() for _ in range(BUCKETS)]

    def add(self, checksums: Iterable[tuple[bytes, bytes]]) -> None:
        """Adds checksums, each given with the name of its field."""
        for field, each in checksums:
            self._buckets[_bucket(field)] += each

    def fields(self) -> Iterator[tuple[str, bytes]]:
        """The fields of the meta hash."""
        for number, bucket in enumerate(self._buckets):
            yield f"{META_CHECKSUMS_PREFIX}{number}", bytes(bucket)


class Checksums:
    """The checksums of one version, as far as they were read."""

    def __init__(self, version: str, buckets: Mapping[int, bytes], names: Mapping[str, str]) -> None:
        self._version = version
        self._buckets = buckets
        self._known = {each for bucket in buckets.values() for each in _split(bucket)}
        """Without those that :meth:`take` has returned."""
        self._names = names

    def check(self, where: str, field: bytes, value: bytes) -> bytes:
        """The checksum of a field. Raises :class:`CorruptEntryError` if the version does not contain it."""
        found = checksum(where, field, value)
        if found not in self._known:
            self._refuse_unknown(where, field, found)
        return found

    def take(self, where: str, field: bytes, value: bytes) -> bytes | None:
        """Like :meth:`check`, for reading each field once: ``None`` for a repeated field."""
        found = checksum(where, field, value)
        if found in self._known:
            self._known.remove(found)  # so that nothing else has to remember which ones came
            return found
        self._refuse_unknown(where, field, found)
        return None

    def _refuse_unknown(self, where: str, field: bytes, found: bytes) -> None:
        if found not in _split(self._buckets.get(_bucket(field), b"")):
            raise CorruptEntryError(
                f"an entry of version {self._version} in {where} is not as it was published",
                context={"version": self._version, "hash": where},
            )

    def check_names(self, where: str, names: Iterable[str]) -> None:
        """Raises :class:`CorruptEntryError` if these are not exactly the fields of a data hash."""
        if names_sha256(sorted(names)) != self._names.get(where):
            raise CorruptEntryError(
                f"the fields of version {self._version} in {where} are not those that were published",
                context={"version": self._version, "hash": where},
            )


def reading(keys: VersionKeys, fields: Iterable[bytes] | None = None) -> tuple[str, ...]:
    """The command whose reply :func:`read` parses: for these fields, or for all."""
    return ("HMGET", keys.meta, META_MANIFEST, *(f"{META_CHECKSUMS_PREFIX}{number}" for number in _numbers(fields)))


def read(version: str, answer: Sequence[bytes | None], fields: Iterable[bytes] | None = None) -> Checksums | None:
    """The checksums, ``None`` if the version has none.

    Raises :class:`CorruptEntryError` if it should have some.
    """
    manifest, *found = answer
    entry = entry_of(version, manifest)
    if entry is None:
        return None
    buckets = dict(zip(_numbers(fields), found, strict=True))
    known = {number: bucket for number, bucket in buckets.items() if bucket is not None}
    if len(known) != len(buckets):
        raise CorruptEntryError(f"version {version} lacks checksums", context={"version": version})
    return Checksums(version, known, entry["names"])


def entry_of(version: str, manifest: bytes | None) -> dict[str, Any] | None:
    """The manifest's entry on checksums; ``None`` if it has none, and before the version is sealed.

    Raises :class:`CorruptEntryError` if it cannot be read.
    """
    if manifest is None:
        return None
    try:
        entry = json.loads(manifest).get(_ENTRY)
        if entry is not None and (entry["buckets"] != BUCKETS or not isinstance(entry["names"], dict)):
            raise ValueError("unknown checksums")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptEntryError(f"the meta of version {version} cannot be read") from error
    return None if entry is None else dict(entry)


def _split(bucket: bytes) -> Iterator[bytes]:
    return (bucket[place : place + SIZE] for place in range(0, len(bucket), SIZE))


def _numbers(fields: Iterable[bytes] | None) -> Sequence[int]:
    return range(BUCKETS) if fields is None else sorted({_bucket(field) for field in fields})


def _bucket(field: bytes) -> int:
    return zlib.crc32(field) % BUCKETS
