"""The gauges of the queue and the workers, from what one process reads in Redis at intervals."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

from catalog_sync.domain.errors import CatalogSyncError
from catalog_sync.domain.times import parse_rfc3339, utc_now
from catalog_sync.jobs.port import JobStatus
from catalog_sync.observability.instruments import QueueState, set_queue
from catalog_sync.observability.sdk import untraced

LOOK_EVERY: Final = 10.0
"""Interval in seconds of reading Redis."""
KNOWN_FOR: Final = 3 * LOOK_EVERY
"""Seconds after which the last values expire."""

_log = logging.getLogger(__name__)


def queue_state(seen: Mapping[str, Any], now: datetime.datetime) -> QueueState:
    """From an overview of the jobs and the number of ``waiting`` messages. Values that a worker omits count as 0."""
    workers, active = seen["workers"], seen["active"]
    waits = active is not None and active["status"] == JobStatus.QUEUED
    since = parse_rfc3339(active["created_at"]) if waits else now
    return QueueState(
        waiting=seen["waiting"],
        wait=max(0.0, (now - since).total_seconds()),
        dead_letters=seen["dead_letters"]["count"],
        workers=len(workers),
        slots=sum(_number(worker.get("slots")) for worker in workers),
        busy=sum(_number(worker.get("busy")) for worker in workers),
    )


def _number(value: object) -> int:
    """A number reported by a worker; one of another version may report less, or something else."""
    return value if type(value) is int and 0 <= value < 1_000_000 else 0


@contextlib.asynccontextmanager
async def queue_shown(
    look: Callable[[], Awaitable[Mapping[str, Any]]],
    *,
    every: float = LOOK_EVERY,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[None]:
    """Within the block the gauges show what ``look`` returns; nothing if it has failed for a while.

    ``look`` may raise ``CatalogSyncError``. ``every``: interval in seconds.
    """
    known: tuple[float, QueueState] | None = None

    def state() -> QueueState | None:
        return known[1] if known is not None and clock() - known[0] < KNOWN_FOR else None

    async def look_on() -> None:
        nonlocal known
        while True:
            try:
                with untraced():
                    known = clock(), queue_state(await look(), utc_now())
            except CatalogSyncError as error:
                _log.debug("the queue cannot be read: %s", error)
            await asyncio.sleep(every)

    looking = asyncio.create_task(look_on(), name="gauges of the queue")
    set_queue(state)
    try:
        yield
    finally:
        set_queue(None)
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking
