"""Guards in front of publication, and --force."""

from __future__ import annotations

import pytest

from catalog_sync.domain.models import Outcome, SyncKind
from support.sync_world import BUNDLES, World


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
