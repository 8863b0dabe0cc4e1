"""The gauges of the queue: what they show of an overview; unknown values are not reported."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from catalog_sync.domain.errors import CatalogSyncError
from catalog_sync.jobs.metrics import KNOWN_FOR, queue_shown, queue_state
from catalog_sync.observability import contract
from catalog_sync.observability.instruments import QueueState, use_providers

NOW = datetime.datetime(2026, 5, 4, 12, 0, 30, tzinfo=datetime.UTC)
WAITS = {"status": "queued", "created_at": "2026-05-04T12:00:00Z"}


def seen(**changes: Any) -> dict[str, Any]:
    workers = [{"name": "a", "slots": 4, "busy": 3}, {"name": "b", "slots": 2, "busy": 0}]
    return {"workers": workers, "active": None, "dead_letters": {"count": 5, "last": []}, "waiting": 7} | changes


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (seen(), QueueState(waiting=7, wait=0, dead_letters=5, workers=2, slots=6, busy=3)),
        (seen(active=WAITS, workers=[]), QueueState(7, 30, 5, 0, 0, 0)),
        (seen(active=WAITS | {"status": "running"}), QueueState(7, 0, 5, 2, 6, 3)),
        (seen(active=WAITS | {"created_at": "2026-05-04T13:00:00Z"}), QueueState(7, 0, 5, 2, 6, 3)),
        (seen(workers=[{"name": "old"}, {"name": "x", "unreadable": True}]), QueueState(7, 0, 5, 2, 0, 0)),
        (seen(workers=[{"name": "odd", "slots": "9", "busy": -1}]), QueueState(7, 0, 5, 1, 0, 0)),
    ],
    ids=["busy", "waits", "runs", "from the future", "older workers", "odd worker"],
)
def test_the_state_of_the_queue(found: Mapping[str, Any], expected: QueueState) -> None:
    assert queue_state(found, NOW) == expected


def gauges(reader: InMemoryMetricReader) -> dict[str, float]:
    read: Any = reader.get_metrics_data()
    return {
        metric.name: point.value
        for of_resource in (read.resource_metrics if read is not None else [])
        for scope in of_resource.scope_metrics
        for metric in scope.metrics
        if metric.name.startswith(("catalog.queue.", "catalog.worker."))
        for point in metric.data.data_points
    }


async def until_called(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not look():
            await asyncio.sleep(0)


async def test_what_is_not_known_any_more_is_not_shown() -> None:
    recorded = InMemoryMetricReader()
    now, looks, down = 0.0, 0, False

    async def look() -> Mapping[str, Any]:
        nonlocal looks
        looks += 1
        if down:
            raise CatalogSyncError("Redis is away")
        return seen()

    def shown() -> Awaitable[None]:
        since = looks
        return until_called(lambda: looks >= since + 2)

    with use_providers(meter_provider=MeterProvider([recorded])):
        async with queue_shown(look, every=0, clock=lambda: now):
            await shown()
            assert gauges(recorded) == {
                contract.QUEUE_SIZE.name: 7,
                contract.QUEUE_WAIT.name: 0,
                contract.QUEUE_DEAD_LETTERS.name: 5,
                contract.WORKER_ALIVE.name: 2,
                contract.WORKER_SLOTS.name: 6,
                contract.WORKER_BUSY.name: 3,
            }
            down = True
            await shown()
            assert gauges(recorded), "for a while the last look is as good as a new one"
            now = KNOWN_FOR
            assert gauges(recorded) == {}
            down = False
            await shown()
            assert gauges(recorded)[contract.WORKER_BUSY.name] == 3
        assert gauges(recorded) == {}
