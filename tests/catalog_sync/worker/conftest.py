"""Fixtures of the worker tests: the servers exist per module, the workers per test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.cli import Supplier, running_supplier
from support.redis_server import RedisServer
from support.worker_world import PERSISTENT, WorkerWorld, worker_world

MakeWorld = Callable[..., WorkerWorld]


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis"), *PERSISTENT) as server:
        yield server


@pytest.fixture(scope="module")
def supplier() -> Iterator[Supplier]:
    with running_supplier(200) as running:
        yield running


@pytest.fixture
def make_world(redis_server: RedisServer, supplier: Supplier, tmp_path: Path) -> Iterator[MakeWorld]:
    """``make_world(CATALOG_JOB_LEASE_MS="1000")``: an empty Redis, a calm supplier, no worker yet."""
    redis_server.command("FLUSHALL")
    supplier.reset()
    with ExitStack() as stack:

        def make(**changes: str) -> WorkerWorld:
            world = stack.enter_context(worker_world(tmp_path, redis_server, supplier, **changes))
            world.preloaded = True
            return world

        yield make
