"""Traces: failed ones, and the spans of one as a list, with the failed attempt first."""

from __future__ import annotations

from collections.abc import Sequence

from catalog_sync.api.pages.html import Child, Html, h
from catalog_sync.api.pages.parts import dots, many, moment, path, pill, rows
from catalog_sync.observability import contract
from catalog_sync.observability.traces import SpanRecord, TraceSummary, tree
from otel_resilience.telemetry import contract as library


def trace_list(found: Sequence[TraceSummary]) -> Html:
    return rows([_summary(each) for each in found], "No failed trace is kept.", label="Failed traces")


def _summary(each: TraceSummary) -> Child:
    return (
        pill("failed"),
        h("a", each.name, href=path("traces", each.trace_id), class_="what"),
        h("small", each.trace_id, class_="id"),
        h("small", dots(many(each.spans, "span"), many(each.errors, "error"), moment(each.start))),
    )


def evidence(trace_id: str, spans: Sequence[SpanRecord], error_type: str | None) -> Html:
    """Which attempt failed and why, and the tree of all spans, which the script shows as a waterfall."""
    if not spans:
        return h("p", "Its trace is not kept, or not any more.", class_="quiet")
    tops = tree.roots(spans)
    failed = tree.failed_attempt(tops, error_type)
    lines = tree.lines(tops, None if failed is None else failed.span_id)
    return h(
        "div",
        _verdict(failed, {span.span_id: span for span in spans}),
        h("ul", (_line(line) for line in lines), class_="tree"),
        id=f"trace-{trace_id}",
        class_="evidence",
        data_trace=trace_id,
    )


def _verdict(failed: SpanRecord | None, spans: dict[str, SpanRecord]) -> Html:
    if failed is None:
        return h("p", "No call failed in the end.", class_="verdict fine")
    call = spans.get(failed.parent_id or "", failed)
    given = {**call.attributes, **failed.attributes}
    number = given.get(library.ATTEMPT_NUMBER)
    above, group = call, None
    while group is None and above is not None:
        group, above = above.attributes.get(contract.GROUP), spans.get(above.parent_id or "")  # type: ignore[assignment]
    kind = ", ".join(str(given[name]) for name in (library.ERROR_CLASS, library.ERROR_SEVERITY) if name in given)
    return h(
        "p",
        h("strong", f"{f'{group}: ' if group else ''}“{call.name}” failed", f" at attempt {number}" if number else ""),
        ": ",
        h("strong", str(given.get(library.ERROR_TYPE, "error"))),
        f" ({kind})" if kind else None,
        h("small", (failed.message or call.message or "").split("\n")[0]) if failed.message or call.message else None,
        class_="verdict",
    )


def _line(line: tree.Line) -> Html:
    text: Child = h("strong", line.text) if line.marked else line.text
    below = h("ul", (_line(each) for each in line.below)) if line.below else None
    tone = "cause" if line.marked else "failed" if line.failed else None
    return h("li", h("span", text, class_=tone), below)
