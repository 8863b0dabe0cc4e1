"""The pages of syncs, traces and incidents without a browser: who may see them, and what they show."""

from __future__ import annotations

import asyncio
import dataclasses
import html
import re
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from catalog_sync.alerts import CatalogAlerts
from catalog_sync.alerts.overview import KeptAlerts, incident
from catalog_sync.alerts.service import config, open_store
from catalog_sync.api.pages import incidents, system
from catalog_sync.api.pages.chart import chart, days
from catalog_sync.api.pages.frame import POLICY
from catalog_sync.api.pages.parts import Known
from catalog_sync.domain.errors import CacheConnectionError, SupplierUnavailableError
from catalog_sync.domain.models import Outcome, SyncRequest
from catalog_sync.domain.times import rfc3339
from catalog_sync.history import DAYS, DaySummary, SyncRecord
from catalog_sync.history.days import summed
from catalog_sync.observability.contract import SERVICE_API
from catalog_sync.observability.traces import SpanRecord
from catalog_sync.settings.settings import Settings
from catalog_sync.sync.reporting import error_info
from otel_resilience import Severity
from otel_resilience.alerting import Alert, Incident, Phase
from otel_resilience.alerting.persistence.recovery import Archive
from support.api_world import AUTHORIZED, ApiWorld, NoAlerts, api_world, report_of

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
TRACE_ID = "ab" * 16
HOSTILE = "<script>alert(1)</script>\u202e\x1b[31m\"'&"


async def keep(world: ApiWorld, number: int = 1, outcome: Outcome = Outcome.FAILED, **changes: Any) -> str:
    """Stores a sync that ran elsewhere; returns its correlation ID."""
    plain = report_of(SyncRequest(), outcome, correlation_id=f"{number:032x}", **changes)
    await asyncio.to_thread(world.history._keep, plain)
    return plain.correlation_id


async def page(world: ApiWorld, path: str, status: int = 200) -> str:
    answer = await world.http.get(path, headers=BROWSER, follow_redirects=True)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8"), answer.text
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["cache-control"] == "no-store"
    return answer.text


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (BROWSER["Accept"], "text/html; charset=utf-8"),
        ("text/html", "text/html; charset=utf-8"),
        ("application/json;q=0.2, text/*;q=0.9", "text/html; charset=utf-8"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("text/html;q=0.5, application/json", "application/json"),
        ("text/html;q=0, */*", "application/json"),
        ("text/html;q=x", "application/json"),
        ("", "application/json"),
    ],
)
async def test_one_address_serves_people_and_programs(world: ApiWorld, accept: str, kind: str) -> None:
    sync = await keep(world)
    for path in ("/syncs", f"/syncs/{sync}", "/traces", "/incidents"):
        answer = await world.http.get(path, headers={"Accept": accept})
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind), path


async def test_what_programs_do_is_not_touched(world: ApiWorld) -> None:
    answer = await world.http.post("/syncs", json={}, headers={**AUTHORIZED, **BROWSER})
    assert (answer.status_code, answer.headers["content-type"]) == (202, "application/json")
    assert "/system" not in (await world.http.get("/openapi.json")).json()["paths"]


@pytest.mark.fault("U5")
async def test_syncs_of_everyone_stand_in_one_list_with_filters(world: ApiWorld) -> None:
    mine = await keep(world, 1, Outcome.COMPLETE, trigger="cli")
    theirs = await keep(world, 2, Outcome.FAILED, trigger="schedule")
    text = await page(world, "/syncs")
    assert f'href="/syncs/{mine}"' in text
    assert f'href="/traces/{theirs}"' in text
    assert f'href="/traces/{mine}"' not in text
    assert "asked by scheduler" in text
    narrowed = await page(world, "/syncs?outcome=FAILED&kind=&trigger=schedule")
    assert mine not in narrowed
    assert theirs in narrowed
    assert '<option value="FAILED" selected>' in narrowed
    assert "No such sync is kept." in await page(world, "/syncs?outcome=PARTIAL")


async def test_a_wrong_filter_is_explained_on_a_page(world: ApiWorld) -> None:
    assert "outcome" in await page(world, "/syncs?outcome=nonsense", 400)


