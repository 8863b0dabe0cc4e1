"""The trace of a request: its IDs on every answer, whose trace is continued, and what is kept of failed ones."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import baggage, trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from catalog_sync.observability import instruments
from catalog_sync.observability.sdk import Telemetry, keep_spans, setup_telemetry
from catalog_sync.observability.traces import SpanEvent, SpanLink, SpanRecord, TraceRing, TraceSummary
from support.api_world import AUTHORIZED, ApiWorld, api_world
from support.otel_globals import fresh_otel_globals

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE_ID = PARENT.split("-")[1]
RESPONSE = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """The SDK as the API sets it up, with the spans in memory."""
    exporter = InMemorySpanExporter()
    with fresh_otel_globals():
        telemetry = setup_telemetry("catalog-api", {}, extra_span_processor=SimpleSpanProcessor(exporter))
        yield exporter
        telemetry.shutdown()


@pytest.fixture
def kept() -> Iterator[TraceRing]:
    """The SDK with a ring, as ``catalog-api`` has it."""
    ring = TraceRing()
    with fresh_otel_globals():
        telemetry: Telemetry = setup_telemetry("catalog-api", {}, extra_span_processor=keep_spans(ring.add))
        yield ring
        telemetry.shutdown()


def server_span(exporter: InMemorySpanExporter) -> ReadableSpan:
    (span,) = exporter.get_finished_spans()
    return span


@pytest.mark.parametrize(
    "path", ["/bundles", "/nothing", "/bundles?x=1", "/health", "/health/live", "/", "/static/page.js", "/openapi.json"]
)
async def test_every_answer_carries_its_ids_also_without_an_sdk(world: ApiWorld, path: str) -> None:
    answer = await world.http.get(path)
    found = RESPONSE.fullmatch(answer.headers["traceresponse"])
    assert found is not None
    assert found[1] == answer.headers["x-correlation-id"]
    again = await world.http.get(path)
    assert again.headers["x-correlation-id"] != answer.headers["x-correlation-id"]
    continued = await world.http.get(path, headers={"traceparent": PARENT})
    assert continued.headers["x-correlation-id"] == TRACE_ID


async def test_a_request_has_a_server_span(spans: InMemorySpanExporter, tmp_path: Path) -> None:
    async with api_world(tmp_path) as world:
        answer = await world.http.get("/bundles/nothing?", headers={"traceparent": PARENT})
    span = server_span(spans)
    assert (span.name, span.kind) == ("GET /bundles/{name}", trace.SpanKind.SERVER)
    assert span.attributes == {
        "http.request.method": "GET",
        "url.path": "/bundles/nothing",
        "url.scheme": "http",
        "http.route": "/bundles/{name}",
        "http.response.status_code": 404,
    }
    assert span.status.status_code is trace.StatusCode.UNSET
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == PARENT.split("-")[2]
    context = span.get_span_context()
    assert context is not None
    assert answer.headers["traceresponse"].startswith(f"00-{TRACE_ID}-{context.span_id:016x}-")


async def test_a_server_error_marks_the_span(spans: InMemorySpanExporter, tmp_path: Path) -> None:
    async with api_world(tmp_path, catalogue=False) as world:
        await world.http.get("/bundles?text=secret&limit=3")
    span = server_span(spans)
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["error.type"] == "503"
    assert span.attributes["url.query"] == "text=secret&limit=3"


async def test_unknown_methods_and_paths_do_not_name_spans(spans: InMemorySpanExporter, tmp_path: Path) -> None:
    async with api_world(tmp_path) as world:
        await world.http.request("BREW", "/no/such/place")
    assert server_span(spans).name == "HTTP"


@pytest.mark.parametrize("path", ["/health", "/health/ready", "/", "/static/page.css", "/openapi.json"])
async def test_probes_and_files_have_no_span(spans: InMemorySpanExporter, tmp_path: Path, path: str) -> None:
    async with api_world(tmp_path) as world:
        answer = await world.http.get(path)
    assert spans.get_finished_spans() == ()
    assert answer.headers["traceresponse"].endswith("-00")


async def test_refreshing_makes_no_spans(spans: InMemorySpanExporter, tmp_path: Path) -> None:
    async with api_world(tmp_path) as world:
        original = world.store.current_version

        async def traced() -> str | None:
            with instruments.publish_span():
                return await original()

        world.store.current_version = traced  # type: ignore[method-assign]
        await world.refresh()
    assert spans.get_finished_spans() == ()


async def test_without_the_token_no_trace_is_continued_where_it_is_required(tmp_path: Path) -> None:
    async with api_world(tmp_path, CATALOG_API_TRACE_FROM="token") as world:
        stranger = await world.http.get("/bundles", headers={"traceparent": PARENT})
        assert stranger.headers["x-correlation-id"] != TRACE_ID
        known = await world.http.get("/bundles", headers={"traceparent": PARENT, **AUTHORIZED})
        assert known.headers["x-correlation-id"] == TRACE_ID


@pytest.mark.parametrize(("headers", "accepted"), [({}, False), (AUTHORIZED, True)])
async def test_baggage_is_taken_only_with_the_token(
    world: ApiWorld, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], accepted: bool
) -> None:
    seen: list[Any] = []

    async def latest(**_: object) -> list[object]:
        seen.append(baggage.get_baggage("tenant"))
        return []

    monkeypatch.setattr(world.jobs, "latest", latest)
    await world.http.get("/syncs", headers={"traceparent": PARENT, "baggage": "tenant=t1", **headers})
    assert seen == ["t1" if accepted else None]


@pytest.mark.parametrize("sent", ["", "garbage", "00-" + "0" * 32 + "-b7ad6b7169203331-01", PARENT + "x"])
async def test_a_malformed_parent_starts_a_new_trace(world: ApiWorld, sent: str) -> None:
    answer = await world.http.get("/bundles", headers={"traceparent": sent})
    assert answer.status_code == 200
    assert answer.headers["x-correlation-id"] not in {TRACE_ID, "0" * 32}


async def test_a_sync_runs_in_the_trace_of_its_request(spans: InMemorySpanExporter, tmp_path: Path) -> None:
    async with api_world(tmp_path) as world:
        run = world.sync.run

        async def traced(request: Any) -> Any:
            with instruments.sync_span("full", "api"):
                return await run(request)

        world.sync.run = traced  # type: ignore[method-assign]
        world.sync.may_end.set()
        answer = await world.http.post("/syncs", json={}, headers={"traceparent": PARENT, **AUTHORIZED})
        job = answer.json()
        while (await world.jobs.get(job["id"])).finished_at is None:
            await asyncio.sleep(0)
    order = next(span for span in spans.get_finished_spans() if span.name == "POST /syncs")
    sync = next(span for span in spans.get_finished_spans() if span.name == "catalog.sync")
    assert sync.parent is not None
    context = order.get_span_context()
    assert context is not None
    assert sync.parent.span_id == context.span_id
    assert job["correlation_id"] == TRACE_ID == f"{context.trace_id:032x}"


# --- what is kept


async def test_a_failed_trace_is_kept_and_served(kept: TraceRing, tmp_path: Path) -> None:
    def fail() -> None:
        with instruments.sync_span("full", "api"), instruments.group_span("A") as span:
            span.set_attribute("note", "api_key=sk-4711-secret")
            span.add_event("resilience.retry.scheduled", {"resilience.attempt.number": 1})
            raise ZeroDivisionError("token=abcd1234efgh")

    with pytest.raises(ZeroDivisionError):
        fail()
    async with api_world(tmp_path, traces=kept) as world:
        (summary,) = (await world.http.get("/traces")).json()["traces"]
        assert (summary["name"], summary["spans"], summary["errors"]) == ("catalog.sync", 2, 2)
        found = await world.http.get(f"/traces/{summary['trace_id']}")
        missing = await world.http.get(f"/traces/{'1' * 32}")
        odd = await world.http.get("/traces/not-an-id")
    root, group = found.json()["spans"]
    assert (root["parent_id"], group["parent_id"]) == (None, root["span_id"])
    assert (group["service"], group["kind"], group["status"]) == ("catalog-api", "INTERNAL", "error")
    assert group["attributes"]["catalog.group"] == "A"
    assert group["events"][0]["name"] == "resilience.retry.scheduled"
    assert root["start"] <= group["start"] <= group["end"] <= root["end"]
    assert "sk-4711" not in found.text
    assert "abcd1234" not in found.text
    assert (missing.status_code, odd.status_code) == (404, 404)


async def test_reads_that_went_well_are_not_kept_and_failed_ones_are(kept: TraceRing, tmp_path: Path) -> None:
    async with api_world(tmp_path / "a") as world:
        good = await world.http.get("/bundles")
        assert await kept.get(good.headers["x-correlation-id"]) == []
    async with api_world(tmp_path / "b", catalogue=False) as world:
        bad = await world.http.get("/bundles")
        assert [span.name for span in await kept.get(bad.headers["x-correlation-id"])] == ["GET /bundles"]


def record(
    trace_id: str, name: str = "catalog.sync", *, status: str = "error", kind: str = "INTERNAL", at: float = 1.0
) -> SpanRecord:
    span_id = f"{abs(hash((trace_id, name, at))) % 16**16:016x}"
    return SpanRecord(trace_id, span_id, None, name, kind, "s", at, at + 1, status, None, {})  # type: ignore[arg-type]


def test_a_record_survives_its_json_form() -> None:
    whole = SpanRecord(
        "a" * 32,
        "b" * 16,
        "c" * 16,
        "attempt",
        "CLIENT",
        "catalog-worker",
        1.25,
        2.5,
        "error",
        "refused",
        {"n": 1, "ratio": 0.5, "on": True, "list": ["x", "y"]},
        (SpanEvent("e", 1.5, {"k": "v"}),),
        (SpanLink("d" * 32, "e" * 16),),
    )
    assert SpanRecord.from_json(json.loads(json.dumps(whole.to_json()))) == whole


@pytest.mark.parametrize(
    ("name", "kind", "status", "failed"),
    [
        ("catalog.sync", "INTERNAL", "error", True),
        ("esim-go list bundles", "INTERNAL", "error", True),
        ("GET /bundles", "SERVER", "error", True),
        ("run", "CONSUMER", "error", True),
        ("attempt", "INTERNAL", "error", False),
        ("GET /catalogue", "CLIENT", "error", False),
        ("catalog.sync", "INTERNAL", "unset", False),
    ],
)
def test_a_failure_that_a_retry_may_have_cured_does_not_make_a_failed_trace(
    name: str, kind: str, status: str, failed: bool
) -> None:
    span = record("a" * 32, name, status=status, kind=kind)
    assert span.failed is failed
    assert TraceSummary.of([span]).failed is failed


async def test_the_oldest_failures_are_forgotten() -> None:
    ring = TraceRing(syncs=3)
    for number in range(5):
        ring.add(record(f"{number:032x}", at=number))
    assert [summary.trace_id for summary in await ring.failed()] == [f"{number:032x}" for number in (4, 3, 2)]
    assert await ring.get(f"{0:032x}") == []


async def test_a_flood_of_failed_reads_pushes_out_no_sync() -> None:
    ring = TraceRing(syncs=2, others=3)
    ring.add(record("a" * 32))
    for number in range(100):
        ring.add(record(f"{number:032x}", "GET /bundles", kind="SERVER", at=number))
    assert {summary.trace_id for summary in await ring.failed()} == {"a" * 32, *(f"{n:032x}" for n in (97, 98, 99))}


async def test_a_trace_becomes_a_failed_one_whenever_it_fails() -> None:
    ring = TraceRing(recent=2)
    ring.add(record("a" * 32, "esim-go list groups", status="unset", at=1))
    ring.add(record("a" * 32, "attempt", at=2))
    assert await ring.failed() == []
    ring.add(record("a" * 32, "catalog.sync", at=3))
    assert [summary.spans for summary in await ring.failed()] == [3]
    assert [span.start for span in await ring.get("a" * 32)] == [1, 2, 3]


async def test_a_long_trace_keeps_its_errors() -> None:
    ring = TraceRing(max_spans=10)
    for number in range(20):
        ring.add(record("a" * 32, "esim-go list bundles", status="unset", at=number))
    for number in range(20):
        ring.add(record("a" * 32, "catalog.sync", at=100 + number))
    spans = await ring.get("a" * 32)
    assert (len(spans), sum(span.failed for span in spans)) == (15, 5)


async def test_all_traces_together_are_bounded() -> None:
    ring = TraceRing(max_spans=10, max_total=40)
    for number in range(30):
        for at in range(10):
            ring.add(record(f"{number:032x}", at=at))
    kept = await ring.failed(limit=100)
    assert sum(summary.spans for summary in kept) <= 40
    assert f"{29:032x}" in {summary.trace_id for summary in kept}
