"""Fast successful calls to Redis leave no spans; failed, retried or slow ones keep all of theirs."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, Tracer, set_span_in_context
from opentelemetry.trace.status import Status as SpanStatus

from catalog_sync.observability.sdk.corrections import answered_as_expected
from catalog_sync.observability.sdk.quick_calls import MAX_OPEN, QuickCalls
from catalog_sync.observability.sdk.redacting import redact_span

CALL = {"resilience.dependency": "redis", "resilience.operation": "read"}
SECOND = 1_000_000_000


class Traced:
    """Creates spans at given times, and shows what is passed on."""

    def __init__(self, from_s: float = 0.1) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        self.processor = QuickCalls(SimpleSpanProcessor(self.exporter), "redis", from_s)
        provider.add_span_processor(self.processor)
        self.tracer: Tracer = provider.get_tracer("test")

    def call(
        self,
        *,
        seconds: float = 0.01,
        outcome: str = "ok",
        attempts: int = 1,
        client_fails: bool = False,
        dependency: str = "redis",
    ) -> None:
        call = self.tracer.start_span(
            f"{dependency} read", attributes={**CALL, "resilience.dependency": dependency}, start_time=0
        )
        for number in range(attempts):
            attempt = self.tracer.start_span(
                "attempt",
                set_span_in_context(call),
                attributes={"resilience.dependency": dependency, "resilience.attempt.number": number + 1},
                start_time=0,
            )
            linked = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1))
            client = self.tracer.start_span(
                "GET", set_span_in_context(attempt), kind=SpanKind.CLIENT, links=[Link(linked)], start_time=0
            )
            if client_fails:
                client.set_status(Status(StatusCode.ERROR))
            client.end(int(seconds * SECOND))
            attempt.end(int(seconds * SECOND))
        call.set_attributes({"resilience.outcome": outcome, "resilience.attempts": attempts})
        call.end(int(seconds * SECOND))

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.exporter.get_finished_spans()]


def test_a_quick_call_leaves_nothing() -> None:
    traced = Traced()
    traced.call()
    assert traced.names == []


WORTH_IT = [
    ({"seconds": 0.1}, 1),
    ({"outcome": "failed"}, 1),
    ({"outcome": "cancelled"}, 1),
    ({"outcome": "ok_after_retry", "attempts": 3}, 3),
    ({"client_fails": True}, 1),
]


@pytest.mark.parametrize(("how", "attempts"), WORTH_IT)
def test_any_other_call_leaves_all_its_spans_with_their_links(how: dict[str, object], attempts: int) -> None:
    traced = Traced()
    traced.call(**how)  # type: ignore[arg-type]
    assert traced.names == ["GET", "attempt"] * attempts + ["redis read"]
    spans = traced.exporter.get_finished_spans()
    assert all(span.links for span in spans if span.name == "GET")
    parents = {span.context.span_id for span in spans}
    assert all(span.parent is None or span.parent.span_id in parents for span in spans)


def test_with_0_every_call_leaves_its_spans() -> None:
    traced = Traced(from_s=0.0)
    traced.call()
    assert traced.names == ["GET", "attempt", "redis read"]


def test_calls_to_others_and_spans_outside_calls_are_handed_on() -> None:
    traced = Traced()
    traced.call(dependency="esim-go")
    with traced.tracer.start_as_current_span("catalog.sync"):
        traced.call()
    assert traced.names == ["GET", "attempt", "esim-go read", "catalog.sync"]


def test_calls_that_overlap_are_judged_each_by_itself() -> None:
    traced = Traced()
    one = traced.tracer.start_span("redis read", attributes=CALL)
    other = traced.tracer.start_span("redis write", attributes=CALL)
    below = traced.tracer.start_span("of the other", set_span_in_context(other))
    one.set_attributes({"resilience.outcome": "ok", "resilience.attempts": 1})
    one.end()
    below.end()
    other.set_attributes({"resilience.outcome": "failed", "resilience.attempts": 1})
    other.end()
    assert traced.names == ["of the other", "redis write"]


def test_calls_that_never_end_take_bounded_memory_and_do_not_stop_it() -> None:
    traced = Traced()
    for _ in range(MAX_OPEN + 50):
        traced.tracer.start_span("redis read", attributes=CALL)
    assert len(traced.processor._call_of) <= MAX_OPEN
    traced.call()
    assert traced.names == []


def _lost_script() -> ReadableSpan:
    raised = Event("exception", {"exception.type": "redis.exceptions.NoScriptError", "exception.message": "NOSCRIPT"})
    attributes = {"db.system.name": "redis", "error.type": "redis.exceptions.NoScriptError"}
    failed = SpanStatus(StatusCode.ERROR, "NoScriptError: No matching script")
    return ReadableSpan("commit", attributes=attributes, events=[raised], status=failed, kind=SpanKind.CLIENT)


def test_a_script_that_redis_has_lost_is_not_an_error() -> None:
    span = redact_span(_lost_script())
    assert span.status.status_code is StatusCode.UNSET
    assert not span.events
    assert dict(span.attributes or {}) == {"db.system.name": "redis"}


def test_another_error_of_redis_stays_one() -> None:
    raised = Event("exception", {"exception.type": "redis.exceptions.ReadOnlyError"})
    span = ReadableSpan(
        "commit", attributes={"db.system.name": "redis"}, events=[raised], status=SpanStatus(StatusCode.ERROR)
    )
    assert not answered_as_expected(span)
    assert redact_span(span).status.status_code is StatusCode.ERROR
