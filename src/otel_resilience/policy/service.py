"""Retries of single operations, without a circuit breaker: :class:`RetryService` and the decorator :func:`retry`."""

from __future__ import annotations

import asyncio
import functools
import random
import time
import types
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, overload

from otel_resilience._internal import validation as check
from otel_resilience._internal.foreign import attribute, is_a
from otel_resilience._internal.operations import protectable
from otel_resilience._internal.predicates import Retryable, predicate
from otel_resilience.classification.classifier import Classifier
from otel_resilience.retries.config import RetryConfig

if TYPE_CHECKING:
    from otel_resilience.policy.keywords import CallKeywords
    from otel_resilience.policy.policy import Policy
    from otel_resilience.policy.results import RetryResult
    from otel_resilience.retries.bucket import RetryBudgetConfig
    from otel_resilience.retries.budget import RetryBudget

T = TypeVar("T")
P = ParamSpec("P")


class RetryService:
    """Retries operations. Without ``is_retryable`` the classifier decides what to retry.

    All calls to one ``dependency`` share one retry budget, whichever service makes them. A service without a dependency
    is ``default`` on telemetry and has its own budget. A given budget must be able to pay for all retries of one call,
    otherwise that call raises ``ValueError``; one created by default is large enough.

    ``clock`` gives monotonic seconds, ``sleep`` and ``async_sleep`` wait, ``rng`` gives random numbers in
    ``[0, 1)``. Raises ``TypeError`` or ``ValueError`` naming the parameter.

    Examples:
        >>> import asyncio
        >>> def fetch():
        ...     if current_attempt() < 3:
        ...         raise ConnectionResetError
        ...     return "plans"
        >>> RetryService().execute_with_retry(fetch, RetryConfig(max_attempts=3, base_delay=0.05))
        'plans'
        >>> async def fetch_async():
        ...     return fetch()
        >>> asyncio.run(RetryService("supplier").execute_with_retry(fetch_async, is_retryable=ConnectionError))
        'plans'
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
        from otel_resilience.retries.bucket import RetryBudgetConfig as BudgetConfig
        from otel_resilience.retries.budget import RetryBudget as Budget

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
        """The configuration used last and its policy: hashing a configuration takes as long as a call."""

    @overload
    def execute_with_retry(
        self,
        operation: Callable[[], Awaitable[T]],
        config: RetryConfig | None = None,
        is_retryable: Retryable | None = None,
        **options: Unpack[CallKeywords],
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def execute_with_retry(
        self,
        operation: Callable[[], T],
        config: RetryConfig | None = None,
        is_retryable: Retryable | None = None,
        **options: Unpack[CallKeywords],
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
        retry_result: RetryResult | None = None,
    ) -> Any:
        """Runs ``operation`` until it succeeds, its error should not be retried, or the attempts are used up; then the
        original exception is raised with a note. Returns a value, or an awaitable for an async operation.

        ``idempotent=False`` retries only if the operation was provably not sent. ``deadline`` is in seconds.
        ``retry_result`` works as in :class:`~otel_resilience.Policy`: the last result is returned. Raises
        ``ValueError`` if ``config`` allows more attempts than the given budget could ever pay for.
        """
        if config is not None and not isinstance(config, RetryConfig):
            raise TypeError(f"config must be a RetryConfig, not {config!r}")
        used, policy = self._latest
        if config is not used and config is not None:
            policy = self._policy_of(config)
            self._latest = config, policy
        elif config is None and used is not self._default[0]:
            policy = self._default[1]
        return policy.execute(
            operation,
            name=name,
            idempotent=idempotent,
            deadline=deadline,
            is_retryable=is_retryable,
            retry_result=retry_result,
        )

    def _make_policy(self, config: RetryConfig) -> Policy:
        from otel_resilience.policy.policy import Policy as PolicyClass  # policy builds on this module

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
    retry_result: RetryResult | None = None,
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorator that retries a function, ``def`` or ``async def``.

    ``on`` says what to retry and has no default: a predicate, an exception type, several of them (a tuple, list, set,
    frozenset, or a union ``A | B``), or ``None`` for the classifier's verdict. Functions of one ``dependency`` share
    its retry budget; without one each function is its own dependency, named by module and qualified name. Other
    parameters as for :class:`~otel_resilience.Policy`. Raises ``TypeError`` or ``ValueError`` naming the parameter.

    Examples:
        >>> @retry(RetryConfig(max_attempts=5), on=ConnectionError | TimeoutError, dependency="supplier")
        ... def fetch(page: int) -> str:
        ...     if current_attempt() < 5:
        ...         raise ConnectionResetError
        ...     return f"page {page}"
        >>> fetch(1)
        'page 1'
    """
    from otel_resilience.policy.policy import Policy as PolicyClass  # imported late: policy.py builds on this module

    check.instance("config", config, RetryConfig, types.NoneType)
    wanted = predicate("on", on)

    def decorate_for(dependency: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
        policy = PolicyClass(dependency, retry=config or RetryConfig(), budget=budget, retry_result=retry_result)
        return policy.decorator(name=name, idempotent=idempotent, is_retryable=wanted)

    if dependency is not None:
        return decorate_for(dependency)
    decorate_for("default")  # rejects an invalid combination here already

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        protectable("a protected function", function)
        return decorate_for(_qualified_name(function))(function)

    return decorate


def _qualified_name(function: Any) -> str:
    """Module and qualified name; those of the type for a callable object."""
    target = function.func if isinstance(function, functools.partial) else function
    if not is_a(attribute(target, "__qualname__"), str):
        target = type(target)
    return f"{target.__module__}.{target.__qualname__}"
