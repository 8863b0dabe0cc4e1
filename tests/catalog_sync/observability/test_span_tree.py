"""The tree of a trace shows final failures and summarises the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from catalog_sync.observability.traces import SpanRecord
from catalog_sync.observability.traces import tree as span_tree
from catalog_sync.observability.traces.tree import MOST_FAILED, Line


def span(number: int, parent: int | None, name: str, *, error: str | None = None, **changes: Any) -> SpanRecord:
    attributes = changes.pop("attributes", {}) | ({} if error is None else {"error.type": error})
    values: dict[str, Any] = {
        "trace_id": f"{1:032x}", "span_id": f"{number:016x}", "parent_id": None if parent is None else f"{parent:016x}",
        "name": name, "kind": "INTERNAL", "service": "catalog-sync", "start": float(number), "end": number + 0.25,
        "status": "unset" if error is None else "error", "message": None, "attributes": attributes,
    }  # fmt: skip
    return SpanRecord(**{**values, **changes})


def call(number: int, parent: int, *attempts: str | None) -> list[SpanRecord]:
    """A call and its attempts, given by their errors."""
    last = attempts[-1] if attempts else "circuit_open"
    found = [span(number, parent, "esim-go list", error=last)]
    for count, error in enumerate(attempts, 1):
        given = {"resilience.attempt.number": count, "resilience.retry.delay": 0.5 * (count - 1)}
        found.append(span(number + count, number, "attempt", error=error, attributes=given))
    return found


def flat(lines: Sequence[Line]) -> Iterator[Line]:
    for line in lines:
        yield line
        yield from flat(line.below)


def test_the_last_attempt_of_what_failed_for_good_is_the_one() -> None:
    spans = [span(1, None, "catalog.sync", error="503"), *call(10, 1, "429", None), *call(20, 1, "500", "503")]
    tops = span_tree.roots(spans)
    failed = span_tree.failed_attempt(tops, "503")
    assert failed is not None
    assert failed.span_id == f"{22:016x}"
    shown = list(flat(span_tree.lines(tops, failed.span_id)))
    assert [line.text for line in shown if line.marked] == ["attempt 2 · after a wait of 500 ms · 250 ms · 503"]
    assert not any("429" in line.text for line in shown)  # a retry cured it


def test_where_nothing_was_sent_the_refused_call_is_the_one() -> None:
    tops = span_tree.roots([span(1, None, "catalog.sync", error="circuit_open"), *call(10, 1)])
    failed = span_tree.failed_attempt(tops, "circuit_open")
    assert failed is not None
    assert failed.span_id == f"{10:016x}"
    assert span_tree.failed_attempt(span_tree.roots([span(1, None, "catalog.sync")]), None) is None


def test_many_failures_are_counted_and_the_marked_one_is_shown() -> None:
    spans = [span(1, None, "catalog.sync", error="503")]
    for number in range(20):
        spans += call(100 * (number + 1), 1, "503")
    tops = span_tree.roots(spans)
    failed = span_tree.failed_attempt(tops, "503")
    assert failed is not None
    shown = span_tree.lines(tops, failed.span_id)[0].below
    assert len(shown) == MOST_FAILED + 2
    assert shown[-1].text == f"{20 - MOST_FAILED - 1} more with errors"
    assert any(line.marked for line in flat(shown))


def test_spans_of_a_process_that_did_not_keep_its_own_are_roots() -> None:
    tops = span_tree.roots([span(5, 4, "orphan"), span(6, 5, "child"), span(7, 7, "its own parent")])
    assert [top.span.name for top in tops] == ["orphan", "its own parent"]
