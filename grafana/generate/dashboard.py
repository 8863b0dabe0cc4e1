"""A dashboard around its panels: rows that ask questions, variables, annotations, links to the others."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from grafana.generate import links
from grafana.generate.logql import BREAKER_CHANGES
from grafana.generate.panels import LOKI, PROMETHEUS, Panel
from grafana.generate.promql import ENVIRONMENT, JOB_SCOPE

TAG: Final = "catalog-sync"
SCHEMA_VERSION: Final = 41
"""The newest classic schema that Grafana 13 loads from files; it migrates it by itself."""
_COLUMNS: Final = 24
_HEIGHT: Final = 8
"""Height of most panels; lower ones of the same width are stacked up to it."""
_SOURCES: Final = (("prometheus", "Prometheus"), ("loki", "Loki"), ("tempo", "Tempo"))


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A question, and the panels that answer it."""

    question: str
    panels: tuple[Panel, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Dashboard:
    """What sets one dashboard apart. ``jobs`` is a metric, or a selector, whose ``job`` labels fill the variable."""

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]
    jobs: str
    by_dependency: str = ""
    """A metric whose ``resilience_dependency`` labels fill a further variable."""
    time_from: str = "now-6h"

    def panel_id(self, title: str) -> int:
        """The ID of a panel, for alert rules. Raises ``KeyError`` for a title that is not there."""
        ids: dict[str, int] = {panel["title"]: panel["id"] for panel in self.render()["panels"]}
        return ids[title]

    def render(self) -> dict[str, Any]:
        """The dashboard as Grafana loads it from a file."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": [TAG],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": False,
            "graphTooltip": 1,
            "timezone": "browser",
            "refresh": "30s",
            "time": {"from": self.time_from, "to": "now"},
            "timepicker": {},
            "fiscalYearStartMonth": 0,
            "liveNow": False,
            "weekStart": "",
            "templating": {"list": _variables(self.jobs, self.by_dependency)},
            "annotations": {"list": [_own_annotations(), _breaker_annotations()]},
            "links": [_dashboards_link()],
            "panels": _place(self.rows),
        }


def _place(rows: tuple[Row, ...]) -> list[Panel]:
    placed: list[Panel] = []
    y = 0
    for row in rows:
        placed.append({
            "type": "row", "id": len(placed) + 1, "title": row.question, "collapsed": False, "panels": [],
            "gridPos": {"h": 1, "w": _COLUMNS, "x": 0, "y": y},
        })  # fmt: skip
        y += 1
        for line in _lines(row.panels):
            height = max(_height(stack) for stack in line)
            x = 0
            for stack in line:
                top = y
                for panel in stack:
                    size = panel["gridPos"]
                    # The lowest of a stack fills what would be a hole beside its neighbours.
                    h = y + height - top if panel is stack[-1] else size["h"]
                    place = {"h": h, "w": size["w"], "x": x, "y": top}
                    placed.append({"id": len(placed) + 1} | panel | {"gridPos": place})
                    top += h
                x += stack[0]["gridPos"]["w"]
            y += height
    return placed


def _lines(panels: tuple[Panel, ...]) -> list[list[list[Panel]]]:
    """Stacks of panels, side by side as far as there is room."""
    lines: list[list[list[Panel]]] = []
    room = 0
    for stack in _stacks(panels):
        width = stack[0]["gridPos"]["w"]
        if not lines or width > room:
            lines.append([])
            room = _COLUMNS
        lines[-1].append(stack)
        room -= width
    return lines


def _stacks(panels: tuple[Panel, ...]) -> list[list[Panel]]:
    stacks: list[list[Panel]] = []
    for panel in panels:
        size = panel["gridPos"]
        last = stacks[-1] if stacks else []
        if last and last[0]["gridPos"]["w"] == size["w"] and _height(last) + size["h"] <= _HEIGHT:
            last.append(panel)
        else:
            stacks.append([panel])
    return stacks


def _height(stack: list[Panel]) -> int:
    return sum(panel["gridPos"]["h"] for panel in stack)


def _variables(jobs: str, by_dependency: str) -> list[dict[str, Any]]:
    sources = [
        {
            "name": f"{kind}_datasource",
            "label": f"{title} data source",
            "type": "datasource",
            "query": kind,
            "regex": "",
            "current": {"text": title, "value": kind},
            "hide": 2,
            "multi": False,
            "includeAll": False,
            "refresh": 1,
            "options": [],
            "skipUrlSync": False,
        }
        for kind, title in _SOURCES
    ]
    dependency = f"label_values({_of_job(by_dependency)}, resilience_dependency)"
    return [
        *sources,
        # All, those that have none included: it need not be set.
        _query_variable("environment", "Environment", f"label_values({jobs}, {ENVIRONMENT})") | {"allValue": ".*"},
        _query_variable("job", "Job", f"label_values({jobs}, job)"),
        # All, those that have none included: the Collector adds up the processes of jobs.
        _query_variable("instance", "Instance", f"label_values({_of_job(jobs)}, instance)") | {"allValue": ".*"},
        *([_query_variable("dependency", "Dependency", dependency)] if by_dependency else []),
    ]


def _of_job(selector: str) -> str:
    """A metric, or a selector in braces, limited to the chosen environments and jobs."""
    return f"{selector[:-1]}, {JOB_SCOPE}}}" if selector.endswith("}") else f"{selector}{{{JOB_SCOPE}}}"


def _query_variable(name: str, title: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": title,
        "type": "query",
        "datasource": PROMETHEUS,
        "query": {"query": query, "refId": name, "qryType": 1},
        "refresh": 2,
        "sort": 1,
        "regex": "",
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"text": ["All"], "value": ["$__all"]},
        "hide": 0,
        "options": [],
        "skipUrlSync": False,
    }


def _own_annotations() -> dict[str, Any]:
    return {
        "name": "Annotations & Alerts",
        "builtIn": 1,
        "type": "dashboard",
        "datasource": {"type": "grafana", "uid": "-- Grafana --"},
        "enable": True,
        "hide": True,
        "iconColor": "rgba(0, 211, 255, 1)",
    }


def _breaker_annotations() -> dict[str, Any]:
    """Each change of state, with a link to the trace in which it happened."""
    link = f'<a href="{links.trace("{{trace_id}}")}">open the trace</a>'
    return {
        "name": "Circuit breaker transitions",
        "datasource": LOKI,
        "enable": True,
        "hide": False,
        "iconColor": "orange",
        "expr": BREAKER_CHANGES,
        "maxLines": 100,
        "titleFormat": "{{resilience_dependency}}: {{resilience_from}} → {{resilience_to}}",
        "textFormat": "{{resilience_reason}} {{error_type}} " + link,
        "tagKeys": "resilience_dependency,resilience_to",
    }


def _dashboards_link() -> dict[str, Any]:
    return {
        "title": "Dashboards",
        "type": "dashboards",
        "tags": [TAG],
        "asDropdown": True,
        "includeVars": False,
        "keepTime": True,
        "icon": "external link",
        "targetBlank": False,
        "tooltip": "",
        "url": "",
    }
