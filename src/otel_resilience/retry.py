"""Retry: how often, how long between, and for which errors."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import random
import time
import types
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from otel_resilience import _validation as check
from otel_resilience._operations import protectable
from otel_resilience._predicates import Retryable, predicate
from otel_resilience.backoff import Jitter, ceiling, spread
from otel_resilience.classification import Classification, Classifier, ErrorClass

if TYPE_CHECKING:
    from otel_resilience.budget import RetryBudget, RetryBudgetConfig
    from otel_resilience.policy import Policy

T = TypeVar("T")
P = ParamSpec("P")


@dataclasses.dataclass(frozen=True, slots=True)
class RetryConfig:
    """How retries are made. Raises ``TypeError`` or ``ValueError`` naming the parameter.

    Defaults: three attempts, full jitter, 50 ms for transient errors and 1 s for throttling, at most 20 s (AWS SDK
    retries of 2026).
    """

    max_attempts: int = 3
    """Attempts in all, the first included."""
    base_delay: float = 0.05
    """Ceiling in seconds of the wait before the first retry of a transient error."""
    max_delay: float = 20.0
    """Ceiling in seconds of every wait that we choose ourselves. A server's hint may be longer."""
    exponential_base: float = 2.0
    """The ceiling grows by this factor from retry to retry; at least 1."""
    jitter: Jitter | str | bool = Jitter.FULL
    """``full`` (or ``True``), ``equal``, ``decorrelated``, ``none`` (or ``False``)."""
    throttle_base_delay: float = 1.0
    """The ceiling in seconds before the first retry where the dependency asked to slow down and named no time."""
    slow_base_delay: float = 5.0
    """The least wait in seconds after an error that heals slowly."""
    max_retry_after: float = 300.0
    """A server's hint of more seconds than this ends the call at once, also where there is no deadline."""

    def __post_init__(self) -> None:
        check.count("max_attempts", self.max_attempts)
        for name in ("base_delay", "max_delay", "throttle_base_delay", "slow_base_delay", "max_retry_after"):
            check.seconds(name, getattr(self, name), zero=True)
        check.number("exponential_base", self.exponential_base, minimum=1)
        object.__setattr__(self, "jitter", Jitter.of(self.jitter))
        if self.base_delay > self.max_delay:
            raise ValueError(f"base_delay must be at most max_delay ({self.max_delay:g}), not {self.base_delay!r}")

    def delay(self, verdict: Classification, retry: int, previous: float, rng: Callable[[], float]) -> float:
        """Seconds to wait before retry ``retry`` (0 for the first).

        ``previous`` is the wait before; ``rng`` gives a random number in ``[0, 1)``. A server's hint is a lower bound.
        """
        kind = verdict.error_class
        hint = verdict.retry_after
        base = self.base_delay
        if kind is not ErrorClass.TRANSIENT:
            if kind is ErrorClass.THROTTLED:
                base = self.throttle_base_delay
            elif kind is ErrorClass.TRANSIENT_SLOW:
                base = self.slow_base_delay
        if not base:
            return hint or 0.0
        longest = ceiling(base, self.exponential_base, retry, self.max_delay)
        jitter: Jitter = self.jitter  # type: ignore[assignment]  # __post_init__ made it a Jitter
        chosen = spread(jitter, longest, base, previous, self.max_delay, rng())
        if kind is ErrorClass.TRANSIENT_SLOW:
            chosen = max(chosen, min(self.slow_base_delay, self.max_delay))
        return chosen if hint is None else max(chosen, hint)


