from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cli import Cli, Supplier, running_supplier
from support.redis_server import RedisServer


@pytest.fixture(scope="session")
def _simulator() -> Iterator[Supplier]:
    with running_supplier(bundles=300) as supplier:
        yield supplier


@pytest.fixture
def supplier(_simulator: Supplier) -> Supplier:
    """A calm simulator of 300 bundles."""
    _simulator.reset()
    return _simulator


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A separate Redis for the test."""
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def cli(tmp_path: Path, supplier: Supplier, redis_server: RedisServer) -> Cli:
    """The command line against both."""
    return Cli(tmp_path / "state", supplier, redis_server.url)
