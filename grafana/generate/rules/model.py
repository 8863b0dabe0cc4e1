"""One alert rule, from which Grafana's form, Prometheus' form and its section of the runbook are made."""

from __future__ import annotations

import dataclasses
import re
from typing import Final, Literal

from grafana.generate.promql import ENVIRONMENT
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
"""Words in braces that a search of :class:`Trace` may contain, and the label of the alert that each is replaced by."""

Unknown = Literal["OK", "KeepLast", "Alerting"]
"""What becomes of a rule in Grafana that has no data or cannot be evaluated."""


@dataclasses.dataclass(frozen=True, slots=True)
class Trace:
    """What a person who has got the alert searches for, newest first. Links only: no condition depends on these stores.

    Words in braces are replaced by labels of the alert, see :data:`HOLES`.
    """

    traceql: str
    """In Tempo: the traces that show what happened."""
    logql: str
    """In Loki: its events, each with its trace; the remaining way if Tempo is down."""


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
        """In Prometheus' format."""
        return f"({self.expr}) {self.operator} {self.threshold:g}"

    @property
    def message(self) -> str:
        """The summary as people get it: it begins with the environment, where there is one."""
        return f"{{{{ with $labels.{ENVIRONMENT} }}}}{{{{ . }}}}: {{{{ end }}}}{self.summary}"

    @property
    def group(self) -> str:
        """The group of rules that it is evaluated in."""
        return self.component if self.every == EVALUATION_INTERVAL else f"{self.component}-{duration(self.every)}"

    @property
    def anchor(self) -> str:
        """The anchor of its section in docs/alerts.md."""
        return self.name.lower()

    @property
    def uid(self) -> str:
        """Stable over changes; Grafana allows 40 characters."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", self.name).lower()
