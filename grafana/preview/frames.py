"""Answers of data sources as frames, the tables that Grafana's components draw. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from grafana.preview.queries import TimeRange, legend

Frame = dict[str, Any]
Field = dict[str, Any]


def time_field(values: Iterable[float], step: float | None = None) -> Field:
    """Seconds since the epoch, as Grafana's milliseconds; ``step`` says whether a gap begins."""
    config = {"interval": step * 1000} if step else {}
    return {"name": "Time", "type": "time", "config": config, "values": [round(value * 1000) for value in values]}


def of_range(
    result: Sequence[Mapping[str, Any]], target: Mapping[str, Any], expression: str, asked: TimeRange, step: float
) -> list[Frame]:
    """A frame for each series of a range query, with a gap at each step at which it has no value."""
    times = [asked.start + number * step for number in range(round(asked.length / step) + 1)]
    return [_series(series["metric"], dict(series["values"]), target, expression, times, step) for series in result]


def _series(
    labels: Mapping[str, str],
    points: Mapping[float, str],
    target: Mapping[str, Any],
    expression: str,
    times: Sequence[float],
    step: float,
) -> Frame:
    value = {
        "name": "Value",
        "type": "number",
        "labels": dict(labels),
        "config": {"displayNameFromDS": legend(target.get("legendFormat", ""), labels, expression)},
        "values": [_number(points[at]) if at in points else None for at in times],
    }
    return {"refId": target["refId"], "fields": [time_field(times, step), value]}


def exemplars(found: Iterable[Mapping[str, Any]], step: float) -> list[dict[str, float]]:
    """Time (ms) and value of those that Grafana shows.

    Within each step it takes the largest, and further ones that are two standard deviations below the last one taken.
    """
    points = [(each["timestamp"], float(each["value"])) for each in found]
    apart = 2 * statistics.pstdev(value for _, value in points) if points else 0.0
    by_step: dict[int, list[tuple[float, float]]] = {}
    for at, value in sorted(points, key=lambda point: -point[1]):
        taken = by_step.setdefault(int(at // step), [])
        if not taken or taken[-1][1] - value > apart:
            taken.append((at, value))
    return [{"time": at * 1000, "value": value} for taken in by_step.values() for at, value in sorted(taken)]


def of_instant(result: Sequence[Mapping[str, Any]], target: Mapping[str, Any]) -> list[Frame]:
    """One table of an instant query: time, labels, value."""
    names = sorted({name for series in result for name in series["metric"] if name != "__name__"})
    columns: list[Field] = [
        {"name": name, "type": "string", "config": {}, "values": [series["metric"].get(name, "") for series in result]}
        for name in names
    ]
    value = {"name": "Value", "type": "number", "config": {}, "values": [_number(each["value"][1]) for each in result]}
    return [{"refId": target["refId"], "fields": [time_field(each["value"][0] for each in result), *columns, value]}]


def of_logs(records: Sequence[Mapping[str, Any]], target: Mapping[str, Any]) -> list[Frame]:
    """Log records as Loki's data source hands them over: labels, time, line."""
    fields = [
        {"name": "labels", "type": "other", "config": {}, "values": [record["labels"] for record in records]},
        time_field(record["time"] for record in records),
        {"name": "Line", "type": "string", "config": {}, "values": [record["line"] for record in records]},
    ]
    return [{"refId": target["refId"], "fields": fields}]


def of_traces(traces: Sequence[Mapping[str, Any]], target: Mapping[str, Any]) -> list[Frame]:
    """Traces as Tempo's data source lists them."""
    started = time_field(trace["start"] for trace in traces) | {"name": "Start time"}
    duration = [trace["duration"] * 1000 for trace in traces]
    link = {"title": "Trace: ${__value.raw}", "url": "#"}
    fields = [
        {"name": "Trace ID", "type": "string", "config": {"links": [link], "custom": {"width": 200}},
         "values": [trace["trace_id"] for trace in traces]},
        started | {"config": {"custom": {"width": 200}, "unit": "dateTimeAsIso"}},
        {"name": "Service", "type": "string", "config": {}, "values": [trace["service"] for trace in traces]},
        {"name": "Name", "type": "string", "config": {}, "values": [trace["name"] for trace in traces]},
        {"name": "Duration", "type": "number", "config": {"unit": "ms", "custom": {"width": 120}}, "values": duration},
    ]  # fmt: skip
    selected = traces[0].get("selected", {}) if traces else {}
    fields += [
        {"name": name.removeprefix("span."), "type": "string", "config": {},
         "values": [trace["selected"][name] for trace in traces]}
        for name in selected
    ]  # fmt: skip
    return [{"refId": target["refId"], "fields": fields}]


def _number(text: str) -> float | None:
    """In Prometheus' format; JSON cannot represent NaN and infinity, which are drawn as gaps."""
    value = float(text)
    return value if math.isfinite(value) else None
