"""Resilience primitives that emit OpenTelemetry: classification, retry with a budget, circuit breaker, correlation.

    from otel_resilience import CircuitBreakerConfig, Policy, RetryConfig

    policy = Policy("supplier", retry=RetryConfig(), breaker=CircuitBreakerConfig(), deadline=30, attempt_timeout=10)
    policy.execute(operation, name="list bundles")

Importing this package needs ``opentelemetry-api`` alone.
"""

from __future__ import annotations

from otel_resilience._internal.nesting import current_attempt, remaining
from otel_resilience._internal.version import __version__
from otel_resilience.circuitbreaker.breaker import CircuitBreaker
from otel_resilience.circuitbreaker.config import CircuitBreakerConfig, CircuitBreakerMetrics
from otel_resilience.circuitbreaker.registry import CircuitBreakerRegistry
from otel_resilience.circuitbreaker.states import BreakerState, Transition, TransitionReason
from otel_resilience.classification import error_types
from otel_resilience.classification.classifier import Classifier
from otel_resilience.classification.defaults import classify, default_classifier
from otel_resilience.classification.model import BreakerEffect, Classification, ErrorClass, Rule, Severity
from otel_resilience.classification.retry_after import parse_retry_after
from otel_resilience.correlation import correlation_id, correlation_scope, new_correlation_id
from otel_resilience.errors import (
    AttemptThreadsExhaustedError,
    AttemptTimeoutError,
    CircuitOpenError,
    ConcurrencyLimitError,
    DeadlineExceededError,
    ErrorContext,
    FailedResultError,
    LimitError,
    RateLimitedError,
    ResilienceError,
    enrich,
    error_context,
)
from otel_resilience.limits.concurrency import ConcurrencyLimiter
from otel_resilience.limits.config import ConcurrencyLimit, RateLimit
from otel_resilience.limits.rate import RateLimiter
from otel_resilience.policy.off_switch import disabled
from otel_resilience.policy.policy import Policy
from otel_resilience.policy.registry import PolicyRegistry
from otel_resilience.policy.service import RetryService, retry
from otel_resilience.retries.backoff import Jitter
from otel_resilience.retries.bucket import RetryBudgetConfig
from otel_resilience.retries.budget import RetryBudget, RetryBudgetMetrics
from otel_resilience.retries.config import RetryConfig
from otel_resilience.telemetry.hooks import Hooks, add_hooks, remove_hooks

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
    "ConcurrencyLimit",
    "ConcurrencyLimitError",
    "ConcurrencyLimiter",
    "DeadlineExceededError",
    "ErrorClass",
    "ErrorContext",
    "FailedResultError",
    "Hooks",
    "Jitter",
    "LimitError",
    "Policy",
    "PolicyRegistry",
    "RateLimit",
    "RateLimitedError",
    "RateLimiter",
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
    "__version__",
    "add_hooks",
    "classify",
    "correlation_id",
    "correlation_scope",
    "current_attempt",
    "default_classifier",
    "disabled",
    "enrich",
    "error_context",
    "error_types",
    "new_correlation_id",
    "parse_retry_after",
    "remaining",
    "remove_hooks",
    "retry",
]
