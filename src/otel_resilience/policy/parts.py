"""Creates the parts of a policy, and checks that they fit together."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from types import NoneType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from otel_resilience._internal import validation as check
from otel_resilience.circuitbreaker.breaker import CircuitBreaker
from otel_resilience.circuitbreaker.config import CircuitBreakerConfig
from otel_resilience.circuitbreaker.machine import DEFAULT_PROBE_LEASE
from otel_resilience.classification.classifier import Classifier
from otel_resilience.retries.bucket import RetryBudgetConfig
from otel_resilience.retries.budget import RetryBudget

if TYPE_CHECKING:
    from otel_resilience.limits.concurrency import ConcurrencyLimiter
    from otel_resilience.limits.config import ConcurrencyLimit, RateLimit
    from otel_resilience.limits.rate import RateLimiter
    from otel_resilience.policy.plan import CallPlan

PROBE_LEASE_MARGIN = 1.0
"""Seconds added to the attempt timeout for the lease of a half-open probe."""


@runtime_checkable
class SharedParts(Protocol):
    """Creates shared breakers, budgets and rate limits, such as :class:`~otel_resilience.storage.SharedState`."""

    def circuit_breaker(
        self,
        dependency: str,
        config: CircuitBreakerConfig,
        *,
        classifier: Classifier,
        clock: Callable[[], float],
        rng: Callable[[], float],
    ) -> CircuitBreaker:
        """The breaker of a policy."""
        ...

    def retry_budget(self, dependency: str, config: RetryBudgetConfig, *, clock: Callable[[], float]) -> RetryBudget:
        """The budget of a policy."""
        ...

    def rate_limiter(
        self,
        dependency: str,
        config: RateLimit,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], object],
        async_sleep: Callable[[float], Awaitable[object]],
    ) -> RateLimiter:
        """The rate limit of a policy."""
        ...


def check_shared(shared: object) -> None:
    """Raises ``TypeError`` unless it is ``None`` or can create shared parts."""
    if shared is not None and (isinstance(shared, type) or not isinstance(shared, SharedParts)):
        raise TypeError(f"shared must be a SharedState or None, not {check.shown(shared)}")


def make_breaker(
    policy: CallPlan, breaker: CircuitBreaker | CircuitBreakerConfig | None, shared: SharedParts | None
) -> CircuitBreaker | None:
    """The policy's breaker. Raises ``ValueError`` if it does not fit the attempt timeout."""
    if breaker is None:
        return None
    config = breaker.config if isinstance(breaker, CircuitBreaker) else breaker
    limit = policy.attempt_timeout
    if limit is not None:
        if config.monitoring_period < 2 * limit:
            period = f"monitoring_period ({config.monitoring_period:g})"
            raise ValueError(f"{period} must be at least twice attempt_timeout ({limit:g})")
        lease = config.probe_lease
        if lease is None and isinstance(breaker, CircuitBreaker):
            lease = DEFAULT_PROBE_LEASE
        if lease is not None and lease <= limit:
            raise ValueError(f"probe_lease ({lease:g}) must be longer than attempt_timeout ({limit:g})")
    if isinstance(breaker, CircuitBreaker):
        return breaker
    if config.probe_lease is None and limit is not None:
        config = dataclasses.replace(config, probe_lease=limit + PROBE_LEASE_MARGIN)
    options: dict[str, Any] = {"classifier": policy.classifier, "clock": policy.clock, "rng": policy.rng}
    if shared is not None:
        return shared.circuit_breaker(policy.dependency, config, **options)
    return CircuitBreaker(policy.dependency, config, **options)


def make_concurrency_limiter(
    policy: CallPlan, limit: int | ConcurrencyLimit | ConcurrencyLimiter | None
) -> ConcurrencyLimiter | None:
    """The policy's limit on concurrent calls. Raises ``TypeError`` or ``ValueError`` naming the parameter."""
    if limit is None:
        return None
    from otel_resilience.limits.concurrency import ConcurrencyLimiter  # here and below: few policies have one
    from otel_resilience.limits.config import ConcurrencyLimit

    if isinstance(limit, ConcurrencyLimiter):
        return limit
    if not isinstance(limit, ConcurrencyLimit):
        limit = ConcurrencyLimit(check.count("max_concurrency", limit))
    return ConcurrencyLimiter(policy.dependency, limit, clock=policy.clock)


def make_rate_limiter(
    policy: CallPlan, limit: RateLimit | RateLimiter | None, shared: SharedParts | None
) -> RateLimiter | None:
    """The policy's rate limit."""
    if limit is None:
        return None
    from otel_resilience.limits.config import RateLimit
    from otel_resilience.limits.rate import RateLimiter

    if isinstance(limit, RateLimiter):
        return limit
    check.instance("rate_limit", limit, RateLimit, RateLimiter, NoneType)
    make: Callable[..., RateLimiter] = RateLimiter if shared is None else shared.rate_limiter
    return make(policy.dependency, limit, clock=policy.clock, sleep=policy.sleep, async_sleep=policy.async_sleep)


def make_budget(
    policy: CallPlan, budget: RetryBudget | RetryBudgetConfig | bool | None, shared: SharedParts | None
) -> RetryBudget | None:
    """The policy's budget: the given one or the bucket of its dependency; none if nothing is ever retried.

    Raises ``ValueError`` if it could never pay for all retries of one call; one created by default is large enough.
    """
    if isinstance(budget, (RetryBudget, RetryBudgetConfig)):
        _check_pays(policy, budget.config if isinstance(budget, RetryBudget) else budget)
    if isinstance(budget, RetryBudget):
        return budget
    if budget is False or (policy.max_attempts == 1 and policy.hedge_delay is None):
        return None
    given = budget if isinstance(budget, RetryBudgetConfig) else None
    price = (given or RetryBudgetConfig()).price(max(policy.max_attempts - 1, 1))
    if shared is not None:
        config = given or RetryBudgetConfig(capacity=max(RetryBudgetConfig().capacity, price))
        return shared.retry_budget(policy.dependency, config, clock=policy.clock)
    return RetryBudget.for_dependency(policy.dependency, given, at_least=price, clock=policy.clock)


def _check_pays(policy: CallPlan, config: RetryBudgetConfig) -> None:
    price = config.price(policy.max_attempts - 1)
    if price > config.capacity:
        raise ValueError(
            f"max_attempts ({policy.retry.max_attempts}) needs a budget with a capacity of at least {price:g},"
            f" not {config.capacity:g}: one retry costs up to {config.price(1):g}"
        )
