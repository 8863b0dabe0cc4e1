"""Alerting: are people notified, how fast, what are they spared, does Grafana's own alerting work?"""

from __future__ import annotations

from typing import Final

from grafana.generate.dashboard import Dashboard, Row
from grafana.generate.logql import FAILED, STREAMS, events, spans
from grafana.generate.names import label, prometheus_name
from grafana.generate.panels import (
    GREEN,
    RED,
    YELLOW,
    alert_list,
    colors,
    colors_matching,
    dots,
    event_table,
    loki,
    prom,
    stat,
    thresholds,
    timeseries,
    trace_table,
)  # fmt: skip
from grafana.generate.promql import INTERVAL, ON_DASHBOARD, RANGE, RECORDED, match, quantile, total
from grafana.generate.rules.recording import DEAD_LETTERS, WAITING

from otel_resilience.telemetry import contract

_TOLD: Final = ON_DASHBOARD.of(contract.ALERT_NOTIFICATIONS)
_FAILED: Final = ON_DASHBOARD.of(contract.ALERT_NOTIFICATIONS, match(contract.OUTCOME, "failed"))
_BUCKETS: Final = ON_DASHBOARD.of(contract.ALERT_DELIVERY_DURATION, suffix="_bucket")
_GRAFANA_SENT: Final = ON_DASHBOARD.named("grafana_alerting_notifications_total")
_GRAFANA_FAILED: Final = ON_DASHBOARD.named("grafana_alerting_notifications_failed_total")
_GRAFANA_LATENCY: Final = ON_DASHBOARD.named("grafana_alerting_notification_latency_seconds_bucket")
_COLUMNS: Final = {
    contract.CHANNEL: "Channel",
    contract.ALERT_STATUS: "Status",
    contract.ALERT_SEVERITY: "Severity",
    contract.DEPENDENCY: "Dependency",
    contract.ALERT_FINGERPRINT: "Fingerprint",
}

_ACCEPTED: Final = contract.EVENT_ALERT_DELIVERED
_TRIED: Final = f"{_ACCEPTED}|{contract.EVENT_ALERT_FAILED}"


def _incidents(names: str) -> str:
    """How many incidents have such an event. Only records know the incident: as a label it would grow for ever."""
    records = f'{STREAMS} | event_name=~"{names}" [{RANGE}]'
    return f"count(sum by ({label(contract.ALERT_FINGERPRINT)}) (count_over_time({records})))"


_TELLING: Final = Row(
    "Are people notified?",
    (
        stat(
            "Delivery confirmed",
            "Share of the incidents within the time range of which at least one notification was accepted by a"
            " channel, even if others failed.",
            [loki(f"({_incidents(_ACCEPTED)} or vector(0)) / {_incidents(_TRIED)}", instant=True)],
            unit="percentunit",
            limits=thresholds((None, RED), (0.95, YELLOW), (1, GREEN)),
            none="no alerts",
            height=8,
        ),
        stat(
            "Waiting",
            "Notifications in the queues of the channels, as last reported by a process.",
            [prom(f"sum({RECORDED.named(WAITING)})")],
            limits=thresholds((None, GREEN), (1, YELLOW), (20, RED)),
            none="unknown",
        ),
        stat(
            "Dead letters",
            "Notifications that no channel accepted, as last reported by a process. `catalog-sync alerts` lists them"
            " and can send them again.",
            [prom(f"sum({RECORDED.named(DEAD_LETTERS)})")],
            limits=thresholds((None, GREEN), (1, RED)),
            none="unknown",
        ),
        timeseries(
            "Notifications by outcome",
            "Notifications that were delivered or given up, by channel.",
            [
                prom(
                    total(_TOLD, INTERVAL, contract.CHANNEL, contract.OUTCOME),
                    "{{resilience_channel}}: {{resilience_outcome}}",
                ),
                dots(match("span.name", contract.DELIVERY_SPAN)),
            ],
            bars=True,
            overrides=colors_matching({"delivered$": GREEN, "(failed|dead|expired)": RED}),
            width=16,
        ),
        event_table(
            "Failed deliveries",
            "Notifications that a channel failed to deliver and gave up, each with its trace.",
            events(contract.EVENT_ALERT_FAILED),
            {contract.CHANNEL: "Channel", contract.ERROR_TYPE: "Error"} | _COLUMNS,
        ),
        event_table(
            "Deliveries",
            "Notifications that a channel accepted. The fingerprint stays the same throughout an incident.",
            events(contract.EVENT_ALERT_DELIVERED),
            {contract.CHANNEL: "Channel", contract.PREFIX + "alert.delivery.duration": "Delivery"} | _COLUMNS,
        ),
    ),
)

