"""Spans of a run are kept unconverted; their content is redacted when read, and bounded."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer

from catalog_sync.observability.sdk import defer_spans, redacting
from catalog_sync.observability.sdk.redacting import RedactingSpanProcessor
from catalog_sync.observability.traces.deferred import DeferredSpans
from otel_resilience.redaction import register_secret

SECRET = "sk-live-5b7e21c09f"


def traced(spans: DeferredSpans) -> Tracer:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(RedactingSpanProcessor(defer_spans(spans)))
    return provider.get_tracer("test")


def fail(tracer: Tracer, name: str, text: str = "") -> str:
    with tracer.start_as_current_span(name, kind=SpanKind.CLIENT, attributes={"said": text}) as span:
        span.add_event("exception", {"exception.message": text})
        span.set_status(Status(StatusCode.ERROR, text))
        return f"{span.get_span_context().trace_id:032x}"


def test_nothing_is_redacted_until_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    redacted: list[str] = []

    def redact(span: ReadableSpan) -> ReadableSpan:
        redacted.append(span.name)
        return span

    monkeypatch.setattr(redacting, "redact_span", redact)
    spans = DeferredSpans()
    tracer = traced(spans)
    trace_id, other = fail(tracer, "first"), fail(tracer, "second")
    assert redacted == []
    assert [span.name for span in spans.get(trace_id)] == ["first"]
    assert redacted == ["first"]
    assert [span.name for span in spans.get(other)] == ["second"]


def test_no_secret_comes_out_that_was_known_by_then() -> None:
    spans = DeferredSpans()
    trace_id = fail(traced(spans), "GET", f"refused {SECRET}")
    register_secret(SECRET)
    [span] = spans.get(trace_id)
    assert SECRET not in repr(span.to_json())
    assert "refused" in str(span.message)
    assert (span.attributes["said"], span.events[0].attributes["exception.message"]) == (span.message, span.message)


def test_a_long_run_keeps_a_bounded_number_and_later_errors_before_others() -> None:
    spans = DeferredSpans(max_spans=4)
    tracer = traced(spans)
    with tracer.start_as_current_span("sync") as sync:
        for _ in range(6):
            tracer.start_span("page").end()
        for _ in range(6):
            fail(tracer, "error")
        trace_id = f"{sync.get_span_context().trace_id:032x}"
    names = [span.name for span in spans.get(trace_id)]
    assert (names.count("page"), names.count("error")) == (4, 2)
