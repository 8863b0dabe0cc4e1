"""How alerts are grouped, repeated, silenced and escalated. The classes are defined in ``model.config``."""

from otel_resilience.alerting.model.config import (
    DEFAULT_ESCALATION,
    AlertConfig,
    EscalationStep,
    Inhibition,
    Silence,
    Thresholds,
)

__all__ = ["DEFAULT_ESCALATION", "AlertConfig", "EscalationStep", "Inhibition", "Silence", "Thresholds"]
