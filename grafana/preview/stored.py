"""Kept logs and traces (JSON lines, one record each), asked in the forms of LogQL and TraceQL that our dashboards use.

A line of ``logs.jsonl`` has ``time`` (seconds since the epoch), ``event_name``, ``body``, ``severity``, ``attributes``,
``trace_id``, ``span_id``, ``resource`` and ``scope``; one of ``spans.jsonl`` is a span: ``name``, ``trace_id``,
``parent_span_id``, ``start``, ``end``, ``status``, ``attributes`` and ``resource``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from grafana.preview.queries import TimeRange

Record = dict[str, Any]
Condition = tuple[str, str, str]
_STREAM: Final = re.compile(r"^\{(?P<matchers>[^}]*)\}(?P<rest>.*)$", re.DOTALL)
_CONDITION: Final = re.compile(r'^\s*([\w.]+)\s*(=~|!~|!=|=)\s*"([^"]*)"\s*$')
_SPANS: Final = re.compile(r"^\{(?P<conditions>[^}]*)\}(?: \| select\((?P<selected>[^)]*)\))?$", re.DOTALL)
_COMPARE: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "=": lambda found, wanted: found == wanted,
    "!=": lambda found, wanted: found != wanted,
    "=~": lambda found, wanted: re.fullmatch(wanted, found) is not None,
    "!~": lambda found, wanted: re.fullmatch(wanted, found) is None,
}


def read(path: Path) -> list[Record]:
    """The records of a file of JSON lines."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def logs(records: Iterable[Record], query: str, time_range: TimeRange, limit: int) -> list[Record]:
    """What a LogQL query by labels finds, newest first: each with ``labels``, ``time`` and ``line``.

    Raises ``ValueError`` for a query of another form.
    """
    parts = _STREAM.match(query)
    if parts is None:
        raise ValueError(f"not a query for log lines: {query!r}")
    texts = [*parts["matchers"].split(","), *(part for part in parts["rest"].split(" | ") if part.strip())]
    conditions = [_condition(text) for text in texts]
    found = [
        {"labels": labels, "time": record["time"], "line": str(record["body"] or record["event_name"])}
        for record in records
        if time_range.start <= record["time"] <= time_range.end and _fits(labels := _labels(record), conditions)
    ]
    return sorted(found, key=lambda answer: -answer["time"])[:limit]


def traces(spans: Iterable[Record], query: str, time_range: TimeRange, limit: int) -> list[Record]:
    """The traces in which a span fits a TraceQL search, newest first: root, start, duration in seconds, and what the
    search selects of the first span that fits.

    Raises ``ValueError`` for a query of another form.
    """
    parts = _SPANS.match(query.strip())
    if parts is None:
        raise ValueError(f"not a search for spans: {query!r}")
    conditions = [_span_condition(text) for text in parts["conditions"].split("&&")]
    by_trace: dict[str, list[Record]] = {}
    for span in spans:
        by_trace.setdefault(span["trace_id"], []).append(span)
    selected = [name.strip() for name in (parts["selected"] or "").split(",") if name.strip()]
    found = []
    for trace_id, members in by_trace.items():
        fitting = [labels for span in members if _fits(labels := _span_labels(span), conditions)]
        if fitting:
            values = {name: fitting[0].get(name, "") for name in selected}
            found.append(_summary(trace_id, members) | {"selected": values})
    within = [trace for trace in found if time_range.start <= trace["start"] <= time_range.end]
    return sorted(within, key=lambda trace: -trace["start"])[:limit]


def matches(labels: Mapping[str, str], selector: str) -> bool:
    """Whether labels fit a selector, as ``{severity!="none"}``; every one fits an empty text.

    Raises ``ValueError`` for a selector that cannot be read.
    """
    parts = _STREAM.match(selector or "{}")
    if parts is None or parts["rest"].strip():
        raise ValueError(f"not a selector: {selector!r}")
    return _fits(labels, [_condition(text) for text in parts["matchers"].split(",") if text.strip()])


def _condition(text: str) -> Condition:
    parts = _CONDITION.match(text)
    if parts is None:
        raise ValueError(f"not a condition on a label: {text!r}")
    return parts[1], parts[2], parts[3]


def _span_condition(text: str) -> Condition:
    if re.fullmatch(r"\s*status\s*=\s*error\s*", text):
        return "status", "=", "ERROR"
    return _condition(text)


def _fits(labels: Mapping[str, str], conditions: Iterable[Condition]) -> bool:
    return all(_COMPARE[operator](labels.get(name, ""), value) for name, operator, value in conditions)


def _labels(record: Record) -> dict[str, str]:
    """Label names in Loki's form: anything but letters, digits and underscores becomes an underscore."""
    own = {
        "service_name": record["resource"].get("service.name", ""),
        "event_name": record["event_name"],
        "severity_text": record["severity"],
        "scope_name": record["scope"],
        "trace_id": record["trace_id"],
        "span_id": record["span_id"],
    }
    return {re.sub(r"\W", "_", name): str(value) for name, value in record["attributes"].items()} | own


def _span_labels(span: Record) -> dict[str, str]:
    attributes = {f"span.{name}": str(value) for name, value in span["attributes"].items()}
    return attributes | {"name": span["name"], "status": span["status"]}


def _summary(trace_id: str, spans: list[Record]) -> Record:
    known = {span["span_id"] for span in spans}
    roots = [span for span in spans if span["parent_span_id"] not in known]
    root = min(roots or spans, key=lambda span: span["start"])
    start, end = min(span["start"] for span in spans), max(span["end"] for span in spans)
    service = root["resource"].get("service.name", "")
    return {
        "trace_id": trace_id,
        "service": service,
        "name": root["name"],
        "start": start,
        "duration": end - start,
    }