async def test_a_sync_has_an_address_and_can_be_run_again(world: ApiWorld) -> None:
    failed = await keep(world, 1, error=error_info(SupplierUnavailableError("down")), trigger="cli")
    text = await page(world, f"/syncs/{failed}")
    assert "down" in text
    assert "Run it again" in text
    assert 'data-kind="full"' in text
    assert "Run it again" not in await page(world, f"/syncs/{await keep(world, 2, Outcome.COMPLETE)}")


@pytest.mark.parametrize("status", ["pending", "running"])
async def test_a_group_that_an_ended_sync_did_not_reach_does_not_wait(world: ApiWorld, status: str) -> None:
    failed = await keep(world, 1, error=error_info(SupplierUnavailableError("down")))
    (record,) = (await asyncio.to_thread(world.history.latest)).syncs
    groups = [{"name": "Standard - Fixed", "status": status, "bundles": 0, "error": None}]
    changed = dataclasses.replace(record, report={**record.report, "groups": groups})
    await asyncio.to_thread(world.history._files.write, 1.0, failed, changed.to_json())
    text = await page(world, f"/syncs/{failed}")
    shown = text[text.index('id="groups"') :]
    assert "not fetched" in shown
    assert status not in shown


async def test_a_report_with_holes_is_shown_without_them(world: ApiWorld) -> None:
    holes: dict[str, Any] = {"attempts": "x", "bundles": None, "holder": 3, "retries": [], "quarantined": {}}
    plain = report_of(SyncRequest(), Outcome.FAILED, correlation_id=TRACE_ID)
    whole = SyncRecord.of(plain, SERVICE_API)
    record = dataclasses.replace(whole, report={**whole.report, **holes})
    await asyncio.to_thread(world.history._files.write, 1.0, TRACE_ID, record.to_json())
    assert f"/syncs/{TRACE_ID}" in await page(world, "/syncs")
    assert "Run it again" in await page(world, f"/syncs/{TRACE_ID}")


async def test_a_sync_that_runs_is_found_by_its_correlation_id(world: ApiWorld) -> None:
    job = (await world.ask()).json()
    await world.sync.started.wait()
    assert "Cancel" in await page(world, f"/syncs/{job['correlation_id']}")


async def test_a_trace_names_the_attempt_that_failed(world: ApiWorld) -> None:
    add_trace(world)
    text = html.unescape(await page(world, f"/traces/{TRACE_ID}"))
    assert "“esim-go list bundles” failed at attempt 2: <strong>503</strong> (transient, MEDIUM)" in text.replace(
        "</strong>:", ":"
    )
    assert TRACE_ID in await page(world, "/traces")


@pytest.mark.fault("U5")
@pytest.mark.parametrize(
    "given",
    [
        TRACE_ID,
        TRACE_ID.upper(),
        f" {TRACE_ID} ",
        f"00-{TRACE_ID}-{'cd' * 8}-01",
        "abababab-abab-abab-abab-" + "ab" * 6,
        TRACE_ID[:8],
        f"“{TRACE_ID[:12].upper()}…”",
        f'correlation_id="{TRACE_ID}"',
        f"https://catalog.example/traces/{TRACE_ID}",
        f"http://localhost:8080/syncs/{TRACE_ID[:9]}?x=1",
    ],
)
async def test_the_box_finds_any_correlation_id(world: ApiWorld, given: str) -> None:
    add_trace(world)
    answer = await world.http.get("/find", params={"id": given})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/traces/{TRACE_ID}")


@pytest.mark.fault("U5")
async def test_first_digits_lead_to_the_newest_sync_that_fits(world: ApiWorld) -> None:
    """Of two syncs with the same first digits the newer one is meant; seven digits are too few."""
    older = await keep(world, 0xABCDEF0123 << 88, Outcome.COMPLETE, started_at="2026-11-28T10:00:00Z")
    newest = await keep(world, 0xABCDEF0124 << 88, Outcome.COMPLETE, started_at="2026-11-28T11:00:00Z")
    assert older[:8] == newest[:8] == "abcdef01"
    answer = await world.http.get("/find", params={"id": newest[:8]})
    assert answer.headers["location"] == f"/traces/{newest}"
    assert "first 8 will do" in await page(world, f"/find?id={newest[:7]}", 404)
    assert "begins with 12345678." in await page(world, "/find?id=12345678", 404)


