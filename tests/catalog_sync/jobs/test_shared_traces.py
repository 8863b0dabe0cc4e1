"""Spans that several processes pushed make one trace for whoever reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from catalog_sync.domain.errors import CacheConnectionError
from catalog_sync.observability.traces import SpanRecord, TraceRing
from catalog_sync.store.client import GuardedRedis
from catalog_sync.store.traces import KEPT_OTHER, MAX_FAILED, PREFIX, JoinedTraces, SharedTraces
from support.redis_server import RedisServer


def span(number: int, trace: int = 1, **changes: Any) -> SpanRecord:
    values: dict[str, Any] = {
        "trace_id": f"{trace:032x}",
        "span_id": f"{number:016x}",
        "parent_id": None,
        "name": f"span {number}",
        "kind": "INTERNAL",
        "service": "catalog-worker",
        "start": float(number),
        "end": number + 0.5,
        "status": "unset",
        "message": None,
        "attributes": {"n": number},
    }
    return SpanRecord(**{**values, **changes})


async def test_portions_of_several_processes_make_one_trace(redis: GuardedRedis) -> None:
    traces = SharedTraces(redis)
    await traces.push([span(3, status="error", name="catalog.sync.group"), span(4)])
    await traces.push([span(1, service="catalog-api", name="POST /syncs"), span(2, service="catalog-api")])
    assert [found.span_id for found in await traces.get(f"{1:032x}")] == [f"{number:016x}" for number in (1, 2, 3, 4)]
    [summary] = await traces.failed()
    assert (summary.name, summary.spans, summary.errors, summary.failed) == ("POST /syncs", 4, 1, True)
    assert (summary.start, summary.end) == (1.0, 4.5)
    assert summary.services == ("catalog-api", "catalog-worker")


async def test_a_trace_that_went_well_is_no_failure_and_soon_forgotten(
    redis: GuardedRedis, redis_server: RedisServer
) -> None:
    traces = SharedTraces(redis)
    await traces.push([span(1), span(2, status="error", name="attempt")])
    assert await traces.failed() == []
    assert 0 < redis_server.command("TTL", f"{PREFIX}{1:032x}") <= KEPT_OTHER


async def test_the_last_failed_traces_are_kept(redis: GuardedRedis, redis_server: RedisServer) -> None:
    traces = SharedTraces(redis)
    for number in range(1, MAX_FAILED + 4):
        await traces.push([span(number, trace=number, status="error")])
    kept = await traces.failed(limit=100)
    assert [int(summary.trace_id, 16) for summary in kept] == list(range(MAX_FAILED + 3, 3, -1))
    assert redis_server.command("EXISTS", f"{PREFIX}{1:032x}", f"{PREFIX}{1:032x}:summary") == 0


async def test_what_this_process_kept_and_what_others_pushed_is_read_together(redis: GuardedRedis) -> None:
    own, shared = TraceRing(), SharedTraces(redis)
    own.add(span(1, service="catalog-api", kind="SERVER", name="POST /syncs"))
    await shared.push([span(2, status="error")])
    joined = JoinedTraces(own, shared)
    assert [found.span_id for found in await joined.get(f"{1:032x}")] == [f"{1:016x}", f"{2:016x}"]
    joined.share_soon(f"{1:032x}")
    async with asyncio.timeout(60):
        while len(await shared.get(f"{1:032x}")) < 2:
            await asyncio.sleep(0.01)
    assert [summary.name for summary in await joined.failed()] == ["POST /syncs"]


async def test_without_redis_this_process_shows_what_it_has() -> None:
    class Away(SharedTraces):
        def __init__(self) -> None:
            """No Redis."""

        async def failed(self, *, limit: int = 50) -> Sequence[Any]:
            raise CacheConnectionError("away")

        async def get(self, trace_id: str) -> Sequence[SpanRecord]:
            raise CacheConnectionError("away")

    own = TraceRing()
    own.add(span(1, status="error"))
    joined = JoinedTraces(own, Away())
    assert len(await joined.get(f"{1:032x}")) == len(await joined.failed()) == 1
