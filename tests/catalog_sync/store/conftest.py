"""A real server and a store on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from catalog_sync.store import CatalogStore, open_store
from support.published import quick_policy, store_settings
from support.redis_server import RedisServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "server") as running:
        yield running


@pytest.fixture
async def store(server: RedisServer, tmp_path: Path) -> AsyncIterator[CatalogStore]:
    async with open_store(store_settings(tmp_path / "state", server.url), quick_policy()) as opened:
        yield opened
