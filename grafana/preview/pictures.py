"""Everything that the page needs to draw one dashboard: each panel's queries, asked as Grafana would ask them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from grafana.preview import frames, queries, stored
from grafana.preview.queries import TimeRange

CAPTION: Final = (
    "Drawn by `make preview` with Grafana's UI components, not by Grafana. Circuit lanes, log lines, the list of"
    " alerts, orange lines (transitions) and blue diamonds (example traces) are stand-ins."
)
_OF_GRAFANA: Final = "grafana_alerting_"
NOT_KEPT: Final = {
    "loki": "Loki answers this; the preview was given no kept logs",
    "tempo": "Tempo answers this; the preview was given no kept traces",
}


class Source(Protocol):
    """What the preview asks a Prometheus for."""

    def range(self, query: str, time_range: TimeRange, step: float) -> list[dict[str, Any]]:
        """The series of a range query."""

    def instant(self, query: str, at: float) -> list[dict[str, Any]]:
        """The series of an instant query."""

    def exemplars(self, query: str, time_range: TimeRange) -> list[dict[str, Any]]:
        """The exemplars of the series of a query."""

    def label_values(self, label: str, selector: str | None, time_range: TimeRange) -> list[str]:
        """The values of a label."""


@dataclasses.dataclass(frozen=True, slots=True)
class Kept:
    """Decoded logs and spans; ``None`` if none were kept."""

    logs: Sequence[stored.Record] | None = None
    spans: Sequence[stored.Record] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """What the page gets, and the panels in which nothing is to be seen."""

    content: dict[str, Any]
    empty: list[str]


def picture(dashboard: Mapping[str, Any], prometheus: Source, kept: Kept, time_range: TimeRange) -> Picture:
    """Asks everything.

    Raises ``ValueError`` or ``KeyError`` for a query that cannot be asked: a defect of the dashboard.
    """
    values = queries.chosen(dashboard)
    asked = _Asked(prometheus, kept, time_range, values)
    answers = {panel["id"]: asked.panel(panel) for panel in dashboard["panels"] if panel.get("targets")}
    titles = {panel["id"]: panel["title"] for panel in dashboard["panels"]}
    content = {
        "dashboard": dashboard,
        "range": {"from": time_range.start * 1000, "to": time_range.end * 1000},
        "variables": [asked.variable(each) for each in dashboard["templating"]["list"] if each["type"] == "query"],
        "answers": answers,
        "marks": asked.marks(dashboard["annotations"]["list"]),
        "alerts": {panel["id"]: asked.alerts(panel) for panel in dashboard["panels"] if panel["type"] == "alertlist"},
        "caption": CAPTION,
    }
    return Picture(content, [titles[number] for number, answer in answers.items() if _is_empty(answer)])


def _is_empty(answer: Mapping[str, Any]) -> bool:
    return not any(value is not None for frame in answer["frames"] for value in frame["fields"][-1]["values"])


@dataclasses.dataclass(frozen=True, slots=True)
class _Asked:
    prometheus: Source
    kept: Kept
    time_range: TimeRange
    values: Mapping[str, str]

    def panel(self, panel: Mapping[str, Any]) -> dict[str, Any]:
        """The frames of all its targets, and its exemplars."""
        found: dict[str, Any] = {"frames": [], "exemplars": []}
        for target in panel["targets"]:
            kind = target["datasource"]["type"]
            if kind == "prometheus":
                self._metrics(panel, target, found)
            elif (records := self.kept.logs if kind == "loki" else self.kept.spans) is None:
                found["missing"] = NOT_KEPT[kind]
            elif kind == "loki" and not target["expr"].startswith("{"):
                found["missing"] = "Loki computes this from log records; the preview does not"
            else:
                found["frames"] += self._events(target, records)
        if _is_empty(found) and all(_OF_GRAFANA in target.get("expr", "") for target in panel["targets"]):
            found["missing"] = "Grafana reports this about itself; it did not run here"
        return found

    def _metrics(self, panel: Mapping[str, Any], target: Mapping[str, Any], found: dict[str, Any]) -> None:
        step = queries.interval(self.time_range, panel)
        query = queries.filled(target["expr"], {**self.values, **queries.built_in(self.time_range, step)})
        if target.get("instant"):
            found["frames"] += frames.of_instant(self.prometheus.instant(query, self.time_range.end), target)
            return
        aligned = self.time_range.aligned(step)
        result = self.prometheus.range(query, aligned, step)
        found["frames"] += frames.of_range(result, target, query, aligned, step)
        if target.get("exemplar"):
            found["exemplars"] += frames.exemplars(self.prometheus.exemplars(query, self.time_range), step)

    def _events(self, target: Mapping[str, Any], records: Sequence[stored.Record]) -> list[frames.Frame]:
        if target["datasource"]["type"] == "loki":
            query = queries.filled(target["expr"], {**self.values, **queries.built_in(self.time_range, 1)})
            return frames.of_logs(stored.logs(records, query, self.time_range, target["maxLines"]), target)
        query = queries.filled(target["query"], self.values)
        return frames.of_traces(stored.traces(records, query, self.time_range, target["limit"]), target)

    def variable(self, variable: Mapping[str, Any]) -> dict[str, str]:
        """Its label and what it shows.

        Raises ``ValueError`` if its query finds nothing to choose from, unless none is a choice as well.
        """
        query = queries.filled(variable["query"]["query"], self.values)
        label, selector = queries.label_values(query)
        found = self.prometheus.label_values(label, selector, self.time_range)
        if not found and re.fullmatch(variable["allValue"], "") is None:
            raise ValueError(f"the variable {variable['name']} has no values: {query}")
        text = variable["current"]["text"]
        return {"label": variable["label"], "value": text if isinstance(text, str) else " + ".join(text)}

    def marks(self, annotations: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Annotations that are shown, from the kept logs."""
        shown = [each for each in annotations if each["enable"] and not each["hide"]]
        return [
            {"time": record["time"] * 1000, "text": each["name"]}
            for each in shown
            for record in stored.logs(self.kept.logs or [], each["expr"], self.time_range, each["maxLines"])
        ]

    def alerts(self, panel: Mapping[str, Any]) -> list[dict[str, str]]:
        """Alerts that fire or wait at the end, if this Prometheus evaluates the rules."""
        selector = panel["options"]["alertInstanceLabelFilter"]
        found = [series["metric"] for series in self.prometheus.instant("ALERTS", self.time_range.end)]
        return [
            {"name": each["alertname"], "severity": each.get("severity", ""), "state": each["alertstate"]}
            for each in found
            if stored.matches(each, selector)
        ]
