"""What an exception means: its class, its severity, what it says to retry and breaker.

The rules for the exceptions of each client library stand in :mod:`otel_resilience.classification.rules`.
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
