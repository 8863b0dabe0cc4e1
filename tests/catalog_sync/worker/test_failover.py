"""Redis replies with errors for a while, as in a failover: every worker survives, and a sync still completes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import redis

from catalog_sync.domain.models import Outcome, SyncRequest
from catalog_sync.worker.consumer import CALM_AFTER, Pauses
from support.api_process import TOKEN as API_TOKEN
from support.api_process import ApiProcess
from support.redis_proxy import RedisProxy
from support.redis_server import RedisServer, free_port
from support.worker_world import GIVEN_UP_AFTER, WorkerWorld, process_environment

MakeWorld = Callable[..., WorkerWorld]
Trouble = Callable[[RedisServer], contextlib.AbstractContextManager[None]]
LASTS = 3.0
"""Seconds of trouble: several rounds of a worker's connecting and asking."""


@contextlib.contextmanager
def readonly(server: RedisServer) -> Iterator[None]:
    """The primary is a replica of one that is not there."""
    server.command("REPLICAOF", "127.0.0.1", free_port())
    try:
        yield
    finally:
        server.command("REPLICAOF", "NO", "ONE")


@contextlib.contextmanager
def masterdown(server: RedisServer) -> Iterator[None]:
    server.command("CONFIG", "SET", "replica-serve-stale-data", "no")
    server.command("REPLICAOF", "127.0.0.1", free_port())
    try:
        yield
    finally:
        server.command("REPLICAOF", "NO", "ONE")
        server.command("CONFIG", "SET", "replica-serve-stale-data", "yes")


@contextlib.contextmanager
def out_of_memory(server: RedisServer) -> Iterator[None]:
    server.command("CONFIG", "SET", "maxmemory", "1")
    try:
        yield
    finally:
        server.command("CONFIG", "SET", "maxmemory", "0")


@contextlib.contextmanager
def password_changed(server: RedisServer) -> Iterator[None]:
    """Existing connections are closed, as managed services do; new ones get NOAUTH."""
    with server.client() as client:
        client.execute_command("CONFIG", "SET", "requirepass", "another-password")
        client.execute_command("AUTH", "another-password")
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        try:
            yield
        finally:
            client.execute_command("CONFIG", "SET", "requirepass", "")


@contextlib.contextmanager
def not_enough_replicas(server: RedisServer) -> Iterator[None]:
    server.command("CONFIG", "SET", "min-replicas-to-write", "2")
    try:
        yield
    finally:
        server.command("CONFIG", "SET", "min-replicas-to-write", "0")


@contextlib.contextmanager
def commands_forbidden(server: RedisServer) -> Iterator[None]:
    """NOPERM: the access list is being changed."""
    server.command("ACL", "SETUSER", "default", "-brpop", "-zadd")
    try:
        yield
    finally:
        server.command("ACL", "SETUSER", "default", "+@all")


@contextlib.contextmanager
def unblocked(server: RedisServer) -> Iterator[None]:
    """``CLIENT UNBLOCK … ERROR`` for every client that waits at the queue, repeatedly."""
    for _ in range(3):
        for client in server.command("CLIENT", "LIST").splitlines():
            fields = dict(field.split(b"=", 1) for field in client.split() if b"=" in field)
            if fields.get(b"cmd") == b"brpop":
                server.command("CLIENT", "UNBLOCK", fields[b"id"], "ERROR")
        time.sleep(0.3)
    yield


@contextlib.contextmanager
def killed(server: RedisServer) -> Iterator[None]:
    for _ in range(3):
        with server.client() as client, contextlib.suppress(redis.ConnectionError):
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        time.sleep(0.3)
    yield


TROUBLES = [
    readonly,
    unblocked,
    out_of_memory,
    password_changed,
    killed,
    masterdown,
    not_enough_replicas,
    commands_forbidden,
]


@pytest.mark.fault("W2")
@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__)
async def test_a_worker_lives_through(trouble: Trouble, make_world: MakeWorld) -> None:
    world = make_world()
    async with world.opened():
        worker = world.start_worker()
        first = await world.jobs.submit(SyncRequest())
        assert (await world.ended(first.id)).outcome is Outcome.COMPLETE
        children = worker.children
        with trouble(world.redis):
            await asyncio.sleep(LASTS)
        assert worker.process.poll() is None, world.logs()
        assert worker.children == children, "no process of the pool was lost either"
        job = await world.jobs.submit(SyncRequest())
        ended = await world.ended(job.id)
        assert ended.outcome is Outcome.COMPLETE, ended.report
        assert not any("Frequent restarts" in line["message"] for line in worker.lines()), world.logs()
        warnings = [line for line in worker.lines() if line["logger"].startswith("celery.worker.consumer")]
        assert len(warnings) < 10 * LASTS, "it does not connect as fast as it can"