class RetryService:
    """Retries operations. Without ``is_retryable`` the classifier decides what is worth a repetition.

    All calls to one ``dependency`` share one retry budget, whichever service makes them. A service that names none is
    ``default`` on telemetry and has a budget of its own. A budget that is given must pay for all retries of one call,
    else that call raises ``ValueError``; the one made by default is large enough.
    """

    def __init__(
        self,
        dependency: str | None = None,
        *,
        budget: RetryBudget | RetryBudgetConfig | None = None,
        classifier: Classifier | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        async_sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: Callable[[], float] = random.random,
    ) -> None:
        from otel_resilience.budget import RetryBudget as Budget
        from otel_resilience.budget import RetryBudgetConfig as BudgetConfig

        check.instance("budget", budget, Budget, BudgetConfig, types.NoneType)
        check.instance("classifier", classifier, Classifier, types.NoneType)
        self.dependency = "default" if dependency is None else check.label("dependency", dependency)
        if isinstance(budget, Budget):
            self.budget = budget
        elif dependency is None:
            self.budget = Budget(self.dependency, budget, clock=clock)
        else:
            self.budget = Budget.for_dependency(dependency, budget, clock=clock)
        self._sized = budget is not None
        self._options: dict[str, Any] = {
            "classifier": classifier,
            "clock": clock,
            "sleep": sleep,
            "async_sleep": async_sleep,
            "rng": rng,
        }
        self._policy_of = functools.lru_cache(maxsize=64)(self._make_policy)
        default = RetryConfig()
        self._default = default, self._policy_of(default)
        self._latest = self._default
        """The configuration used last and its policy: to hash a configuration takes as long as a call."""

    @overload
    def execute_with_retry(
        self,
        operation: Callable[[], Awaitable[T]],
        config: RetryConfig | None = None,
        is_retryable: Retryable | None = None,
        *,
        name: str | None = None,
        idempotent: bool | None = None,
        deadline: float | None = None,
    ) -> Awaitable[T]: ...
    @overload
    def execute_with_retry(
        self,
        operation: Callable[[], T],
        config: RetryConfig | None = None,
        is_retryable: Retryable | None = None,
        *,
        name: str | None = None,
        idempotent: bool | None = None,
        deadline: float | None = None,
    ) -> T: ...
    def execute_with_retry(
        self,
        operation: Callable[[], Any],
        config: RetryConfig | None = None,
        is_retryable: Retryable | None = None,
        *,
        name: str | None = None,
        idempotent: bool | None = None,
        deadline: float | None = None,
    ) -> Any:
        """Runs ``operation`` until it succeeds, its error is not worth a repetition, or the attempts end; then the
        original exception is raised with a note. A value, or an awaitable for an async operation.

        ``idempotent=False`` repeats it only where it was provably not sent. ``deadline`` is in seconds. Raises
        ``ValueError`` where ``config`` allows more attempts than the budget that was given could ever pay for.
        """
        if config is not None and not isinstance(config, RetryConfig):
            raise TypeError(f"config must be a RetryConfig, not {config!r}")
        used, policy = self._latest
        if config is not used and config is not None:
            policy = self._policy_of(config)
            self._latest = config, policy
        elif config is None and used is not self._default[0]:
            policy = self._default[1]
        return policy.execute(operation, name=name, idempotent=idempotent, deadline=deadline, is_retryable=is_retryable)

    def _make_policy(self, config: RetryConfig) -> Policy:
        from otel_resilience.policy import Policy as PolicyClass  # policy builds on this module

        if not self._sized:
            self.budget.enlarge(self.budget.config.price(config.max_attempts - 1))
        return PolicyClass(self.dependency, retry=config, budget=self.budget, **self._options)


def retry(
    config: RetryConfig | None = None,
    *,
    on: Retryable | None,
    dependency: str | None = None,
    name: str | None = None,
    idempotent: bool | None = None,
    budget: RetryBudget | RetryBudgetConfig | None = None,
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorator that retries a function, ``def`` or ``async def``.

    ``on`` says what is retryable and has no default: a predicate, an exception type, several of them (a tuple, list,
    set, frozenset, or a union ``A | B``), or ``None`` for the classifier's verdict. Functions of one ``dependency``
    share its retry budget; without one each function is a dependency of its own, named by its module and its qualified
    name. The other parameters are those of :class:`~otel_resilience.Policy`. Raises ``TypeError`` or ``ValueError``
    naming the parameter.

        @retry(RetryConfig(max_attempts=5), on=ConnectionError | TimeoutError, dependency="supplier")
        def fetch(page: int) -> bytes: ...
    """
    from otel_resilience.policy import Policy as PolicyClass  # policy builds on this module

    check.instance("config", config, RetryConfig, types.NoneType)
    wanted = predicate("on", on)

    def decorate_for(dependency: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
        policy = PolicyClass(dependency, retry=config or RetryConfig(), budget=budget)
        return policy.decorator(name=name, idempotent=idempotent, is_retryable=wanted)

    if dependency is not None:
        return decorate_for(dependency)
    decorate_for("default")  # refuses here what does not fit together

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        protectable("a protected function", function)
        return decorate_for(_qualified_name(function))(function)

    return decorate


def _qualified_name(function: Any) -> str:
    """Module and qualified name; those of the type for a callable object."""
    target = function.func if isinstance(function, functools.partial) else function
    if not hasattr(target, "__qualname__"):
        target = type(target)
    return f"{target.__module__}.{target.__qualname__}"
