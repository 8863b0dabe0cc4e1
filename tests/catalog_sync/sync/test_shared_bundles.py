"""Bundles in several groups: merged, never overwritten, and correct when a group fails or shrinks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from catalog_sync.domain.index import Filter
from catalog_sync.domain.models import Outcome, SyncKind
from support.redis_server import RedisServer
from support.sync_world import World, world_with


def row(name: str, *groups: str) -> dict[str, Any]:
    return {
        "name": name,
        "groups": list(groups),
        "countries": [{"name": "Portugal", "region": "Europe", "iso": "PT"}],
        "duration": 7,
        "price": 6.9,
    }


ROWS = [row("only-a", "A"), row("only-b", "B"), row("both", "A", "B"), row("only-c", "C"), row("all", "A", "B", "C")]


@pytest.fixture
async def shared(redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[World]:
    redis_server.command("FLUSHALL")
    file = tmp_path / "catalogue.json"
    file.write_text(json.dumps(ROWS))
    async with (
        world_with(redis_server.url, tmp_path, data=file) as world,
        world.other_client(max_drop_ratio=0.9) as client,
    ):
        yield client


async def memberships(world: World) -> dict[str, tuple[set[str], bool]]:
    return {name: (set(bundle.groups), bundle.stale) for name, bundle in (await world.bundles()).items()}


async def indexed(world: World) -> dict[str, list[str]]:
    index = await world.store.load_index((await world.meta()).version)
    return {group: sorted(names) for group, names in index.entries("groups")}


def failing(group: str) -> dict[str, Any]:
    return {"rules": [{"fault": "status", "status": 500, "when": {"endpoint": "catalogue", "group": group}}]}


async def test_indexes_are_built_from_the_merged_set(shared: World) -> None:
    """In the original the entry of a country held only the last group's bundles."""
    report = await shared.sync()

    assert report.outcome is Outcome.COMPLETE
    assert report.bundles == 5
    assert await memberships(shared) == {
        "only-a": ({"A"}, False),
        "only-b": ({"B"}, False),
        "both": ({"A", "B"}, False),
        "only-c": ({"C"}, False),
        "all": ({"A", "B", "C"}, False),
    }
    assert await indexed(shared) == {
        "A": ["all", "both", "only-a"],
        "B": ["all", "both", "only-b"],
        "C": ["all", "only-c"],
    }
    index = await shared.store.load_index((await shared.meta()).version)
    assert index.match(Filter(country="PT")) == sorted(entry["name"] for entry in ROWS)
    assert {group.name: group.bundles for group in report.groups} == {"A": 3, "B": 3, "C": 2}


async def test_a_bundle_of_a_failed_group_stays_fresh_where_another_group_delivers_it(shared: World) -> None:
    await shared.sync()
    shared.simulator.set_scenario(failing("B"))

    report = await shared.sync()

    assert report.outcome is Outcome.PARTIAL
    assert await memberships(shared) == {
        "only-a": ({"A"}, False),
        "only-b": ({"B"}, True),
        "both": ({"A", "B"}, False),
        "only-c": ({"C"}, False),
        "all": ({"A", "B", "C"}, False),
    }
    assert (await indexed(shared))["B"] == ["all", "both", "only-b"]


async def test_a_bundle_of_two_failed_groups_is_kept_once_in_both(shared: World) -> None:
    await shared.sync()
    rules = [*failing("A")["rules"], *failing("B")["rules"]]
    shared.simulator.set_scenario({"rules": rules})

    report = await shared.sync()

    assert report.outcome is Outcome.PARTIAL
    groups = await memberships(shared)
    assert groups["both"] == ({"A", "B"}, True)
    assert groups["all"] == ({"A", "B", "C"}, False)
    assert {group.name: group.bundles for group in report.groups} == {"A": 3, "B": 3, "C": 2}


async def test_a_withdrawn_bundle_of_a_failed_group_is_kept_only_there(shared: World) -> None:
    await shared.sync()
    shared.simulator.edit_catalogue(withdraw=["both"])
    shared.simulator.set_scenario({**failing("B"), "catalogue": {"withdraw": ["both"]}})

    await shared.sync()

    assert (await memberships(shared))["both"] == ({"B"}, True)
    assert (await indexed(shared))["A"] == ["all", "only-a"]


async def test_a_group_sync_takes_a_bundle_out_of_its_group_alone(shared: World) -> None:
    await shared.sync()
    shared.simulator.set_scenario({"catalogue": {"withdraw": ["both"]}})

    report = await shared.sync(SyncKind.GROUP, "B")

    assert report.outcome is Outcome.COMPLETE
    assert (await memberships(shared))["both"] == ({"A"}, False)
    assert (await indexed(shared))["B"] == ["all", "only-b"]
    assert (await shared.meta()).groups["B"].bundles == 2
