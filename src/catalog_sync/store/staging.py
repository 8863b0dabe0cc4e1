"""A version that is being written. No reader sees it before the commit."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, TypeVar

from pydantic_core import to_json

from catalog_sync.domain.errors import CacheWritesPausedError, CatalogSyncError
from catalog_sync.domain.index import DIMENSIONS, CatalogueIndex, names_sha256
from catalog_sync.domain.models import Bundle, CatalogueMeta
from catalog_sync.domain.pieces import PIECE, in_pieces, let_others_run
from catalog_sync.store import checksums, scripts
from catalog_sync.store.client import GuardedRedis
from catalog_sync.store.errors import CorruptEntryError, StagingIncompleteError, VersionGoneError
from catalog_sync.store.keys import (
    HASHES,
    META_DIGEST,
    META_FENCE,
    META_JSON,
    META_MANIFEST,
    REPLACED,
    VERSION_HASHES,
    VERSION_PREFIX,
    VersionKeys,
)

T = TypeVar("T")

STAGING_TTL = 900
"""Seconds after its last write in which an abandoned staging key expires."""
DISCARD_LIMIT = 1.5
"""Maximum seconds for removing a staged version."""
CHUNK = 250
"""Fields per command: enough to make round trips cheap, few enough not to block other clients."""
_INDEX_BYTES = 1_000_000
"""An index entry can list every name of the catalogue, so entries are batched by size, not by number."""
_ENTRY_PIECE = 2000
"""Names in index entries that are encoded in one piece."""

_log = logging.getLogger(__name__)
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def chunks(items: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    """``items`` in lists of at most ``size``."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def encode(bundle: Bundle) -> bytes:
    """A bundle as it is stored."""
    return bundle.to_json_text()


def decode(name: str, text: bytes) -> Bundle:
    """The inverse of :func:`encode`. Raises :class:`CorruptEntryError`, which does not show the text."""
    try:
        bundle = Bundle.from_json_text(text)
    except ValueError as error:
        raise CorruptEntryError(f"the stored bundle {name!r} cannot be read", context={"bundle": name}) from error
    if bundle.name != name:
        raise CorruptEntryError(f"under {name!r} another bundle is stored", context={"bundle": name})
    return bundle