async def test_what_is_not_kept_says_for_how_long_it_would_be(world: ApiWorld) -> None:
    text = await page(world, f"/traces/{TRACE_ID}", 404)
    assert "7 days" in text
    assert "30 minutes" in text
    assert "90 days" in text
    for wrong in ("/find?id=nonsense", "/find?id=https://evil.example", "/traces/%3Cscript%3E"):
        text = await page(world, wrong, 404)
        assert "32 hexadecimal digits" in text
        assert "evil" not in text
        assert "<script>" not in text.lower()


async def test_text_of_others_is_text(world: ApiWorld) -> None:
    failed = await keep(world, 1, error=error_info(SupplierUnavailableError(HOSTILE)), scope=HOSTILE, trigger=HOSTILE)
    add_trace(world, name=HOSTILE, message=HOSTILE)
    for path in ("/syncs", f"/syncs/{failed}", "/traces", f"/traces/{TRACE_ID}"):
        text = await page(world, path)
        assert "alert(1)" in text, path
        assert "<script>alert" not in text
        assert "\u202e" not in text
        assert "\x1b" not in text


async def test_a_page_that_needs_the_token_says_so(tmp_path: Path) -> None:
    async with api_world(tmp_path, CATALOG_API_OPEN_READS="false") as closed:
        text = await page(closed, "/system", 401)
        assert "Authentication required" in text
        assert 'id="token"' in text
        answer = await closed.http.get("/system", headers={**BROWSER, **AUTHORIZED})
        assert answer.status_code == 200


class Away(NoAlerts):
    """The records of incidents cannot be read."""

    async def overview(self) -> Mapping[str, Any]:
        raise CacheConnectionError("Redis does not answer")

    async def incident(self, identifier: str) -> Mapping[str, Any] | None:
        raise CacheConnectionError("Redis does not answer")


@pytest.mark.fault("U6")
async def test_what_cannot_be_read_is_unknown_and_nothing_is_green(tmp_path: Path) -> None:
    async with api_world(tmp_path, alerts=Away()) as world:
        text = await page(world, "/system")
        outbox = text[text.index('id="outbox"') :]
        assert 'data-unknown="Redis does not answer"' in outbox
        assert "good" not in outbox
        assert "Unknown: Redis does not answer" in await page(world, "/incidents")
        assert "Redis does not answer" in await page(world, "/incidents/0123456789abcdef", 503)


class OfThisMachine(NoAlerts):
    """Redis is away: only incidents of this machine can be read."""

    async def overview(self) -> Mapping[str, Any]:
        return {"set_up": True, "complete": False, "incidents": [], "outbox": 0, "dead_letters": 0}


@pytest.mark.fault("U6")
async def test_no_incident_that_is_seen_is_not_no_incident(tmp_path: Path) -> None:
    async with api_world(tmp_path, alerts=OfThisMachine()) as world:
        for path in ("/incidents", "/system"):
            assert "incidents of other machines are unknown" in await page(world, path)
        assert "No incident is open" not in await page(world, "/incidents")


async def test_what_redis_alone_may_know_is_not_said_to_be_gone(tmp_path: Path) -> None:
    settings = Settings.from_env({"CATALOG_STATE_DIR": str(tmp_path), "REDIS_URL": "redis://127.0.0.1:9/0"})
    with CatalogAlerts(settings, service_name=SERVICE_API) as alerts:
        kept = KeptAlerts(settings, alerts)
        assert (await kept.overview())["complete"] is False
        with pytest.raises(CacheConnectionError):
            await kept.incident("0123456789abcdef")
        with pytest.raises(CacheConnectionError):
            await kept.act("ack", "0123456789abcdef", seconds=0.0, by=None, reason=None)


async def test_a_decision_about_what_is_over_says_since_when(alerted: ApiWorld) -> None:
    path = f"/incidents/{await open_incident(alerted)}"
    assert (await alerted.http.post(f"{path}/close", json={}, headers=AUTHORIZED)).status_code == 200
    await said(alerted, path, " resolved</li>")
    again = await alerted.http.post(f"{path}/ack", json={}, headers=AUTHORIZED)
    assert again.status_code == 404
    assert "ended at 20" in again.json()["detail"]


