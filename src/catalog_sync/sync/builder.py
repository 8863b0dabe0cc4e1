"""The version under construction: bundles go to the store as they come, names and memberships stay here."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import TYPE_CHECKING, Final, TypeVar

from catalog_sync.domain.groups import GroupNames
from catalog_sync.domain.index import CatalogueIndex
from catalog_sync.store.staging import CHUNK, chunks
from catalog_sync.sync.merge import Membership

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from catalog_sync.domain.models import Bundle, CatalogueMeta
    from catalog_sync.store.catalog_store import CatalogStore
    from catalog_sync.store.staging import Staging


T = TypeVar("T")

PENDING_LIMIT: Final = 5.0
"""Seconds after which bundles go to the store although they are few: those of a slow supplier must not expire there."""


@dataclasses.dataclass(eq=False)
class CatalogueBuilder:
    """Merges what the groups deliver into one staged version: each bundle once, in all its groups.

    Safe for concurrent groups. Errors of the store pass through.
    """

    store: CatalogStore
    staging: Staging
    index: CatalogueIndex
    names: GroupNames
    membership: Membership = dataclasses.field(default_factory=Membership)
    clock: Callable[[], float] = time.monotonic
    unconfirmed: set[str] = dataclasses.field(default_factory=set)
    """Groups under which a bundle was fetched that does not name them itself."""
    _withdrawn: dict[str, set[str]] = dataclasses.field(default_factory=dict)
    _pending: dict[str, Bundle] = dataclasses.field(default_factory=dict)
    """Bundles by name that are not in the store yet, fewer than :data:`CHUNK`: a page is much less than one write
    takes."""
    _pending_since: float = 0.0
    _writing: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)
    """Two groups that list the same bundle must not overtake each other: the later write knows both."""

    async def put(self, group: str, bundles: Sequence[Bundle]) -> int:
        """Stage ``bundles`` as fetched under ``group``. Returns how many of them the group did not have yet."""
        if group not in self.unconfirmed and not all(self._names(bundle, group) for bundle in bundles):
            self.unconfirmed.add(group)
        async with self._writing:
            news = sum(self.membership.join(group, bundle.name) for bundle in bundles)
            await self._stage([self._with_groups(bundle) for bundle in bundles])
        return news

    async def replace(self, bundles: Sequence[Bundle]) -> None:
        """Stage ``bundles`` that were fetched outside any group: in the groups they name, or else as before."""
        async with self._writing:
            staged = []
            for bundle in bundles:
                groups = tuple(dict.fromkeys(map(self.names.spelled, bundle.groups)))
                staged.append(self._regrouped(bundle, groups or self.membership.groups(bundle.name)))
            await self._restage(staged)

    async def copy(self, bundles: AsyncIterator[Bundle]) -> None:
        """Stage bundles of an earlier version as they are."""
        async for chunk in chunked(bundles):
            await self._stage(chunk)

    def remember(self, group: str, names: Iterable[str]) -> None:
        """The staged version already has ``names`` in ``group``."""
        for name in names:
            self.membership.join(group, name)

    def start_again(self, group: str) -> None:
        """Forget who is in ``group``; :meth:`settle` later removes those that do not come back."""
        members = set(self.membership.names(group))
        for name in members:
            self.membership.leave(group, name)
        self._withdrawn.setdefault(group, set()).update(members)

    async def settle(self, group: str) -> None:
        """Take bundles that left ``group`` for good out of it, and those that are in no group out of the version."""
        left = [name for name in self._withdrawn.pop(group, ()) if group not in self.membership.groups(name)]
        async with self._writing:
            await self._remove([name for name in left if name not in self.membership])
            await self._rewrite(
                (name for name in left if name in self.membership),
                lambda bundle: tuple(name for name in bundle.groups if name != group),
            )

    async def abandon(self, group: str) -> None:
        """Remove what an incomplete fetch of ``group`` left behind."""
        self.start_again(group)
        await self.settle(group)

    async def carry_over(self, group: str, bundles: AsyncIterator[Bundle]) -> int:
        """Keep ``bundles`` of an earlier version, marked stale, as the members of ``group``. Returns their number.

        A bundle that was fetched in another group stays fresh.
        """
        count = 0
        async for chunk in chunked(bundles):
            count += len(chunk)
            async with self._writing:
                fresh = {bundle.name for bundle in chunk if bundle.name in self.membership}
                for bundle in chunk:
                    self.membership.join(group, bundle.name)
                kept = [bundle for bundle in chunk if bundle.name not in fresh]
                await self._stage([dataclasses.replace(bundle, groups=(group,), stale=True) for bundle in kept])
                await self._rewrite(fresh, lambda bundle: tuple(dict.fromkeys((*bundle.groups, group))))
        return count

    async def flush(self) -> None:
        """Write what is pending."""
        pending, self._pending = self._pending, {}
        await self.staging.put(pending.values())

    async def finish(self) -> None:
        """Write what is pending, and forget who was seen where: to seal the version takes its room."""
        await self.flush()
        self.membership = Membership()
        self._withdrawn = {}

    async def seal(self, meta: CatalogueMeta) -> None:
        """Seal the finished version. It is known to the store alone afterwards: the snapshot needs the room.

        Raises as :meth:`Staging.seal`.
        """
        await self.staging.seal(self.index, meta)
        self.index = CatalogueIndex()

    async def remove(self, names: Sequence[str]) -> None:
        """Take bundles out of the version."""
        async with self._writing:
            await self._remove(names)

    async def _stage(self, bundles: Sequence[Bundle]) -> None:
        if not self._pending:
            self._pending_since = self.clock()
        self._pending.update((bundle.name, self.index.add(bundle)) for bundle in bundles)
        if len(self._pending) >= CHUNK or self.clock() - self._pending_since >= PENDING_LIMIT:
            await self.flush()

    async def _restage(self, bundles: Sequence[Bundle]) -> None:
        """Stage bundles that may have lost a group: the index would otherwise keep it."""
        for bundle in bundles:
            self.index.discard(bundle.name)
        await self._stage(bundles)

    async def _remove(self, names: Sequence[str]) -> None:
        for chunk in chunks(names):
            await self.staging.remove(chunk)
            for name in chunk:
                self.index.discard(name)
                self._pending.pop(name, None)

    async def _rewrite(self, names: Iterable[str], groups: Callable[[Bundle], tuple[str, ...]]) -> None:
        settled = list(names)  # what is rewritten may change what ``names`` iterates over
        if settled:
            await self.flush()
        for chunk in chunks(settled):
            found = await self.store.get_bundles(self.staging.version, chunk)
            await self._restage([self._regrouped(bundle, groups(bundle)) for bundle in found if bundle is not None])

    def _with_groups(self, bundle: Bundle) -> Bundle:
        """The bundle in all groups it was fetched under and all it names, in the spelling of the group list."""
        fetched = self.membership.groups(bundle.name)
        if fetched == bundle.groups:
            return bundle
        return self._regrouped(bundle, tuple(dict.fromkeys((*fetched, *map(self.names.spelled, bundle.groups)))))

    def _names(self, bundle: Bundle, group: str) -> bool:
        return group in bundle.groups or group in map(self.names.spelled, bundle.groups)

    @staticmethod
    def _regrouped(bundle: Bundle, groups: tuple[str, ...]) -> Bundle:
        return bundle if groups == bundle.groups else dataclasses.replace(bundle, groups=groups)


def members(index: CatalogueIndex, group: str) -> list[str]:
    """The names of ``group``, of exactly that spelling."""
    return next((names for value, names in index.entries("groups") if value == group), [])


async def chunked(items: AsyncIterator[T]) -> AsyncIterator[list[T]]:
    """Pieces of at most :data:`CHUNK` of a stream."""
    chunk: list[T] = []
    async for item in items:
        chunk.append(item)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
