"""The demo's receiver, store and figures, fed by the real SDK over real OTLP."""

from __future__ import annotations

import gzip
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from tools.telemetry import signals

from catalog_sync.demo import figures
from catalog_sync.demo.receiver import running_receiver
from catalog_sync.demo.trace_store import Point, Series, Span, TelemetryStore, increase
from otel_resilience import CircuitBreakerConfig, Policy, RetryConfig
from otel_resilience.telemetry import contract
from otel_resilience.telemetry.listener import use_providers


@pytest.fixture
def received() -> Iterator[tuple[TelemetryStore, str]]:
    store = TelemetryStore()
    with running_receiver(store) as endpoint:
        yield store, endpoint


def test_a_trace_keeps_the_spans_of_all_services(received: tuple[TelemetryStore, str]) -> None:
    store, endpoint = received
    ours, theirs = (TracerProvider(resource=Resource({"service.name": name})) for name in ("ours", "theirs"))
    for provider in (ours, theirs):
        provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{endpoint}/v1/traces")))
    with (
        ours.get_tracer("t").start_as_current_span("GET", kind=SpanKind.CLIENT, attributes={"n": 1, "x": True}) as span,
        theirs.get_tracer("t").start_as_current_span("GET /x", kind=SpanKind.SERVER) as inner,
    ):
        inner.set_status(Status(StatusCode.ERROR))
    trace = store.trace(f"{span.get_span_context().trace_id:032x}")
    assert [(each.service, each.kind, each.failed) for each in trace] == [
        ("ours", "CLIENT", False),
        ("theirs", "SERVER", True),
    ]
    assert trace[1].parent_id == trace[0].span_id
    assert trace[0].attributes == {"n": 1, "x": True}
    ours.shutdown()
    theirs.shutdown()


def test_figures_come_from_the_metrics_of_the_library(received: tuple[TelemetryStore, str]) -> None:
    store, endpoint = received
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{endpoint}/v1/metrics"), export_interval_millis=60_000)
    meters = MeterProvider(metric_readers=[reader], resource=Resource({"service.name": "ours"}))
    policy = Policy("figures", retry=RetryConfig(max_attempts=2, base_delay=0), breaker=CircuitBreakerConfig())
    failures = iter([TimeoutError(), None, ConnectionResetError(), ConnectionResetError(), None])

    def operation() -> None:
        failure = next(failures)
        if failure is not None:
            raise failure

    before = figures.baseline(store)
    with use_providers(meter_provider=meters):
        policy.execute(operation, name="call")
        with pytest.raises(ConnectionResetError):
            policy.execute(operation, name="call", idempotent=True)
        policy.execute(operation, name="call")
    meters.force_flush()
    assert figures.retries(store, before, "figures") == figures.Retries(needed=2, succeeded=1)
    assert sum(each.count for each in figures.errors(store, before, "figures")) == 3
    assert figures.errors(store, figures.baseline(store), "figures") == []
    assert figures.errors(store, before, "another") == []
    meters.shutdown()


def test_what_is_not_otlp_is_refused(received: tuple[TelemetryStore, str]) -> None:
    store, endpoint = received
    for path, body, encoding in (
        ("traces", b"\xff\xff nonsense", ""),
        ("traces", b"no gzip", "gzip"),
        ("traces", gzip.compress(b"\xff\xff"), "gzip"),
        ("profiles", b"", ""),
    ):
        request = urllib.request.Request(f"{endpoint}/v1/{path}", body, {"Content-Encoding": encoding})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request)
        assert refused.value.code == 400
        refused.value.close()
    assert store.events("any", since=0, until=time.time()) == []


def span(span_id: str, parent: str | None, start: float = 0.0, end: float = 1.0, **attributes: object) -> Span:
    given = {key.replace("_", "."): value for key, value in attributes.items()}
    return Span("t", span_id, parent, span_id, "INTERNAL", "ours", start, end, "ok", None, given)  # type: ignore[arg-type]


def call(span_id: str, outcome: str, attempts: int, end: float) -> Span:
    return span(
        span_id,
        "root",
        end=end,
        resilience_dependency="esim-go",
        resilience_outcome=outcome,
        resilience_attempts=attempts,
    )


def test_the_worst_call_is_shown_with_what_is_above_and_inside() -> None:
    spans = [
        span("root", None),
        call("slow", "ok", 1, 9.0),
        call("repeated", "ok_after_retry", 3, 2.0),
        call("rejected", "rejected", 0, 1.0),
        span("attempt", "repeated"),
    ]
    path = figures.worst_call(spans, "esim-go")
    assert [each.span_id for each in path] == ["root", "repeated"]
    tree = figures.tree(path, spans)
    assert tree.span.span_id == "root"
    assert [child.span.span_id for child in tree.children[0].children] == ["attempt"]
    assert figures.worst_call(spans, "redis") == []


def test_growth_of_cumulative_series() -> None:
    old: Series = {(("a", 1),): Point(2.0, (1, 1), (1.0,)), (("a", 2),): Point(5.0)}
    new: Series = {(("a", 1),): Point(5.0, (1, 4), (1.0,)), (("a", 2),): Point(5.0), (("a", 3),): Point(1.0)}
    assert increase(new, old) == {(("a", 1),): Point(3.0, (0, 3), (1.0,)), (("a", 3),): Point(1.0)}


def test_names_of_the_contract_are_those_that_are_read() -> None:
    assert contract.EVENT_STATE_CHANGED in {event.name for event in signals.events("resilience")}
