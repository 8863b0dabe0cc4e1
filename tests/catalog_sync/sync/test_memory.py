"""What a sync keeps in memory: a name and a few numbers for each bundle, and nothing once the version is sealed."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

from catalog_sync.domain.groups import GroupNames
from catalog_sync.domain.index import CatalogueIndex
from catalog_sync.domain.models import Bundle, Outcome
from catalog_sync.store.staging import Staging
from catalog_sync.sync.builder import CatalogueBuilder
from support.instant_redis import InstantRedis
from support.published import make_bundle, make_meta
from support.sync_world import World

BUNDLES = 20_000


def memory() -> float:
    """Bytes per bundle."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0] / BUNDLES


async def test_a_bundle_takes_little_room_until_the_version_is_sealed_and_none_afterwards(traced: None) -> None:
    redis: Any = InstantRedis()
    store: Any = None
    builder = CatalogueBuilder(store, Staging(redis, "v1"), CatalogueIndex(), GroupNames(["A", "B"]))

    async def page(start: int) -> None:
        bundles = [make_bundle(f"esim_{number}GB_7D_PT_V2", groups=("A", "B")) for number in range(start, start + 100)]
        await builder.put("A", bundles)
        await builder.put("B", bundles)

    await page(0)  # what is made once
    before = memory()
    for start in range(100, BUNDLES, 100):
        await page(start)
    assert memory() - before < 300
    await builder.finish()
    redis.staged = BUNDLES
    meta = make_meta("v1", builder.index)
    await builder.seal(meta)
    assert memory() - before < 30


async def test_of_a_sync_that_has_ended_no_bundle_waits_for_the_collector_of_garbage(world: World) -> None:
    def left() -> int:
        return sum(isinstance(each, Bundle) for each in gc.get_objects())

    assert (await world.sync()).outcome == Outcome.COMPLETE  # what is made once
    gc.collect()
    before = left()
    gc.disable()
    try:
        assert (await world.sync()).outcome == Outcome.COMPLETE
        assert left() == before
    finally:
        gc.enable()
