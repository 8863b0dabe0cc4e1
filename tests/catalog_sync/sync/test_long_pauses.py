"""A supplier that asks for minutes: what a sync waits for, all its groups wait for; else all end at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from catalog_sync.domain.models import Bundle, Outcome, SyncReport
from catalog_sync.domain.schedule import pause_after
from catalog_sync.store.staging import Staging
from catalog_sync.supplier.esim_go.policy import LONGEST_WAIT
from support.sync_world import World

DEADLINE = 900.0


async def sync_with(
    world: World, fault: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> tuple[SyncReport, list[float]]:
    """A sync of which one request, the first page of the second group, meets the fault; and how long it waited."""
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    world.simulator.set_scenario({"name": "asks for time", "rules": [fault | {"when": {"group": 1, "count": 1}}]})
    async with world.other_client(sync_deadline=DEADLINE) as client:
        monkeypatch.setattr(client.supplier.policy, "async_sleep", wait)
        return await client.sync(), waits


@pytest.mark.fault("F19")
@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("seconds", [301, 440])
async def test_every_group_waits_as_long_as_the_supplier_asks_for(
    world: World, monkeypatch: pytest.MonkeyPatch, status: int, seconds: int
) -> None:
    report, waits = await sync_with(world, {"fault": "status", "status": status, "retry_after": seconds}, monkeypatch)

    assert report.outcome is Outcome.COMPLETE, report.error
    assert report.retries == 1
    assert max(waits) == pytest.approx(seconds, abs=5)
    assert pause_after(report) == 0


@pytest.mark.fault("F19")
@pytest.mark.parametrize("seconds", [460, 890])
async def test_no_group_waits_where_that_would_take_most_of_the_time_of_the_sync(
    world: World, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    """It would wait for minutes, and then probably end at its deadline with nothing published."""
    await world.sync()
    report, waits = await sync_with(world, {"fault": "status", "status": 429, "retry_after": seconds}, monkeypatch)

    assert max(waits, default=0) < 30
    assert {group.status for group in report.groups} <= {"ok", "stale"}
    assert all(group.error.type in {"429", "rate_limited"} for group in report.groups if group.error is not None)
    assert report.outcome in {Outcome.PARTIAL, Outcome.FAILED}
    assert pause_after(report) == pytest.approx(seconds, abs=5)


async def test_what_is_staged_outlives_the_longest_wait(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis deletes what an abandoned run has staged; one that waits is not abandoned."""
    kept: list[int] = []
    put = Staging.put

    async def put_and_look(staging: Staging, bundles: Iterable[Bundle]) -> None:
        await put(staging, bundles)
        kept.append(await world.store.redis.command("look", "TTL", staging.keys.bundles))

    monkeypatch.setattr(Staging, "put", put_and_look)
    async with world.other_client(sync_deadline=7200.0) as client:
        assert (await client.sync()).outcome is Outcome.COMPLETE
    assert kept
    assert min(kept) > 7200 * LONGEST_WAIT
