"""Redis replies with errors for a while, as in a failover: every worker lives on, and a sync still completes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from catalog_sync.models import Outcome, SyncRequest
from support.redis_server import RedisServer, free_port
from support.worker_world import WorkerWorld

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
    """Connections that exist are ended, as managed services do; new ones get NOAUTH."""
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
    """``CLIENT UNBLOCK … ERROR`` to whoever waits at the queue, again and again."""
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
        ended = await world.ended(job.id, 40)
        assert ended.outcome is Outcome.COMPLETE, ended.report
        assert not any("Frequent restarts" in line["message"] for line in worker.lines()), world.logs()
        warnings = [line for line in worker.lines() if line["logger"].startswith("celery.worker.consumer")]
        assert len(warnings) < 10 * LASTS, "it does not connect as fast as it can"
