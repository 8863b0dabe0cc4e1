"""The scripts of the sync lock: who gets it, with which token, for how long, and who keeps it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from catalog_sync.domain.models import LockHolder
from catalog_sync.store import CatalogStore, LockLease, SharedOwner, StaleFenceError, open_store
from catalog_sync.store.errors import SyncEndedError
from catalog_sync.store.keys import CURRENT, FENCE, FENCE_SEQ, LOCK, Key, VersionKeys, receipt_key
from support.published import lease_of, publish, quick_policy, store_settings
from support.redis_server import RedisServer

SINCE = "2026-11-24T02:00:00.000Z"
RECORD = Key("{cat}:job:a")
AHEAD = 8_000_000_000_000_000
"""A token far ahead of every clock."""


@pytest.fixture
async def store(server: RedisServer, tmp_path: Path) -> AsyncIterator[CatalogStore]:
    """A store with long timeouts: no test here is about time limits."""
    async with open_store(store_settings(tmp_path / "state", server.url), quick_policy(60)) as opened:
        yield opened


def job(token: int | None = None) -> SharedOwner:
    return SharedOwner("job:a", SINCE, record=RECORD, receipt="a", token=token)


async def test_the_lock_holds_who_has_it_and_the_token_and_expires(store: CatalogStore, server: RedisServer) -> None:
    lease = await lease_of(store)
    assert server.command("GET", LOCK) == f"{lease.claim}{lease.token}}}".encode()
    assert 20_000 < server.command("PTTL", LOCK) <= 30_000
    assert server.command("GET", FENCE_SEQ) == str(lease.token).encode()


async def test_the_token_is_the_clock_of_the_server_in_microseconds(store: CatalogStore, server: RedisServer) -> None:
    seconds, micros = map(int, server.command("TIME"))
    lease = await lease_of(store)
    after, after_micros = map(int, server.command("TIME"))
    assert seconds * 1_000_000 + micros <= lease.token <= after * 1_000_000 + after_micros


async def test_the_token_is_above_the_counter(store: CatalogStore, server: RedisServer) -> None:
    server.command("SET", FENCE_SEQ, AHEAD)
    assert (await lease_of(store)).token == AHEAD + 1


async def test_the_token_is_above_the_last_publication(store: CatalogStore, server: RedisServer) -> None:
    server.command("SET", FENCE, AHEAD)
    assert (await lease_of(store)).token == AHEAD + 1


async def test_the_token_is_above_that_in_the_published_version(store: CatalogStore, server: RedisServer) -> None:
    await publish(store, "v1", [])
    server.command("HSET", VersionKeys("v1").meta, "fence", AHEAD)
    assert (await lease_of(store)).token == AHEAD + 1
    server.command("DEL", LOCK)
    server.command("SET", FENCE, AHEAD + 10)
    assert (await lease_of(store)).token == AHEAD + 11


async def test_the_token_is_above_the_floor_that_the_caller_knows(store: CatalogStore) -> None:
    assert (await lease_of(store, token_floor=AHEAD)).token == AHEAD + 1


@pytest.mark.parametrize("key", [FENCE, FENCE_SEQ, CURRENT])
async def test_a_key_of_another_type_keeps_nobody_from_the_lock(
    store: CatalogStore, server: RedisServer, key: str
) -> None:
    server.command("LPUSH", key, "x")
    assert (await lease_of(store)).token > 0


async def test_its_holder_gets_the_same_token_for_another_full_lease(store: CatalogStore, server: RedisServer) -> None:
    owner = SharedOwner("job:a", SINCE)
    first = await lease_of(store, shared=owner)
    server.command("PEXPIRE", LOCK, 15_000)
    again = await lease_of(store, shared=owner)
    assert again.token == first.token
    assert server.command("PTTL", LOCK) > 20_000


async def test_another_one_learns_who_holds_it_and_for_how_long(store: CatalogStore, server: RedisServer) -> None:
    lease = await lease_of(store, "a" * 32)
    server.command("PEXPIRE", LOCK, 15_000)
    busy = await store.lock.acquire("b" * 32)
    assert isinstance(busy, LockHolder)
    assert busy.owner == lease.owner
    assert 5 < busy.ttl_s <= 15


async def test_a_lock_without_an_end_is_of_no_run_and_gets_one(store: CatalogStore, server: RedisServer) -> None:
    await lease_of(store, "a" * 32)
    server.command("PERSIST", LOCK)
    busy = await store.lock.acquire("b" * 32)
    assert isinstance(busy, LockHolder)
    assert 20 < busy.ttl_s <= 30
    assert 20_000 < server.command("PTTL", LOCK) <= 30_000


@pytest.mark.parametrize("status", ["queued", "running"])
async def test_a_job_under_way_gets_the_lock(store: CatalogStore, server: RedisServer, status: str) -> None:
    server.command("HSET", RECORD, "status", status)
    assert isinstance(await store.lock.acquire("a" * 32, shared=job()), LockLease)
    assert await store.lock.renew("a" * 32, job()) == "ok"


@pytest.mark.parametrize("status", ["complete", "cancelled", None])
async def test_a_job_that_is_over_or_gone_gets_and_keeps_no_lock(
    store: CatalogStore, server: RedisServer, status: str | None
) -> None:
    server.command("HSET", RECORD, "status", "running")
    await lease_of(store, shared=job())
    server.command("DEL", RECORD)
    if status is not None:
        server.command("HSET", RECORD, "status", status)
    server.command("PEXPIRE", LOCK, 15_000)
    with pytest.raises(SyncEndedError) as caught:
        await store.lock.acquire("a" * 32, shared=job())
    assert caught.value.context["status"] == (status or "gone")
    assert await store.lock.renew("a" * 32, job()) == "ended"
    assert server.command("PTTL", LOCK) <= 15_000


async def test_a_lost_lock_is_not_taken_back_after_another_run_has_published(
    store: CatalogStore, server: RedisServer
) -> None:
    server.command("HSET", RECORD, "status", "running")
    before = await lease_of(store, shared=job())
    server.command("DEL", LOCK)
    server.command("SET", FENCE, before.token + 1)
    with pytest.raises(StaleFenceError) as caught:
        await store.lock.acquire("a" * 32, shared=job(before.token))
    assert caught.value.context["highest"] == before.token + 1
    assert not server.command("EXISTS", LOCK)


async def test_a_lost_lock_is_taken_back_where_nobody_published_after_it(
    store: CatalogStore, server: RedisServer
) -> None:
    server.command("HSET", RECORD, "status", "running")
    before = await lease_of(store, shared=job())
    server.command("DEL", LOCK)
    server.command("SET", FENCE, before.token)
    assert (await lease_of(store, shared=job(before.token))).token > before.token


async def test_a_job_that_has_published_itself_takes_the_lock_back_to_report_it(
    store: CatalogStore, server: RedisServer
) -> None:
    server.command("HSET", RECORD, "status", "running")
    before = await lease_of(store, shared=job())
    server.command("DEL", LOCK)
    server.command("SET", FENCE, before.token + 1)
    server.command("SET", receipt_key("a"), "v1")
    assert (await lease_of(store, shared=job(before.token))).token > before.token + 1


async def test_an_owner_without_a_record_is_refused_too_after_another_publication(
    store: CatalogStore, server: RedisServer
) -> None:
    server.command("SET", FENCE, 1000)
    with pytest.raises(StaleFenceError):
        await store.lock.acquire("a" * 32, shared=SharedOwner("job:a", SINCE, token=999))
    assert isinstance(
        await store.lock.acquire("a" * 32, shared=SharedOwner("job:a", SINCE, token=1000)),
        LockLease,
    )


async def test_a_first_step_is_not_refused_for_what_was_published_before(
    store: CatalogStore, server: RedisServer
) -> None:
    server.command("SET", FENCE, AHEAD)
    assert (await lease_of(store, shared=SharedOwner("job:a", SINCE))).token == AHEAD + 1


async def test_renewing_extends_the_lease_to_its_full_length(store: CatalogStore, server: RedisServer) -> None:
    lease = await lease_of(store)
    server.command("PEXPIRE", LOCK, 15_000)
    assert await lease.renew()
    assert server.command("PTTL", LOCK) > 20_000


async def test_renewing_does_not_extend_the_lease_of_another_run(store: CatalogStore, server: RedisServer) -> None:
    await lease_of(store, "b" * 32)
    server.command("PEXPIRE", LOCK, 15_000)
    assert await store.lock.renew("a" * 32, SharedOwner("job:a", SINCE)) == "lost"
    assert server.command("PTTL", LOCK) <= 15_000


async def test_giving_back_frees_our_lock_and_no_other(store: CatalogStore, server: RedisServer) -> None:
    lease = await lease_of(store)
    held = server.command("GET", LOCK)
    server.command("SET", LOCK, held.replace(b"a" * 32, b"b" * 32))
    assert await lease.release() is False
    assert server.command("EXISTS", LOCK)
    server.command("SET", LOCK, held)
    assert await lease.release() is True
    assert not server.command("EXISTS", LOCK)
    assert await lease.release() is False


async def test_renewing_a_free_lock_says_so_and_leaves_it_free(store: CatalogStore, server: RedisServer) -> None:
    assert await store.lock.renew("a" * 32, SharedOwner("job:a", SINCE)) == "free"
    assert not server.command("EXISTS", LOCK)


async def test_the_smallest_token_is_a_publication_and_none_is_not(store: CatalogStore, server: RedisServer) -> None:
    owner = SharedOwner("job:a", SINCE, token=0)
    server.command("SET", FENCE, 1)
    with pytest.raises(StaleFenceError):
        await store.lock.acquire("a" * 32, shared=owner)
    server.command("DEL", FENCE)
    assert isinstance(await store.lock.acquire("a" * 32, shared=owner), LockLease)
