"""Tail sampling: every error, every slow trace, every sync, every alert, a share of the rest; always whole traces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from catalog_sync.observability import contract
from otel_resilience.telemetry import contract as library_contract
from support.cli import wait_until
from support.collector import Collector
from support.otlp_client import ERROR, Sender, new_trace, span
from support.otlp_sink import OtlpSink

OTHER = 400
SHARE = 0.10
WAIT = 6.0
"""Seconds of OTELCOL_DECISION_WAIT in these tests: what is kept at once does not wait for them."""


@pytest.fixture(scope="module")
def collector(folder: Path, backends: dict[str, str]) -> Iterator[Collector]:
    with Collector("single", folder / "single", OTELCOL_DECISION_WAIT=f"{WAIT:g}s", **backends) as running:
        yield running


def spans_of(tempo: OtlpSink, trace_id: str) -> int:
    return sum(s.trace_id == trace_id for s in tempo.spans)


RECEIVED = "otelcol_processor_tail_sampling_new_trace_id_received"
DECIDED = "otelcol_processor_tail_sampling_global_count_traces_sampled"


@contextmanager
def decided(collector: Collector, number: int) -> Iterator[None]:
    """Waits until of so many new traces, sent within the block, none is left to be decided about."""
    before = collector.own_metric(RECEIVED)
    yield
    wait_until(lambda: collector.own_metric(DECIDED) == collector.own_metric(RECEIVED) >= before + number)


def kept_at_once(tempo: OtlpSink, trace_id: str, spans: int) -> None:
    tempo.wait_for(lambda sink: spans_of(sink, trace_id) == spans, timeout=WAIT)


def test_an_error_keeps_its_trace_whole_and_at_once(send: Sender, tempo: OtlpSink) -> None:
    trace_id = new_trace()
    send.spans(span("GET /bundles", trace_id), span("redis read", trace_id))
    send.spans(span("attempt", trace_id, status=ERROR), resource={"service.name": "other"})
    kept_at_once(tempo, trace_id, 3)
    send.spans(span("late", trace_id))
    kept_at_once(tempo, trace_id, 4)


def test_a_slow_trace_is_kept(send: Sender, tempo: OtlpSink) -> None:
    trace_id = new_trace()
    send.spans(span("GET /bundles", trace_id, seconds=5.1))
    kept_at_once(tempo, trace_id, 1)


def test_a_trace_with_a_sync_is_kept_whichever_service_made_it(send: Sender, tempo: OtlpSink) -> None:
    trace_id = new_trace()
    send.spans(span(contract.SYNC_SPAN, trace_id), resource={"service.name": "another-program"})
    kept_at_once(tempo, trace_id, 1)


def test_a_sync_is_kept_from_its_first_span_on(send: Sender, tempo: OtlpSink) -> None:
    """Its own span ends last, minutes later: what runs as a job is known by its service."""
    for service in (contract.SERVICE_SYNC, contract.SERVICE_WORKER):
        trace_id = new_trace()
        send.spans(span("attempt", trace_id), resource={"service.name": service})
        send.spans(span("GET /v2.5/catalogue", trace_id), resource={"service.name": contract.SERVICE_SIMULATOR})
        kept_at_once(tempo, trace_id, 2)


def test_the_delivery_of_an_alert_is_kept(send: Sender, tempo: OtlpSink) -> None:
    trace_id = new_trace()
    send.spans(span(library_contract.DELIVERY_SPAN, trace_id))
    kept_at_once(tempo, trace_id, 1)


@pytest.mark.slow
def test_a_share_of_the_rest_is_kept_whole(collector: Collector, send: Sender, tempo: OtlpSink) -> None:
    traces = [new_trace() for _ in range(OTHER)]
    before = collector.own_metric(DECIDED, sampled="true")
    with decided(collector, OTHER):
        send.spans(*(span("GET /bundles", trace_id) for trace_id in traces))
        send.spans(*(span("redis read", trace_id) for trace_id in traces))
    number = collector.own_metric(DECIDED, sampled="true") - before
    tempo.wait_for(lambda sink: sum(spans_of(sink, trace_id) for trace_id in traces) >= 2 * number)
    counts = {trace_id: spans_of(tempo, trace_id) for trace_id in traces}
    kept = [trace_id for trace_id, count in counts.items() if count]
    assert {counts[trace_id] for trace_id in kept} == {2}
    # Four standard deviations of a binomial distribution.
    assert abs(len(kept) - OTHER * SHARE) < 4 * (OTHER * SHARE * (1 - SHARE)) ** 0.5


@pytest.mark.slow
def test_an_error_is_kept_even_if_its_trace_was_dropped_before(
    collector: Collector, send: Sender, tempo: OtlpSink
) -> None:
    """What was dropped is gone; the error and what follows it are there."""
    traces = [new_trace() for _ in range(20)]
    with decided(collector, len(traces)):
        send.spans(*(span("GET /bundles", trace_id) for trace_id in traces))
    send.spans(*(span("attempt", trace_id, status=ERROR) for trace_id in traces))
    tempo.wait_for(lambda sink: all(spans_of(sink, trace_id) for trace_id in traces), timeout=WAIT)
    assert sum(spans_of(tempo, trace_id) == 1 for trace_id in traces) > len(traces) / 2


def test_what_was_kept_is_counted_by_policy(collector: Collector, send: Sender, tempo: OtlpSink) -> None:
    trace_id = new_trace()
    send.spans(span("x", trace_id, status=ERROR))
    kept_at_once(tempo, trace_id, 1)
    own = collector.own_metrics()
    assert own["otelcol_processor_tail_sampling_count_traces_sampled"] >= 1
    assert own["otelcol_processor_tail_sampling_sampling_policy_evaluation_error"] == 0
