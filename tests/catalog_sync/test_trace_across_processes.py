"""One trace from the sync to the simulator, received over real OTLP from two processes and decoded."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from catalog_sync.observability import contract as catalog
from esim_go_simulator.server import SimulatorProcess
from otel_resilience.telemetry import contract as resilience
from support.conventions import findings
from support.otlp_sink import OtlpSink, SinkSpan, otlp_sink

FAILS_ONCE = {
    "name": "one 503",
    "rules": [{"fault": "status", "status": 503, "when": {"endpoint": "catalogue", "page": 2, "count": 1}}],
}


class World:
    """The telemetry of one faulty sync in the sink, and its report."""

    def __init__(self, sink: OtlpSink, report: dict[str, Any], key: str, stderr: str) -> None:
        self.sink = sink
        self.report = report
        self.key = key
        self.stderr = stderr
        self.by_id = {span.span_id: span for span in sink.spans}

    def path(self, span: SinkSpan) -> list[str]:
        """Names from the root down to ``span``."""
        names = [span.name]
        while span.parent_span_id in self.by_id:
            span = self.by_id[span.parent_span_id]
            names.append(span.name)
        return names[::-1]


async def _sync(state: Path, sink: OtlpSink, simulator: SimulatorProcess) -> World:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "REDIS_"))} | {
        "CATALOG_STATE_DIR": str(state),
        "CATALOG_SUPPLIER_RATE_PER_S": "0",
        "ERROR_RETRY_BASE_DELAY": "10",
        "ESIM_GO_BASE_URL": simulator.base_url,
        "ESIM_GO_API_KEY": simulator.api_key,
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "catalog_sync", "run", "--json"),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    return World(sink, json.loads(output), simulator.api_key, errors.decode())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    async def play(sink: OtlpSink) -> World:
        exporting = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}
        async with SimulatorProcess.start("--bundles", "400", "--rate", "0", env=exporting) as simulator:
            await simulator.set_scenario(FAILS_ONCE)
            played = await _sync(tmp_path_factory.mktemp("state"), sink, simulator)
        return World(sink, played.report, played.key, played.stderr)

    with otlp_sink() as sink:
        return asyncio.run(play(sink))


def test_every_span_of_both_services_is_in_the_one_trace_of_the_report(world: World) -> None:
    identifier = world.report["correlation_id"]
    services = {span.resource["service.name"] for span in world.sink.spans if span.trace_id == identifier}
    assert services == {catalog.SERVICE_SYNC, catalog.SERVICE_SIMULATOR}
    assert {span.trace_id for span in world.sink.spans if span.name.startswith("catalog.")} == {identifier}
    orphans = [span.name for span in world.sink.spans if span.trace_id == identifier and not span.parent_span_id]
    assert orphans == [catalog.SYNC_SPAN]


def test_the_failed_attempt_is_found_from_the_root_down_to_the_other_service(world: World) -> None:
    [failed] = [span for span in world.sink.spans if span.name == "attempt" and span.status == "ERROR"]
    assert failed.attributes[resilience.ERROR_TYPE] == "503"
    assert failed.attributes[resilience.ATTEMPT_NUMBER] == 1
    served = [span for span in world.sink.spans if span.kind == "SERVER" and span.status == "ERROR"]
    assert len(served) == 1
    assert world.path(served[0]) == [
        catalog.SYNC_SPAN,
        catalog.GROUP_SPAN,
        "esim-go list bundles",
        "attempt",
        "GET /catalogue",
        "GET /catalogue",
    ]


def test_a_cured_failure_marks_its_attempt_and_not_the_call_or_the_sync(world: World) -> None:
    assert world.report["outcome"] == "COMPLETE"
    cured = [span for span in world.sink.spans if span.attributes.get(resilience.OUTCOME) == "ok_after_retry"]
    assert [(span.status, span.attributes[resilience.ATTEMPTS]) for span in cured] == [("UNSET", 2)]
    assert all(span.status == "UNSET" for span in world.sink.spans if span.name.startswith("catalog."))
    resent = [span for span in world.sink.spans if "http.request.resend_count" in span.attributes]
    assert [(span.kind, span.attributes["http.request.resend_count"]) for span in resent] == [("CLIENT", 1)]


def test_events_and_metrics_carry_the_trace(world: World) -> None:
    identifier = world.report["correlation_id"]
    events = {log.event_name: log for log in world.sink.logs if log.event_name}
    for name in (resilience.EVENT_ATTEMPT_FAILED, resilience.EVENT_RETRY_SCHEDULED, catalog.EVENT_SYNC_FINISHED):
        assert events[name].trace_id == identifier
    names = [log.event_name for log in world.sink.logs if log.event_name]
    assert names.count(resilience.EVENT_ATTEMPT_FAILED) == 1
    metrics = {point.name for point in world.sink.points}
    assert {"resilience.operation.duration", "resilience.circuit_breaker.status", "catalog.sync.duration"} <= metrics
    exemplars = {
        identifier
        for point in world.sink.points
        if point.name == "resilience.errors"
        for identifier in point.exemplar_trace_ids
    }
    assert exemplars == {identifier}


def test_every_emitted_name_is_defined(world: World) -> None:
    assert findings(world.sink) == []


def test_no_secret_leaves_either_process(world: World) -> None:
    assert world.key.encode() not in world.sink.everything()
    assert world.key not in world.stderr


def test_log_lines_are_json_under_the_correlation_id(world: World) -> None:
    lines = [json.loads(line) for line in world.stderr.splitlines() if line.startswith("{")]
    failed = [line for line in lines if line.get("event") == resilience.EVENT_ATTEMPT_FAILED]
    assert len(failed) == 1
    assert failed[0]["trace_id"] == failed[0]["correlation_id"] == world.report["correlation_id"]
    assert failed[0]["span_id"]
