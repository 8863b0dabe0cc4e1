"""What a policy specifies for each of its calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from otel_resilience._internal.predicates import IsRetryable
    from otel_resilience.circuitbreaker.breaker import CircuitBreaker
    from otel_resilience.classification.classifier import Classifier
    from otel_resilience.classification.model import Classification
    from otel_resilience.limits.concurrency import ConcurrencyLimiter
    from otel_resilience.limits.rate import RateLimiter
    from otel_resilience.policy.latencies import HedgeDelay
    from otel_resilience.retries.budget import RetryBudget
    from otel_resilience.retries.config import RetryConfig
    from otel_resilience.telemetry.hooks import Observers


class CallOptions:
    """The options of one call, or of one function, on top of its policy. Immutable."""

    __slots__ = ("idempotent", "is_retryable", "name", "permits")

    def __init__(
        self,
        name: str | None = None,
        idempotent: bool | None = None,  # internal, three-valued
        is_retryable: IsRetryable | None = None,
        permits: int = 1,
    ) -> None:
        """``permits``: how many permits of the rate limit each attempt takes."""
        self.name = name
        self.idempotent = idempotent
        self.is_retryable = is_retryable
        self.permits = permits

    def named(self, name: str) -> CallOptions:
        """A copy with this name."""
        return CallOptions(name, self.idempotent, self.is_retryable, self.permits)


NO_OPTIONS: Final = CallOptions()


class CallPlan(Protocol):
    """The part of :class:`~otel_resilience.Policy` that a call uses."""

    dependency: str
    retry: RetryConfig
    max_attempts: int
    budget: RetryBudget | None
    breaker: CircuitBreaker | None
    concurrency_limiter: ConcurrencyLimiter | None
    rate_limiter: RateLimiter | None
    attempt_timeout: float | None
    is_limited: bool
    """Whether any of the last three is set."""
    hedge_delay: HedgeDelay | None
    idempotent: bool | None
    classifier: Classifier
    observers: Observers | None
    classify: Callable[[BaseException], Classification]
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    async_sleep: Callable[[float], Awaitable[None]]
    rng: Callable[[], float]

    def operation_name(self, function: object, name: str | None) -> str:
        """The name of an operation on telemetry, from a bounded set."""
        ...

    def warn_once(self, key: str, message: str) -> None:
        """Logs a warning the first time that it is called with this ``key``."""
        ...
