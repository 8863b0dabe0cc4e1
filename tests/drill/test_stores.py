"""The stand-ins for Loki and Tempo, checked with every query that our rules make."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from grafana.generate.logql import newest, where, with_trace
from grafana.generate.rules import all_rules
from grafana.generate.settings import Settings

from catalog_sync.observability import contract as application
from drill import stores
from otel_resilience.telemetry import contract

OF_SYNC = {"service.name": application.SERVICE_SYNC}
FAILED_ATTEMPT = contract.EVENT_ATTEMPT_FAILED
DENIED = where(contract.ERROR_TYPE, "401|403", "=~")
QUERY = with_trace(FAILED_ATTEMPT, where(contract.DEPENDENCY, "esim-go"), DENIED)


@dataclasses.dataclass
class Log:
    trace_id: str
    attributes: dict[str, Any]
    event_name: str = FAILED_ATTEMPT
    time: float = 100.0
    resource: dict[str, Any] = dataclasses.field(default_factory=lambda: OF_SYNC)


@dataclasses.dataclass
class Span:
    trace_id: str
    name: str = "attempt"
    attributes: dict[str, Any] = dataclasses.field(default_factory=dict)
    status: str = "UNSET"
    start: float = 100.0
    end: float = 101.0


def denied(trace_id: str, dependency: str = "esim-go", error_type: str = "403", **more: Any) -> Log:
    return Log(trace_id, {contract.DEPENDENCY: dependency, contract.ERROR_TYPE: error_type}, **more)


def found(*logs: Log, query: str = QUERY) -> list[str]:
    return [log.trace_id for log in stores.records(query, logs, 0.0, 200.0)]


@pytest.mark.parametrize("rule", [r for r in all_rules(Settings()) if r.trace], ids=lambda rule: rule.name)
def test_every_query_of_a_rule_is_understood(rule: Any) -> None:
    assert stores.records(rule.trace.logql, [denied("a")], 0, 1) == []
    assert stores.search(newest(rule.trace.traceql), [Span("a")], 0, 200) in ([], ["a"])


def test_of_several_failures_the_newest_comes_first() -> None:
    assert found(denied("a", time=10), denied("c", time=30), denied("b", time=20), denied("b", time=5)) == [
        "c", "b", "a", "b",
    ]  # fmt: skip
    spans = [Span("a", start=10, status="ERROR"), Span("c", start=30, status="ERROR"), Span("b", start=20)]
    assert stores.search(newest("{ status = error }"), spans, 0, 200) == ["c", "a"]


def test_a_trace_is_as_old_as_its_first_span_whichever_was_found_and_whenever_it_arrived() -> None:
    late = [Span("long", start=50, status="ERROR"), Span("long", start=10)]
    assert stores.search(newest("{ status = error }"), [Span("short", start=40, status="ERROR"), *late], 0, 200) == [
        "short", "long",
    ]  # fmt: skip


def test_a_record_without_a_trace_is_found_unless_the_query_leaves_it_out() -> None:
    """As those of shared protection, which no call of this process has caused."""
    query = QUERY.removesuffix(' | trace_id!=""')
    assert found(denied("a", time=10), denied("", time=20), query=query) == ["", "a"]
    assert found(denied("a", time=10), denied("", time=20)) == ["a"]


@pytest.mark.parametrize(
    "log",
    [
        denied("a", error_type="500"),
        denied("a", event_name="something.else"),
        denied("a", time=300.0),
        denied("", time=100.0),
        denied("a", resource={"service.name": "somebody-else"}),
    ],
    ids=["another error", "another event", "another time", "no trace", "another service"],
)
def test_what_the_query_does_not_ask_for_is_not_found(log: Log) -> None:
    assert found(log) == []
    assert found(log, denied("b")) == ["b"]


def test_the_trace_of_another_dependency_does_not_join_the_alert() -> None:
    assert found(denied("a", dependency="redis")) == []


def test_a_search_finds_the_traces_of_spans_for_which_all_of_it_holds() -> None:
    query = '{ span.resilience.dependency = "esim-go" && status = error && span.error.type =~ "401|403" }'
    right = {"resilience.dependency": "esim-go", "error.type": "403"}
    spans = [
        Span("a", attributes=right, status="ERROR"),
        Span("b", attributes=right),
        Span("c", attributes=right | {"error.type": "4030"}, status="ERROR"),
        Span("d", attributes=right, status="ERROR", start=900.0),
    ]
    assert stores.search(query, spans, 0.0, 200.0) == ["a"]


def test_a_search_for_slow_spans_finds_those_that_were_longer() -> None:
    query = '{ name = "attempt" && duration > 2.5s }'
    assert stores.search(query, [Span("a", end=102.0), Span("b", end=103.0)], 0, 200) == ["b"]


@pytest.mark.parametrize("query", ["{ rootName = x }", "name = x", "{ duration < 5s } | count() > 1"])
def test_a_search_that_is_not_understood_is_refused(query: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        stores.search(query, [Span("a")], 0, 1)


def test_a_log_query_that_is_not_understood_is_refused() -> None:
    with pytest.raises(ValueError, match="not a search"):
        stores.records('{service_name="x"}', [], 0, 1)
    with pytest.raises(ValueError, match="not a label filter"):
        stores.records('{service_name="x"} | json', [denied("a")], 0, 1)


def test_of_a_trace_its_failures_are_reported() -> None:
    spans = [
        Span("a", attributes={"error.type": "503"}, status="ERROR"),
        Span("a", attributes={"error.type": "429"}),
        Span("b", attributes={"error.type": "500"}, status="ERROR"),
    ]
    assert stores.failures("a", spans) == {"503"}


def test_of_a_trace_the_failed_spans_of_one_name_are_reported() -> None:
    spans = [
        Span("a", attributes={"error.type": "503"}, status="ERROR"),
        Span("a", "esim-go list", {"error.type": "circuit_open"}, status="ERROR"),
    ]
    assert stores.failures("a", spans, "attempt") == {"503"}
