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
"""Seconds after which even a few bundles are written to the store: those of a slow supplier must not expire there."""


@dataclasses.dataclass(eq=False)
class CatalogueBuilder:
    """Merges what the groups deliver into one staged version: each bundle once, in all its groups.

    Safe for concurrent groups. Errors of the store are raised.
    """

    store: CatalogStore
    staging: Staging
    index: CatalogueIndex
    names: GroupNames
    membership: Membership = dataclasses.field(default_factory=Membership)
    clock: Callable[[], float] = time.monotonic
    unconfirmed: set[str] = dataclasses.field(default_factory=set)
    """Groups under which a bundle was fetched that does not list them itself."""
    _withdrawn: dict[str, set[str]] = dataclasses.field(default_factory=dict)
    _pending: dict[str, Bundle] = dataclasses.field(default_factory=dict)
    """Bundles by name that are not in the store yet, fewer than :data:`CHUNK`: a page is smaller than a write."""
    _pending_since: float = 0.0
    _writing: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)
    """Two groups with the same bundle must not overtake each other: the later write includes both."""

    async def put(self, group: str, bundles: Sequence[Bundle]) -> int:
        """Stages ``bundles`` as fetched under ``group``. Returns how many of them are new in the group."""
        if group not in self.unconfirmed and not all(self._names(bundle, group) for bundle in bundles):
            self.unconfirmed.add(group)
        async with self._writing:
            news = sum(self.membership.join(group, bundle.name) for bundle in bundles)
            await self._stage([self._with_groups(bundle) for bundle in bundles])
        return news

    async def replace(self, bundles: Sequence[Bundle]) -> None:
        """Stages ``bundles`` fetched outside any group: in the groups they name, or else in their previous ones."""
        async with self._writing:
            staged = []
            for bundle in bundles:
                groups = tuple(dict.fromkeys(map(self.names.spelled, bundle.groups)))
                staged.append(self._regrouped(bundle, groups or self.membership.groups(bundle.name)))
            await self._restage(staged)

    async def copy(self, bundles: AsyncIterator[Bundle]) -> None:
        """Stages bundles of an earlier version unchanged."""
        async for chunk in chunked(bundles):
            await self._stage(chunk)

    def remember(self, group: str, names: Iterable[str]) -> None:
        """Records that the staged version already has ``names`` in ``group``."""
        for name in names:
            self.membership.join(group, name)

    def start_again(self, group: str) -> None:
        """Forgets the members of ``group``; :meth:`settle` later removes those that do not come back."""
        members = set(self.membership.names(group))
        for name in members:
            self.membership.leave(group, name)
        self._withdrawn.setdefault(group, set()).update(members)

    async def settle(self, group: str) -> None:
        """Removes bundles from ``group`` that left it for good, and those without any group from the version."""
        left = [name for name in self._withdrawn.pop(group, ()) if group not in self.membership.groups(name)]
        async with self._writing:
            await self._remove([name for name in left if name not in self.membership])
            await self._rewrite(
                (name for name in left if name in self.membership),
                lambda bundle: tuple(name for name in bundle.groups if name != group),
            )

    async def abandon(self, group: str) -> None:
        """Removes what an incomplete fetch of ``group`` left behind."""
        self.start_again(group)
        await self.settle(group)

    async def carry_over(self, group: str, bundles: AsyncIterator[Bundle]) -> int:
        """Keeps ``bundles`` of an earlier version, marked stale, as the members of ``group``. Returns their number.

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
        """Writes what is pending."""
        pending, self._pending = self._pending, {}
        await self.staging.put(pending.values())

    async def finish(self) -> None:
        """Writes what is pending, and forgets the memberships: sealing the version needs the memory."""
        await self.flush()
        self.membership = Membership()
        self._withdrawn = {}

    async def seal(self, meta: CatalogueMeta) -> None:
        """Seals the finished version. Afterwards only the store has it: the snapshot needs the memory.

        Raises like :meth:`Staging.seal`.
        """
        await self.staging.seal(self.index, meta)
        self.index = CatalogueIndex()

    async def remove(self, names: Sequence[str]) -> None:
        """Removes bundles from the version."""
        async with self._writing:
            await self._remove(names)

    async def _stage(self, bundles: Sequence[Bundle]) -> None:
        if not self._pending:
            self._pending_since = self.clock()
        self._pending.update((bundle.name, self.index.add(bundle)) for bundle in bundles)
        if len(self._pending) >= CHUNK or self.clock() - self._pending_since >= PENDING_LIMIT:
            await self.flush()

    async def _restage(self, bundles: Sequence[Bundle]) -> None:
        """Stages bundles again that may have lost a group: the index would otherwise keep it."""
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
        settled = list(names)  # a copy, since rewriting may change what ``names`` iterates over
        if settled:
            await self.flush()
        for chunk in chunks(settled):
            found = await self.store.get_bundles(self.staging.version, chunk)
            await self._restage([self._regrouped(bundle, groups(bundle)) for bundle in found if bundle is not None])

    def _with_groups(self, bundle: Bundle) -> Bundle:
        """The bundle in all groups it was fetched under and all it names, spelled as in the group list."""
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
    """The names in ``group``, in exactly that spelling."""
    return next((names for value, names in index.entries("groups") if value == group), [])


async def chunked(items: AsyncIterator[T]) -> AsyncIterator[list[T]]:
    """A stream in pieces of at most :data:`CHUNK`."""
    chunk: list[T] = []
    async for item in items:
        chunk.append(item)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
