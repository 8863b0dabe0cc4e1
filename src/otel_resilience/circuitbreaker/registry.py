"""One circuit breaker per dependency."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from types import NoneType
from typing import TypeVar

from otel_resilience._internal import validation as check
from otel_resilience._internal.forks import new_lock, renew_lock_after_fork
from otel_resilience.circuitbreaker.breaker import CircuitBreaker, _check_parts
from otel_resilience.circuitbreaker.config import CircuitBreakerConfig, CircuitBreakerMetrics
from otel_resilience.classification.classifier import Classifier

T = TypeVar("T")


class CircuitBreakerRegistry:
    """Breakers by dependency: each is made once, with the configuration given for it or the common one.

    Raises ``TypeError`` or ``ValueError`` naming the parameter.

    Examples:
        >>> breakers = CircuitBreakerRegistry(CircuitBreakerConfig(failure_threshold=5))
        >>> breakers.get("supplier").execute(lambda: "plans")
        'plans'
        >>> list(breakers.metrics())
        ['supplier']
    """

    def __init__(
        self,
        config: CircuitBreakerConfig | None = None,
        *,
        classifier: Classifier | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        _check_parts(config, classifier, clock, rng)
        self._config = config
        self._classifier = classifier
        self._clock = clock
        self._rng = rng
        self._breakers: dict[str, CircuitBreaker] = {}
        self._lock = new_lock()
        renew_lock_after_fork(self)

    def get(self, dependency: str, config: CircuitBreakerConfig | None = None) -> CircuitBreaker:
        """The breaker of ``dependency``. ``config`` is used if this call creates it."""
        check.label("dependency", dependency)
        check.instance("config", config, CircuitBreakerConfig, NoneType)
        with self._lock:
            breaker = self._breakers.get(dependency)
            if breaker is None:
                breaker = CircuitBreaker(
                    dependency,
                    config or self._config,
                    classifier=self._classifier,
                    clock=self._clock,
                    rng=self._rng,
                )
                self._breakers[dependency] = breaker
            return breaker

    def __iter__(self) -> Iterator[CircuitBreaker]:
        """The current breakers, in the order in which they were made."""
        return iter(tuple(self._breakers.values()))

    def __len__(self) -> int:
        return len(self._breakers)

    def metrics(self) -> dict[str, CircuitBreakerMetrics]:
        """The metrics of every breaker, by dependency."""
        return {breaker.dependency: breaker.metrics() for breaker in self}
