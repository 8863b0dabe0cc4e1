"""A new version is loaded at the cost of its differences, with the same result as loading it completely."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog_sync.api import catalogue
from catalog_sync.api.catalogue import InMemoryCatalogue
from catalog_sync.domain.index import CatalogueIndex, Filter
from catalog_sync.domain.models import Bundle
from catalog_sync.store.reader import Query
from catalog_sync.store.staging import decode, encode
from support.api_world import ApiWorld, api_world
from support.published import lines_of, make_bundle, make_meta
from support.turns import Turns

PLANS = {name: make_bundle(name) for name in "abcdef"}


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the bundles that were decoded."""
    names: list[str] = []

    def counting(name: str, text: bytes) -> Bundle:
        names.append(name)
        return decode(name, text)

    monkeypatch.setattr(catalogue, "decode", counting)
    return names


async def served(world: ApiWorld, version: str) -> InMemoryCatalogue:
    await world.live.refresh()
    assert world.live.copy.meta.version == version
    return world.live.copy


async def test_what_did_not_change_is_not_read_again(world: ApiWorld, decoded: list[str]) -> None:
    world.store.publish("v2", PLANS.values())
    before = await served(world, "v2")
    rows = list(before.rows(range(len(before))))
    decoded.clear()
    cheaper = dataclasses.replace(PLANS["c"], price="1.00")
    world.store.publish("v3", [*(PLANS | {"c": cheaper}).values(), make_bundle("bb")][1:])
    after = await served(world, "v3")
    assert sorted(decoded) == ["bb", "c"]
    assert [after.bundle(place).name for place in range(len(after))] == ["b", "bb", "c", "d", "e", "f"]
    assert after.bundle(2).price == "1.00"
    assert after.bundle(0) is before.bundle(1)
    assert next(after.rows([0])) is rows[1]
    assert next(after.rows([2])) == encode(cheaper)


async def test_the_same_bundles_under_a_new_version_are_shared_and_their_meta_is_new(
    world: ApiWorld, decoded: list[str]
) -> None:
    world.store.publish("v2", PLANS.values())
    before = await served(world, "v2")
    assert b'"as_of":"2030' not in before.group_rows(Query())[0]
    decoded.clear()
    meta = world.store.publish("v3", reversed(PLANS.values()))
    groups = {name: dataclasses.replace(group, as_of="2030-01-01T00:00:00Z") for name, group in meta.groups.items()}
    meta = world.store.publish("v4", PLANS.values(), groups=groups)
    after = await served(world, "v4")
    assert decoded == []
    assert after.meta == meta
    assert b'"as_of":"2030' in after.group_rows(Query())[0]
    assert before.meta.version == "v2", "who reads the earlier version goes on with it"
    assert b'"as_of":"2030' not in before.group_rows(Query())[0]


async def test_one_that_is_damaged_meanwhile_is_not_hidden_by_the_copy(world: ApiWorld) -> None:
    world.store.publish("v2", PLANS.values())
    await served(world, "v2")
    world.store.publish("v3", PLANS.values())
    name = next(iter(PLANS))
    meta, stored = world.store.versions["v3"]
    world.store.versions["v3"] = meta, [dataclasses.replace(stored[0], price="0.01"), *stored[1:]]
    after = await served(world, "v3")
    assert after.bundle(after.place_of(name)).price == "0.01"


async def test_what_a_snapshot_served_is_replaced_as_a_whole(tmp_path: Path, decoded: list[str]) -> None:
    async with api_world(tmp_path) as world:
        meta, bundles = world.store.versions["v1"]
        await world.snapshot.write_version(meta, lines_of(bundles))
    async with api_world(tmp_path, catalogue=False) as world:
        sources = [world.live.source]
        decoded.clear()
        world.store.publish("v2", bundles)
        await served(world, "v2")
        assert len(decoded) == len(bundles)
        sources.append(world.live.source)
        assert sources == ["snapshot", "fresh"]


bundles = st.lists(
    st.builds(
        make_bundle,
        st.sampled_from("abcdefgh"),
        groups=st.sampled_from([("A",), ("A", "B"), ("B",)]),
        countries=st.sampled_from([("PT",), ("PT", "ES")]),
        duration_days=st.sampled_from([1, 7]),
        stale=st.booleans(),
    ),
    unique_by=lambda bundle: bundle.name,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(st.lists(bundles, min_size=2, max_size=4))
async def test_version_after_version_reads_as_if_it_had_been_read_alone(versions: list[list[Bundle]]) -> None:
    live, store = live_catalogue()
    for number, found in enumerate(versions):
        store.publish(f"v{number}", found)
        await live.refresh()
        index = CatalogueIndex()
        alone = InMemoryCatalogue(make_meta("alone", index), store.versions[f"v{number}"][1])
        assert list(live.copy.rows(range(len(live.copy)))) == list(alone.rows(range(len(alone))))
        assert live.copy.stale == alone.stale
        for wanted in (Filter(), Filter(group="b"), Filter(country="es"), Filter(max_days=3)):
            assert live.copy.places(wanted) == alone.places(wanted)


def live_catalogue() -> tuple[Any, Any]:
    from catalog_sync.api.catalogue import LiveCatalogue
    from support.api_world import MemoryStore

    class NoSnapshot:
        async def load(self) -> None:
            return None

    store = MemoryStore()
    return LiveCatalogue(store, NoSnapshot(), stale_after=1e12), store


async def test_the_bundles_of_the_earlier_version_are_freed_with_turns_of_the_loop_in_between() -> None:
    live, store = live_catalogue()
    count, size = 3000, 1000
    store.publish("v1", [make_bundle(f"e{number}") for number in range(count)])
    await live.refresh()
    freed = Turns()

    class Watched(Bundle):
        __slots__ = ("__weakref__",)

    old = [Watched(*dataclasses.astuple(bundle)) for bundle in live.copy.bundles()]
    alive = [weakref.finalize(bundle, freed.counting(int)) for bundle in old]
    live._copy = InMemoryCatalogue(live.copy.meta, old)
    del old
    gc.collect()
    store.publish("v2", [make_bundle(f"e{number}", description="new") for number in range(count)])
    async with freed.watched():
        await live.refresh()
    assert (freed.steps, len(alive)) == (count, count)
    assert freed.longest <= 2 * size
    await asyncio.sleep(0)