async def test_circuits_are_held_against_their_threshold(world: ApiWorld) -> None:
    text = await page(world, "/system")
    assert "1 failure of the 10 that open it, 25% of 4 calls in 60 s" in text
    assert "<meter" in text
    assert "10 requests/s" in text


WORKERS: dict[str, Any] = {
    "workers": [{"name": "catalog@a", "host": "a", "pid": 7, "since": 1_000}, {"name": HOSTILE, "unreadable": True}],
    "active": {"id": "1", "kind": "group", "scope": "Fixed"},
    "dead_letters": {"count": 1, "last": [{"job": "1", "step": "fetch", "reason": HOSTILE}]},
    "waiting": 12,
}


async def test_workers_their_queue_and_what_they_gave_up_are_shown(world: ApiWorld) -> None:
    settings = world.settings
    text = system.workers(Known(WORKERS))
    assert "catalog@a" in text
    assert "messages waiting</dt><dd>12" in text
    assert 'href="/syncs/1">group: Fixed' in text
    assert "<script>" not in text
    none = system.workers(Known({**WORKERS, "workers": [], "active": None}))
    assert 'class="pill bad">no worker' in none
    away = system.workers(Known(None, "Redis does not answer"))
    assert "pill" not in away
    assert "this process runs the requested syncs itself" in system.workers(None)
    assert "Unknown" in system.circuits(Known(None, "away"), settings)


@pytest.fixture
async def alerted(tmp_path: Path) -> AsyncIterator[ApiWorld]:
    """An API with one open incident."""
    settings = Settings.from_env(
        {"CATALOG_STATE_DIR": str(tmp_path / "alerts"), "ERROR_ALERT_RUNBOOK_URL": "https://d.example/{name}"}
    )
    with CatalogAlerts(settings, service_name=SERVICE_API) as alerts:
        alerts.service.report(
            Alert(
                kind="trouble",
                title=f"Trouble {HOSTILE}",
                severity=Severity.CRITICAL,
                error_type="503",
                correlation_id=TRACE_ID,
            )
        )
        async with api_world(tmp_path / "state", alerts=KeptAlerts(settings, alerts)) as made:
            yield made


async def open_incident(world: ApiWorld) -> str:
    while not (found := (await world.http.get("/incidents")).json()["incidents"]):
        await asyncio.sleep(0.01)
    return str(found[0]["id"])


async def said(world: ApiWorld, path: str, wanted: str) -> str:
    """Waits until the page contains the text, and returns it."""
    give_up = time.monotonic() + 30
    while wanted not in (text := await page(world, path)):
        assert time.monotonic() < give_up, text
        await asyncio.sleep(0.02)
    return text


@pytest.mark.fault("U5")
async def test_an_incident_has_its_course_and_its_links(alerted: ApiWorld) -> None:
    path = f"/incidents/{await open_incident(alerted)}"
    text = await said(alerted, path, "message 1 taken by")
    assert "<script>alert" not in text
    assert f'href="/syncs/{TRACE_ID}"' in text
    assert f'href="/traces/{TRACE_ID}"' in text
    assert 'href="https://d.example/trouble"' in text
    who = {"by": "ann", "reason": "it is known"}
    assert (await alerted.http.post(f"{path}/ack", json=who, headers=AUTHORIZED)).status_code == 200
    await said(alerted, path, "acknowledged by ann: it is known")
    for given in (path[11:], path[11:20], f"{alerted.http.base_url}{path}"):
        assert (await alerted.http.get("/find", params={"id": given})).headers["location"] == path
    assert (await alerted.http.post(f"{path}/close", json=who, headers=AUTHORIZED)).status_code == 200
    text = await said(alerted, path, " resolved</li>")
    assert "data-path" not in text


