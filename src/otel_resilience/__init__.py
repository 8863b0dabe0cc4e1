"""Resilience primitives that emit OpenTelemetry."""

from __future__ import annotations

from otel_resilience import error_types
from otel_resilience.classification import (
    BreakerEffect,
    Classification,
    Classifier,
    ErrorClass,
    Rule,
    Severity,
)
from otel_resilience.correlation import correlation_id, correlation_scope, new_correlation_id

__all__ = [
    "BreakerEffect",
    "Classification",
    "Classifier",
    "ErrorClass",
    "Rule",
    "Severity",
    "correlation_id",
    "correlation_scope",
    "error_types",
    "new_correlation_id",
]
