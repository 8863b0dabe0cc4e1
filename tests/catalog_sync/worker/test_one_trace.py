"""From the request for a sync, through queue and workers, to the attempt that failed: one trace.

Four services in processes of their own, received over real OTLP.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from catalog_sync.observability import contract as catalog
from otel_resilience.telemetry import contract as resilience
from support.api_process import TOKEN, ApiProcess
from support.cli import API_KEY, running_supplier
from support.conventions import findings
from support.otlp_sink import OtlpSink, SinkSpan, otlp_sink
from support.redis_server import RedisServer
from support.worker_world import GIVEN_UP_AFTER, WorkerWorld, process_environment, worker_world

GROUP = "Standard - Unlimited Lite"
GROUP_DOWN = {"name": "one group down", "rules": [{"fault": "status", "status": 500, "when": {"group": GROUP}}]}


class Story:
    """The evidence of one faulty sync."""

    def __init__(self, sink: OtlpSink, answer: dict[str, Any], job: dict[str, Any], page: dict[str, Any]) -> None:
        self.sink = sink
        self.answer = answer
        self.job = job
        self.page = page
        self.logs: list[dict[str, Any]] = []
        self.spans = [span for span in sink.spans if span.trace_id == answer["correlation_id"]]
        self.by_id = {span.span_id: span for span in self.spans}

    def path(self, span: SinkSpan) -> list[tuple[str, str, str]]:
        """Service, kind and name from the root down to ``span``."""
        steps = [span]
        while steps[-1].parent_span_id in self.by_id:
            steps.append(self.by_id[steps[-1].parent_span_id])
        return [(step.resource["service.name"], step.kind, step.name) for step in reversed(steps)]


def running_api(world: WorkerWorld, sink: OtlpSink) -> ApiProcess:
    env = {**process_environment(), **world.env, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}
    return ApiProcess(world.directory, env)


@pytest.fixture(scope="module")
def story(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Story:
    directory = tmp_path_factory.mktemp("story")
    redis_server.command("FLUSHALL")
    with otlp_sink() as sink, contextlib.ExitStack() as stack:
        supplier = stack.enter_context(running_supplier(200, OTEL_EXPORTER_OTLP_ENDPOINT=sink.url))
        supplier.play(GROUP_DOWN)
        world = stack.enter_context(worker_world(directory, redis_server, supplier))
        workers = [world.start_worker(OTEL_EXPORTER_OTLP_ENDPOINT=sink.url) for _ in range(2)]
        base_url = stack.enter_context(running_api(world, sink)).base_url
        with httpx.Client(base_url=base_url, trust_env=False, timeout=60) as client:
            answer = client.post(
                "/syncs",
                json={"kind": "full"},
                headers={"Authorization": f"Bearer {TOKEN}", "baggage": "caller.note=for-our-own-hosts"},
            )
            assert answer.status_code == 202, answer.text
            job = _ended(client, answer.json()["links"]["self"])
            page = _page(client, answer.json()["links"]["spans"])
        for worker in workers:
            worker.terminate()
            worker.process.wait(GIVEN_UP_AFTER)
        stack.close()
        told = Story(sink, answer.json(), job, page)
        told.logs = [line for worker in workers for line in worker.lines()]
        return told


def _page(client: httpx.Client, link: str) -> dict[str, Any]:
    """What the API shows once every step has shown its spans, which it does when it has ended."""
    give_up = time.monotonic() + GIVEN_UP_AFTER
    while True:
        page: dict[str, Any] = client.get(link).json()
        steps = Counter(span["name"] for span in page["spans"])
        if steps["run/catalog.fetch"] >= 5 and steps["run/catalog.publish"] >= 1:
            return page
        assert time.monotonic() < give_up, steps
        time.sleep(0.1)


def _ended(client: httpx.Client, link: str) -> dict[str, Any]:
    give_up = time.monotonic() + GIVEN_UP_AFTER
    while True:
        job: dict[str, Any] = client.get(link).json()
        if job["status"] in {"finished", "cancelled"}:
            return job
        assert time.monotonic() < give_up, job
        time.sleep(0.1)


def test_the_trace_runs_through_four_services_and_has_one_root(story: Story) -> None:
    assert {span.resource["service.name"] for span in story.spans} == set(catalog.SERVICES) - {catalog.SERVICE_SYNC}
    roots = [(span.kind, span.name) for span in story.spans if not span.parent_span_id]
    assert roots == [("SERVER", "POST /syncs")]
    assert all(span.parent_span_id in story.by_id for span in story.spans if span.parent_span_id)
    ours = [span for span in story.sink.spans if span.name.startswith("catalog.")]
    assert {span.trace_id for span in ours} == {story.answer["correlation_id"]}


def test_every_name_that_the_four_services_emit_is_defined(story: Story) -> None:
    assert findings(story.sink) == []


def test_the_attempt_that_failed_is_found_from_the_click_to_the_suppliers_answer(story: Story) -> None:
    served = [
        span for span in story.spans if span.kind == "SERVER" and span.attributes.get("simulator.fault") == "status"
    ]
    assert len(served) == 3
    worker, simulator = catalog.SERVICE_WORKER, catalog.SERVICE_SIMULATOR
    assert story.path(served[0]) == [
        (catalog.SERVICE_API, "SERVER", "POST /syncs"),
        (catalog.SERVICE_API, "PRODUCER", "apply_async/catalog.plan"),
        (worker, "CONSUMER", "run/catalog.plan"),
        (worker, "PRODUCER", "apply_async/catalog.fetch"),
        (worker, "CONSUMER", "run/catalog.fetch"),
        (worker, "INTERNAL", "catalog.sync.group"),
        (worker, "INTERNAL", "esim-go list bundles"),
        (worker, "INTERNAL", "attempt"),
        (worker, "CLIENT", "GET /catalogue"),
        (simulator, "SERVER", "GET /catalogue"),
    ]
    numbers = [
        span.attributes[resilience.ATTEMPT_NUMBER]
        for span in story.spans
        if span.name == "attempt" and span.attributes.get(resilience.ERROR_TYPE) == "500"
    ]
    assert sorted(numbers) == [1, 2, 3]


def test_the_end_of_the_sync_hangs_under_its_plan(story: Story) -> None:
    [sync] = [span for span in story.spans if span.name == catalog.SYNC_SPAN]
    assert [step[2] for step in story.path(sync)] == [
        "POST /syncs",
        "apply_async/catalog.plan",
        "run/catalog.plan",
        "apply_async/catalog.publish",
        "run/catalog.publish",
        catalog.SYNC_SPAN,
    ]
    assert len([span for span in story.spans if span.name == catalog.GROUP_SPAN]) == 5


def test_job_record_report_errors_and_log_lines_carry_the_trace_id(story: Story) -> None:
    identifier = story.answer["correlation_id"]
    assert story.job["correlation_id"] == story.job["report"]["correlation_id"] == identifier
    [failed] = [group for group in story.job["progress"]["groups"] if group["status"] != "ok"]
    assert (failed["name"], failed["error"]["correlation_id"]) == (GROUP, identifier)
    attempts = [line for line in story.logs if line.get("event") == resilience.EVENT_ATTEMPT_FAILED]
    assert len(attempts) == 3
    assert {line["trace_id"] for line in attempts} == {line["correlation_id"] for line in attempts} == {identifier}
    [finished] = [log for log in story.sink.logs if log.event_name == catalog.EVENT_SYNC_FINISHED]
    assert finished.trace_id == identifier


def test_the_api_shows_the_same_waterfall_without_any_other_tool(story: Story) -> None:
    shown = {span["span_id"]: span for span in story.page["spans"]}
    ours = {span.span_id for span in story.spans if span.resource["service.name"] != catalog.SERVICE_SIMULATOR}
    missing = [(span.resource["service.name"], span.name) for span in story.spans if span.span_id in ours - set(shown)]
    assert not missing, str(missing)
    assert set(shown) <= ours


def test_every_process_is_an_instance_of_its_own_and_counts_once(story: Story) -> None:
    instances: dict[str, set[str]] = {}
    for span in story.spans:
        instances.setdefault(span.resource["service.name"], set()).add(span.resource["service.instance.id"])
    assert len(instances[catalog.SERVICE_WORKER]) == 2
    latest: dict[tuple[str, str], float] = {}
    for point in story.sink.points:
        if point.name == catalog.SYNC_DURATION.name:
            latest[(point.resource["service.instance.id"], str(sorted(point.attributes.items())))] = point.count
    assert sum(latest.values()) == 1


def test_no_key_and_no_token_is_in_any_signal(story: Story) -> None:
    for secret in (API_KEY, TOKEN):
        assert secret.encode() not in story.sink.everything()
        assert secret not in json.dumps(story.logs)


def test_a_supplier_that_is_not_ours_gets_neither_trace_nor_baggage(redis_server: RedisServer, tmp_path: Path) -> None:
    redis_server.command("FLUSHALL")
    with otlp_sink() as sink, running_supplier(300, OTEL_EXPORTER_OTLP_ENDPOINT=sink.url) as supplier:
        changes = {"CATALOG_TRACE_HEADERS_TO": "elsewhere.example"}
        with worker_world(tmp_path, redis_server, supplier, **changes) as world, running_api(world, sink) as api:
            world.start_worker(OTEL_EXPORTER_OTLP_ENDPOINT=sink.url)
            with httpx.Client(base_url=api.base_url, trust_env=False, timeout=60) as client:
                answer = client.post(
                    "/syncs",
                    json={"kind": "country", "scope": "PT"},
                    headers={"Authorization": f"Bearer {TOKEN}", "baggage": "caller.note=not-for-third-parties"},
                ).json()
                job = _ended(client, answer["links"]["self"])
        sink.wait_for(lambda seen: any(span.name == "GET /catalogue" and span.kind == "SERVER" for span in seen.spans))
        assert job["outcome"] == "COMPLETE"
        served = [span for span in sink.spans if span.resource["service.name"] == catalog.SERVICE_SIMULATOR]
        assert served
        assert answer["correlation_id"] not in {span.trace_id for span in served}
        assert all(not span.parent_span_id for span in served)
