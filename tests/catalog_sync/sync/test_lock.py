"""A busy lock, a broken lock and completed work are distinguishable; a stopped run leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from catalog_sync.domain.errors import CacheConnectionError, LockLostError
from catalog_sync.domain.models import LockHolder, Outcome, SyncReport
from catalog_sync.store.backend import open_store
from catalog_sync.store.lock import LockLease
from catalog_sync.store.snapshot import Snapshot
from catalog_sync.sync.service import SyncService
from support.redis_server import RedisServer, free_port
from support.settings import make_settings
from support.sync_world import BUNDLES, World, world_with


async def test_a_busy_lock_is_skipped_and_says_who_holds_it(world: World) -> None:
    await world.sync()
    lease = await world.store.lock.acquire("ab" * 16)
    assert not isinstance(lease, LockHolder)
    async with lease.hold():
        report = await world.sync()

    assert report.outcome is Outcome.SKIPPED_LOCKED
    assert report.error is None
    assert report.holder is not None
    assert report.holder.correlation_id == "ab" * 16
    assert report.attempts == 0
    assert report.bundles == BUNDLES
    assert (await world.sync()).outcome is Outcome.COMPLETE


class NoLock:
    """A store whose lock cannot even be made, as in the original: redis-lock refused the client's version."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.lock = self

    async def acquire(self, holder: str) -> Any:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [TypeError("must specify a v4 client"), CacheConnectionError("refused"), ConnectionRefusedError(111, "refused")],
)
async def test_a_lock_that_cannot_be_created_is_not_already_running(world: World, error: Exception) -> None:
    service = SyncService(world.settings, world.supplier, NoLock(error), world.snapshot)  # type: ignore[arg-type]

    report = await service.run()

    assert report.outcome is Outcome.LOCK_UNAVAILABLE
    assert report.holder is None
    assert report.error is not None
    assert report.attempts == 0


async def test_a_redis_that_is_not_there_is_lock_unavailable(world: World, tmp_path: Path) -> None:
    settings = make_settings(world.settings.base_url, tmp_path, redis_url="redis://127.0.0.1:1/0")
    async with open_store(settings) as store:
        report = await SyncService(settings, world.supplier, store, Snapshot(tmp_path)).run()

    assert report.outcome is Outcome.LOCK_UNAVAILABLE
    assert report.error is not None
    assert report.error.type == "connection_error"
    assert len(world.simulator.requests) == 0


@contextlib.asynccontextmanager
async def hanging_sync(world: World, attempt_timeout: float = 20.0) -> AsyncIterator[asyncio.Task[Any]]:
    """A sync that waits for an answer which never comes, with some pages already staged."""
    world.simulator.set_scenario({"rules": [{"fault": "hang", "when": {"endpoint": "catalogue", "skip": 4}}]})
    async with world.other_client(attempt_timeout=attempt_timeout, page_size=20) as client:
        task = asyncio.create_task(client.sync())
        while len(world.simulator.requests) < 8:
            await asyncio.sleep(0.01)
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_cancelled_run_frees_the_lock_and_leaves_nothing_staged(
    world: World, redis_server: RedisServer
) -> None:
    """The original exited in the middle of a sync and left the lock for an hour."""
    await world.sync()
    before = await world.meta()
    keys = redis_server.command("DBSIZE")
    async with hanging_sync(world) as task:
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began < 15  # the answer would be waited for, 20 s

    assert await world.store.lock.holder() is None
    assert await world.meta() == before
    assert redis_server.command("DBSIZE") == keys
    world.simulator.set_scenario("calm")
    assert (await world.sync()).outcome is Outcome.COMPLETE