async def test_the_course_names_each_escalation_with_its_time(tmp_path: Path) -> None:
    """From the record as Redis holds it, in the order in which it happened; what is no longer kept is said."""
    settings = Settings.from_env(
        {"CATALOG_STATE_DIR": str(tmp_path), "ERROR_ALERT_ESCALATION": "after=60,severity=CRITICAL"}
    )
    began = 1_800_000_000.0
    kept = Incident.of(Alert(kind="trouble", title="Trouble", severity=Severity.HIGH), began)
    kept.phase = Phase.OPEN
    kept.next_message(config(settings), began, "new")
    for number in range(10):
        kept.confirm("pager", began + 5 + number, 5.0, message=1)
    kept.take_step(0, config(settings).escalation[0], began + 60)
    kept.note_action("ack", "ann", "on it", began + 90)
    store, close = open_store(settings)
    Archive(store, None, config(settings).owner).write(kept, kept.dump(), began)
    close()
    found = incident(settings, kept.id)
    assert found is not None
    text = incidents.timeline(found)
    course = re.findall(r"</time> (.*?)</li>", text)
    assert course[0] == "first seen"
    assert course[1] == "message 1 taken by pager, 5.0 s after its cause"
    assert course[-2:] == ["escalated: CRITICAL", "acknowledged by ann: on it"]
    assert "2027-01-15 08:01:00 UTC</time> escalated" in text
    assert "no confirmation is kept" not in text
    assert (
        "of the first 2 messages no confirmation is kept, escalated 1 time when that was not kept"
        in incidents.timeline({**found, "escalations": [], "deliveries": [{**found["deliveries"][0], "message": 3}]})
    )


async def test_earlier_syncs_that_failed_alike_are_shown(alerted: ApiWorld) -> None:
    alike = dataclasses.replace(error_info(SupplierUnavailableError("down")), type="503")
    same = await keep(alerted, 1, error=alike)
    own = await keep(alerted, int(TRACE_ID, 16), error=alike)  # it ended a moment before its incident was seen
    other = await keep(alerted, 2, error=dataclasses.replace(alike, type="timeout"))
    text = await page(alerted, f"/incidents/{await open_incident(alerted)}")
    earlier = text[text.index('id="alike"') :]
    assert f'href="/syncs/{same}"' in earlier
    assert own not in earlier
    assert other not in text


def record(days_ago: float, outcome: Outcome, now: float, seconds: float = 2.0) -> SyncRecord:
    start = rfc3339(now - days_ago * 86_400)
    return SyncRecord.of(report_of(SyncRequest(), outcome, started_at=start, duration_s=seconds), SERVICE_API)


def test_the_chart_has_every_day_and_says_what_it_shows() -> None:
    now = 1_800_000_000.0
    records = [record(40, Outcome.COMPLETE, now), record(40, Outcome.FAILED, now)]
    records.append(record(37.5, Outcome.PARTIAL, now, 90))
    kept = summed(map(DaySummary.of, records))
    found = days(kept, now)
    assert len(found) == DAYS
    (first,) = [day for day in found if day.good]
    assert (first.good, first.failed) == (1, 1)
    assert found[-1].oldest == pytest.approx(37.5 * 86_400, abs=200)
    assert found[0].oldest is None
    drawn = chart(kept, now, stale_after=86_400)
    assert "3 syncs in 90 days: 1 complete, 1 partial, 1 failed. The longest took 90 s" in drawn
    assert 'role="img" aria-label="3 syncs in 90 days' in drawn
    assert "older than 24 h on 40 days" in drawn
    assert "style=" not in drawn
    assert "No sync in the last 90 days" in chart({}, now, stale_after=86_400)


def add_trace(world: ApiWorld, *, name: str = "catalog.sync", message: str = "the supplier answered 503") -> None:
    """A failed sync of one call with two attempts."""
    error = {"error.type": "503", "resilience.error.class": "transient", "resilience.error.severity": "MEDIUM"}
    call: dict[str, str | int] = {"resilience.outcome": "exhausted", "resilience.attempts": 2, **error}
    spans: list[tuple[str, str | None, str, dict[str, str | int]]] = [
        ("1", None, name, {}),
        ("2", "1", "esim-go list bundles", call),
        ("3", "2", "attempt", {**error, "resilience.attempt.number": 1}),
        ("4", "2", "attempt", {**error, "resilience.attempt.number": 2}),
    ]
    for number, parent, called, attributes in reversed(spans):
        at = 1000.0 + int(number)
        parent_id = None if parent is None else parent * 16
        ids = (TRACE_ID, number * 16, parent_id)
        world.traces.add(SpanRecord(*ids, called, "INTERNAL", "s", at, at + 1, "error", message, attributes))
