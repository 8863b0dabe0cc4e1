"""A supplier that asks for minutes: what a sync waits for, all its groups wait for; else all end at once."""

from __future__ import annotations

from typing import Any

import pytest

from catalog_sync.domain.models import Outcome, SyncReport
from catalog_sync.domain.schedule import pause_after
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
