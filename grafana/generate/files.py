"""Every generated file: its path from the root of the repository, and its text."""

from __future__ import annotations

import json
from typing import Any

import yaml
from grafana.generate import documents, notifying
from grafana.generate.dashboards import ALL
from grafana.generate.datasources import datasources
from grafana.generate.rules import all_rules, for_grafana, for_prometheus, recording
from grafana.generate.settings import Settings

_HEAD = "# Written by `make dashboards`; change grafana/generate/ instead.\n"
_PROVISIONING = "grafana/provisioning"


class _Dumper(yaml.SafeDumper):
    """Block literals for texts of several lines; no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        """A reader should not have to jump."""
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def as_yaml(data: dict[str, Any]) -> str:
    """In the format of Grafana, Prometheus and Alertmanager."""
    return _HEAD + yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)


def as_json(data: dict[str, Any]) -> str:
    """In Grafana's format of dashboards."""
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def generated(settings: Settings) -> dict[str, str]:
    """Path and text of every file that :mod:`grafana.generate` writes."""
    rules = all_rules(settings)
    alerting = f"{_PROVISIONING}/alerting"
    return {
        **{f"grafana/dashboards/{dashboard.uid}.json": as_json(dashboard.render()) for dashboard in ALL},
        f"{_PROVISIONING}/datasources/datasources.yaml": as_yaml(datasources()),
        f"{_PROVISIONING}/dashboards/dashboards.yaml": as_yaml(_provider()),
        f"{alerting}/rules.yaml": as_yaml(for_grafana.rule_file(rules, settings, ALL)),
        f"{alerting}/contact-points.yaml": as_yaml(notifying.contact_points()),
        f"{alerting}/policies.yaml": as_yaml(notifying.policies()),
        f"{alerting}/mute-timings.yaml": as_yaml(notifying.mute_timings()),
        f"{alerting}/templates.yaml": as_yaml(notifying.templates()),
        "grafana/prometheus/rules/alerts.yml": as_yaml(for_prometheus.rule_file(rules, settings)),
        "grafana/prometheus/rules/recording.yml": as_yaml(recording.rule_file(settings)),
        "grafana/alertmanager/alertmanager.yml": as_yaml(notifying.alertmanager()),
        "docs/dashboards.md": documents.dashboards_page(ALL),
        "docs/alerts.md": documents.alerts_page(rules, ALL),
    }


def _provider() -> dict[str, Any]:
    provider = {
        "name": "catalog-sync",
        "orgId": 1,
        "folder": for_grafana.FOLDER,
        "type": "file",
        "disableDeletion": True,
        "allowUiUpdates": False,
        "updateIntervalSeconds": 30,
        "options": {"path": "/etc/grafana/dashboards", "foldersFromFilesStructure": False},
    }
    return {"apiVersion": 1, "providers": [provider]}