class Staging:
    """Writes one version. Every key expires ``ttl`` seconds after the last write to it until the commit."""

    def __init__(self, redis: GuardedRedis, version: str, *, ttl: int = STAGING_TTL) -> None:
        self._redis = redis
        self._ttl = ttl
        self.keys = VersionKeys(version)
        self.manifest: dict[str, int] | None = None
        """Fields per data hash; known once sealed."""
        self._checksums: dict[str, bytes] = {}
        """The checksums of the bundles, by name."""

    @property
    def version(self) -> str:
        """The version being written."""
        return self.keys.version

    async def put(self, bundles: Iterable[Bundle]) -> None:
        """Adds or replaces bundles."""
        for chunk in chunks(bundles):
            fields: list[str | bytes] = []
            async for piece in in_pieces(chunk):
                for bundle in piece:
                    text = encode(bundle)
                    fields += (bundle.name, text)
                    self._checksums[bundle.name] = checksums.checksum("bundles", bundle.name.encode(), text)
            await self._stage("stage bundles", self.keys.bundles, fields)

    async def copy_all(self, version: str, known: Mapping[str, bytes]) -> int:
        """Copies every bundle of a published version and returns their number. Raises :class:`VersionGoneError`.

        ``known``: the verified checksums of its bundles by name. A missing hash looks like an empty one: compare the
        number with the version's metadata. Replaces what was put before, so call it first.
        """
        source = VersionKeys(version)
        self._checksums = dict(known)
        done = await self._write("copy version", scripts.COPY_HASH, [source.bundles, self.keys.bundles], [self._ttl])
        if done == -1:
            return await self._copy_by_scan(source)
        count = int(await self._redis.command("count", "HLEN", self.keys.bundles))
        if done == 0 and await self._redis.command("find version", "EXISTS", source.meta) == 0:
            raise VersionGoneError(f"version {version} is not in Redis any more", context={"version": version})
        return count

    async def remove(self, names: Iterable[str]) -> None:
        """Removes bundles again; unknown names are ignored."""
        for chunk in chunks(names):
            await self._redis.command("remove bundles", "HDEL", self.keys.bundles, *chunk)
            for name in chunk:
                self._checksums.pop(name, None)

    def total(self) -> str:
        """The checksum of all staged bundles, whatever their order."""
        return str(checksums.Total(self._checksums.values()))

    async def seal(self, index: CatalogueIndex, meta: CatalogueMeta) -> None:
        """Writes the index and the metadata and checks that the staged bundles are exactly those of the index.

        Raises :class:`StagingIncompleteError` if ``meta``, ``index`` and Redis disagree.
        """
        if len(index) != meta.bundles or index.names_sha256() != meta.names_sha256:
            raise StagingIncompleteError(
                f"the meta announces {meta.bundles} bundles, the index has {len(index)}, or other ones"
            )
        if len(self._checksums) != len(index) or not all(name in index for name in self._checksums):
            raise StagingIncompleteError("the bundles that were staged are not those of the index")
        await self._verify_names(index)
        manifest = dict.fromkeys(HASHES, 0)
        manifest["bundles"] = meta.bundles
        stale_keys = [self.keys.hash(dimension) for dimension in DIMENSIONS]
        await self._redis.command("clear index", "UNLINK", *stale_keys, self.keys.meta)
        sums = list[tuple[bytes, bytes]]()
        names = {"bundles": meta.names_sha256}
        for dimension in DIMENSIONS:
            values = await self._write_index(dimension, index.entries(dimension), sums)
            manifest[dimension], names[dimension] = len(values), names_sha256(sorted(values))
        document, counts, fence = (
            text.encode()
            for text in (
                _encoder.encode(meta.to_json()),
                _encoder.encode({**manifest, **checksums.manifest_entry(names)}),
                str(meta.fence),
            )
        )
        fields: list[str | bytes] = [META_JSON, document, META_MANIFEST, counts, META_FENCE, fence]
        fields += (META_DIGEST, checksums.meta_digest(document, counts, fence))
        packed = checksums.Packed()
        of_bundles = ((name.encode(), each) for name, each in self._checksums.items())
        async for piece in in_pieces(chain(of_bundles, sums), 10 * PIECE):
            packed.add(piece)
        for field, bucket in packed.fields():
            fields += (field, bucket)
        await self._stage("stage meta", self.keys.meta, fields)
        self.manifest = manifest
        self._checksums = {}  # a sealed version is not staged again; the snapshot needs the memory

    async def discard(self) -> None:
        """Deletes what was staged, within :data:`DISCARD_LIMIT`; the rest expires by itself."""
        try:
            async with asyncio.timeout(DISCARD_LIMIT):
                await self._redis.command("discard staging", "UNLINK", *self.keys.all)
        except (CatalogSyncError, TimeoutError) as error:
            _log.warning("the staged version %s is left to expire: %s", self.version, type(error).__name__)

    async def _verify_names(self, index: CatalogueIndex) -> None:
        staged = int(await self._redis.command("count", "HLEN", self.keys.bundles))
        present = 0
        if staged == len(index):
            for chunk in chunks(index, 4 * CHUNK):
                present += int(
                    await self._redis.script("verify names", scripts.COUNT_FIELDS, keys=[self.keys.bundles], args=chunk)
                )
        if staged != len(index) or present != len(index):
            raise StagingIncompleteError(
                f"{len(index)} bundles were expected, {staged} are staged",
                context={"version": self.version, "expected": len(index), "staged": staged},
            )

    async def _write_index(
        self, dimension: str, entries: Iterable[tuple[str, list[str]]], sums: list[tuple[bytes, bytes]]
    ) -> list[str]:
        """The values that were written; their checksums are added to ``sums``."""
        key = self.keys.hash(dimension)
        fields: list[str | bytes] = []
        values: list[str] = []
        size, encoded = 0, _ENTRY_PIECE  # so that the loop yields before the first entry
        for value, names in entries:
            encoded += len(names)
            if encoded >= _ENTRY_PIECE:
                await let_others_run()
                encoded = len(names)
            text = to_json(names)
            field = value.encode()
            fields += (field, text)
            sums.append((field, checksums.checksum(dimension, field, text)))
            values.append(value)
            size += len(text)
            if size >= _INDEX_BYTES or len(fields) >= 2 * CHUNK:
                await self._stage("stage index", key, fields)
                fields, size = [], 0
        if fields:
            await self._stage("stage index", key, fields)
        return values

    async def _stage(self, name: str, key: str, fields: Sequence[str | bytes]) -> None:
        await self._write(name, scripts.STAGE, [key], [self._ttl, *fields])

    async def _write(self, name: str, script: str, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        """If Redis is full, replaced versions, which are only kept for readers, are deleted to make room."""
        try:
            return await self._redis.script(name, script, keys=keys, args=args)
        except CacheWritesPausedError:
            old = [VERSION_PREFIX, *VERSION_HASHES]
            if not await self._redis.script("make room", scripts.FORGET_REPLACED, keys=[REPLACED], args=old):
                raise
            _log.warning("Redis is full: the versions that were kept for readers are deleted")
            return await self._redis.script(name, script, keys=keys, args=args)

    async def _copy_by_scan(self, source: VersionKeys) -> int:
        copied = 0
        async for page in scan_hash(self._redis, source.bundles):
            fields = [part for pair in page.items() for part in pair]
            if fields:
                await self._stage("stage bundles", self.keys.bundles, fields)
            copied += len(page)
        return copied


async def scan_hash(redis: GuardedRedis, key: str, count: int = CHUNK) -> AsyncIterator[dict[bytes, bytes]]:
    """The fields of a large hash that is not being written, page by page; a field may come twice."""
    cursor = 0
    while True:
        cursor, page = await redis.command("scan", "HSCAN", key, cursor, "COUNT", count)
        yield page
        if cursor == 0:
            return
