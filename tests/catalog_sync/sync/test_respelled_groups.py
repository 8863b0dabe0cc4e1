"""A supplier that spells a group in another way than before still means the same group."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, Sequence

import pytest

from catalog_sync.domain.errors import SupplierError
from catalog_sync.domain.models import Bundle, Outcome, SyncKind
from catalog_sync.store.keys import VersionKeys
from catalog_sync.supplier.port import Deadline, Page, RequestCounts, Scope, Supplier
from support.sync_world import World

OLD, NEW = "Standard - Fixed", "STANDARD FIXED"
OTHER = "Standard - Unlimited Lite"


@dataclasses.dataclass
class Respelled:
    """A supplier that lists a group, and labels its bundles, in a new spelling."""

    supplier: Supplier
    names: dict[str, str]
    """The new ones by the old ones."""
    down: str | None = None

    @property
    def counts(self) -> RequestCounts:
        return self.supplier.counts

    async def list_groups(self, *, deadline: Deadline) -> list[str]:
        return [self.names.get(name, name) for name in await self.supplier.list_groups(deadline=deadline)]

    async def iter_pages(self, scope: Scope, *, deadline: Deadline) -> AsyncGenerator[Page, None]:
        if scope.group is not None:
            if scope.group == self.down:
                raise SupplierError("down")
            before = {new: old for old, new in self.names.items()}
            scope = Scope(group=before.get(scope.group, scope.group))
        async for page in self.supplier.iter_pages(scope, deadline=deadline):
            yield dataclasses.replace(page, bundles=self._labelled(page.bundles))

    async def get_bundle(self, name: str, *, deadline: Deadline) -> Bundle:
        return self._labelled([await self.supplier.get_bundle(name, deadline=deadline)])[0]

    def _labelled(self, bundles: Sequence[Bundle]) -> list[Bundle]:
        return [
            dataclasses.replace(bundle, groups=tuple(self.names.get(name, name) for name in bundle.groups))
            for bundle in bundles
        ]


def respelled(world: World, names: dict[str, str], down: str | None = None) -> World:
    return dataclasses.replace(world, supplier=Respelled(world.supplier, names, down))  # type: ignore[arg-type]


async def grouped(world: World) -> dict[str, set[str]]:
    """The names of the published bundles by group; those that the meta lists are no others."""
    found: dict[str, set[str]] = {name: set() for name in (await world.meta()).groups}
    for bundle in (await world.bundles()).values():
        for group in bundle.groups:
            found[group].add(bundle.name)
    assert {name: len(names) for name, names in found.items()} == {
        name: group.bundles for name, group in (await world.meta()).groups.items()
    }
    return found


@pytest.mark.parametrize("also", [{}, {OTHER: OTHER.upper()}], ids=["one", "two"])
async def test_a_full_sync_publishes_it_in_the_new_spelling(world: World, also: dict[str, str]) -> None:
    await world.sync()
    before = await grouped(world)

    report = await respelled(world, {OLD: NEW, **also}).sync()

    assert report.outcome is Outcome.COMPLETE, report.error
    names = {OLD: NEW, **also}
    assert await grouped(world) == {names.get(name, name): bundles for name, bundles in before.items()}


@pytest.mark.parametrize("lost", [False, True], ids=["of the store", "of the snapshot"])
async def test_one_that_fails_keeps_its_last_good_data(world: World, lost: bool) -> None:
    await world.sync()
    before = await grouped(world)
    if lost:
        await world.store.redis.command("lose", "DEL", VersionKeys((await world.meta()).version).bundles)

    report = await respelled(world, {OLD: NEW}, down=NEW).sync()

    assert report.outcome is Outcome.PARTIAL, report.error
    [failed] = [group for group in report.groups if group.status != "ok"]
    assert (failed.name, failed.status, failed.bundles) == (NEW, "stale", len(before[OLD]))
    assert (await grouped(world))[NEW] == before[OLD]
    assert all(bundle.stale for bundle in (await world.bundles()).values() if bundle.groups == (NEW,))


@pytest.mark.parametrize("asked", [OLD, NEW])
async def test_a_sync_of_the_group_leaves_none_of_the_old_name(world: World, asked: str) -> None:
    await world.sync()
    before = await grouped(world)

    report = await respelled(world, {OLD: NEW, OTHER: OTHER.upper()}).sync(SyncKind.GROUP, asked)

    assert report.outcome is Outcome.COMPLETE, report.error
    assert await grouped(world) == {(NEW if name == OLD else name): bundles for name, bundles in before.items()}


async def test_a_group_beside_one_of_another_spelling_is_another_group(world: World) -> None:
    """Both were listed before: that one of them is gone now is still refused."""
    both = {OLD: NEW, OTHER: OLD}
    assert (await respelled(world, both).sync(force=True)).outcome is Outcome.COMPLETE

    report = await respelled(world, {OLD: NEW, OTHER: "Something Else"}).sync()

    assert report.error is not None
    assert (report.error.type, OLD in report.error.message) == ("publish_refused", True)