REPLIES = [
    "LOADING Redis is loading the dataset in memory",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk",
    "CLUSTERDOWN The cluster is down",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "ERR max number of clients reached",
    "WRONGPASS invalid username-password pair or user is disabled.",
    "MOVED 1234 127.0.0.1:1",
]


@pytest.mark.fault("W2")
@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: " ".join(reply.split()[:2]))
async def test_a_worker_lives_through_the_reply(reply: str, make_world: MakeWorld) -> None:
    world = make_world()
    with RedisProxy(world.redis.port) as proxy:
        async with world.opened():
            worker = world.start_worker(REDIS_URL=f"redis://127.0.0.1:{proxy.port}/0")
            first = await world.jobs.submit(SyncRequest())
            assert (await world.ended(first.id)).outcome is Outcome.COMPLETE
            children = worker.children
            with proxy.answering(reply):
                await asyncio.sleep(LASTS)
                async with asyncio.timeout(GIVEN_UP_AFTER):
                    while not proxy.refused:
                        await asyncio.sleep(0.1)
            assert worker.process.poll() is None, world.logs()
            assert worker.children == children, "no process of the pool was lost either"
            job = await world.jobs.submit(SyncRequest())
            ended = await world.ended(job.id)
            assert ended.outcome is Outcome.COMPLETE, ended.report


@pytest.mark.fault("W2")
@pytest.mark.parametrize(
    "trouble", [readonly, password_changed, killed, masterdown, out_of_memory], ids=lambda trouble: trouble.__name__
)
async def test_the_api_lives_through(trouble: Trouble, make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world()
    async with world.opened():
        world.start_worker()
        with ApiProcess(tmp_path, {**process_environment(), **world.env}, preloaded=True) as api:
            async with httpx.AsyncClient(base_url=api.base_url, trust_env=False, timeout=60) as client:
                with trouble(world.redis):
                    await asyncio.sleep(LASTS)
                    assert (await client.get("/health/live")).status_code == 200
                    for path in ("/syncs", "/health", "/overview", "/traces"):
                        assert (await client.get(path)).status_code in {200, 503}, path
                assert api.process.poll() is None
                job_id = await accepted(client)
                assert (await world.ended(job_id)).outcome is Outcome.COMPLETE
                assert await last_event(client, job_id) == "finished"


async def accepted(client: httpx.AsyncClient) -> str:
    """Requests a sync until the circuit around Redis is closed again. Returns its ID."""
    async with asyncio.timeout(GIVEN_UP_AFTER):
        while True:
            answer = await client.post(
                "/syncs", json={"kind": "full"}, headers={"Authorization": f"Bearer {API_TOKEN}"}
            )
            if answer.status_code == 202:
                return str(answer.json()["id"])
            assert answer.status_code == 503, answer.text
            await asyncio.sleep(0.3)


async def last_event(client: httpx.AsyncClient, job_id: str) -> str:
    """The status in the last event of a sync that has ended."""
    async with client.stream("GET", f"/syncs/{job_id}/events") as stream:
        data = [line.partition(": ")[2] async for line in stream.aiter_lines() if line.startswith("data: ")]
    return str(json.loads(data[-1])["status"])


def test_pauses_grow_with_errors_that_follow_soon_and_are_short_again_after_a_calm_time() -> None:
    now = [100.0]
    pauses = Pauses(clock=lambda: now[0], draw=lambda: 1.0)
    assert [pauses.after_error() for _ in range(5)] == pytest.approx([0.4, 0.8, 1.6, 3.0, 3.0])
    now[0] += CALM_AFTER + 1
    assert pauses.after_error() == pytest.approx(0.4)
    spread = Pauses(clock=lambda: now[0], draw=lambda: 0.0)
    assert spread.after_error() == pytest.approx(0.2)


SLOW = {"name": "slow groups", "rules": [{"fault": "latency", "delay_s": 0.8, "when": {"endpoint": "catalogue"}}]}


@pytest.mark.fault("W2")
@pytest.mark.parametrize("trouble", [readonly, password_changed, out_of_memory], ids=lambda trouble: trouble.__name__)
async def test_a_sync_that_is_under_way_ends_and_the_next_one_completes(
    trouble: Trouble, make_world: MakeWorld
) -> None:
    world = make_world()
    async with world.opened():
        workers = [world.start_worker(), world.start_worker()]
        world.supplier.play(SLOW)
        job = await world.jobs.submit(SyncRequest())
        await world.until(job.id, lambda seen: any(group.status == "running" for group in seen.groups))
        with trouble(world.redis):
            await asyncio.sleep(LASTS)
        world.supplier.reset()
        assert (await world.ended(job.id)).outcome in {Outcome.COMPLETE, Outcome.PARTIAL, Outcome.FAILED}
        assert [worker.process.poll() for worker in workers] == [None, None], world.logs()
        following = await world.jobs.submit(SyncRequest())
        ended = await world.ended(following.id)
        assert ended.outcome is Outcome.COMPLETE, ended.report