_FAST: Final = Row(
    "How fast?",
    (
        timeseries(
            "Delivery time by channel",
            "95th percentile over five minutes of the time from the error until the channel accepted the notification.",
            [
                prom(quantile(0.95, _BUCKETS, "5m", contract.CHANNEL), "{{resilience_channel}}"),
                dots(match("span.name", contract.DELIVERY_SPAN)),
            ],
            unit="s",
            width=24,
        ),
        trace_table(
            "Traces of failed deliveries",
            "The delivery's own trace is linked to the trace of the error that caused it.",
            spans(
                f'name = "{contract.DELIVERY_SPAN}"',
                FAILED,
            ),
        ),
    ),
)

_SPARED: Final = Row(
    "What are they spared?",
    (
        timeseries(
            "Suppressed alerts",
            "Alerts that were not notified separately, by reason; they are counted in the notification of their"
            " incident.",
            [
                prom(
                    total(ON_DASHBOARD.of(contract.ALERT_SUPPRESSED), INTERVAL, contract.ALERT_REASON),
                    "{{resilience_reason}}",
                )
            ],
            bars=True,
            width=12,
        ),
        timeseries(
            "Failed notifications by reason",
            "How channels responded when a notification was given up.",
            [
                prom(
                    total(_FAILED, INTERVAL, contract.CHANNEL, contract.ERROR_TYPE),
                    "{{resilience_channel}}: {{error_type}}",
                )
            ],
            bars=True,
            width=12,
        ),
    ),
)

_GRAFANA: Final = Row(
    "Does Grafana's own alerting work?",
    (
        alert_list("Rules that fire", "Rules of Grafana that fire, wait, or cannot be evaluated."),
        timeseries(
            "Grafana's notifications",
            "Notifications that were sent or failed, by integration. After a failure, a page may not have arrived.",
            [
                prom(total(_GRAFANA_SENT, INTERVAL, "integration"), "{{integration}} sent"),
                prom(total(_GRAFANA_FAILED, INTERVAL, "integration"), "{{integration}} failed"),
            ],
            bars=True,
            width=12,
        ),
        timeseries(
            "Grafana's delivery time",
            "95th percentile over five minutes of the time to send one notification.",
            [prom(quantile(0.95, _GRAFANA_LATENCY, "5m"), "p95")],
            unit="s",
            width=12,
        ),
        timeseries(
            "Rules that could not be evaluated",
            "Failed evaluations: a data source did not respond, or a query is wrong.",
            [prom(total(ON_DASHBOARD.named("grafana_alerting_rule_evaluation_failures_total"), INTERVAL), "failures")],
            bars=True,
            overrides=colors(failures=RED),
            width=12,
        ),
    ),
)

DASHBOARD: Final = Dashboard(
    uid="catalog-alerting",
    title="Alerting",
    description="Are people notified, how fast, what are they spared, does Grafana's own alerting work?",
    rows=(_TELLING, _FAST, _SPARED, _GRAFANA),
    jobs='{__name__=~"'
    + prometheus_name(contract.ALERT_NOTIFICATIONS)
    + '|grafana_alerting_notifications_total|target_info"}',
    time_from="now-24h",
)
