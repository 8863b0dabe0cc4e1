"""Guards before publication, and --force."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from catalog_sync.domain.models import Outcome, SyncKind
from catalog_sync.supplier.esim_go.client import open_supplier
from esim_go_simulator.catalogue import GROUPS
from support.redis_server import RedisServer
from support.sync_world import BUNDLES, World, world_with


class IgnoresGroup(httpx.AsyncBaseTransport):
    """The supplier does not look at the parameter ``group``."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_remove_param("group")
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        await self._transport.aclose()


@pytest.fixture
async def unfiltered(world: World) -> AsyncIterator[World]:
    """The same world, where the supplier does not look at the parameter ``group``."""
    async with open_supplier(world.settings, wrap=IgnoresGroup) as supplier:
        yield dataclasses.replace(world, supplier=supplier)


@pytest.mark.parametrize(
    ("scenario", "word"), [("big-drop", "shrink"), ("vanished-group", "group"), ("bad-rows", "rows")]
)
async def test_a_suspicious_catalogue_is_not_published_without_force(world: World, scenario: str, word: str) -> None:
    await world.sync()
    before = await world.meta()
    world.simulator.set_scenario(scenario)

    refused = await world.sync()

    assert refused.outcome is Outcome.FAILED
    assert refused.error is not None
    assert refused.error.type == "publish_refused"
    assert word in refused.error.message
    assert await world.meta() == before
    assert (refused.version, refused.bundles) == (before.version, BUNDLES)

    forced = await world.sync(force=True)

    assert forced.outcome is Outcome.COMPLETE
    assert forced.version == (await world.meta()).version != before.version
    assert forced.bundles < BUNDLES


async def test_a_small_drop_is_published(world: World) -> None:
    await world.sync()
    world.simulator.edit_catalogue(withdraw_ratio=0.1)

    report = await world.sync()

    assert report.outcome is Outcome.COMPLETE
    assert report.bundles < BUNDLES


async def test_bad_rows_are_told_one_by_one_and_left_out(world: World) -> None:
    world.simulator.set_scenario({"rules": [{"fault": "bad_rows", "ratio": 0.02}]})

    report = await world.sync()

    assert report.outcome is Outcome.COMPLETE
    assert report.quarantined == len(report.quarantined_rows) > 0
    assert report.bundles + report.quarantined >= BUNDLES
    assert {row.reason for row in report.quarantined_rows} <= {"bad_price", "bad_country", "bad_duration"}
    assert not {row.name for row in report.quarantined_rows} & set(await world.bundles())


async def test_an_account_without_bundles_does_not_publish_an_empty_catalogue(world: World) -> None:
    world.simulator.edit_catalogue(withdraw_ratio=1.0)

    report = await world.sync()

    assert report.outcome is Outcome.FAILED
    assert report.error is not None
    assert report.error.type == "publish_refused"
    assert await world.store.current() is None


async def test_a_group_that_shrinks_too_much_is_refused_in_a_group_sync_too(world: World) -> None:
    await world.sync()
    before = await world.meta()
    world.simulator.set_scenario("big-drop")

    report = await world.sync(SyncKind.GROUP, next(iter(before.groups)))

    assert report.error is not None
    assert report.error.type == "publish_refused"
    assert await world.meta() == before


class TestASupplierThatIgnoresWhichGroupIsAskedFor:
    async def test_is_logged_where_nothing_that_was_published_says_otherwise(
        self, unfiltered: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        for _ in range(2):
            caplog.clear()
            assert (await unfiltered.sync()).outcome is Outcome.COMPLETE
            assert f"the same {BUNDLES} bundles for every group" in caplog.text
        assert (await unfiltered.sync(SyncKind.GROUP, GROUPS[0])).outcome is Outcome.COMPLETE

    async def test_changes_nothing_in_what_was_published(self, world: World, unfiltered: World) -> None:
        await world.sync()
        before = await world.meta()

        for kind, scope in ((SyncKind.FULL, None), (SyncKind.GROUP, GROUPS[1])):
            report = await unfiltered.sync(kind, scope)
            assert report.error is not None
            assert report.error.type == "publish_refused"
        assert await world.meta() == before

    async def test_publishes_it_where_that_is_forced_and_from_then_on(self, world: World, unfiltered: World) -> None:
        await world.sync()
        assert (await unfiltered.sync(force=True)).outcome is Outcome.COMPLETE
        assert {group.bundles for group in (await unfiltered.meta()).groups.values()} == {BUNDLES}

        assert (await unfiltered.sync()).outcome is Outcome.COMPLETE
        assert (await unfiltered.sync(SyncKind.GROUP, GROUPS[0])).outcome is Outcome.COMPLETE


@pytest.mark.parametrize(("bundles", "named"), [(30, ["A", "B"]), (9, ["A"])])
async def test_groups_may_have_the_same_bundles_where_these_say_so_or_are_few(
    redis_server: RedisServer, tmp_path: Path, bundles: int, named: list[str]
) -> None:
    redis_server.command("FLUSHALL")
    rows = [{"name": f"esim_{number}", "groups": named, "duration": 7, "price": 2.5} for number in range(bundles)]
    if named == ["A"]:
        rows[0]["groups"] = ["A", "B"]
    file = tmp_path / "catalogue.json"
    file.write_text(json.dumps(rows))
    async with (
        world_with(redis_server.url, tmp_path, data=file) as world,
        open_supplier(world.settings, wrap=IgnoresGroup) as supplier,
    ):
        report = await dataclasses.replace(world, supplier=supplier).sync()

    assert report.outcome is Outcome.COMPLETE
    assert [group.bundles for group in report.groups] == [bundles, bundles]
