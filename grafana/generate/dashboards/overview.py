"""Overview: the page to open first. Is anything wrong, and with what?"""

from __future__ import annotations

from typing import Final

from grafana.generate.dashboard import Dashboard, Row
from grafana.generate.dashboards.breakers import OPEN_CIRCUITS
from grafana.generate.dashboards.budget import BURN_RATE, budget_left
from grafana.generate.dashboards.sync import AGE, LAST_GOOD, OUTCOMES
from grafana.generate.logql import SYNCS
from grafana.generate.names import prometheus_name
from grafana.generate.panels import alert_list, event_table

from catalog_sync.observability import contract
from otel_resilience.telemetry import contract as resilience

_NOW: Final = Row(
    "Is anything wrong?",
    (
        AGE,
        LAST_GOOD,
        OPEN_CIRCUITS | {"gridPos": {"w": 4, "h": 4, "x": 0, "y": 0}},
        budget_left(),
        alert_list(
            "Firing alerts",
            "Grafana rules that are firing, pending, or cannot be evaluated. Watchdog, which always fires, is on the"
            " dashboard Alerting.",
            instances='{severity!="none"}',
            width=16,
        ),
    ),
)

_LAST: Final = Row(
    "How did the last syncs end, and why?",
    (
        event_table(
            "Last syncs",
            "Every sync that ended, newest first, with the error that ended it. The trace shows every call it made.",
            SYNCS,
            {
                contract.KIND: "Kind",
                contract.OUTCOME: "Outcome",
                resilience.ERROR_TYPE: "Error",
                contract.BUNDLES: "Bundles",
                contract.GROUPS_FAILED: "Groups failed",
                contract.DURATION: "Duration",
            },
            limit=20,
        ),
    ),
)

_TREND: Final = Row("Does it become worse?", (OUTCOMES | {"gridPos": {"w": 12, "h": 8, "x": 0, "y": 0}}, BURN_RATE))

DASHBOARD: Final = Dashboard(
    uid="catalog-overview",
    title="Overview",
    description="The page to open first: is anything wrong, how did the last syncs end and why, does it become worse?",
    rows=(_NOW, _LAST, _TREND),
    jobs=prometheus_name(contract.SYNC_DURATION) + "_count",
    by_dependency=prometheus_name(resilience.BREAKER_STATUS),
    time_from="now-24h",
)
