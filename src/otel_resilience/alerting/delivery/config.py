"""How delivery through a channel is attempted."""

from __future__ import annotations

import dataclasses

from otel_resilience._internal import validation as check
from otel_resilience.circuitbreaker.config import CircuitBreakerConfig
from otel_resilience.retries.config import RetryConfig


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryConfig:
    """How delivery through a channel is attempted. Durations in seconds, at least 0; counts at least 1. Raises
    ``TypeError`` or ``ValueError`` naming the parameter.

    Examples:
        >>> from otel_resilience.alerting import AlertConfig, AlertService, DeliveryConfig
        >>> service = AlertService(AlertConfig(), [], delivery=DeliveryConfig(attempt_timeout=10, per_minute=30))
        >>> DeliveryConfig(attempt_timeout=0)
        Traceback (most recent call last):
            ...
        ValueError: attempt_timeout must be greater than 0, not 0
    """

    attempt_timeout: float = 5.0
    """Time limit for one message, the response included; greater than 0."""
    retry: RetryConfig = dataclasses.field(
        default_factory=lambda: RetryConfig(max_attempts=3, base_delay=0.5, max_retry_after=30.0)
    )
    """A receiver that asks for more than ``max_retry_after`` gets it; another channel takes over meanwhile."""
    breaker: CircuitBreakerConfig = dataclasses.field(
        default_factory=lambda: CircuitBreakerConfig(consecutive_failures=5, reset_timeout=15.0)
    )
    """Opens if the receiver keeps failing; another channel takes over."""
    first_pause: float = 15.0
    """Wait after the retries of a notification gave up, doubled each time; the next notification is not sent sooner."""
    longest_pause: float = 300.0
    """Maximum of that wait."""
    first_probe: float = 60.0
    """Wait after a receiver revoked our access, doubled each time; then the next message is tried anyway. A message of
    CRITICAL severity is always tried immediately."""
    longest_probe: float = 3600.0
    """Maximum of that wait."""
    per_minute: int = 60
    """Maximum messages of a channel in any minute; further ones wait and are sent together."""
    max_queue: int = 1000
    """Maximum notifications waiting for a channel; beyond that the two oldest are merged into one."""

    def __post_init__(self) -> None:
        check.instance("retry", self.retry, RetryConfig)
        check.instance("breaker", self.breaker, CircuitBreakerConfig)
        check.seconds("attempt_timeout", self.attempt_timeout)
        for name in ("first_pause", "longest_pause", "first_probe", "longest_probe"):
            check.seconds(name, getattr(self, name), zero=True)
        for name in ("per_minute", "max_queue"):
            check.count(name, getattr(self, name))
