"""The alert rules, and the shapes that Grafana and Prometheus load them in."""

from __future__ import annotations

from grafana.generate.rules import catalogue, dependencies, telemetry
from grafana.generate.rules.model import Rule
from grafana.generate.settings import Settings


def all_rules(settings: Settings) -> tuple[Rule, ...]:
    """Every rule, most urgent subject first."""
    return (*catalogue.rules(settings), *dependencies.rules(settings), *telemetry.rules(settings))
