"""The rules as Grafana provisions them from a file.

Spelling is that of files (``keepFiringFor``); the API's ``keep_firing_for`` would be ignored without a word.
Annotations may hold ``$labels``, never ``${…}``, which Grafana would take for a variable of the environment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from grafana.generate.dashboard import Dashboard
from grafana.generate.rules.model import Rule
from grafana.generate.rules.searches import links_of
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
        "noDataState": rule.no_data,
        "execErrState": rule.not_evaluated,
        "for": f"{rule.wait}s",
        "keepFiringFor": f"{rule.hold}s",
        "annotations": {
            "summary": rule.message.replace("$value", "$values.A.Value"),
            "runbook_url": f"{settings.runbook_base}#{rule.anchor}",
            "__dashboardUid__": rule.dashboard,
            "__panelId__": str(panel),
            **links_of(rule, "{{ externalURL }}"),  # ends in a slash
        },
        "labels": {"severity": rule.severity, "component": rule.component},
        "isPaused": False,
    }


def _data(rule: Rule) -> list[dict[str, Any]]:
    """What the condition needs and nothing else: a query that fails takes its rule with it."""
    return [
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


def _query(ref: str, datasource: str, model: dict[str, Any]) -> dict[str, Any]:
    return {"refId": ref, "relativeTimeRange": _RANGE, "datasourceUid": datasource, "model": {"refId": ref} | model}
