"""Stand-ins for Tempo and Loki: they hold what the Collector exports, and answer the queries that our rules make.

Only the forms that :mod:`grafana.generate.logql` writes are understood; another one raises ``ValueError``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Protocol

_LATEST: Final = re.compile(
    r"topk\(1, sum by \((?P<by>[^)]*)\) \(count_over_time\((?P<stream>\{[^}]*\}) \| (?P<filters>.*)"
    r" \[(?P<window>\w+)\]\)\) or vector\(0\)\)"
)
_FILTER: Final = re.compile(r'^(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"$')
_SPAN: Final = re.compile(r'^(name|span\.[\w.]+)\s*(=~|!~|!=|=)\s*"([^"]*)"$')
_NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})
_DURATION: Final = re.compile(r"^duration > (\d+(?:\.\d+)?)s$")


class Log(Protocol):
    """A decoded log record."""

    event_name: str
    attributes: dict[str, Any]
    trace_id: str
    resource: dict[str, Any]
    time: float


class Span(Protocol):
    """A decoded span."""

    name: str
    trace_id: str
    attributes: dict[str, Any]
    status: str
    start: float
    end: float


def latest_trace(
    query: str, logs: Sequence[Log], since: float, until: float, alert: Mapping[str, str] = _NO_LABELS
) -> str | None:
    """The trace that the LogQL of a rule puts into an alert with these labels, from the records of this time.

    The query gives the group with the most records; Grafana joins it where its labels are those of the alert.
    """
    found = _LATEST.fullmatch(query)
    if found is None:
        raise ValueError(f"not a query that a rule makes: {query}")
    accepts = [_label_filter(part) for part in (*_inside(found["stream"]), *found["filters"].split(" | "))]
    by = [name.strip() for name in found["by"].split(",") if name.strip() != "trace_id"]
    groups: Counter[tuple[str, ...]] = Counter()
    for log in logs:
        labels = _labels(log)
        if since <= log.time <= until and log.trace_id and all(accept(labels) for accept in accepts):
            groups[log.trace_id, *(labels.get(name, "") for name in by)] += 1
    if not groups:
        return None
    trace_id, *values = groups.most_common(1)[0][0]
    return trace_id if all(alert.get(name) == value for name, value in zip(by, values, strict=True)) else None


def search(query: str, spans: Sequence[Span], since: float, until: float, *, speed: float = 1.0) -> list[str]:
    """The traces with a span of this time that a TraceQL search finds. ``speed``: how much longer spans count."""
    inner = query.strip()
    if not (inner.startswith("{") and inner.endswith("}")):
        raise ValueError(f"not a search of spans: {query}")
    accepts = [_span_filter(part.strip(), speed) for part in inner[1:-1].split("&&")]
    return list(
        dict.fromkeys(
            span.trace_id for span in spans if since <= span.start <= until and all(accept(span) for accept in accepts)
        )
    )


def failures(trace_id: str, spans: Iterable[Span]) -> set[str]:
    """The ``error.type`` of every failed span of a trace."""
    return {
        str(span.attributes.get("error.type", ""))
        for span in spans
        if span.trace_id == trace_id and span.status == "ERROR"
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


def _span_filter(text: str, speed: float) -> Callable[[Span], bool]:
    if text == "status = error":
        return lambda span: span.status == "ERROR"
    if (longer := _DURATION.match(text)) is not None:
        limit = float(longer[1])
        return lambda span: (span.end - span.start) * speed > limit
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
