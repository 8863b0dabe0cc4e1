"""The short form of ``tests/support/chaos.py``."""

from __future__ import annotations

from pathlib import Path

import httpx

from support.chaos import rampage
from support.loopback_proxy import LoopbackProxy
from support.redis_server import RedisServer
from support.worker_world import API_KEY, PERSISTENT, running_supplier, worker_world

KILLS = 5


async def test_nothing_is_torn_lost_or_published_twice_while_processes_are_killed(tmp_path: Path) -> None:
    with (
        RedisServer(tmp_path / "redis", *PERSISTENT) as redis,
        running_supplier(300) as supplier,
        worker_world(tmp_path, redis, supplier) as world,
    ):
        world.preloaded = True
        found = await rampage(world, KILLS, seed=7)
        assert found.faults == {}, world.logs()
    assert sum(found.events.values()) == KILLS
    assert found.outcomes["COMPLETE"] >= 1
    assert found.reads > 0


def test_the_proxy_of_the_chaos_forwards_the_whole_question() -> None:
    with running_supplier(60) as supplier, LoopbackProxy().serving() as proxy:
        answers = []
        for through in (None, f"http://{proxy.address}"):
            with httpx.Client(proxy=through, trust_env=False, headers={"X-API-Key": API_KEY}, timeout=60) as client:
                question = {"group": "Standard - Fixed", "perPage": "5"}
                answers.append(client.get(f"{supplier.base_url}/catalogue", params=question).json())
        assert answers[0] == answers[1]
        assert answers[0]["rows"] < 60
