"""The catalogue before this run: the published version, or, if the store has no complete one, the snapshot on disk."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING

from catalog_sync.domain.errors import InvalidDataError
from catalog_sync.domain.models import Bundle, CatalogueMeta, GroupMeta
from catalog_sync.store.errors import CorruptEntryError, VersionGoneError
from catalog_sync.store.staging import chunks
from catalog_sync.sync.builder import members

if TYPE_CHECKING:
    from catalog_sync.domain.index import CatalogueIndex
    from catalog_sync.store.catalog_store import CatalogStore
    from catalog_sync.store.snapshot import Snapshot, SnapshotFile

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Published:
    """What was published before this run, as far as it can be read."""

    previous: Previous | None
    """``None`` if nothing of it can be read, or nothing was ever published."""
    damage: str | None = None
    """Why the store no longer has it, or not all of it; a full sync repairs that.

    ``None`` if the version is complete, or nothing was ever published.
    """

    @property
    def obstacle(self) -> str | None:
        """Why no part of it can be renewed; ``None`` if one can.

        An emptied store without a snapshot looks like one in which nothing was ever published.
        """
        return self.damage or ("no catalogue is published" if self.previous is None else None)

    @classmethod
    async def load(cls, store: CatalogStore, snapshot: Snapshot, *, index: bool) -> Published:
        """Looks at the store first, where every bundle is read, and with ``index`` its index too; then at the snapshot.

        Errors of the store other than damage are raised.
        """
        damaged: CatalogueMeta | None = None
        pointer: str | None = None
        damage: str | None = None
        try:
            pointer = await store.current_version()
            damaged = None if pointer is None else await store.meta(pointer)
            if damaged is not None:
                # A full sync copies nothing from the previous version.
                previous = Previous(damaged, store, None, await store.verify(damaged, keep=index))
                if index:
                    await previous.index()
                return cls(previous)
        except (VersionGoneError, CorruptEntryError) as error:
            damage = str(error)
            if isinstance(error, VersionGoneError) and error.meta is not None:
                damaged = error.meta
        if damage is None and await store.has_published():
            damage = "the pointer to the published version is lost"
        saved = await snapshot.load()
        if saved is not None and (saved.path == snapshot.path if store.degraded else saved.meta.version == pointer):
            # The snapshot is what was published, complete. Its predecessor on disk and older ones are not.
            return cls(Previous(saved.meta, None, saved))
        if damage is None and await snapshot.was_written():
            damage = "the store has lost the catalogue that a snapshot was made of"
        if damage is not None:
            _log.warning("the published catalogue cannot be used as it is: %s", damage)
        known = damaged or (saved.meta if saved else None)
        return cls(None if known is None else Previous(known, None, saved), damage)


class Previous:
    """What guards compare with and what failed groups keep."""

    def __init__(
        self,
        meta: CatalogueMeta,
        store: CatalogStore | None,
        snapshot: SnapshotFile | None,
        checksums: Mapping[str, bytes] | None = None,
    ) -> None:
        self.checksums = checksums or {}
        """The checksums of its bundles in the store, by name, if it was loaded with its index."""
        self.meta = meta
        """Its metadata; for a damaged version even if its bundles are lost."""
        self.in_store = store is not None
        """Whether it is in the store, so that it can be copied there."""
        self._store = store
        self._snapshot = snapshot
        self._index: CatalogueIndex | None = None
        self._respelled: dict[str, str] = {}
        """Its own spelling of renamed groups, by their current spelling."""

    def respell(self, spelled: Callable[[str], str]) -> None:
        """Renames its groups to their current spelling, unless another of its groups has that name already."""
        groups: dict[str, GroupMeta] = {}
        for name, group in self.meta.groups.items():
            now = spelled(name)
            if now != name and now not in self.meta.groups and now not in groups:
                self._respelled[now] = name
                groups[now] = group
            else:
                groups[name] = group
        self.meta = dataclasses.replace(self.meta, groups=groups)

    def spelling(self, group: str) -> str:
        """The spelling of a group in its bundles and its index."""
        return self._respelled.get(group, group)

    async def index(self) -> CatalogueIndex:
        """Its index. Only for a version in the store."""
        if self._store is None:
            raise LookupError("a snapshot has no index")
        if self._index is None:
            self._index = await self._store.load_index(self.meta.version)
        return self._index

    async def bundles(self) -> AsyncIterator[Bundle]:
        """All its bundles; none if they are lost."""
        if self._store is not None:
            async for bundle in self._store.iter_bundles(self.meta.version):
                yield bundle
        elif self._snapshot is not None:
            try:
                for bundle in self._snapshot.bundles():
                    yield bundle
            except (OSError, ValueError) as error:
                raise InvalidDataError("the snapshot changed while it was read") from error

    def kept(self, group: str) -> GroupMeta | None:
        """The metadata of the bundles that :meth:`in_group` yields for ``group``; ``None`` if there are none."""
        if self._snapshot is not None:
            return self._snapshot.meta.groups.get(self.spelling(group))
        return self.meta.groups.get(group) if self.in_store else None

    async def in_group(self, group: str) -> AsyncIterator[Bundle]:
        group = self.spelling(group)
        index = None
        if self._store is not None:
            try:
                index = await self.index()
            except (VersionGoneError, CorruptEntryError) as error:
                _log.warning("the groups of the bundles are read from the bundles themselves: %s", error)
        if self._store is None or index is None:
            async for bundle in self.bundles():
                if group in bundle.groups:
                    yield bundle
            return
        for chunk in chunks(members(index, group)):
            for found in await self._store.get_bundles(self.meta.version, chunk):
                if found is not None:
                    yield found
