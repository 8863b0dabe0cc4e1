"""Health checks report what is known, without requests that could hang."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from catalog_sync.api import health
from catalog_sync.domain.models import GroupMeta
from support.api_world import CATALOGUE, ApiWorld, NoAlerts, api_world
from support.published import AS_OF
from support.timing import takes_at_most


async def checks(world: ApiWorld, path: str = "/health") -> tuple[int, str, Mapping[str, Any]]:
    answer = await world.http.get(path)
    assert answer.headers["cache-control"] == "no-store"
    return answer.status_code, answer.json()["status"], answer.json()["checks"]


async def test_healthy(world: ApiWorld) -> None:
    status, verdict, found = await checks(world)
    assert (status, verdict) == (200, "healthy")
    assert {name: check["status"] for name, check in found.items()} == dict.fromkeys(
        ("freshness", "store", "supplier", "alerts"), "healthy"
    )
    assert found["freshness"] == {
        "status": "healthy",
        "source": "fresh",
        "as_of": AS_OF,
        "age_s": 60.0,
        "version": "v1",
    }
    assert found["alerts"]["detail"] == "not set up"


async def test_an_old_catalogue_is_a_degraded_service(world: ApiWorld) -> None:
    world.clock.passed += 86_400
    await world.refresh()
    status, verdict, found = await checks(world)
    assert (status, verdict, found["freshness"]["status"]) == (200, "degraded", "degraded")


async def test_kept_groups_are_named(world: ApiWorld) -> None:
    world.store.publish("v2", CATALOGUE[:1], groups={"Standard Fixed": GroupMeta(1, AS_OF, stale=True)})
    await world.refresh()
    _, verdict, found = await checks(world)
    assert (verdict, found["freshness"]["stale_groups"]) == ("degraded", ["Standard Fixed"])


async def test_a_store_that_is_away_degrades_as_long_as_there_is_something_to_read(world: ApiWorld) -> None:
    world.store.failing = True
    await world.refresh()
    status, verdict, found = await checks(world)
    assert (status, verdict, found["store"]["status"]) == (200, "degraded", "degraded")
    assert "Redis does not answer" in found["store"]["detail"]
    assert (await checks(world, "/health/ready"))[0] == 200


async def test_nothing_to_read_is_unhealthy_and_not_ready_but_alive(tmp_path: Path) -> None:
    async with api_world(tmp_path, catalogue=False) as world:
        assert (await checks(world))[:2] == (503, "unhealthy")
        assert (await checks(world, "/health/ready"))[:2] == (503, "unhealthy")
        assert (await checks(world, "/health/live"))[:2] == (200, "healthy")


async def test_an_open_circuit_degrades(world: ApiWorld) -> None:
    world.api.health.protection.state = "OPEN"  # type: ignore[attr-defined]
    _, verdict, found = await checks(world)
    assert verdict == "degraded"
    assert found["supplier"] == {
        "status": "degraded",
        "breaker": "OPEN",
        "dependency": "esim-go",
        "retry_after_s": 12.5,
    }


async def test_alerts_that_could_not_be_delivered_degrade(world: ApiWorld) -> None:
    class Undelivered(NoAlerts):
        async def overview(self) -> Mapping[str, Any]:
            return {"set_up": True, "incidents": [{"title": "x"}], "outbox": 3, "dead_letters": 1}

    world.api.health.alerts = Undelivered()
    _, verdict, found = await checks(world)
    assert verdict == "degraded"
    assert found["alerts"] == {"status": "degraded", "incidents": 1, "outbox": 3, "dead_letters": 1}


async def test_a_hanging_check_is_waited_for_no_longer_than_its_limit(
    world: ApiWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "FIRST_WAIT", 0.01)
    world.store.hanging = True
    world.clock.passed += 10
    world.live.refresh()
    world.api.health.protection.hanging = True  # type: ignore[attr-defined]
    with takes_at_most(10.0):  # and not for ever, whatever else the machine does
        status, verdict, found = await checks(world)
    assert (status, verdict) == (200, "degraded")
    assert found["store"]["detail"] == "the store has not answered recently"
    assert found["supplier"]["detail"] == "the breakers cannot be read"


class SlowAlerts(NoAlerts):
    """Answers after many rounds of a busy event loop."""

    async def overview(self) -> Mapping[str, Any]:
        for _ in range(100):
            await asyncio.sleep(0)
        return await super().overview()


async def test_the_first_look_waits_for_an_answer(world: ApiWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "WAIT", 0.0)
    world.api.health.alerts = SlowAlerts()
    assert (await checks(world))[1] == "healthy"


async def test_so_does_one_when_the_last_answer_is_too_old_to_be_shown() -> None:
    now = 0.0
    alerts = health._LastAnswer("alerts", SlowAlerts().overview, lambda: now)
    await alerts.asking()
    assert alerts.is_younger_than(health.TRUSTED_FOR)
    now = health.TRUSTED_FOR
    assert not alerts.is_younger_than(health.TRUSTED_FOR)
    assert "did not answer" in alerts.last()["error"]["message"]
    await alerts.asking()
    assert alerts.last()["set_up"] is False


async def test_what_gave_no_answer_is_named(world: ApiWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(NoAlerts):
        async def overview(self) -> Mapping[str, Any]:
            await asyncio.Event().wait()
            raise AssertionError

    monkeypatch.setattr(health, "FIRST_WAIT", 0.01)
    world.api.health.alerts = Silent()
    shown = (await world.http.get("/overview")).json()["alerts"]["error"]["message"]
    assert shown == "the records of incidents did not answer within 0.01 s"


async def test_a_stopping_process_is_not_ready(world: ApiWorld) -> None:
    world.api.drain()
    assert (await checks(world, "/health/ready"))[:2] == (503, "unhealthy")
    assert (await checks(world, "/health/live"))[0] == 200


async def test_the_overview_has_what_the_page_shows(world: ApiWorld) -> None:
    seen = (await world.http.get("/overview")).json()
    assert seen["health"]["status"] == "healthy"
    assert (seen["catalogue"]["version"], seen["catalogue"]["bundles"], seen["catalogue"]["age_s"]) == ("v1", 4, 60.0)
    assert seen["breakers"][0]["state"] == "CLOSED"
    assert seen["alerts"] == {"set_up": False, "incidents": [], "outbox": 0, "dead_letters": 0}
