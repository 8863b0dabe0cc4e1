"""The application emits what its contract lists: names, units, attributes, cardinality."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
from tools.telemetry import signals

from catalog_sync.domain.errors import ApiTimeoutError
from catalog_sync.domain.models import ErrorInfo, GroupReport, Outcome, SyncKind, SyncReport
from catalog_sync.observability import contract, instruments
from otel_resilience.telemetry.cardinality import OTHER, BoundedNames
from otel_resilience.testing import RecordedTelemetry

REPORT = SyncReport(
    outcome=Outcome.FAILED,
    kind=SyncKind.GROUP,
    scope="Standard",
    correlation_id="ab" * 16,
    version="v1",
    bundles=12,
    quarantined=1,
    groups=[GroupReport("Standard", "stale", 12)],
    started_at="2026-01-01T00:00:00Z",
    duration_s=1.5,
    attempts=7,
    retries=2,
    error=ErrorInfo("read_timeout", "transient", "MEDIUM", "no answer", None, "ab" * 16),
)


QUEUE = instruments.QueueState(waiting=3, wait=4.5, dead_letters=1, workers=2, slots=8, busy=5)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordedTelemetry]:
    monkeypatch.setattr(instruments, "_bounded_group", BoundedNames(instruments.MAX_GROUPS))
    telemetry = RecordedTelemetry()
    with instruments.use_providers(
        tracer_provider=telemetry.tracer_provider,
        meter_provider=telemetry.meter_provider,
        logger_provider=telemetry.logger_provider,
    ):
        yield telemetry
    instruments.set_catalog_age(None)
    instruments.set_queue(None)


def emit_everything() -> None:
    instruments.set_catalog_age(lambda: 1.0)
    instruments.set_queue(lambda: QUEUE)
    with instruments.sync_span("group", "cli"):
        with instruments.group_span("Standard"), instruments.publish_span():
            pass
        instruments.record_sync("group", "FAILED", 1.5, {"Standard": 12}, {("Standard", "bad_price"): 1})
        instruments.emit_sync_finished(REPORT)
    for source in ("fresh", "stale", "snapshot"):
        instruments.count_read(source)


def test_metrics_are_those_of_the_contract(recorded: RecordedTelemetry) -> None:
    emit_everything()
    listed = {metric.name: metric for metric in contract.METRICS}
    points = recorded.points()
    assert {point.metric for point in points} == set(listed)
    for point in points:
        assert set(point.attributes) == set(listed[point.metric].attributes)


def test_spans_are_those_of_the_contract(recorded: RecordedTelemetry) -> None:
    emit_everything()
    listed = {span.name: span for span in signals.spans("catalog")}
    assert {span.name for span in recorded.spans} == set(listed)
    for span in recorded.spans:
        assert set(span.attributes or {}) <= set(listed[span.name].attributes)
        assert span.kind.name == listed[span.name].kind


def test_the_event_of_a_finished_sync_is_that_of_the_contract(recorded: RecordedTelemetry) -> None:
    emit_everything()
    (event,) = recorded.events
    (listed,) = signals.events("catalog")
    record = event.log_record
    assert record.event_name == listed.name
    assert set(record.attributes or {}) == set(listed.attributes)
    assert record.severity_text == "ERROR"
    sync = next(span for span in recorded.spans if span.name == contract.SYNC_SPAN)
    assert record.span_id == sync.context.span_id
    assert sync.status.status_code.name == "ERROR"


def test_a_sync_that_went_partly_well_is_not_an_error_in_the_trace(recorded: RecordedTelemetry) -> None:
    with instruments.sync_span("full", "cli"):
        instruments.emit_sync_finished(dataclasses.replace(REPORT, outcome=Outcome.PARTIAL, error=None))
    assert recorded.spans[0].status.status_code.name == "UNSET"


def test_an_error_that_leaves_a_span_is_classified_there(recorded: RecordedTelemetry) -> None:
    with pytest.raises(ApiTimeoutError), instruments.group_span("Standard"):
        raise ApiTimeoutError("no answer from https://u:hidden@h/")
    (span,) = recorded.spans
    assert (span.attributes or {})["error.type"] == "read_timeout"
    assert "hidden" not in (span.status.description or "")


def test_groups_that_a_supplier_invents_do_not_grow_the_metrics(recorded: RecordedTelemetry) -> None:
    instruments.record_sync("full", "COMPLETE", 1.0, {f"group {number}": 1 for number in range(500)}, {})
    groups = {point.attributes["catalog.group"] for point in recorded.points("catalog.sync.bundles")}
    assert len(groups) == instruments.MAX_GROUPS + 1
    assert OTHER in groups


def test_an_age_or_a_queue_that_is_not_known_does_not_break_the_others(recorded: RecordedTelemetry) -> None:
    instruments.set_catalog_age(lambda: None)
    instruments.count_read("fresh")
    instruments.set_queue(lambda: None)
    assert {point.metric for point in recorded.points()} == {"catalog.reads", "catalog.clock"}
