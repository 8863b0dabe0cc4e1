"""Protects calls that can fail, and shows through OpenTelemetry what happened to each of them.

* Protect a call: :class:`Policy` adds retries, a circuit breaker, limits, a deadline and a fallback to a function
  (``def`` or ``async def``), with ``policy.execute(function)`` or ``@policy``. :class:`RetryService` and
  :func:`retry` only retry, :class:`CircuitBreaker` is only a breaker, :class:`PolicyRegistry` has a policy per host.
* Protect a block: ``for attempt in policy.attempts(): with attempt: ...``, ``with breaker: ...``, ``with limiter:
  ...``; each as ``async`` too.
* Settings: :class:`RetryConfig`, :class:`RetryBudgetConfig`, :class:`CircuitBreakerConfig`, :class:`RateLimit`,
  :class:`ConcurrencyLimit`, with durations in seconds. ``Policy.from_env`` reads them from environment variables;
  :func:`disabled` switches all protection off.
* What an error means: :func:`classify` says whether a retry can help (:class:`Classification`), and
  ``default_classifier().extended(rule)`` adds errors of your own. This package raises a :class:`ResilienceError`, such
  as :class:`CircuitOpenError`, :class:`LimitError`, :class:`AttemptTimeoutError`, :class:`DeadlineExceededError`.
* Within a call: :func:`current_attempt`, :func:`remaining` (seconds until the deadline), :func:`correlation_id`.
* Whole clients: ``otel_resilience.integrations`` for httpx, requests and aiohttp, one line each.
* Telemetry: spans, events and metrics go to the providers that the application has set. :class:`Hooks` call your own
  code. ``otel_resilience.instrumentation`` reports what tenacity, stamina, backoff, pybreaker and circuitbreaker do.
  ``python -m otel_resilience.demo`` prints the telemetry of one call.
* More: ``otel_resilience.alerting`` notifies people, ``otel_resilience.storage`` shares state among processes,
  ``otel_resilience.testing`` is for tests (no waits, a fake clock, recorded telemetry) and for trying out
  (``print_telemetry``).

Importing this package needs only ``opentelemetry-api``. The examples in docstrings take its names as imported.

Examples:
    >>> from otel_resilience import CircuitBreakerConfig, Policy, RetryConfig, current_attempt
    >>> policy = Policy("supplier", retry=RetryConfig(), breaker=CircuitBreakerConfig(), deadline=30)
    >>> def fetch(page):
    ...     if current_attempt() < 3:
    ...         raise ConnectionResetError
    ...     return f"page {page}"
    >>> policy.execute(fetch, 1, name="list plans")  # the third attempt succeeds
    'page 1'
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_resilience._internal.lazy import lazy_names
from otel_resilience._internal.version import __version__

if TYPE_CHECKING:
    from otel_resilience._internal.nesting import current_attempt, remaining
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

_HOMES = {
    "_internal.nesting": "current_attempt remaining",
    "circuitbreaker.breaker": "CircuitBreaker",
    "circuitbreaker.config": "CircuitBreakerConfig CircuitBreakerMetrics",
    "circuitbreaker.registry": "CircuitBreakerRegistry",
    "circuitbreaker.states": "BreakerState Transition TransitionReason",
    "classification": "error_types",
    "classification.classifier": "Classifier",
    "classification.defaults": "classify default_classifier",
    "classification.model": "BreakerEffect Classification ErrorClass Rule Severity",
    "classification.retry_after": "parse_retry_after",
    "correlation": "correlation_id correlation_scope new_correlation_id",
    "errors": (
        "AttemptThreadsExhaustedError AttemptTimeoutError CircuitOpenError ConcurrencyLimitError"
        " DeadlineExceededError ErrorContext FailedResultError LimitError RateLimitedError ResilienceError"
        " enrich error_context"
    ),
    "limits.concurrency": "ConcurrencyLimiter",
    "limits.config": "ConcurrencyLimit RateLimit",
    "limits.rate": "RateLimiter",
    "policy.off_switch": "disabled",
    "policy.policy": "Policy",
    "policy.registry": "PolicyRegistry",
    "policy.service": "RetryService retry",
    "retries.backoff": "Jitter",
    "retries.bucket": "RetryBudgetConfig",
    "retries.budget": "RetryBudget RetryBudgetMetrics",
    "retries.config": "RetryConfig",
    "telemetry.hooks": "Hooks add_hooks remove_hooks",
    # Modules that are attributes of the package without an explicit import.
    "": "circuitbreaker classification correlation errors limits policy redaction retries telemetry",
}
"""Which module defines which names."""

if not TYPE_CHECKING:
    __getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
