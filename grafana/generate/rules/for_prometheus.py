"""The rules as Prometheus loads them and promtool tests them."""

from __future__ import annotations

from typing import Any

from grafana.generate.rules.model import Rule
from grafana.generate.rules.searches import links_of, texts_of
from grafana.generate.settings import GRAFANA_URL, Settings, duration


def rule_file(rules: tuple[Rule, ...], settings: Settings) -> dict[str, Any]:
    """One group per component and interval."""
    groups = {rule.group: rule.every for rule in rules}
    return {
        "groups": [
            {
                "name": group,
                "interval": duration(every),
                "rules": [_rule(rule, settings) for rule in rules if rule.group == group],
            }
            for group, every in groups.items()
        ]
    }


def _rule(rule: Rule, settings: Settings) -> dict[str, Any]:
    times = {"for": rule.wait, "keep_firing_for": rule.hold}
    return {
        "alert": rule.name,
        "expr": rule.condition,
        **{key: duration(seconds) for key, seconds in times.items() if seconds},
        "labels": {"severity": rule.severity, "component": rule.component},
        "annotations": {
            "summary": rule.message,
            "runbook_url": f"{settings.runbook_base}#{rule.anchor}",
            "dashboard_url": f"{GRAFANA_URL}/d/{rule.dashboard}",
            **links_of(rule, f"{GRAFANA_URL}/"),
            **texts_of(rule),
        },
    }
