"""The sync lock: one holder, renewed while it works, lost without harm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from catalog_sync.errors import CacheConnectionError, LockLostError
from catalog_sync.models import LockHolder
from catalog_sync.store import CatalogStore, LockLease, StaleFenceError, open_store
from catalog_sync.store.client import GuardedRedis, connect_url
from catalog_sync.store.lock import SyncLock
from support.published import StoreSettings, publish, quick_policy
from support.redis_server import RedisServer


async def lease_of(store: CatalogStore, holder: str = "a" * 32, **options: Any) -> LockLease:
    lease = await store.acquire_lock(holder, **options)
    assert isinstance(lease, LockLease)
    return lease


@asynccontextmanager
async def short_lock(server: RedisServer, tmp_path: Path, ttl: float) -> AsyncIterator[CatalogStore]:
    async with open_store(StoreSettings(tmp_path, server.url), quick_policy(0.2), lock_ttl=ttl) as store:
        yield store


async def test_a_second_run_is_told_who_holds_the_lock_and_since_when(server: RedisServer, tmp_path: Path) -> None:
    settings = StoreSettings(tmp_path, server.url)
    async with open_store(settings, quick_policy(), wall_clock=lambda: 1_795_485_600.5) as store:
        lease = await lease_of(store, "a" * 32)
        busy = await store.acquire_lock("b" * 32)
        assert isinstance(busy, LockHolder)
        assert (busy.owner, busy.since, busy.correlation_id) == (lease.owner, "2026-11-24T02:00:00.500Z", "a" * 32)
        assert 29 < busy.ttl_s <= 30
        seen = await store.lock_holder()
        assert seen is not None
        assert seen.owner == lease.owner


async def test_holding_renews_and_the_end_frees(server: RedisServer, tmp_path: Path) -> None:
    async with short_lock(server, tmp_path, 0.3) as store:
        lease = await lease_of(store)
        async with lease.hold():
            await asyncio.sleep(0.7)
            assert isinstance(await store.acquire_lock("b" * 32), LockHolder)
        assert await store.lock_holder() is None
        assert not lease.lost


async def test_a_lost_lease_cancels_the_work_and_the_next_owner_has_the_next_token(
    server: RedisServer, tmp_path: Path
) -> None:
    async with short_lock(server, tmp_path, 0.3) as store:
        lease = await lease_of(store)
        others: list[LockLease] = []

        async def work() -> None:
            async with lease.hold():
                server.command("DEL", "{cat}:lock")
                others.append(await lease_of(store, "b" * 32))
                await asyncio.sleep(30)

        with pytest.raises(LockLostError):
            await work()
        other = others[0]
        assert lease.lost
        assert (lease.token, other.token) == (1, 2)
        holder = await store.lock_holder()
        assert holder is not None
        assert holder.owner == other.owner
        assert (await lease.renew(), await lease.release()) == (False, False)
        assert await other.renew()


async def test_the_commit_of_a_run_that_stalled_is_refused(store: CatalogStore, server: RedisServer) -> None:
    stalled = await lease_of(store)
    server.command("DEL", "{cat}:lock")
    other = await lease_of(store)
    await publish(store, "v2", [], fence=other.token)
    with pytest.raises(StaleFenceError):
        await publish(store, "v1", [], fence=stalled.token)


async def test_a_redis_that_dies_under_the_lease_ends_the_work_when_the_lease_ends(
    server: RedisServer, tmp_path: Path
) -> None:
    async with short_lock(server, tmp_path, 0.5) as store:
        lease = await lease_of(store)

        async def work() -> None:
            async with lease.hold():
                server.kill()
                await asyncio.sleep(30)

        with pytest.raises(LockLostError):
            await work()


async def test_a_renewal_that_fails_once_is_tried_again(server: RedisServer, tmp_path: Path) -> None:
    async with short_lock(server, tmp_path, 1.5) as store:
        lease = await lease_of(store)
        async with lease.hold():
            server.pause()
            await asyncio.sleep(0.8)
            server.resume()
            await asyncio.sleep(1.0)
        assert not lease.lost


async def test_cancellation_passes_and_frees_the_lock(store: CatalogStore) -> None:
    lease = await lease_of(store)
    entered = asyncio.Event()

    async def work() -> None:
        async with lease.hold():
            entered.set()
            await asyncio.sleep(30)

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await store.lock_holder() is None


async def test_an_error_of_the_work_passes_and_frees_the_lock(store: CatalogStore) -> None:
    lease = await lease_of(store)
    with pytest.raises(ValueError, match="of the work"):
        async with lease.hold():
            raise ValueError("of the work")
    assert await store.lock_holder() is None


async def test_domain_4_1_a_lock_that_cannot_be_asked_is_an_error_and_not_busy(tmp_path: Path) -> None:
    async with open_store(StoreSettings(tmp_path, "redis://127.0.0.1:1/0"), quick_policy()) as store:
        with pytest.raises(CacheConnectionError):
            await store.acquire_lock("a" * 32)


class LosesFirstAnswers:
    """A policy that runs every call twice, as after an answer that got lost."""

    def execute(
        self,
        operation: Callable[[], Awaitable[Any]],
        *,
        name: str | None = None,
        idempotent: bool | None = None,
        deadline: float | None = None,
    ) -> Awaitable[Any]:
        async def twice() -> Any:
            await operation()
            return await operation()

        return twice()


async def test_a_repeated_acquisition_is_the_same_lease(server: RedisServer) -> None:
    redis = GuardedRedis(connect_url(server.url), LosesFirstAnswers())
    try:
        lock = SyncLock(redis, ttl=30)
        lease = await lock.acquire("a" * 32)
        assert isinstance(lease, LockLease)
        assert lease.token == 1
    finally:
        await redis.aclose()


async def test_tokens_rise_also_after_a_failover_that_lost_the_counter(
    store: CatalogStore, server: RedisServer
) -> None:
    for key in ("{cat}:fence", "{cat}:fence:seq"):
        server.command("SET", key, 41)
    await publish(store, "v1", [], fence=57)
    server.command("SET", "{cat}:fence", 41)
    server.command("SET", "{cat}:fence:seq", 3)
    lease = await lease_of(store)
    assert lease.token == 58
    await lease.release()
    assert (await lease_of(store, token_floor=99)).token == 100
