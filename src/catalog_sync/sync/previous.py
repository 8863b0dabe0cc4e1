"""The catalogue before this run: the published version, or where the store has none the snapshot on disk."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from catalog_sync.errors import InvalidDataError
from catalog_sync.models import Bundle, CatalogueMeta
from catalog_sync.store.errors import CorruptEntryError, VersionGoneError
from catalog_sync.sync.builder import chunks, members

if TYPE_CHECKING:
    from catalog_sync.index import CatalogueIndex
    from catalog_sync.store.catalog_store import CatalogStore
    from catalog_sync.store.snapshot import Snapshot, SnapshotFile

_log = logging.getLogger(__name__)


class Previous:
    """What guards compare with and what failed groups keep."""

    def __init__(self, meta: CatalogueMeta, store: CatalogStore | None, snapshot: SnapshotFile | None) -> None:
        self.meta = meta
        self.in_store = store is not None
        """Whether it stands in the store, so that it can be copied there."""
        self._store = store
        self._snapshot = snapshot
        self._index: CatalogueIndex | None = None

    @classmethod
    async def load(cls, store: CatalogStore, snapshot: Snapshot) -> Previous | None:
        """The published version, else the snapshot, else ``None``.

        A version that is not whole any more counts as none. Other errors of the store pass through.
        """
        try:
            meta = await store.current()
        except (VersionGoneError, CorruptEntryError) as error:
            _log.warning("the published version cannot be used: %s", error)
            meta = None
        if meta is not None:
            return cls(meta, store, None)
        saved = await snapshot.load()
        return None if saved is None else cls(saved.meta, None, saved)

    async def index(self) -> CatalogueIndex:
        """Its index. Only for a version in the store."""
        if self._store is None:
            raise LookupError("a snapshot has no index")
        if self._index is None:
            self._index = await self._store.load_index(self.meta.version)
        return self._index

    async def bundles(self) -> AsyncIterator[Bundle]:
        """All its bundles."""
        if self._store is not None:
            async for bundle in self._store.iter_bundles(self.meta.version):
                yield bundle
        elif self._snapshot is not None:
            try:
                for bundle in self._snapshot.bundles():
                    yield bundle
            except (OSError, ValueError) as error:
                raise InvalidDataError("the snapshot changed while it was read") from error

    async def in_group(self, group: str) -> AsyncIterator[Bundle]:
        """Its bundles of ``group``."""
        if self._store is None:
            async for bundle in self.bundles():
                if group in bundle.groups:
                    yield bundle
            return
        for chunk in chunks(members(await self.index(), group)):
            for found in await self._store.get_bundles(self.meta.version, chunk):
                if found is not None:
                    yield found
