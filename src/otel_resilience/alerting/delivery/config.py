"""How channels are tried."""

from __future__ import annotations

import dataclasses

from otel_resilience._internal import validation as check
from otel_resilience.circuitbreaker.config import CircuitBreakerConfig
from otel_resilience.retries.config import RetryConfig


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryConfig:
    """How a channel is tried. Durations in seconds, at least 0; counts at least 1. Raises ``TypeError`` or
    ``ValueError`` naming the parameter.

    Examples:
        >>> from otel_resilience.alerting import AlertConfig, AlertService, DeliveryConfig
        >>> service = AlertService(AlertConfig(), [], delivery=DeliveryConfig(attempt_timeout=10, per_minute=30))
        >>> DeliveryConfig(attempt_timeout=0)
        Traceback (most recent call last):
            ...
        ValueError: attempt_timeout must be greater than 0, not 0
    """

    attempt_timeout: float = 5.0
    """One message on its way, the answer included; greater than 0."""
    retry: RetryConfig = dataclasses.field(
        default_factory=lambda: RetryConfig(max_attempts=3, base_delay=0.5, max_retry_after=30.0)
    )
    """A receiver that asks for more patience than ``max_retry_after`` gets it; another channel takes over meanwhile."""
    breaker: CircuitBreakerConfig = dataclasses.field(
        default_factory=lambda: CircuitBreakerConfig(consecutive_failures=5, reset_timeout=15.0)
    )
    """Opens where the receiver is not well; another channel takes over."""
    first_pause: float = 15.0
    """Wait after a notification was given up by the retry, doubled each time; the next one is not sooner."""
    longest_pause: float = 300.0
    """The longest such wait."""
    first_probe: float = 60.0
    """Wait after a receiver revoked our access, doubled each time: then the next message is tried all the same. One
    of CRITICAL severity is tried at once, whatever came before."""
    longest_probe: float = 3600.0
    """The longest such wait."""
    per_minute: int = 60
    """Most messages of a channel in any minute; what comes beyond waits and leaves together."""
    max_queue: int = 1000
    """Notifications that may wait for a channel; beyond it the two oldest become one."""

    def __post_init__(self) -> None:
        check.instance("retry", self.retry, RetryConfig)
        check.instance("breaker", self.breaker, CircuitBreakerConfig)
        check.seconds("attempt_timeout", self.attempt_timeout)
        for name in ("first_pause", "longest_pause", "first_probe", "longest_probe"):
            check.seconds(name, getattr(self, name), zero=True)
        for name in ("per_minute", "max_queue"):
            check.count(name, getattr(self, name))
