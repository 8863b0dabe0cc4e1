"""The object that policies are given to share their state, in one or more storages; the first reachable one counts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from otel_resilience.circuitbreaker.config import CircuitBreakerConfig
from otel_resilience.classification.classifier import Classifier
from otel_resilience.limits.config import RateLimit
from otel_resilience.limits.rate import RateLimiter
from otel_resilience.retries.bucket import RetryBudgetConfig
from otel_resilience.storage.breaker import SharedCircuitBreaker
from otel_resilience.storage.budget import SharedRetryBudget
from otel_resilience.storage.rate import SharedRateLimiter
from otel_resilience.storage.sharing import Sharing


class SharedState(Sharing):
    """State that breakers, budgets and rate limits share through one or more storages.

    The first reachable storage is used; those behind it keep a copy for when it is unreachable. ``wait``: maximum
    seconds that a call waits for a remote storage. ``staleness``: maximum seconds until changes by other processes are
    known. ``scope`` separates dependencies of the same name, such as the hosts of two environments.

    Close it at the end of the process, which reports what was not reported yet. Raises ``TypeError`` or ``ValueError``
    naming the parameter.

    Examples:
        >>> from otel_resilience.storage import MemoryStorage, SharedState
        >>> shared = SharedState(MemoryStorage())  # for many machines: RedisStorage("redis://localhost")
        >>> policy = Policy("supplier", retry=RetryConfig(), breaker=CircuitBreakerConfig(), shared=shared)
        >>> policy.execute(lambda: "plans")
        'plans'
        >>> shared.close()
    """

    def circuit_breaker(
        self,
        dependency: str,
        config: CircuitBreakerConfig,
        *,
        classifier: Classifier,
        clock: Callable[[], float],
        rng: Callable[[], float],
    ) -> SharedCircuitBreaker:
        """A breaker of ``dependency`` that acts as one with all others of that name in this state."""
        return SharedCircuitBreaker(dependency, config, shared=self, classifier=classifier, clock=clock, rng=rng)

    def retry_budget(
        self, dependency: str, config: RetryBudgetConfig, *, clock: Callable[[], float]
    ) -> SharedRetryBudget:
        """A budget that draws on the one bucket of ``dependency`` in this state."""
        return SharedRetryBudget(dependency, config, shared=self, clock=clock)

    def rate_limiter(
        self,
        dependency: str,
        config: RateLimit,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], object],
        async_sleep: Callable[[float], Awaitable[object]],
    ) -> RateLimiter:
        """A rate limit of ``dependency`` shared with all users of this state.

        Only the first storage gives permits; while it is unreachable each process keeps to its share. In shadow mode
        each process counts for itself.
        """
        if config.shadow:
            return RateLimiter(dependency, config, clock=clock, sleep=sleep, async_sleep=async_sleep)
        return SharedRateLimiter(dependency, config, shared=self, clock=clock, sleep=sleep, async_sleep=async_sleep)
