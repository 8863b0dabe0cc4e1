"""Readers of the settings that are small tables: escalation steps and silences."""

from __future__ import annotations

import math
from typing import Final

from catalog_sync.domain.times import epoch
from otel_resilience import Severity
from otel_resilience.alerting.model.config import EscalationStep, Silence

_STEPS: Final = (
    "steps separated by semicolons, each with after= (seconds) or returns= (a number), and if wished severity= and"
    " channels= joined by +; or none"
)
_SILENCES: Final = (
    "silences separated by semicolons, each with any of kind=, dependency=, error_type=, severity=, and until= a time"
    " as in RFC 3339; or none"
)


def escalation(text: str) -> tuple[EscalationStep, ...]:
    """The escalation table."""
    if text.strip().lower() == "none":
        return ()
    return tuple(_step(entry) for entry in _entries(text, {"after", "returns", "severity", "channels"}, _STEPS))


def silences(text: str) -> tuple[Silence, ...]:
    """What is not told."""
    if text.strip().lower() == "none":
        return ()
    allowed = {"kind", "dependency", "error_type", "severity", "until"}
    return tuple(_silence(entry) for entry in _entries(text, allowed, _SILENCES))


def _step(entry: dict[str, str]) -> EscalationStep:
    try:
        return EscalationStep(
            after=float(entry["after"]) if "after" in entry else None,
            returns=int(entry["returns"]) if "returns" in entry else None,
            severity=Severity(entry["severity"].upper()) if "severity" in entry else None,
            channels=tuple(name for name in entry.get("channels", "").split("+") if name),
        )
    except ValueError:
        raise ValueError(_STEPS) from None


def _silence(entry: dict[str, str]) -> Silence:
    try:
        return Silence(
            kind=entry.get("kind"),
            dependency=entry.get("dependency"),
            error_type=entry.get("error_type"),
            severity=Severity(entry["severity"].upper()) if "severity" in entry else None,
            until=epoch(entry["until"]) if "until" in entry else math.inf,
        )
    except ValueError:
        raise ValueError(_SILENCES) from None


def _entries(text: str, allowed: set[str], message: str) -> list[dict[str, str]]:
    entries = []
    for part in text.split(";"):
        words = part.replace(",", " ").split()
        pairs = [word.partition("=") for word in words]
        entry = {name.lower(): value for name, equals, value in pairs if equals and value}
        if len(entry) != len(words) or not allowed.issuperset(entry):
            raise ValueError(message)
        if entry:
            entries.append(entry)
    return entries
