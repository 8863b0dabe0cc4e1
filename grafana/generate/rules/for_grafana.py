"""The rules as Grafana provisions them from a file.

Spelling is that of files (``keepFiringFor``); the API's ``keep_firing_for`` would be ignored without a word.
Annotations may hold ``$labels``, never ``${…}``, which Grafana would take for a variable of the environment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from grafana.generate import links
from grafana.generate.dashboard import Dashboard
from grafana.generate.rules.model import Rule
from grafana.generate.settings import DATASOURCE_UIDS, Settings, duration

FOLDER: Final = "catalog-sync"
_EVALUATORS: Final = {">": "gt", "<": "lt"}
_RANGE: Final = {"from": 600, "to": 0}


def rule_file(rules: tuple[Rule, ...], settings: Settings, dashboards: Sequence[Dashboard]) -> dict[str, Any]:
    """One group per component and interval."""
    by_uid = {dashboard.uid: dashboard for dashboard in dashboards}
    groups = {rule.group: rule.every for rule in rules}
    return {
        "apiVersion": 1,
        "groups": [
            {
                "orgId": 1,
                "name": group,
                "folder": FOLDER,
                "interval": duration(every),
                "rules": [_rule(rule, settings, by_uid) for rule in rules if rule.group == group],
            }
            for group, every in groups.items()
        ],
    }


def _rule(rule: Rule, settings: Settings, dashboards: dict[str, Dashboard]) -> dict[str, Any]:
    panel = dashboards[rule.dashboard].panel_id(rule.panel)
    return {
        "uid": rule.uid,
        "title": rule.name,
        "condition": "C",
        "data": _data(rule),
        "dashboardUid": rule.dashboard,
        "panelId": panel,
        "noDataState": "OK",
        "execErrState": "Error",
        "for": f"{rule.wait}s",
        "keepFiringFor": f"{rule.hold}s",
        "annotations": {
            "summary": rule.summary.replace("$value", "$values.A.Value"),
            "runbook_url": f"{settings.runbook_base}#{rule.anchor}",
            "__dashboardUid__": rule.dashboard,
            "__panelId__": str(panel),
            **_trace(rule),
        },
        "labels": {"severity": rule.severity, "component": rule.component},
        "isPaused": False,
    }


def _data(rule: Rule) -> list[dict[str, Any]]:
    queries = [
        _query("A", DATASOURCE_UIDS["prometheus"], {"expr": rule.expr, "instant": True, "range": False}),
        _query(
            "C",
            "__expr__",
            {
                "type": "threshold",
                "expression": "A",
                "conditions": [{"evaluator": {"type": _EVALUATORS[rule.operator], "params": [rule.threshold]}}],
            },
        ),
    ]
    if rule.trace is not None:
        model = {"expr": rule.trace.logql, "queryType": "instant", "editorMode": "code"}
        queries.insert(1, _query("B", DATASOURCE_UIDS["loki"], model) | {"queryType": "instant"})
    return queries


def _query(ref: str, datasource: str, model: dict[str, Any]) -> dict[str, Any]:
    return {"refId": ref, "relativeTimeRange": _RANGE, "datasourceUid": datasource, "model": {"refId": ref} | model}


def _trace(rule: Rule) -> dict[str, str]:
    """The trace that query B found, else a search for such traces."""
    if rule.trace is None:
        return {}
    found = links.trace("{{ $values.B.Labels.trace_id }}", datasource="tempo").removeprefix("/")
    hole = {"dependency": "{{ $labels.resilience_dependency | urlquery }}"}
    search = links.traces(rule.trace.traceql, hole, datasource="tempo").removeprefix("/")
    base = "{{ externalURL }}"  # ends in a slash
    return {
        "trace_url": f"{{{{ if $values.B.Labels.trace_id }}}}{base}{found}{{{{ else }}}}{base}{search}{{{{ end }}}}"
    }
