"""The sync lock: one holder, renewed while it works; losing it does no harm."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from catalog_sync.domain.errors import CacheConnectionError, LockLostError
from catalog_sync.domain.models import LockHolder
from catalog_sync.store import CatalogStore, LockLease, SharedOwner, StaleFenceError, open_store
from catalog_sync.store.client import GuardedRedis, connect_url
from catalog_sync.store.errors import CorruptEntryError
from catalog_sync.store.keys import LOCK
from catalog_sync.store.lock import SyncLock
from otel_resilience import Policy
from support.published import lease_of, publish, quick_policy, store_settings
from support.redis_server import RedisServer


@asynccontextmanager
async def short_lock(server: RedisServer, tmp_path: Path, ttl: float) -> AsyncIterator[CatalogStore]:
    async with open_store(store_settings(tmp_path, server.url), quick_policy(), lock_ttl=ttl) as store:
        yield store


async def renewed(server: RedisServer) -> None:
    """Until the lock is extended once."""
    async with asyncio.timeout(60):
        before = server.command("PTTL", LOCK)
        while (left := server.command("PTTL", LOCK)) <= before:
            before = left
            await asyncio.sleep(0.02)


async def test_a_second_run_is_told_who_holds_the_lock_and_since_when(server: RedisServer, tmp_path: Path) -> None:
    settings = store_settings(tmp_path, server.url)
    async with open_store(settings, quick_policy(), wall_clock=lambda: 1_795_485_600.5) as store:
        lease = await lease_of(store, "a" * 32)
        busy = await store.lock.acquire("b" * 32)
        assert isinstance(busy, LockHolder)
        assert (busy.owner, busy.since, busy.correlation_id) == (lease.owner, "2026-11-24T02:00:00.500Z", "a" * 32)
        assert 29 < busy.ttl_s <= 30
        seen = await store.lock.holder()
        assert seen is not None
        assert seen.owner == lease.owner


@pytest.mark.parametrize("held", ['{"owner": "me", "since": "2026-11-24T02:00:00Z", "correlation_id": "x"}', "garbage"])
async def test_a_lock_that_would_never_expire_does_so_after_a_lease(
    server: RedisServer, tmp_path: Path, held: str
) -> None:
    async with short_lock(server, tmp_path, 0.3) as store:
        server.command("SET", LOCK, held)
        with contextlib.suppress(CorruptEntryError):
            assert isinstance(await store.lock.acquire("b" * 32), LockHolder)
        assert 0 < server.command("PTTL", LOCK) <= 300
        async with asyncio.timeout(60):
            while server.command("EXISTS", LOCK):
                await asyncio.sleep(0.02)
        assert isinstance(await store.lock.acquire("b" * 32), LockLease)


async def test_holding_renews_and_the_end_frees(server: RedisServer, tmp_path: Path) -> None:
    async with short_lock(server, tmp_path, 1.5) as store:
        lease = await lease_of(store)
        async with lease.hold():
            await renewed(server)
            await renewed(server)
            assert isinstance(await store.lock.acquire("b" * 32), LockHolder)
        assert await store.lock.holder() is None
        assert not lease.lost


async def test_a_lost_lease_cancels_the_work_and_the_next_owner_has_a_higher_token(
    server: RedisServer, tmp_path: Path
) -> None:
    async with short_lock(server, tmp_path, 1.5) as store:
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
        assert other.token > lease.token
        holder = await store.lock.holder()
        assert holder is not None
        assert holder.owner == other.owner
        assert (await lease.renew(), await lease.release()) == (False, False)
        assert await other.renew()


async def test_the_commit_of_a_run_that_stalled_is_refused(store: CatalogStore, server: RedisServer) -> None:
    stalled = await lease_of(store)
    server.command("DEL", "{cat}:lock")
    other = await lease_of(store)
    newer = await publish(store, "v2", [], lease=other)
    with pytest.raises(StaleFenceError):
        await publish(store, "v1", [], lease=stalled)
    assert await store.current() == newer


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


async def test_a_renewal_that_fails_once_is_tried_again(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with short_lock(server, tmp_path, 3.0) as store:
        lease = await lease_of(store)
        extend = store.lock.extend
        errors = [CacheConnectionError("Redis does not answer")]

        async def away_once(*arguments: Any, **options: Any) -> Any:
            if errors:
                raise errors.pop()
            return await extend(*arguments, **options)

        monkeypatch.setattr(store.lock, "extend", away_once)
        async with lease.hold():
            await renewed(server)
        assert not errors
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
    assert await store.lock.holder() is None


async def test_an_error_of_the_work_passes_and_frees_the_lock(store: CatalogStore) -> None:
    lease = await lease_of(store)
    with pytest.raises(ValueError, match="of the work"):
        async with lease.hold():
            raise ValueError("of the work")
    assert await store.lock.holder() is None


async def test_domain_4_1_a_lock_that_cannot_be_asked_is_an_error_and_not_busy(tmp_path: Path) -> None:
    async with open_store(store_settings(tmp_path, "redis://127.0.0.1:1/0"), quick_policy()) as store:
        with pytest.raises(CacheConnectionError):
            await store.lock.acquire("a" * 32)


class LosesFirstAnswers(Policy):
    """A policy that runs every call twice, as after an answer that got lost."""

    def execute(self, operation: Any, *args: Any, **options: Any) -> Any:  # type: ignore[override]  # overloaded
        async def twice() -> Any:
            await operation()
            return await operation()

        return twice()


async def test_a_repeated_acquisition_is_the_same_lease(server: RedisServer) -> None:
    redis = GuardedRedis(connect_url(server.url), LosesFirstAnswers("redis"))
    try:
        lock = SyncLock(redis, ttl=30)
        lease = await lock.acquire("a" * 32)
        assert isinstance(lease, LockLease)
        holder = await lock.holder()
        assert holder is not None
        assert holder.owner == lease.owner
    finally:
        await redis.aclose()


async def test_tokens_rise_also_after_a_failover_that_lost_the_counter(
    store: CatalogStore, server: RedisServer
) -> None:
    """Even where the clock of the new master is far behind."""
    ahead = 8_000_000_000_000_000
    lease = await lease_of(store, token_floor=ahead)
    assert lease.token == ahead + 1
    await publish(store, "v1", [], lease=lease)
    await lease.release()
    server.command("SET", "{cat}:fence", 41)
    server.command("SET", "{cat}:fence:seq", 3)
    lease = await lease_of(store)
    assert lease.token == ahead + 2
    await lease.release()
    assert (await lease_of(store)).token == ahead + 3


@pytest.mark.fault("S4")
async def test_a_token_does_not_repeat_after_everything_was_deleted(store: CatalogStore, server: RedisServer) -> None:
    tokens = []
    for _ in range(20):
        tokens.append((await lease_of(store)).token)
        server.command("FLUSHALL")
    assert tokens == sorted(set(tokens))


@pytest.mark.fault("S4")
async def test_the_commit_of_a_run_whose_lock_is_gone_is_refused(store: CatalogStore, server: RedisServer) -> None:
    old = await publish(store, "v1", [])
    lease = await lease_of(store)
    server.command("DEL", "{cat}:lock")
    with pytest.raises(LockLostError):
        await publish(store, "v2", [], lease=lease)
    assert await store.current() == old


@pytest.mark.fault("S4")
async def test_the_commit_is_refused_after_flushall_although_no_higher_token_is_known(
    store: CatalogStore, server: RedisServer
) -> None:
    first = await lease_of(store, "a" * 32)
    server.command("FLUSHALL")
    second = await lease_of(store, "b" * 32)
    with pytest.raises(LockLostError):
        await publish(store, "of-the-first", [], lease=first)
    newer = await publish(store, "of-the-second", [], lease=second)
    await second.release()
    with pytest.raises(LockLostError):
        await publish(store, "of-the-first", [], lease=first)
    assert await store.current() == newer


@pytest.mark.fault("S4")
async def test_the_commit_is_refused_after_an_older_replica_was_promoted(
    store: CatalogStore, server: RedisServer
) -> None:
    """The replica has not heard of the first run's lock, so a second run works at the same time."""
    await publish(store, "v1", [])
    older = {key: server.command("GET", key) for key in ("{cat}:fence", "{cat}:fence:seq", "{cat}:current")}
    first = await lease_of(store, "a" * 32)
    for key, value in older.items():
        server.command("SET", key, value)
    server.command("DEL", "{cat}:lock")
    second = await lease_of(store, "b" * 32)
    assert second.token > first.token
    with pytest.raises(LockLostError):
        await publish(store, "of-the-first", [], lease=first)
    newer = await publish(store, "of-the-second", [], lease=second)
    assert await store.current() == newer


@pytest.mark.fault("S4")
async def test_the_commit_is_refused_where_only_the_token_of_the_lock_is_another(
    store: CatalogStore, server: RedisServer
) -> None:
    """A shared owner that lost its lock and took it back: what was begun under the old token is not published."""
    owner = SharedOwner("job:a", "2026-11-24T02:00:00.000Z")
    before = await lease_of(store, shared=owner)
    server.command("DEL", "{cat}:lock")
    after = await lease_of(store, shared=owner)
    assert after.token > before.token
    with pytest.raises(LockLostError):
        await publish(store, "v1", [], lease=before)


@pytest.mark.fault("W11")
async def test_a_renewal_never_acquires(store: CatalogStore, server: RedisServer) -> None:
    lease = await lease_of(store)
    server.command("DEL", "{cat}:lock")
    assert not await lease.renew()
    with pytest.raises(LockLostError):
        await lease.confirm()
    assert await store.lock.holder() is None
    assert await store.lock.renew("a" * 32, SharedOwner("job:a", "2026-11-24T02:00:00.000Z")) == "free"
    assert await store.lock.holder() is None
