"""A real Redis for the ledger: its scripts are the specification."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from catalog_sync.jobs.ledger import JobLedger
from catalog_sync.store.catalog_store import CatalogStore
from catalog_sync.store.client import GuardedRedis, connect_url
from support.published import quick_policy
from support.redis_server import RedisServer


@pytest.fixture(scope="package")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[GuardedRedis]:
    redis_server.command("FLUSHALL")
    guarded = GuardedRedis(connect_url(redis_server.url), quick_policy())
    yield guarded
    await guarded.aclose()


@pytest.fixture
def ledger(redis: GuardedRedis) -> JobLedger:
    return JobLedger(redis)


@pytest.fixture
def store(redis: GuardedRedis) -> CatalogStore:
    return CatalogStore(redis, backend="redis")
