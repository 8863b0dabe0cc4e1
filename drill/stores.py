"""Stand-ins for Tempo and Loki: they hold what the Collector exports, and answer the queries that our rules make.

Only the forms that :mod:`grafana.generate.logql` writes are understood; another one raises ``ValueError``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

_FILTER: Final = re.compile(r'^(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"$')
_SPAN: Final = re.compile(r'^(name|span\.[\w.]+)\s*(=~|!~|!=|=)\s*"([^"]*)"$')
_NEWEST_FIRST: Final = " with (most_recent=true)"
_DURATION: Final = re.compile(r"^duration > (\d+(?:\.\d+)?)s$")


class Log(Protocol):
    """A decoded log record."""

    @property
    def event_name(self) -> str: ...
    @property
    def attributes(self) -> dict[str, Any]: ...
    @property
    def trace_id(self) -> str: ...
    @property
    def resource(self) -> dict[str, Any]: ...
    @property
    def time(self) -> float: ...


class Span(Protocol):
    """A decoded span."""

    @property
    def name(self) -> str: ...
    @property
    def trace_id(self) -> str: ...
    @property
    def attributes(self) -> dict[str, Any]: ...
    @property
    def status(self) -> str: ...
    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...


def records(query: str, logs: Sequence[Log], since: float, until: float) -> list[Log]:
    """The records of this time that a LogQL search of an alert finds, the newest first, as Explore shows them.

    Nothing is left out that the query does not leave out: a record without a trace is a row that leads nowhere.
    """
    stream, *filters = query.split(" | ")
    if not (stream.startswith("{") and stream.endswith("}") and filters):
        raise ValueError(f"not a search that an alert links to: {query}")
    accepts = [_label_filter(part) for part in (*_inside(stream), *filters)]
    found = [log for log in logs if since <= log.time <= until and all(accept(_labels(log)) for accept in accepts)]
    return sorted(found, key=lambda log: log.time, reverse=True)


def search(query: str, spans: Sequence[Span], since: float, until: float) -> list[str]:
    """The traces with a span of this time that a TraceQL search finds; the newest first if it asks for that.

    As Tempo has it, all conditions hold for one and the same span, and a trace is as old as its first span, whenever
    that arrived and whichever span was found.
    """
    conditions = query.strip().removesuffix(_NEWEST_FIRST)
    if not (conditions.startswith("{") and conditions.endswith("}")):
        raise ValueError(f"not a search of spans: {query}")
    accepts = [_span_filter(part.strip()) for part in conditions[1:-1].split("&&")]
    found = [span for span in spans if since <= span.start <= until and all(accept(span) for accept in accepts)]
    traces = list(dict.fromkeys(span.trace_id for span in found))
    if query.strip().endswith(_NEWEST_FIRST):
        began: dict[str, float] = {}
        for span in spans:
            began[span.trace_id] = min(span.start, began.get(span.trace_id, span.start))
        traces.sort(key=lambda trace: began[trace], reverse=True)
    return traces


def failures(trace_id: str, spans: Iterable[Span], name: str | None = None) -> set[str]:
    """The ``error.type`` of every failed span of a trace, or of those with this name."""
    return {
        str(span.attributes.get("error.type", ""))
        for span in spans
        if span.trace_id == trace_id and span.status == "ERROR" and name in {None, span.name}
    }


def slowest(trace_id: str, spans: Iterable[Span]) -> float:
    """Seconds of the longest ``attempt`` of a trace."""
    return max((s.end - s.start for s in spans if s.trace_id == trace_id and s.name == "attempt"), default=0.0)


def _labels(log: Log) -> dict[str, str]:
    named = {name.replace(".", "_"): str(value) for name, value in (*log.resource.items(), *log.attributes.items())}
    return {**named, "event_name": log.event_name, "trace_id": log.trace_id}


def _inside(stream: str) -> list[str]:
    return [part.strip() for part in stream[1:-1].split(",") if part.strip()]


def _label_filter(text: str) -> Callable[[dict[str, str]], bool]:
    found = _FILTER.match(text.strip())
    if found is None:
        raise ValueError(f"not a label filter: {text}")
    name, operator, value = found.groups()
    return lambda labels: _compare(labels.get(name, ""), operator, value)


def _span_filter(text: str) -> Callable[[Span], bool]:
    if text == "status = error":
        return lambda span: span.status == "ERROR"
    if (longer := _DURATION.match(text)) is not None:
        limit = float(longer[1])
        return lambda span: span.end - span.start > limit
    found = _SPAN.match(text)
    if found is None:
        raise ValueError(f"not a condition on a span: {text}")
    name, operator, value = found.groups()
    if name == "name":
        return lambda span: _compare(span.name, operator, value)
    attribute = name.removeprefix("span.")
    return lambda span: attribute in span.attributes and _compare(str(span.attributes[attribute]), operator, value)


def _compare(text: str, operator: str, value: str) -> bool:
    if operator in {"=", "!="}:
        return (text == value) is (operator == "=")
    return (re.fullmatch(value, text) is not None) is (operator == "=~")
