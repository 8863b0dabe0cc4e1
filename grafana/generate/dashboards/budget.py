"""Panels about the error budget, which three rules burn; from sums that Prometheus records every five minutes."""

from __future__ import annotations

from typing import Final

from grafana.generate.names import label
from grafana.generate.panels import BLUE, GREEN, ORANGE, RED, YELLOW, Panel, prom, stat, thresholds, timeseries
from grafana.generate.promql import IN_ENVIRONMENT, RECORDED, per, ratio
from grafana.generate.rules.recording import CALLS, LOST
from grafana.generate.settings import Settings

from otel_resilience.telemetry import contract

_OBJECTIVE: Final = Settings().objective
_PERIOD: Final = "30d"
_LEGEND: Final = f"{{{{{label(contract.DEPENDENCY)}}}}} {IN_ENVIRONMENT}"


def _spent(window: str) -> str:
    """Share of failed calls by dependency and environment, as a multiple of what the objective allows."""
    by = f"sum {per(contract.DEPENDENCY)}"
    lost, calls = (f"{by} (sum_over_time({RECORDED.named(name)}[{window}]))" for name in (LOST, CALLS))
    return f"({ratio(lost, calls)}) / {1 - _OBJECTIVE:g}"


def budget_left() -> Panel:
    """The least of all dependencies."""
    return stat(
        "Error budget left",
        f"Remaining share of the failures that the objective allows ({_OBJECTIVE:.0%} of protected calls succeed over"
        " 30 days), for the dependency with the least left. Below zero the objective is missed. If Prometheus keeps"
        " fewer than 30 days, only those count.",
        [prom(f"1 - max({_spent(_PERIOD)})")],
        unit="percentunit",
        limits=thresholds((None, BLUE), (-1000, RED), (0, ORANGE), (0.25, YELLOW), (0.5, GREEN)),
        none="no calls",
    )


BURN_RATE: Final = timeseries(
    "Burn rate of the error budget",
    "How many times faster than allowed the error budget is spent, over one hour. At 1 it lasts 30 days, at 6 five"
    " days, and at 14.4 two days; the rules fire at these rates.",
    [prom(_spent("1h"), _LEGEND)],
    unit="none",
    limits=thresholds((None, GREEN), (1, YELLOW), (6, ORANGE), (14.4, RED)),
    width=12,
)

LEFT_BY_DEPENDENCY: Final = timeseries(
    "Error budget left by dependency",
    "Remaining share of the 30-day error budget; below zero the objective is missed.",
    [prom(f"1 - {_spent(_PERIOD)}", _LEGEND)],
    unit="percentunit",
    lowest=None,
    maximum=1,
    limits=thresholds((None, RED), (0, ORANGE), (0.25, YELLOW), (0.5, GREEN)),
    width=12,
)
