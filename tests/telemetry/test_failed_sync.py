"""Everything that a failed sync and its alerts emit is defined, including the names of the instrumentations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from catalog_sync.observability import contract as catalog
from otel_resilience.telemetry import contract as resilience
from support.cli import Cli, running_supplier
from support.conventions import findings
from support.otlp_sink import OtlpSink, otlp_sink
from support.redis_server import RedisServer


@pytest.fixture(scope="module")
def sink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OtlpSink]:
    """What arrived from a sync whose supplier is down, after one that went well."""
    folder = tmp_path_factory.mktemp("failed_sync")
    with otlp_sink() as receiving, RedisServer(folder / "redis") as redis:
        with running_supplier(100, OTEL_EXPORTER_OTLP_ENDPOINT=receiving.url) as supplier:
            cli = Cli(folder / "state", supplier, redis.url)
            options = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiving.url, "CATALOG_ENVIRONMENT": "test"}
            options["CATALOG_TRACE_REDIS_FROM_MS"] = "0"  # every span that there can be
            assert cli("run", "--json", **options).json["outcome"] == "COMPLETE"
            supplier.play("outage")
            assert cli("run", "--json", **options).json["outcome"] == "FAILED"
        yield receiving


@pytest.mark.slow
def test_nothing_in_it_is_undefined_deprecated_or_of_another_type(sink: OtlpSink) -> None:
    assert findings(sink) == []


def test_it_holds_what_has_to_be_judged(sink: OtlpSink) -> None:
    scopes = {span.scope for span in sink.spans}
    assert {resilience.SCOPE, catalog.SCOPE, "esim_go_simulator", "opentelemetry.instrumentation.redis"} <= scopes
    events = {log.event_name for log in sink.logs}
    assert {resilience.EVENT_RETRY_EXHAUSTED, resilience.EVENT_STATE_CHANGED, catalog.EVENT_SYNC_FINISHED} <= events
    alerts = [log for log in sink.logs if log.scope == "otel_resilience.alerts"]
    assert alerts
    assert {log.attributes[resilience.CORRELATION_ID] for log in alerts} <= {span.trace_id for span in sink.spans}
    metrics = {point.name for point in sink.points}
    assert {resilience.BREAKER_TRANSITIONS.name, "otel.sdk.processor.log.queue.size"} <= metrics
