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
    "critical": "Pages the person on call, at any hour.",
    "warning": "Needs attention during working hours.",
    "none": "A heartbeat; no one is notified.",
}


HOLES: Final = {"dependency": "resilience_dependency", "kind": "catalog_kind", "channel": "resilience_channel"}
"""Words that a search of :class:`Trace` may hold in braces, and the label of the alert that each stands for."""

Unknown = Literal["OK", "KeepLast", "Alerting"]
"""What becomes of a rule in Grafana that has no data or cannot be evaluated."""


@dataclasses.dataclass(frozen=True, slots=True)
class Trace:
    """What a person who has got the alert searches for, newest first. Links only: no condition depends on these stores.

    Words in braces stand for labels of the alert, see :data:`HOLES`.
    """

    traceql: str
    """In Tempo: the traces that show what happened."""
    logql: str
    """In Loki: its events, each with its trace; the way that is left where Tempo is down."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """``expr operator threshold`` is the condition; the labels of ``expr`` distinguish its alerts."""

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
    """Seconds that the condition must hold before the alert fires (``for``)."""
    hold: int = 0
    """Seconds that the alert stays after the condition has passed (``keep_firing_for``)."""
    every: int = EVALUATION_INTERVAL
    """Seconds between two evaluations; rules over days of samples need not be quick."""
    trace: Trace | None = None
    no_data: Unknown = "OK"
    """No data is normal for a rule about failures."""
    not_evaluated: Unknown = "KeepLast"
    """An alert that fires goes on, and none begins, while Prometheus does not answer: one rule fires then."""

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
