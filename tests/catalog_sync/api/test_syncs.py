"""Asking for syncs: who may, what is understood, one at a time, and what can be seen of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from catalog_sync.api.parameters import MAX_TEXT
from catalog_sync.domain.errors import RateLimitError
from catalog_sync.domain.models import GroupReport, Outcome, SyncKind, SyncRequest
from catalog_sync.sync.reporting import error_info
from support.api_world import AUTHORIZED, TOKEN, ApiWorld, api_world, report_of

JSON = {"Content-Type": "application/json"}


def kind_of(answer: httpx.Response) -> str:
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == answer.status_code
    assert document["correlation_id"] == answer.headers["x-correlation-id"]
    return str(document["type"]).removeprefix("urn:catalog-sync:problem:")


async def ended(world: ApiWorld, job_id: str) -> dict[str, Any]:
    while True:
        job: dict[str, Any] = (await world.http.get(f"/syncs/{job_id}")).json()
        if job["status"] in {"finished", "cancelled"}:
            return job
        await asyncio.sleep(0)


async def test_a_sync_is_accepted_and_can_be_followed(world: ApiWorld) -> None:
    answer = await world.ask()
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == job["links"]["self"] == f"/syncs/{job['id']}"
    assert (job["status"], job["kind"], job["scope"], job["force"]) == ("queued", "full", None, False)
    assert job["correlation_id"] == answer.headers["x-correlation-id"]
    await world.sync.started.wait()
    world.sync.progress(A="ok", B="running", C="pending")
    running = (await world.http.get(job["links"]["self"])).json()
    assert running["status"] == "running"
    assert (running["progress"]["groups_done"], running["progress"]["groups_total"]) == (1, 3)
    assert running["progress"]["groups"][1] == {"name": "B", "status": "running", "bundles": 7, "error": None}
    world.sync.may_end.set()
    finished = await ended(world, job["id"])
    assert (finished["status"], finished["outcome"]) == ("finished", "COMPLETE")
    assert finished["report"]["attempts"] == 3
    assert world.sync.correlation_ids == [job["correlation_id"]] == [finished["report"]["correlation_id"]]


@pytest.mark.parametrize(
    ("body", "request_"),
    [
        ({}, SyncRequest(trigger="api")),
        ({"kind": "full", "scope": None, "force": True}, SyncRequest(force=True, trigger="api")),
        ({"kind": "group", "scope": "Standard Fixed"}, SyncRequest(SyncKind.GROUP, "Standard Fixed", trigger="api")),
        ({"kind": "country", "scope": "PT"}, SyncRequest(SyncKind.COUNTRY, "PT", trigger="api")),
        ({"kind": "bundle", "scope": "esim_V2"}, SyncRequest(SyncKind.BUNDLE, "esim_V2", trigger="api")),
    ],
)
async def test_the_requested_sync_runs(world: ApiWorld, body: dict[str, Any], request_: SyncRequest) -> None:
    assert (await world.ask(**body)).status_code == 202
    await world.sync.started.wait()
    assert world.sync.requests == [request_]


async def test_only_one_sync_at_a_time_and_the_conflict_is_named(world: ApiWorld) -> None:
    first = (await world.ask()).json()
    second = await world.ask(kind="country", scope="PT")
    assert (second.status_code, kind_of(second)) == (409, "sync_conflict")
    assert second.json()["conflict"] == first["id"]
    await world.sync.started.wait()
    world.sync.may_end.set()
    await ended(world, first["id"])
    assert (await world.ask()).status_code == 202


async def test_one_of_many_concurrent_requests_wins(world: ApiWorld) -> None:
    answers = await asyncio.gather(*(world.ask() for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [202, *[409] * 9]
    winner = next(answer.json()["id"] for answer in answers if answer.status_code == 202)
    assert {answer.json()["conflict"] for answer in answers if answer.status_code == 409} == {winner}


async def test_a_cancelled_sync_says_so(world: ApiWorld) -> None:
    job = (await world.ask()).json()
    await world.sync.started.wait()
    answer = await world.http.delete(job["links"]["self"], headers=AUTHORIZED)
    assert (answer.status_code, answer.json()["cancel_requested"]) == (202, True)
    cancelled = await ended(world, job["id"])
    assert (cancelled["status"], cancelled["outcome"], cancelled["report"]) == ("cancelled", None, None)
    again = await world.http.delete(job["links"]["self"], headers=AUTHORIZED)
    assert (again.status_code, again.json()) == (200, cancelled)


async def test_whatever_finds_a_sync_cancels_it(world: ApiWorld) -> None:
    job = (await world.ask()).json()
    await world.sync.started.wait()
    by_correlation_id = f"/syncs/{job['correlation_id']}"
    assert (await world.http.get(by_correlation_id)).json()["status"] == "running"
    answer = await world.http.delete(by_correlation_id, headers=AUTHORIZED)
    assert (answer.status_code, answer.json()["id"]) == (202, job["id"])
    assert (await ended(world, job["id"]))["status"] == "cancelled"
    elsewhere = f"/syncs/{await kept(world, 1, Outcome.COMPLETE)}"
    again = await world.http.delete(elsewhere, headers=AUTHORIZED)
    assert (again.status_code, again.json()) == (200, (await world.http.get(elsewhere)).json())


async def test_a_sync_can_be_cancelled_before_it_starts(world: ApiWorld) -> None:
    job = (await world.ask()).json()
    await world.http.delete(job["links"]["self"], headers=AUTHORIZED)
    assert (await ended(world, job["id"]))["status"] == "cancelled"
    assert world.sync.requests == []


async def test_a_sync_whose_version_was_live_before_the_cancellation_is_finished(world: ApiWorld) -> None:
    job = (await world.ask()).json()
    await world.sync.started.wait()
    world.store.publish("v2", correlation_id=job["correlation_id"])
    await world.http.delete(job["links"]["self"], headers=AUTHORIZED)
    found = await ended(world, job["id"])
    assert (found["status"], found["outcome"]) == ("finished", "COMPLETE")


async def test_a_failed_group_is_shown_with_its_error(world: ApiWorld) -> None:
    error = error_info(RateLimitError("the supplier answered 429", retry_after=30))
    groups = (GroupReport("A", "ok", 3), GroupReport("B", "stale", 2, error))
    world.sync.ending = report_of(SyncRequest(), Outcome.PARTIAL, groups=groups)
    job = (await world.ask()).json()
    await world.sync.started.wait()
    world.sync.may_end.set()
    found = await ended(world, job["id"])
    assert found["outcome"] == "PARTIAL"
    assert found["progress"]["groups"][1]["error"] == error.to_json()
    assert found["report"]["groups"][1]["status"] == "stale"


async def test_a_defect_of_the_sync_ends_the_job_as_failed(world: ApiWorld) -> None:
    world.sync.ending = ZeroDivisionError("division by zero")
    job = (await world.ask()).json()
    await world.sync.started.wait()
    world.sync.may_end.set()
    found = await ended(world, job["id"])
    assert (found["status"], found["outcome"]) == ("finished", "FAILED")
    assert found["report"]["error"]["correlation_id"] == job["correlation_id"]
    assert (await world.ask()).status_code == 202


async def test_the_last_syncs_are_listed_newest_first(world: ApiWorld) -> None:
    made = []
    for _ in range(3):
        job = (await world.ask()).json()
        made.append(job["id"])
        await world.sync.started.wait()
        world.sync.may_end.set()
        await ended(world, job["id"])
    listed = (await world.http.get("/syncs?limit=2&offset=1")).json()["syncs"]
    assert [job["id"] for job in listed] == [made[1], made[0]]


async def kept(world: ApiWorld, number: int, outcome: Outcome, **changes: Any) -> str:
    """A sync that ran elsewhere; its correlation ID."""
    plain = report_of(SyncRequest(), outcome, correlation_id=f"{number:032x}", **changes)
    await asyncio.to_thread(world.history._keep, plain)
    return plain.correlation_id


async def listed(world: ApiWorld, query: str = "") -> list[str]:
    answer = await world.http.get(f"/syncs{query}")
    assert answer.status_code == 200
    return [job["correlation_id"] for job in answer.json()["syncs"]]


async def test_syncs_that_ran_elsewhere_are_listed_and_found_by_their_correlation_id(world: ApiWorld) -> None:
    failure = error_info(RateLimitError("too many"))
    groups = (GroupReport("A", "stale", 2, failure), GroupReport("B", "ok", 2))
    other = await kept(world, 1, Outcome.PARTIAL, trigger="schedule", groups=groups)
    job = (await world.ask()).json()
    await world.sync.started.wait()
    world.sync.may_end.set()
    own = (await ended(world, job["id"]))["correlation_id"]
    assert await listed(world) == [own, other]
    found = (await world.http.get(f"/syncs/{other}")).json()
    assert (found["id"], found["status"], found["outcome"], found["trigger"]) == (
        other,
        "finished",
        "PARTIAL",
        "schedule",
    )
    assert found["progress"]["groups"][0]["error"]["type"] == failure.type
    assert found["report"]["error"] is None
    assert found["links"] == {"self": f"/syncs/{other}", "spans": f"/traces/{other}"}
    assert (await world.http.get(f"/syncs/{2:032x}")).status_code == 404


async def test_syncs_are_filtered_and_paged(world: ApiWorld) -> None:
    at = [f"2026-11-28T02:0{number}:00.000Z" for number in range(3)]
    failed = await kept(world, 1, Outcome.FAILED, trigger="cli", started_at=at[0])
    scoped = await kept(world, 2, Outcome.COMPLETE, trigger="cli", kind=SyncKind.GROUP, scope="A", started_at=at[1])
    planned = await kept(world, 3, Outcome.COMPLETE, trigger="schedule", started_at=at[2])
    assert await listed(world) == [planned, scoped, failed]
    assert await listed(world, "?limit=1&offset=1") == [scoped]
    assert await listed(world, "?outcome=FAILED") == [failed]
    assert await listed(world, "?kind=full&limit=1&offset=1") == [failed]
    assert await listed(world, "?trigger=cli&outcome=COMPLETE") == [scoped]
    refused = await world.http.get("/syncs?trigger=nobody")
    assert (refused.status_code, kind_of(refused)) == (400, "invalid_parameters")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_an_unknown_sync_is_a_problem(world: ApiWorld, method: str) -> None:
    answer = await world.http.request(method, "/syncs/0815", headers=AUTHORIZED)
    assert (answer.status_code, kind_of(answer)) == (404, "sync_not_found")


async def test_links_lead_to_the_trace_and_to_the_tool_for_traces(tmp_path: Path) -> None:
    async with api_world(tmp_path, ERROR_ALERT_TRACE_URL="https://traces.test/{trace_id}") as world:
        job = (await world.ask()).json()
        assert job["links"]["spans"] == f"/traces/{job['correlation_id']}"
        assert job["links"]["trace"] == f"https://traces.test/{job['correlation_id']}"


# --- who may


@pytest.mark.parametrize("call", [("POST", "/syncs"), ("DELETE", "/syncs/1")])
@pytest.mark.parametrize(
    "header", [None, "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}"]
)
async def test_writing_needs_the_token(world: ApiWorld, call: tuple[str, str], header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    answer = await world.http.request(*call, headers=headers)
    assert (answer.status_code, kind_of(answer)) == (401, "unauthorized")
    assert answer.headers["www-authenticate"].startswith('Bearer realm="catalog-api"')
    assert world.sync.requests == []


async def test_writing_is_forbidden_where_no_token_is_configured(tmp_path: Path) -> None:
    async with api_world(tmp_path, CATALOG_API_TOKEN="") as world:
        answer = await world.http.post("/syncs", json={}, headers={"Authorization": "Bearer "})
        assert (answer.status_code, kind_of(answer)) == (403, "forbidden")
        assert (await world.http.get("/syncs")).status_code == 200


async def test_without_an_api_key_reading_works_and_a_sync_is_refused(world: ApiWorld) -> None:
    settings = world.settings.changed(api_key=type(world.settings.api_key)(""))
    world.jobs.check = settings.require_api_key
    answer = await world.ask()
    assert (answer.status_code, kind_of(answer)) == (503, "not_configured")
    assert "ESIM_GO_API_KEY" in answer.json()["detail"]


@pytest.fixture
async def closed(tmp_path: Path) -> AsyncIterator[ApiWorld]:
    async with api_world(tmp_path / "state", CATALOG_API_OPEN_READS="false") as world:
        yield world


@pytest.mark.parametrize("path", ["/bundles", "/bundles/x", "/countries", "/groups", "/syncs", "/traces", "/overview"])
async def test_reading_needs_the_token_where_it_is_not_open(closed: ApiWorld, path: str) -> None:
    assert (await closed.http.get(path)).status_code == 401
    allowed = await closed.http.get(path, headers=AUTHORIZED)
    assert allowed.status_code in {200, 404}
    assert "public" not in allowed.headers.get("cache-control", "")


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/openapi.json", "/", "/static/page.js"])
async def test_probes_and_the_page_itself_need_no_token(closed: ApiWorld, path: str) -> None:
    assert (await closed.http.get(path)).status_code == 200


# --- what is understood


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b"", 400, "invalid_body"),
        (b"{", 400, "invalid_body"),
        (b"\xff", 400, "invalid_body"),
        (b'{"kind": "full", "kind": "group"}', 400, "invalid_body"),
        (b'{"force": NaN}', 400, "invalid_body"),
        (b"[" * 15_000, 400, "invalid_body"),
        (b"[]", 422, "invalid_body"),
        (b"null", 422, "invalid_body"),
        (b'{"kind": "everything"}', 422, "invalid_body"),
        (b'{"kind": "group"}', 422, "invalid_body"),
        (b'{"scope": "PT"}', 422, "invalid_body"),
        (b'{"kind": "country", "scope": ""}', 422, "invalid_body"),
        (b'{"kind": "country", "scope": "P\\u0000T"}', 422, "invalid_body"),
        (b'{"kind": "country", "scope": "\\ud800"}', 422, "invalid_body"),
        (b'{"kind": "country", "scope": 7}', 422, "invalid_body"),
        (b'{"kind": "country", "scope": "' + b"x" * (MAX_TEXT + 1) + b'"}', 422, "invalid_body"),
        (b'{"force": "yes"}', 422, "invalid_body"),
        (b'{"force": 1}', 422, "invalid_body"),
        (b'{"forced": true}', 422, "invalid_body"),
        (b'{"kind": "' + b"x" * 20_000 + b'"}', 413, "too_large"),
    ],
)
async def test_what_is_not_understood_starts_nothing(world: ApiWorld, body: bytes, status: int, kind: str) -> None:
    answer = await world.http.post("/syncs", content=body, headers={**AUTHORIZED, **JSON})
    assert (answer.status_code, kind_of(answer)) == (status, kind)
    await asyncio.sleep(0)
    assert world.sync.requests == []


async def test_what_is_wrong_is_named_and_not_repeated(world: ApiWorld) -> None:
    answer = await world.http.post(
        "/syncs", content=b'{"kind": "sk-live-4711", "forced": 1}', headers={**AUTHORIZED, **JSON}
    )
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/kind", "/forced"]
    assert "sk-live-4711" not in answer.text


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "", "application/json; charset=latin-1"]
)
async def test_the_body_must_be_announced_as_json(world: ApiWorld, media_type: str) -> None:
    answer = await world.http.post("/syncs", content=b"{}", headers={**AUTHORIZED, "Content-Type": media_type})
    assert (answer.status_code, kind_of(answer)) == (415, "unsupported_media_type")


async def test_a_body_of_unknown_length_is_bounded_too(world: ApiWorld) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b" " * 1000

    answer = await world.http.post("/syncs", content=endless(), headers={**AUTHORIZED, **JSON})
    assert (answer.status_code, kind_of(answer)) == (413, "too_large")


async def test_a_stopping_process_accepts_no_syncs(world: ApiWorld) -> None:
    world.api.drain()
    answer = await world.ask()
    assert (answer.status_code, kind_of(answer)) == (503, "stopping")


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        ({"kind": "group", "scope": "Standard Fixd"}, "Standard Fixed"),
        ({"kind": "country", "scope": "Portugal"}, "PT (Portugal)"),
        ({"kind": "bundle", "scope": ".."}, "cannot be the name"),
    ],
)
async def test_what_does_not_exist_is_refused_with_the_nearest_names(
    world: ApiWorld, body: dict[str, str], hint: str
) -> None:
    response = await world.http.post("/syncs", json=body, headers=AUTHORIZED)
    problem = response.json()
    assert (response.status_code, problem["type"]) == (422, "urn:catalog-sync:problem:unknown_scope")
    assert hint in problem["detail"]
    assert problem["errors"][0]["pointer"] == "/scope"