@pytest.mark.parametrize("during", ["commit", "snapshot", "release"])
async def test_a_run_cancelled_once_it_publishes_ends_as_published(
    world: World, during: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers have the version: to report that it was stopped would leave history, alerts and snapshot without it."""
    owner: Any = {"commit": world.store, "snapshot": world.snapshot, "release": LockLease}[during]
    name = {"commit": "commit", "snapshot": "write_version", "release": "release"}[during]
    original = getattr(owner, name)
    reached = asyncio.Event()

    async def slow(*arguments: Any, **options: Any) -> Any:
        reached.set()
        await asyncio.sleep(0.1)
        return await original(*arguments, **options)

    monkeypatch.setattr(owner, name, slow)
    reports: list[SyncReport] = []
    task = asyncio.create_task(world.sync(on_report=lambda report, _: reports.append(report)))
    await reached.wait()
    task.cancel()
    report = await task

    assert (report.outcome, report.version) == (Outcome.COMPLETE, (await world.meta()).version)
    assert reports == [report]
    assert len(await world.bundles()) == BUNDLES
    saved = await world.snapshot.load()
    assert saved is not None
    assert saved.meta.version == report.version
    assert await world.store.lock.holder() is None


async def test_a_run_cancelled_while_its_commit_fails_is_cancelled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = asyncio.Event()

    async def fails(*_: Any, **__: Any) -> str | None:
        reached.set()
        await asyncio.sleep(0.1)
        raise CacheConnectionError("Redis is away")

    monkeypatch.setattr(world.store, "commit", fails)
    task = asyncio.create_task(world.sync())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await world.store.current() is None


async def test_a_lease_lost_after_the_commit_does_not_turn_success_into_failure(
    world: World, redis_server: RedisServer
) -> None:
    async with open_store(world.settings, lock_ttl=3.0) as store:
        commit = store.commit

        async def lose(*arguments: Any, **options: Any) -> str | None:
            previous = await commit(*arguments, **options)
            redis_server.command("DEL", "{cat}:lock")
            await asyncio.sleep(1.5)
            return previous

        store.commit = lose  # type: ignore[method-assign]
        report = await SyncService(world.settings, world.supplier, store, world.snapshot).run()

    assert report.outcome is Outcome.COMPLETE
    assert report.version == (await world.meta()).version


async def test_a_lost_lease_stops_the_run_and_publishes_nothing(redis_server: RedisServer, tmp_path: Path) -> None:
    redis_server.command("FLUSHALL")
    async with world_with(redis_server.url, tmp_path) as world:
        world.simulator.set_scenario({"rules": [{"fault": "hang", "when": {"endpoint": "catalogue"}}]})
        async with (
            open_store(world.settings, lock_ttl=0.6) as store,
            world.other_client(attempt_timeout=20.0) as client,
        ):
            service = SyncService(client.settings, client.supplier, store, client.snapshot)
            task = asyncio.create_task(service.run())
            while not len(world.simulator.requests):
                await asyncio.sleep(0.01)
            redis_server.command("DEL", "{cat}:lock")
            report = await asyncio.wait_for(task, 60)

        assert report.outcome is Outcome.FAILED
        assert report.error is not None
        assert report.error.type == LockLostError.default.error_type
        assert await world.store.current() is None


async def lose_everything(redis_server: RedisServer) -> None:
    redis_server.command("FLUSHALL")


async def forget_the_run(redis_server: RedisServer) -> None:
    """Removes lock and counter, as the promotion of a lagging replica does."""
    for key in ("{cat}:lock", "{cat}:fence:seq"):
        redis_server.command("DEL", key)


@pytest.mark.fault("S4")
@pytest.mark.parametrize("accident", [lose_everything, forget_the_run])
@pytest.mark.parametrize("second", [True, False], ids=["a second run publishes", "no second run"])
async def test_a_run_that_lost_its_lock_publishes_nothing_over_another(
    world: World, redis_server: RedisServer, accident: Any, *, second: bool
) -> None:
    """Both would say COMPLETE otherwise, and the older catalogue would stand."""
    begun = asyncio.Event()
    go_on = asyncio.Event()

    class Slow(SyncService):
        """Waits after fetching everything, before publication."""

        async def _within_deadline(self, *arguments: Any) -> Any:
            candidate = await super()._within_deadline(*arguments)
            begun.set()
            await go_on.wait()
            return candidate

    first = asyncio.create_task(Slow(world.settings, world.supplier, world.store, world.snapshot).run())
    await begun.wait()
    await accident(redis_server)
    newer = await world.sync() if second else None
    go_on.set()
    report = await first

    assert report.outcome is Outcome.FAILED
    assert report.error is not None
    assert report.error.type == "lock_lost"
    if newer is None:
        assert await world.store.current() is None
    else:
        assert newer.outcome is Outcome.COMPLETE
        assert (await world.meta()).version == newer.version


@pytest.mark.fault("S4")
async def test_a_run_from_before_the_promotion_of_a_replica_that_lags_publishes_nothing(tmp_path: Path) -> None:
    """Two real servers: the replica stops to follow before the run takes its lock, and is promoted in mid-run."""
    with RedisServer(tmp_path / "primary") as primary, RedisServer(tmp_path / "replica") as replica:
        replica.command("REPLICAOF", "127.0.0.1", primary.port)
        async with world_with(primary.url, tmp_path / "state") as world:
            published = await world.sync()
            assert primary.command("WAIT", 1, 5000) == 1
            await until_followed(primary, replica)
            replica.command("REPLICAOF", "127.0.0.1", free_port())
            commit = world.store.commit
            second: list[SyncReport] = []

            async def after_the_failover(*arguments: Any, **options: Any) -> Any:
                world.store.commit = commit  # type: ignore[method-assign]
                replica.command("REPLICAOF", "NO", "ONE")
                pool = world.store.redis.raw.connection_pool
                pool.connection_kwargs["port"] = replica.port
                await pool.disconnect()
                pool.reset()  # connections that are made anew lead to the new primary
                assert (await world.meta()).version == published.version
                second.append(await world.sync())
                return await commit(*arguments, **options)

            world.store.commit = after_the_failover  # type: ignore[method-assign]
            first = await world.sync()

            assert (first.outcome, first.error and first.error.type) == (Outcome.FAILED, "lock_lost")
            assert second[0].outcome is Outcome.COMPLETE
            assert (await world.meta()).version == second[0].version
            assert len(await world.bundles()) == BUNDLES


async def until_followed(primary: RedisServer, replica: RedisServer) -> None:
    for _ in range(500):
        if primary.command("INFO", "replication")["master_repl_offset"] <= (
            replica.command("INFO", "replication").get("slave_repl_offset", -1)
        ):
            return
        await asyncio.sleep(0.01)
    pytest.fail("the replica does not follow")


@pytest.mark.fault("S4")
@pytest.mark.parametrize("key", ["{cat}:fence", "{cat}:fence:seq", "{cat}:current"])
@pytest.mark.parametrize("damage", [("LPUSH", "x"), ("SET", "abc"), ("SET", "1e400"), ("SET", "99999999999999999999")])
async def test_a_damaged_counter_or_pointer_neither_blocks_syncs_nor_makes_tokens_repeat(
    world: World, redis_server: RedisServer, key: str, damage: tuple[str, str]
) -> None:
    await world.sync()
    before = (await world.meta()).fence
    command, value = damage
    redis_server.command("DEL", key)
    redis_server.command(command, key, value)

    reports = [await world.sync() for _ in range(2)]

    assert [report.outcome for report in reports] == [Outcome.COMPLETE] * 2
    assert before < (await world.meta()).fence < 2**53


async def test_a_sync_beyond_its_deadline_fails_as_such(world: World) -> None:
    await world.sync()
    before = await world.meta()
    world.simulator.set_scenario({"rules": [{"fault": "hang", "when": {"endpoint": "catalogue", "page": 2}}]})

    async with world.other_client(sync_deadline=0.5, attempt_timeout=20.0) as client:
        report = await client.sync()

    assert report.outcome is Outcome.FAILED
    assert report.error is not None
    assert report.error.type == "deadline_exceeded"
    assert await world.meta() == before
    assert await world.store.lock.holder() is None


async def test_a_redis_that_dies_in_the_middle_fails_the_run(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis").start()
    try:
        async with world_with(server.url, tmp_path) as world:
            async with hanging_sync(world, attempt_timeout=0.5) as task:
                server.kill()
                world.simulator.set_scenario("calm")
                report = await asyncio.wait_for(task, 60)

            assert report.outcome is Outcome.FAILED
            assert report.error is not None
            assert report.error.type in {"connection_error", "circuit_open"}
    finally:
        server.kill()


async def test_the_snapshot_is_the_previous_catalogue_where_the_store_is_empty(
    world: World, redis_server: RedisServer
) -> None:
    await world.sync()
    before = await world.bundles()
    redis_server.command("FLUSHALL")
    world.simulator.set_scenario("group-denied")

    report = await world.sync()

    assert report.outcome is Outcome.PARTIAL
    assert set(await world.bundles()) == set(before)
    assert [group.status for group in report.groups].count("stale") == 1
    redis_server.command("FLUSHALL")
    world.simulator.set_scenario("big-drop")
    assert (await world.sync()).outcome is Outcome.FAILED


async def test_a_snapshot_that_cannot_be_written_does_not_undo_the_publication(world: World, tmp_path: Path) -> None:
    blocked = tmp_path / "a-file"
    blocked.write_text("in the way")

    report = await SyncService(world.settings, world.supplier, world.store, Snapshot(blocked / "state")).run()

    assert report.outcome is Outcome.COMPLETE
    assert len(await world.bundles()) == BUNDLES
