"""The short form of ``tests/support/chaos.py``."""

from __future__ import annotations

from pathlib import Path

from support.chaos import rampage
from support.redis_server import RedisServer
from support.worker_world import PERSISTENT, running_supplier, worker_world

KILLS = 5


async def test_nothing_is_torn_lost_or_published_twice_while_processes_are_killed(tmp_path: Path) -> None:
    with (
        RedisServer(tmp_path / "redis", *PERSISTENT) as redis,
        running_supplier(300) as supplier,
        worker_world(tmp_path, redis, supplier) as world,
    ):
        found = await rampage(world, KILLS, seed=7)
        assert found.faults == {}, world.logs()
    assert sum(found.events.values()) == KILLS
    assert found.outcomes["COMPLETE"] >= 1
    assert found.reads > 0
