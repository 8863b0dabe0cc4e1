"""The published catalogue in Redis: reading a version, staging the next one, switching the pointer."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from collections.abc import AsyncIterator, Sequence
from typing import Literal, NamedTuple

from catalog_sync.domain.errors import CatalogSyncError, InvalidDataError
from catalog_sync.domain.index import DIMENSIONS, CatalogueIndex, Dimension, Filter
from catalog_sync.domain.models import Bundle, CatalogueMeta
from catalog_sync.domain.pieces import in_pieces
from catalog_sync.domain.text import is_encodable
from catalog_sync.store import checksums, scripts
from catalog_sync.store.client import GuardedRedis, text_of
from catalog_sync.store.errors import (
    AlreadyPublishedError,
    CacheReplyError,
    CorruptEntryError,
    StagingIncompleteError,
    StaleFenceError,
    VersionGoneError,
)
from catalog_sync.store.keys import (
    CURRENT,
    FENCE,
    FENCE_SEQ,
    HASHES,
    LOCK,
    META_DIGEST,
    META_FENCE,
    META_JSON,
    META_MANIFEST,
    OWNER,
    REPLACED,
    VERSION_HASHES,
    VERSION_PREFIX,
    VersionKeys,
    receipt_key,
)
from catalog_sync.store.lock import LockLease, SyncLock, lock_lost
from catalog_sync.store.owner import Owner, read_mark
from catalog_sync.store.staging import CHUNK, STAGING_TTL, Staging, chunks, decode, scan_hash
from otel_resilience import Policy

Backend = Literal["redis", "private-redis", "in-process"]

GRACE = 600
"""Seconds for which a replaced version is kept for readers that still use it."""
KEPT_VERSIONS = 3
"""Maximum replaced versions that are kept for that time."""
KEPT_BYTES = 64 * 1024 * 1024
"""Maximum memory of those in Redis; the most recently replaced one is kept even if it is larger."""

_DAYS = re.compile(r"[0-9]{1,9}", re.ASCII)

log = logging.getLogger(__name__)


class Stored(NamedTuple):
    """A bundle as it is stored."""

    name: bytes
    text: bytes
    checksum: bytes
    """Checksum of name and text."""


class CatalogStore:
    """The catalogue in one Redis. Every method raises the ``Cache…Error`` that says why Redis could not serve it."""

    def __init__(self, redis: GuardedRedis, *, backend: Backend, lock: SyncLock | None = None) -> None:
        self.redis = redis
        """The Redis that holds it, for its other content."""
        self.backend = backend
        self.lock = lock or SyncLock(redis)
        """The sync lock."""

    @property
    def degraded(self) -> bool:
        """Whether the catalogue lives only as long as this process (apart from its snapshot)."""
        return self.backend == "in-process"

    async def outlives_process(self) -> bool:
        """Whether what is published here survives this process, apart from the snapshot.

        A private server has to confirm that everything was written to disk; a configured one is operated elsewhere.
        """
        if self.backend != "private-redis":
            return not self.degraded
        try:
            info = await self.redis.call("info", lambda client: client.info("persistence"))
        except CatalogSyncError as error:
            log.warning("cannot tell whether the private redis-server persists the catalogue: %s", error)
            return False
        return bool(info.get("aof_last_write_status") == "ok")

    async def claim(self, owner: Owner, *, force: bool = False) -> None:
        """Marks this Redis as belonging to ``owner``, under the sync lock. A Redis of this machine alone has no mark.

        Raises :class:`ForeignStoreError` if it belongs to another installation, unless ``force`` takes it over.
        """
        if self.backend != "redis":
            return
        try:
            found = read_mark(await self.redis.command("read owner", "GET", OWNER))
        except CorruptEntryError as damage:  # like an unreadable mark: replaced
            log.warning("the owner of this Redis cannot be read: %s", damage)
            found = None
        if not force:
            owner.check(found, publishes=True)
        if found is not None and owner.environment is None:
            owner = dataclasses.replace(owner, environment=found.environment)
        if found is None or (found.environment, found.supplier) != (owner.environment, owner.supplier):
            await self.redis.command("mark owner", "SET", OWNER, json.dumps(owner.to_json()))

    @property
    def policy(self) -> Policy:
        """What protects the calls to Redis."""
        return self.redis.policy

    async def ping(self) -> None:
        """Returns when Redis answers."""
        await self.redis.command("ping", "PING")

    async def current_version(self) -> str | None:
        """The version that the pointer names. Raises :class:`CorruptEntryError` if it names none."""
        pointer = await self.redis.command("read pointer", "GET", CURRENT)
        if pointer is None:
            return None
        try:
            return VersionKeys(bytes(pointer).decode()).version
        except ValueError as error:
            raise CorruptEntryError("the pointer to the published version names no version") from error

    async def has_published(self) -> bool:
        """Whether a catalogue was ever published here, even if its pointer is lost."""
        return bool(await self.redis.command("find publications", "EXISTS", CURRENT, FENCE))

    async def current(self) -> CatalogueMeta | None:
        """The metadata of the live version; ``None`` if there is no pointer: see :meth:`has_published`.

        Raises :class:`VersionGoneError` or :class:`CorruptEntryError` if the version is incomplete or damaged.
        """
        version = await self.current_version()
        return None if version is None else await self.meta(version)

    async def current_or_damaged(self) -> tuple[CatalogueMeta | None, bool]:
        """Like :meth:`current`, and whether it is damaged: then that is logged, and the first value is ``None``."""
        try:
            return await self.current(), False
        except InvalidDataError as damage:
            log.warning("the published catalogue is damaged: %s", damage)
            return None, True

    async def meta(self, version: str) -> CatalogueMeta:
        """The metadata of a version, after checking that all its parts exist. For their content see :meth:`verify`."""
        keys = VersionKeys(version)
        (document, manifest, fence, digest), *lengths = await self.redis.read_many(
            "read meta",
            [
                ("HMGET", keys.meta, META_JSON, META_MANIFEST, META_FENCE, META_DIGEST),
                *(("HLEN", key) for key in keys.data),
            ],
        )
        if document is None or manifest is None:
            raise VersionGoneError(f"version {version} is not in Redis any more", context={"version": version})
        try:
            meta = CatalogueMeta.from_json_text(document)
            counts = json.loads(manifest)
            expected = [counts[name] for name in HASHES]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CorruptEntryError(f"the meta of version {version} cannot be read") from error
        if meta.version != version:
            raise CorruptEntryError(f"under version {version} the meta of another one is stored")
        checked = digest is not None or checksums.entry_of(version, manifest) is not None
        if checked and digest != checksums.meta_digest(document, manifest, fence or b"").encode():
            raise CorruptEntryError(f"the meta of version {version} is not as it was published")
        if lengths != expected or expected[0] != meta.bundles:
            damaged = VersionGoneError(f"version {version} lacks a part", context={"version": version})
            damaged.meta = meta
            raise damaged
        return meta

    def begin(self, version: str, *, ttl: int = STAGING_TTL) -> Staging:
        """A place to write ``version``, or a part of one that is never committed. It lasts ``ttl`` seconds.

        Whether Redis has room for it shows only when it is written.
        """
        return Staging(self.redis, version, ttl=ttl)

    async def commit(
        self, staging: Staging, meta: CatalogueMeta, lease: LockLease, *, grace: int = GRACE, receipt: str | None = None
    ) -> str | None:
        """Makes the sealed version the live one, if ``lease`` still holds the lock; returns the version replaced.

        ``receipt`` identifies the sync that several versions may belong to, of which at most one is published: raises
        :class:`AlreadyPublishedError` if another one was. Raises :class:`LockLostError` if ``lease`` no longer holds
        the lock, :class:`StaleFenceError` if a later run has published, :class:`StagingIncompleteError` if a part of
        the version is missing. May be repeated. ``grace`` in seconds.
        """
        if staging.manifest is None:
            raise StagingIncompleteError(f"version {staging.version} was not sealed")
        if staging.version != meta.version or meta.fence != lease.token:
            raise StagingIncompleteError("the meta belongs to another version or another run")
        counts = [staging.manifest[name] for name in HASHES]
        limits = (KEPT_VERSIONS, KEPT_BYTES, VERSION_PREFIX, *VERSION_HASHES)
        answer = await self.redis.script(
            "commit",
            scripts.COMMIT,
            keys=[
                *(CURRENT, FENCE, FENCE_SEQ, LOCK, *staging.keys.all, REPLACED),
                *([receipt_key(receipt)] if receipt else []),
            ],
            args=[staging.version, lease.token, lease.claim, grace, *counts, *limits],
        )
        status, *details = [bytes(part).decode() for part in answer]
        if status == "published":
            raise AlreadyPublishedError(details[0])
        if status == "stale":
            raise StaleFenceError(
                f"a later run has published (token {details[0]}, ours is {lease.token})",
                context={"token": lease.token, "highest": int(details[0])},
            )
        if status == "lock lost":
            raise lock_lost(lease.token)
        if status == "incomplete":
            raise StagingIncompleteError(
                f"{details[0]} has {details[1]} fields, {details[2]} were expected", context={"version": meta.version}
            )
        if status != "ok":
            raise CacheReplyError(f"the commit of version {meta.version} got an unknown answer: {status!r}")
        return details[0] or None

    async def load_index(self, version: str) -> CatalogueIndex:
        keys = VersionKeys(version)
        index = CatalogueIndex()
        known = await self._checksums(keys)
        for dimension in DIMENSIONS[::-1]:
            # Durations come first: every bundle has one, so that names have one order.
            values: set[str] = set()
            async for page in scan_hash(self.redis, keys.hash(dimension), count=50):
                for field, text in page.items():
                    if known is not None:
                        known.check(dimension, field, text)
                    value = _value(field, dimension)
                    values.add(value)
                    index.tag(dimension, value, _names(text, dimension))
            if known is not None:
                known.check_names(dimension, values)
        if len(index) != int(await self.redis.command("count", "HLEN", keys.bundles)):
            raise VersionGoneError(f"the index of version {version} lacks a part", context={"version": version})
        return index

    async def values(self, version: str, dimension: Dimension) -> frozenset[str]:
        """The groups, countries, regions or durations that occur in a version."""
        return frozenset(_value(value, dimension) for value in await self._fields(VersionKeys(version), dimension))

    async def select(self, version: str, wanted: Filter) -> list[str]:
        """The names in a version that match ``wanted``, sorted. Reads only the index entries it needs."""
        keys = VersionKeys(version)
        selected: set[str] | None = None
        for dimension in DIMENSIONS:
            if not wanted.asks_for(dimension):
                continue
            values = await self._fields(keys, dimension)
            fields = [value for value in values if wanted.accepts(dimension, _value(value, dimension))]
            found: set[str] = set()
            if fields:
                for text in await self._values(keys, dimension, fields):
                    if text is None:
                        raise VersionGoneError(f"version {version} is not in Redis any more")
                    found.update(_names(text, dimension))
            selected = found if selected is None else selected & found
        if selected is None:
            names = await self._fields(keys, "bundles")
            selected = {text_of(name, "the name of a stored bundle") for name in names}
        if not selected:
            # A missing key looks like an empty one: an empty result is trusted only if the version is complete.
            await self.meta(version)
        return sorted(selected)

    async def get_bundles(self, version: str, names: Sequence[str]) -> list[Bundle | None]:
        """The bundles with these names in the same order, ``None`` for those that the version does not have."""
        bundles: list[Bundle | None] = []
        keys = VersionKeys(version)
        for chunk in chunks(names, 4 * CHUNK):
            texts = await self._values(keys, "bundles", [name.encode() for name in chunk])
            async for piece in in_pieces(zip(chunk, texts, strict=True)):
                bundles += (None if text is None else decode(name, text) for name, text in piece)
        return bundles

    async def iter_stored(self, version: str) -> AsyncIterator[list[Stored]]:
        """All bundles of a version as stored, each once, in pieces between which other tasks run.

        Raises :class:`CorruptEntryError` if one is not as it was published, or is more than a line.
        """
        async for piece in self._stored(version, await self._checksums(VersionKeys(version))):
            yield piece

    async def _stored(self, version: str, known: checksums.Checksums | None) -> AsyncIterator[list[Stored]]:
        key, cursor, seen = VersionKeys(version).bundles, b"0", set[bytes]()
        while True:
            cursor, count, names, texts = await self.redis.script(
                "read lines", scripts.SCAN_LINES, keys=[key], args=[cursor, 4 * CHUNK], writes=False
            )
            found, lines = (names.split(b"\n"), texts.split(b"\n")) if count else ([], [])
            if not len(found) == len(lines) == count:
                raise CorruptEntryError("a stored bundle is more than one line", context={"version": version})
            async for piece in in_pieces(zip(found, lines, strict=True)):
                stored = list[Stored]()
                for name, text in piece:  # a field may come twice while Redis rehashes
                    if known is not None:
                        checksum = known.take("bundles", name, text)
                    else:
                        checksum = None if name in seen else checksums.checksum("bundles", name, text)
                        seen.add(name)
                    if checksum is not None:
                        stored.append(Stored(name, text, checksum))
                if stored:
                    yield stored
            if int(cursor) == 0:
                return

    async def iter_lines(self, version: str) -> AsyncIterator[tuple[int, bytes]]:
        """All bundles of a version as read by :meth:`iter_stored`, one per line: blocks of lines and their number."""
        lines: list[bytes] = []
        async for piece in self.iter_stored(version):
            lines += (stored.text for stored in piece)
            if len(lines) >= 4 * CHUNK:
                yield len(lines), b"\n".join((*lines, b""))
                lines = []
        if lines:
            yield len(lines), b"\n".join((*lines, b""))

    async def iter_bundles(self, version: str, total: checksums.Total | None = None) -> AsyncIterator[Bundle]:
        """All bundles of a version, each once; ``total`` counts what was read."""
        async for piece in self.iter_stored(version):
            for name, text, checksum in piece:
                if total is not None:
                    total.add(checksum)
                yield decode(text_of(name, "the name of a stored bundle"), text)

    async def verify(self, meta: CatalogueMeta, *, keep: bool = True) -> dict[str, bytes]:
        """The checksums of all bundles of a version, by name, after reading each of them; empty unless ``keep``.

        Raises :class:`VersionGoneError` or :class:`CorruptEntryError` if one is missing or not as it was published, or,
        in a version without checksums, if one cannot be read.
        """
        known = await self._checksums(VersionKeys(meta.version))
        found: dict[str, bytes] = {}
        count = 0
        async for piece in self._stored(meta.version, known):
            count += len(piece)
            for name, text, checksum in piece:
                key = text_of(name, "the name of a stored bundle")
                if known is None:
                    decode(key, text)
                if keep:
                    found[key] = checksum
        if count != meta.bundles:
            damaged = VersionGoneError(f"version {meta.version} lacks bundles", context={"version": meta.version})
            damaged.meta = meta
            raise damaged
        return found

    async def _checksums(self, keys: VersionKeys) -> checksums.Checksums | None:
        answer = await self.redis.command("read checksums", *checksums.reading(keys))
        return checksums.read(keys.version, answer)

    async def _fields(self, keys: VersionKeys, where: str) -> list[bytes]:
        """The fields of a data hash."""
        fields, answer = await self.redis.read_many(
            "read names" if where == "bundles" else "read index",
            [("HKEYS", keys.hash(where)), checksums.reading(keys, ())],
        )
        known = checksums.read(keys.version, answer, ())
        if known is not None:
            known.check_names(where, (text_of(field, f"a name in {where}") for field in fields))
        return list(fields)

    async def _values(self, keys: VersionKeys, where: str, fields: Sequence[bytes]) -> list[bytes | None]:
        """The values of these fields in a data hash, ``None`` for missing ones."""
        values, answer = await self.redis.read_many(
            "read bundles" if where == "bundles" else "read index",
            [("HMGET", keys.hash(where), *fields), checksums.reading(keys, fields)],
        )
        known = checksums.read(keys.version, answer, fields)
        if known is not None:
            for field, value in zip(fields, values, strict=True):
                if value is not None:
                    known.check(where, field, value)
        return list(values)

    async def receipt(self, name: str) -> str | None:
        """The version that was published under this receipt, kept for a day."""
        version = await self.redis.command("read receipt", "GET", receipt_key(name))
        return None if version is None else text_of(version, "a receipt")


def _value(raw: bytes, dimension: Dimension) -> str:
    value = text_of(raw, f"a value in the index of {dimension}")
    if dimension == "durations" and not _DAYS.fullmatch(value):
        raise CorruptEntryError("a value in the index of durations is not a number of days")
    return value


def _names(text: bytes, dimension: str) -> list[str]:
    try:
        names = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorruptEntryError(f"an entry of the index of {dimension} cannot be read") from error
    if not isinstance(names, list) or not all(isinstance(name, str) and is_encodable(name) for name in names):
        raise CorruptEntryError(f"an entry of the index of {dimension} is not a list of names")
    return names
