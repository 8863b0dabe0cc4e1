"""A sync makes a bounded number of requests to Redis, however small the pages are, and no page waits long."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from typing import Any

import pytest

from catalog_sync.domain.groups import GroupNames
from catalog_sync.domain.index import CatalogueIndex
from catalog_sync.domain.models import Outcome
from catalog_sync.store.staging import CHUNK
from catalog_sync.sync.builder import PENDING_LIMIT, CatalogueBuilder
from support.published import make_bundle
from support.sync_world import BUNDLES, World


@pytest.fixture
def asked(world: World, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many times each command was sent to Redis."""
    counted: Counter[str] = Counter()
    call = world.store.redis.call

    async def count(name: str, operation: Any, **options: Any) -> Any:
        counted[name] += 1
        return await call(name, operation, **options)

    monkeypatch.setattr(world.store.redis, "call", count)
    return counted


async def test_small_pages_cost_no_more_round_trips_than_large_ones(
    world: World, asked: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catalog_sync.sync.builder.PENDING_LIMIT", math.inf)  # however slow this machine is
    numbers = []
    for size in (10, 100):
        asked.clear()
        async with world.other_client(page_size=size) as client:
            report = await client.sync()
        assert (report.outcome, report.bundles) == (Outcome.COMPLETE, BUNDLES)
        assert asked["stage bundles"] <= 2 * -(-BUNDLES // CHUNK)
        numbers.append(asked.total())
    assert numbers[0] <= numbers[1] + 2
    assert max(numbers) < 30


class Staged:
    """The part of the store that the builder writes to."""

    version = "v1"

    def __init__(self) -> None:
        self.puts: list[list[str]] = []
        self.removed: list[str] = []

    async def put(self, bundles: Any) -> None:
        names = [bundle.name for bundle in bundles]
        if names:
            self.puts.append(names)

    async def remove(self, names: list[str]) -> None:
        self.removed += names


def builder_with(clock: list[float]) -> tuple[CatalogueBuilder, Staged]:
    staged: Any = Staged()
    store: Any = None
    return CatalogueBuilder(store, staged, CatalogueIndex(), GroupNames(["A"]), clock=lambda: clock[0]), staged


async def test_a_few_bundles_of_a_slow_supplier_do_not_wait_for_more() -> None:
    clock = [0.0]
    builder, staged = builder_with(clock)
    await builder.put("A", [make_bundle("one")])
    assert staged.puts == []
    clock[0] += PENDING_LIMIT
    await builder.put("A", [make_bundle("two")])
    assert staged.puts == [["one", "two"]]
    await builder.put("A", [make_bundle("three")])
    await builder.flush()
    await builder.flush()
    assert staged.puts == [["one", "two"], ["three"]]


async def test_what_comes_again_before_it_was_written_is_written_once_in_all_its_groups() -> None:
    builder, staged = builder_with([0.0])
    await asyncio.gather(
        builder.put("A", [make_bundle("both", groups=("A",))]), builder.put("B", [make_bundle("both", groups=("B",))])
    )
    await builder.flush()
    assert staged.puts == [["both"]]
    assert [group for group, names in builder.index.entries("groups") if "both" in names] == ["A", "B"]


async def test_what_is_removed_before_it_was_written_is_never_written() -> None:
    builder, staged = builder_with([0.0])
    await builder.put("A", [make_bundle("gone"), make_bundle("kept")])
    await builder.remove(["gone"])
    await builder.flush()
    assert (staged.puts, staged.removed) == ([["kept"]], ["gone"])
