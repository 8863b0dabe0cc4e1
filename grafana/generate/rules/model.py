"""One alert rule, from which Grafana's form, Prometheus' form and its section of the runbook are made."""

from __future__ import annotations

import dataclasses
import re
from typing import Final, Literal

from grafana.generate.settings import EVALUATION_INTERVAL, duration

Severity = Literal["critical", "warning", "none"]
Component = Literal["catalogue", "alerting", "telemetry", "heartbeat"]
Operator = Literal[">", "<"]

SEVERITIES: Final[dict[Severity, str]] = {
    "critical": "A person is called at any hour.",
    "warning": "Somebody looks at it in working hours.",
    "none": "A sign of life; nobody is told.",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Trace:
    """How the rule finds the trace that shows what happened."""

    logql: str
    """An instant query for one series with ``trace_id`` (:func:`grafana.generate.logql.latest_trace`)."""
    traceql: str
    """A search for where the query above finds nothing, with ``{dependency}`` for the alert's label."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """``expr operator threshold`` is the condition; the labels of ``expr`` tell its alerts apart."""

    name: str
    expr: str
    operator: Operator
    threshold: float
    severity: Severity
    component: Component
    summary: str
    """One line; may hold ``{{ $labels.x }}``, which both programs fill in."""
    dashboard: str
    panel: str
    meaning: str
    look: tuple[str, ...]
    act: tuple[str, ...]
    wait: int = 0
    """Seconds that the condition must hold before anybody is told (``for``)."""
    hold: int = 0
    """Seconds that the alert stays after the condition has passed (``keep_firing_for``)."""
    every: int = EVALUATION_INTERVAL
    """Seconds between two evaluations; rules over days of samples need not be quick."""
    trace: Trace | None = None

    @property
    def condition(self) -> str:
        """As Prometheus takes it."""
        return f"({self.expr}) {self.operator} {self.threshold:g}"

    @property
    def group(self) -> str:
        """The group of rules that it is evaluated in."""
        return self.component if self.every == EVALUATION_INTERVAL else f"{self.component}-{duration(self.every)}"

    @property
    def anchor(self) -> str:
        """Of its section in docs/alerts.md."""
        return self.name.lower()

    @property
    def uid(self) -> str:
        """Stable over changes; Grafana allows 40 characters."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", self.name).lower()
