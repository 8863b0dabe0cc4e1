"""What an exception means: its class, its severity, and its effect on retries and circuit breakers.

The rules for each client library's exceptions are in :mod:`otel_resilience.classification.rules`.
"""

from otel_resilience.classification.classifier import Classifier
from otel_resilience.classification.model import (
    BreakerEffect,
    Classification,
    ErrorClass,
    Rule,
    Severity,
    merge_verdicts,
)

__all__ = ["BreakerEffect", "Classification", "Classifier", "ErrorClass", "Rule", "Severity", "merge_verdicts"]
