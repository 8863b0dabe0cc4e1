"""Incidents over HTTP: everyone may see them, holders of the token may act on them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from catalog_sync.alerts import CatalogAlerts
from catalog_sync.alerts.overview import KeptAlerts
from catalog_sync.observability.contract import SERVICE_API
from catalog_sync.settings.settings import Settings
from otel_resilience import Severity
from otel_resilience.alerting import Alert
from support.api_world import AUTHORIZED, ApiWorld, api_world

DECISIONS = ("ack", "close", "silence", "resend")
WHO = {"by": "ann", "reason": "the supplier knows"}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ApiWorld]:
    settings = Settings.from_env({"CATALOG_STATE_DIR": str(tmp_path / "alerts")})
    with CatalogAlerts(settings, service_name=SERVICE_API) as alerts:
        alerts.service.report(Alert(kind="trouble", title="Trouble", severity=Severity.CRITICAL, dependency="esim-go"))
        async with api_world(tmp_path / "state", alerts=KeptAlerts(settings, alerts)) as made:
            yield made


async def incident(world: ApiWorld) -> dict[str, Any]:
    """Waits until the open incident is stored and returns it."""
    while True:
        answer = await world.http.get("/incidents")
        assert answer.status_code == 200
        if answer.json()["incidents"]:
            (found,) = answer.json()["incidents"]
            return dict(found)


async def kept(world: ApiWorld, action: str) -> dict[str, Any]:
    while True:
        found = await incident(world)
        if found["actions"] and found["actions"][-1]["action"] == action:
            return found


@pytest.mark.parametrize("action", ["ack", "silence", "resend"])
async def test_a_decision_is_carried_out_and_kept(world: ApiWorld, action: str) -> None:
    found = await incident(world)
    path = f"/incidents/{found['id']}"
    assert (await world.http.get(path)).json()["title"] == "Trouble"
    answer = await world.http.post(f"{path}/{action}", json=WHO, headers=AUTHORIZED)
    assert (answer.status_code, answer.json()) == (200, {"incident": found["id"], "action": action, **WHO})
    found = await kept(world, action)
    assert {name: found["actions"][-1][name] for name in WHO} == WHO
    assert bool(found["acknowledged_at"]) == (action == "ack")
    assert bool(found["silenced_until"]) == (action == "silence")


async def test_a_closed_incident_leaves_the_list_and_is_found_as_resolved(world: ApiWorld) -> None:
    opened = await incident(world)
    path = f"/incidents/{opened['id']}"
    assert (await world.http.post(f"{path}/close", json=WHO, headers=AUTHORIZED)).status_code == 200
    while (found := (await world.http.get(path)).json())["status"] != "resolved":
        pass
    assert (found["title"], found["closed"]) == (opened["title"], True)
    assert found["resolved_at"] >= found["first_seen"]
    assert (await world.http.get(f"/incidents/{found['fingerprint']}")).json()["id"] == opened["id"]
    assert (await world.http.get("/incidents")).json() == {"incidents": []}
    answer = await world.http.post(f"{path}/close", json=WHO, headers=AUTHORIZED)
    assert answer.json()["type"] == "urn:catalog-sync:problem:incident_not_found"


@pytest.mark.parametrize("action", DECISIONS)
async def test_it_needs_the_token(world: ApiWorld, action: str) -> None:
    path = f"/incidents/{(await incident(world))['id']}"
    answer = await world.http.post(f"{path}/{action}", json=WHO)
    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
    assert (await world.http.get(path)).json()["actions"] == []


@pytest.mark.parametrize("action", DECISIONS)
async def test_without_a_token_configured_nobody_decides(tmp_path: Path, action: str) -> None:
    async with api_world(tmp_path, CATALOG_API_TOKEN="") as closed:
        answer = await closed.http.post(f"/incidents/1/{action}", json=WHO, headers=AUTHORIZED)
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "body", [{"by": ""}, {"why": "x"}, {"by": 1}, {"reason": "x\n"}, {"for_s": -1}, {"for_s": 1e9}]
)
async def test_a_wrong_body_is_refused(world: ApiWorld, body: dict[str, Any]) -> None:
    path = f"/incidents/{(await incident(world))['id']}/silence"
    assert (await world.http.post(path, json=body, headers=AUTHORIZED)).status_code == 422


@pytest.mark.parametrize("action", DECISIONS)
async def test_one_that_is_not_there(world: ApiWorld, action: str) -> None:
    answer = await world.http.post(f"/incidents/nothing/{action}", json={}, headers=AUTHORIZED)
    assert (answer.status_code, answer.json()["status"]) == (404, 404)
