"""A real sync with the real Collector, and without it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog_sync.observability.contract import EVENT_SYNC_FINISHED
from catalog_sync.observability.sdk.exporters import EXPORT_TIMEOUT
from catalog_sync.observability.sdk.session import SHUTDOWN_TIMEOUT
from support.cli import Cli, Result, Supplier, running_supplier
from support.collector import Collector
from support.otlp_sink import OtlpSink
from support.prometheus import Prometheus
from support.redis_server import RedisServer, free_port
from support.timing import quickest


@pytest.fixture(scope="module")
def supplier() -> Iterator[Supplier]:
    with running_supplier(bundles=300) as running:
        yield running


@pytest.fixture
def cli(tmp_path: Path, supplier: Supplier) -> Iterator[Cli]:
    supplier.reset()
    with RedisServer(tmp_path / "redis") as redis:
        yield Cli(tmp_path / "state", supplier, redis.url)


def test_a_sync_can_be_followed_in_all_three_signals(
    cli: Cli, collector: Collector, tempo: OtlpSink, loki: OtlpSink, prometheus: Prometheus
) -> None:
    """Under its correlation ID: the trace, the event, and metrics whose exemplars lead to it."""
    report = cli("run", "--json", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url).json
    trace_id = report["correlation_id"]
    tempo.wait_for(lambda sink: any(s.name == "catalog.sync" and s.trace_id == trace_id for s in sink.spans))
    ids = {s.span_id for s in tempo.spans if s.trace_id == trace_id}
    assert {s.parent_span_id for s in tempo.spans if s.trace_id == trace_id} - ids == {""}
    loki.wait_for(lambda sink: any(r.event_name == EVENT_SYNC_FINISHED and r.trace_id == trace_id for r in sink.logs))
    syncs = 'last_over_time(catalog_sync_duration_seconds_count{job="catalog-sync",catalog_outcome="COMPLETE"}[1h])'
    assert prometheus.wait_for(syncs, 1) == 1
    for metric in ("catalog_sync_duration_seconds_bucket", "resilience_operation_duration_seconds_bucket"):
        assert {e["labels"]["trace_id"] for e in prometheus.exemplars(metric)} == {trace_id}
    calls = 'sum(traces_span_metrics_calls_total{service_name="catalog-sync",span_name="catalog.sync"})'
    assert prometheus.wait_for(calls, 1) == 1


def test_a_failed_sync_leads_to_the_attempt_that_failed(
    cli: Cli, collector: Collector, supplier: Supplier, tempo: OtlpSink
) -> None:
    supplier.play("outage")
    report = cli("run", "--json", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url).json
    assert report["outcome"] == "FAILED"
    trace_id = report["correlation_id"]
    tempo.wait_for(lambda sink: any(s.name == "catalog.sync" and s.trace_id == trace_id for s in sink.spans))
    failed = [s for s in tempo.spans if s.trace_id == trace_id and s.name == "attempt" and s.status == "ERROR"]
    assert failed
    assert report["error"]["type"] in {s.attributes["error.type"] for s in failed}


@pytest.mark.slow
def test_without_a_collector_a_sync_ends_the_same_and_as_fast(cli: Cli, collector: Collector) -> None:
    def run(url: str) -> tuple[Result, float]:
        started = time.monotonic()
        return cli("run", "--json", "--force", OTEL_EXPORTER_OTLP_ENDPOINT=url), time.monotonic() - started

    def beyond_the_bounds() -> float:
        there, took_there = run(collector.url)
        gone, took_gone = run(f"http://127.0.0.1:{free_port()}")
        assert there.code == gone.code == 0
        for field in ("outcome", "bundles", "quarantined", "groups", "attempts", "retries", "error"):
            assert there.json[field] == gone.json[field]
        # One export that stood in the way of the sync would take EXPORT_TIMEOUT.
        in_the_sync: float = gone.json["duration_s"] - there.json["duration_s"] - (EXPORT_TIMEOUT - 1)
        # The process offers what it has for a bounded time before it ends.
        at_the_end: float = took_gone - took_there - (SHUTDOWN_TIMEOUT + 3)
        return max(in_the_sync, at_the_end)

    assert quickest(beyond_the_bounds, 0.0) <= 0.0
