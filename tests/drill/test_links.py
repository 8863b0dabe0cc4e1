"""The links of alerts about a dependency while its circuit is open, on spans of real calls."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from drill.judge import Expectation, Message, Played, Reported
from grafana.generate.logql import newest
from grafana.generate.rules import all_rules
from grafana.generate.settings import Settings
from opentelemetry.sdk.trace import ReadableSpan

from drill import play, stores
from otel_resilience import CircuitBreakerConfig, CircuitOpenError
from otel_resilience.testing import FakeClock, RecordedTelemetry
from support.otlp_sink import SinkSpan
from support.resilience import Script, TransientFault, make_policy

RULES = {rule.name: rule for rule in all_rules(Settings())}
ABOUT_ANY_FAILURE = [
    "CircuitBreakerOpen", "StoreFailing", "RetryBudgetExhausted", "ErrorBudgetBurnFast", "ErrorBudgetBurn",
    "ErrorBudgetBurnSlow",
]  # fmt: skip
"""Rules about a dependency that do not ask for one kind of error."""


def search(name: str) -> str:
    rule = RULES[name]
    assert rule.trace is not None
    return newest(rule.trace.traceql.replace("{dependency}", "supplier"))


def stored(span: ReadableSpan) -> SinkSpan:
    """The span as stored in Tempo."""
    assert span.start_time is not None
    assert span.end_time is not None
    return SinkSpan(
        name=span.name,
        kind="INTERNAL",
        trace_id=format(span.context.trace_id, "032x"),
        span_id=format(span.context.span_id, "016x"),
        parent_span_id="" if span.parent is None else format(span.parent.span_id, "016x"),
        attributes=dict(span.attributes or {}),
        status=span.status.status_code.name,
        status_message=span.status.description or "",
        events=[],
        resource={},
        scope="otel_resilience",
        start=span.start_time / 1e9,
        end=span.end_time / 1e9,
    )


def of_an_open_circuit() -> tuple[str, list[SinkSpan]]:
    """The trace of a call whose attempts open the circuit, and the spans of it and of three calls that follow."""
    clock = FakeClock()
    policy = make_policy(clock, breaker=CircuitBreakerConfig(consecutive_failures=2))
    with RecordedTelemetry().recording() as recorded:
        for _ in range(4):
            with contextlib.suppress(CircuitOpenError):
                policy.execute(Script(TransientFault()).play)
        spans = [stored(span) for span in recorded.spans]
    calls = [span for span in spans if span.name != "attempt"]
    assert {call.attributes["error.type"] for call in calls} == {"circuit_open"}
    (failed,) = {span.trace_id for span in spans if span.name == "attempt"}
    return failed, spans


@pytest.mark.parametrize("name", ABOUT_ANY_FAILURE)
def test_the_first_result_is_the_trace_of_the_failed_attempts_though_every_call_was_rejected_in_the_end(
    name: str,
) -> None:
    failed, spans = of_an_open_circuit()
    assert stores.search(search(name), spans, 0.0, 1e12) == [failed]


def test_it_is_found_in_whatever_order_and_pieces_an_outage_of_the_store_lets_it_arrive() -> None:
    failed, spans = of_an_open_circuit()
    of_it = [span for span in spans if span.trace_id == failed]
    others = [span for span in spans if span.trace_id != failed]
    for first in itertools.permutations(of_it):
        for arrived in ([*others, *first], [*first[:1], *others, *first[1:]]):
            assert stores.search(search("CircuitBreakerOpen"), arrived, 0.0, 1e12) == [failed]


def test_the_attempt_that_a_retry_cured_is_found_too() -> None:
    with RecordedTelemetry().recording() as recorded:
        make_policy(FakeClock()).execute(Script(TransientFault(), "value").play)
        spans = [stored(span) for span in recorded.spans]
    assert stores.search(search("StoreFailing"), spans, 0.0, 1e12) == [spans[0].trace_id]


OUTAGE = Expectation("outage", "", frozenset({"CircuitBreakerOpen"}), shows=frozenset({"503", "circuit_open"}))
PLAYED = Played(OUTAGE, 0.0, 0.0, 10.0, 1e12)
LOGQL = '{service_name=~"catalog-.+"} | event_name="resilience.attempt.failed"'


def shown(traceql: str, spans: Iterable[SinkSpan], trace_of_record: str) -> bool | None:
    """The drill's verdict on the links of an alert."""
    record = SimpleNamespace(
        event_name="resilience.attempt.failed",
        attributes={},
        trace_id=trace_of_record,
        resource={"service.name": "catalog-sync"},
        time=5.0,
    )
    world: Any = SimpleNamespace(tempo=SimpleNamespace(spans=list(spans)), loki=SimpleNamespace(logs=[record]))
    alert = Reported("CircuitBreakerOpen", firing=True, traceql=traceql, logql=LOGQL)
    found = play.traces(world, PLAYED, [Message(5.0, "page", (alert,))])
    return found["rule CircuitBreakerOpen"]


def test_the_drill_takes_a_trace_of_rejected_calls_only_for_no_proof_of_failed_attempts() -> None:
    failed, spans = of_an_open_circuit()
    rejected = next(span.trace_id for span in spans if span.trace_id != failed)
    assert shown(search("CircuitBreakerOpen"), spans, failed) is True
    assert shown(search("CircuitBreakerOpen"), spans, rejected) is False
    assert shown(search("CircuitBreakerOpen"), [span for span in spans if span.trace_id != failed], failed) is False


def test_where_the_search_is_not_for_attempts_a_rejected_call_is_a_failure_too() -> None:
    _, spans = of_an_open_circuit()
    name, rejected = spans[-1].name, spans[-1].trace_id
    assert shown(f'{{ name = "{name}" && status = error }} with (most_recent=true)', spans, rejected) is True
