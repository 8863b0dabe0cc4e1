"""Who is notified, how and how often.

Contact points, policies, a mute timing and templates for Grafana, and the same routing for Alertmanager.

Grafana refuses a contact point whose address is empty, so docker-compose.yml gives each variable a default: the bundled
receiver. Settings and labels may hold ``$VARIABLE``; a literal dollar sign would be ``$$``.
"""

from __future__ import annotations

from typing import Any, Final

from grafana.generate.promql import ENVIRONMENT

# A page is a group of its own, so that it never waits for the group_interval of an alert that fired before it: one
# message when it begins, one when it is over; one that comes back waits for the short group_interval. That an incident
# is one page is up to the rules (grafana.generate.rules.causes). Warnings of a component in one environment share a
# message; what is added to it or ends in it is sent after group_interval, which is longer than an alert outlasts its
# cause.
_PAGE: Final = {"group_by": ["..."], "group_wait": "5s", "group_interval": "10s", "repeat_interval": "4h"}
_TEAM: Final = {
    "group_by": ["component", ENVIRONMENT],
    "group_wait": "30s",
    "group_interval": "15m",
    "repeat_interval": "12h",
}
_HEARTBEAT: Final = {"group_by": ["component"], "group_wait": "0s", "group_interval": "30s", "repeat_interval": "1m"}
_MAINTENANCE: Final = {
    "name": "maintenance",
    "time_intervals": [
        {"weekdays": ["sunday"], "times": [{"start_time": "02:00", "end_time": "03:00"}], "location": "UTC"}
    ],
}

_ROUTES: Final = (
    ("heartbeat", ("component", "heartbeat"), _HEARTBEAT, ()),
    ("page", ("severity", "critical"), _PAGE, ()),
    ("team", ("severity", "warning"), _TEAM, (_MAINTENANCE["name"],)),
)
"""Receiver, label that leads to it, times, mute timings."""

_TITLE: Final = '{{ template "catalog.title" . }}'
_TEXT: Final = '{{ template "catalog.text" . }}'
_FIRST_TRACE: Final = "{{ (index .Alerts 0).Annotations.trace_url }}"

TEMPLATES: Final = """\
{{ define "catalog.title" -}}
[{{ .Status | toUpper }}{{ if eq .Status "firing" }} {{ len .Alerts.Firing }}{{ end }}] \
{{ with .CommonLabels.deployment_environment_name }}{{ . }} {{ end }}{{ .CommonLabels.component }}: \
{{ if .CommonLabels.alertname }}{{ .CommonLabels.alertname }}{{ else }}several alerts{{ end }}
{{- end }}

{{ define "catalog.alert" -}}
*{{ .Labels.alertname }}* ({{ .Labels.severity }}): {{ .Annotations.summary }}
{{ if .Annotations.trace_url }}Trace: {{ .Annotations.trace_url }}
{{ end }}{{ if .Annotations.logs_url }}Logs: {{ .Annotations.logs_url }}
{{ end }}{{ if .PanelURL }}Panel: {{ .PanelURL }}
{{ end }}Runbook: {{ .Annotations.runbook_url }}
{{ if .SilenceURL }}Silence: {{ .SilenceURL }}
{{ end }}{{ end }}

{{ define "catalog.text" -}}
{{ range .Alerts.Firing }}{{ template "catalog.alert" . }}
{{ end }}{{ range .Alerts.Resolved }}Resolved: *{{ .Labels.alertname }}*: {{ .Annotations.summary }}
{{ end }}{{ end }}
"""


def contact_points() -> dict[str, Any]:
    """Slack, PagerDuty and a webhook for pages; all but PagerDuty for the rest; a webhook for the heartbeat."""
    return {
        "apiVersion": 1,
        "contactPoints": [
            _contact_point("page", [_slack("page"), _pagerduty(), _webhook("page", "$GRAFANA_WEBHOOK_URL")]),
            _contact_point("team", [_slack("team"), _webhook("team", "$GRAFANA_WEBHOOK_URL")]),
            _contact_point(
                "heartbeat", [_webhook("heartbeat", "$GRAFANA_HEARTBEAT_URL") | {"disableResolveMessage": True}]
            ),
        ],
    }


def _contact_point(name: str, receivers: list[dict[str, Any]]) -> dict[str, Any]:
    return {"orgId": 1, "name": name, "receivers": receivers}


def _slack(prefix: str) -> dict[str, Any]:
    settings = {"url": "$GRAFANA_SLACK_WEBHOOK_URL", "title": _TITLE, "text": _TEXT}
    return {"uid": f"{prefix}-slack", "type": "slack", "settings": settings}


def _pagerduty() -> dict[str, Any]:
    settings = {
        "integrationKey": "$GRAFANA_PAGERDUTY_ROUTING_KEY",
        "url": "$GRAFANA_PAGERDUTY_URL",
        "severity": "{{ .CommonLabels.severity }}",
        "component": "{{ .CommonLabels.component }}",
        "summary": _TITLE,
        "client": "catalog-sync",
        "client_url": _FIRST_TRACE,
        "details": {"trace": _FIRST_TRACE, "runbook": "{{ (index .Alerts 0).Annotations.runbook_url }}", "text": _TEXT},
    }
    return {"uid": "page-pagerduty", "type": "pagerduty", "settings": settings}


def _webhook(prefix: str, url: str) -> dict[str, Any]:
    settings = {"url": url, "httpMethod": "POST", "title": _TITLE, "message": _TEXT}
    return {"uid": f"{prefix}-webhook", "type": "webhook", "settings": settings}


def policies() -> dict[str, Any]:
    """The tree of routes; what no route takes goes to the team."""
    routes = [
        {
            "receiver": receiver,
            "object_matchers": [[name, "=", value]],
            **times,
            **({"mute_time_intervals": list(mutes)} if mutes else {}),
        }
        for receiver, (name, value), times, mutes in _ROUTES
    ]
    return {
        "apiVersion": 1,
        "policies": [{"orgId": 1, "receiver": "team", **_TEAM, "routes": routes}],
    }


def mute_timings() -> dict[str, Any]:
    """Warnings wait during the weekly maintenance; pages never do."""
    return {"apiVersion": 1, "muteTimes": [{"orgId": 1, **_MAINTENANCE}]}


def templates() -> dict[str, Any]:
    """The texts of messages."""
    return {"apiVersion": 1, "templates": [{"orgId": 1, "name": "catalog", "template": TEMPLATES}]}


def alertmanager(receiver_base: str = "http://127.0.0.1:8025") -> dict[str, Any]:
    """The same tree for Alertmanager, each receiver a webhook below ``receiver_base``."""
    routes = [
        {
            "receiver": receiver,
            "matchers": [f'{name}="{value}"'],
            **times,
            **({"mute_time_intervals": list(mutes)} if mutes else {}),
        }
        for receiver, (name, value), times, mutes in _ROUTES
    ]
    receivers = [
        {
            "name": receiver,
            "webhook_configs": [{"url": f"{receiver_base}/{receiver}", "send_resolved": receiver != "heartbeat"}],
        }
        for receiver, *_ in _ROUTES
    ]
    return {
        "route": {"receiver": "team", **_TEAM, "routes": routes},
        "receivers": receivers,
        "time_intervals": [_MAINTENANCE],
    }
