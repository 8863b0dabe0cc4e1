"""Resilience primitives that emit OpenTelemetry: classification, retry with a budget, circuit breaker, correlation.

    from otel_resilience import CircuitBreakerConfig, Policy, RetryConfig

    policy = Policy("supplier", retry=RetryConfig(), breaker=CircuitBreakerConfig(), deadline=30, attempt_timeout=10)
    policy.execute(operation, name="list bundles")

Importing this package needs ``opentelemetry-api`` alone.
"""

from __future__ import annotations

from otel_resilience import error_types
from otel_resilience._nesting import current_attempt, remaining
from otel_resilience.backoff import Jitter
from otel_resilience.breaker_config import (
    BreakerState,
    CircuitBreakerConfig,
    CircuitBreakerMetrics,
    Transition,
    TransitionReason,
)
from otel_resilience.budget import RetryBudget, RetryBudgetConfig, RetryBudgetMetrics
from otel_resilience.circuit_breaker import CircuitBreaker, CircuitBreakerRegistry
from otel_resilience.classification import (
    BreakerEffect,
    Classification,
    Classifier,
    ErrorClass,
    Rule,
    Severity,
)
from otel_resilience.correlation import correlation_id, correlation_scope, new_correlation_id
from otel_resilience.defaults import classify, default_classifier
from otel_resilience.errors import (
    AttemptThreadsExhaustedError,
    AttemptTimeoutError,
    CircuitOpenError,
    DeadlineExceededError,
    ErrorContext,
    ResilienceError,
    enrich,
    error_context,
)
from otel_resilience.policy import Policy
from otel_resilience.retry import RetryConfig, RetryService, retry
from otel_resilience.retry_after import parse_retry_after

__all__ = [
    "AttemptThreadsExhaustedError",
    "AttemptTimeoutError",
    "BreakerEffect",
    "BreakerState",
    "CircuitBreaker",
    "CircuitBreakerConfig",
    "CircuitBreakerMetrics",
    "CircuitBreakerRegistry",
    "CircuitOpenError",
    "Classification",
    "Classifier",
    "DeadlineExceededError",
    "ErrorClass",
    "ErrorContext",
    "Jitter",
    "Policy",
    "ResilienceError",
    "RetryBudget",
    "RetryBudgetConfig",
    "RetryBudgetMetrics",
    "RetryConfig",
    "RetryService",
    "Rule",
    "Severity",
    "Transition",
    "TransitionReason",
    "classify",
    "correlation_id",
    "correlation_scope",
    "current_attempt",
    "default_classifier",
    "enrich",
    "error_context",
    "error_types",
    "new_correlation_id",
    "parse_retry_after",
    "remaining",
    "retry",
]
