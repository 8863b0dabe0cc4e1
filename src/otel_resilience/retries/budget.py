"""Retry budget: a token bucket that keeps retries to a small share of the traffic, and never blocks a first attempt.

It follows the AWS SDK retries of 2026, resized for one process: rare failures are retried freely, since a successful
retry returns its cost; in an outage the bucket runs dry after a few retries and amplification ends.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
import weakref
from collections import deque
from collections.abc import Callable, Hashable
from types import NoneType
from typing import Final

from otel_resilience._internal import validation as check
from otel_resilience._internal.forks import ProcessLock, new_lock, renew_lock_after_fork
from otel_resilience._internal.in_use import InUse
from otel_resilience._internal.process_bound import ProcessBound
from otel_resilience.classification.model import ErrorClass
from otel_resilience.retries.bucket import RetryBudgetConfig, TokenBucket

_INFINITY: Final = math.inf
_log = logging.getLogger("otel_resilience")
_making: Final = ProcessLock()
_by_sizes: Final[weakref.WeakValueDictionary[tuple[Hashable, ...], RetryBudget]] = weakref.WeakValueDictionary()
"""The buckets of :meth:`RetryBudget.for_dependency` in use, by dependency, clock and sizes."""
_first: Final[weakref.WeakValueDictionary[tuple[Hashable, ...], RetryBudget]] = weakref.WeakValueDictionary()
"""Of several buckets for one dependency with different sizes, the one that was created first."""


@dataclasses.dataclass(frozen=True, slots=True)
class RetryBudgetMetrics:
    """A snapshot of a budget, as returned by :meth:`RetryBudget.metrics`.

    Examples:
        >>> metrics = RetryBudget("supplier").metrics()
        >>> metrics.tokens, metrics.capacity, metrics.denied
        (100.0, 100.0, 0)
    """

    dependency: str
    tokens: float
    capacity: float
    utilization: float
    """Share of the bucket that is spent, 0 to 1."""
    granted: int
    """Retries paid for so far."""
    denied: int
    """Retries refused so far."""


class RetryBudget(ProcessBound):
    """A token bucket shared by all calls to one dependency; safe for threads and event loops.

    Policies without a budget of their own, or with the same sizes, share the bucket of their dependency's name:
    :meth:`for_dependency`. The constructor creates a separate bucket, for the policies that it is passed to.

    ``clock`` gives monotonic seconds. Raises ``TypeError`` or ``ValueError`` naming the parameter.

    Examples:
        >>> budget = RetryBudget("supplier", RetryBudgetConfig(capacity=50))
        >>> reads = Policy("supplier", retry=RetryConfig(), budget=budget)
        >>> writes = Policy("orders", retry=RetryConfig(), budget=budget)
        >>> budget.take(10), f"{budget.metrics().utilization:.0%}"
        (True, '20%')
    """

    __slots__ = ("__weakref__", "_bucket", "_clock", "_denied", "_granted", "_lock", "_refunds", "_starved", "config",
                 "costs", "dependency", "full")  # fmt: skip

    def __init__(
        self,
        dependency: str,
        config: RetryBudgetConfig | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.dependency = check.label("dependency", dependency)
        check.instance("config", config, RetryBudgetConfig, NoneType)
        check.def_function("clock", clock)
        self.config = config or RetryBudgetConfig()
        self.costs = {kind: float(self.config.cost(kind)) for kind in ErrorClass}
        """The price of a retry, by the class of the error."""
        self._clock = clock
        self._bucket = TokenBucket(self.config, clock())
        self._lock = new_lock()
        self._refunds: deque[float] = deque()
        """Refunds added without the lock, which the next access moves into the bucket."""
        self._granted = 0
        self._denied = 0
        self._starved = False
        self.full = True
        """Whether the bucket is full; read without the lock, as a hint that saves work."""
        renew_lock_after_fork(self)
        budgets_in_use.add(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.dependency} {self.tokens:g} of {self.config.capacity:g} tokens>"

    @classmethod
    def for_dependency(
        cls,
        dependency: str,
        config: RetryBudgetConfig | None = None,
        *,
        at_least: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> RetryBudget:
        """The bucket of ``dependency`` in this process, created by the first caller and shared while it is in use.

        ``at_least`` (at least 0) raises its capacity to that many tokens. Each ``config`` and each clock has its own
        bucket. Different sizes for one dependency are logged as a warning when the second bucket is created: the
        dependency then gets the retries of both.
        """
        check.def_function("clock", clock)
        check.number("at_least", at_least, minimum=0)
        check.instance("config", config, RetryBudgetConfig, NoneType)
        sizes = config or RetryBudgetConfig()
        name = check.label("dependency", dependency), _identity(clock)
        with _making:
            budget = first = _by_sizes.get((*name, sizes))
            if budget is None:
                budget = _by_sizes[(*name, sizes)] = RetryBudget(dependency, sizes, clock=clock)
                first = _first.setdefault(name, budget)
        if first is not None and first is not budget:
            _log.warning(
                "%r has two retry budgets, %r and %r, and may get the retries of both. Give all its policies the same"
                " RetryBudgetConfig, or one RetryBudget",
                dependency,
                first.config,
                sizes,
            )
        budget.enlarge(at_least)
        return budget

    def enlarge(self, capacity: float) -> None:
        """Raises the capacity to at least ``capacity`` tokens; the added part is full."""
        check.number("capacity", capacity, minimum=0)
        with self._lock:
            self._settle()
            if capacity > self.config.capacity:
                self.config = dataclasses.replace(self.config, capacity=capacity)
                self._bucket.enlarge(capacity)

    def take(self, cost: float) -> bool:
        """Pays for one retry. ``cost`` is at least 0, else ``ValueError``. ``False`` if the bucket holds less."""
        if type(cost) is not float or not 0.0 <= cost < _INFINITY:  # configurations have floats
            check.number("cost", cost, minimum=0)
        clock = self._clock
        now = clock()
        with self._lock:
            if self._refunds:
                self._settle()
            if self._bucket.take(cost, now):
                self._granted += 1
                self._starved = self.full = False
                return True
            self._denied += 1
        return False

    def give(self, tokens: float) -> None:
        """Adds ``tokens``, at least 0, up to the capacity: a refund, or the credit of a first-attempt success."""
        if type(tokens) is not float or not 0.0 <= tokens < _INFINITY:
            check.number("tokens", tokens, minimum=0)
        with self._lock:
            self._settle()
            self.full = self._bucket.give(tokens)

    def refund(self, tokens: float) -> None:
        """Refunds the ``tokens`` that :meth:`take` took, at least 0; a retry that succeeded costs nothing.

        Takes no lock: the refund is in the bucket from the next access on.
        """
        self._refunds.append(tokens)

    def _settle(self) -> None:
        while self._refunds:
            self.full = self._bucket.give(self._refunds.popleft())

    def reset(self) -> None:
        """Resets everything: full bucket, counters at zero."""
        with self._lock:
            self._refunds.clear()
            self._bucket = TokenBucket(self.config, self._clock())
            self._granted = self._denied = 0
            self._starved, self.full = False, True

    @property
    def tokens(self) -> float:
        """Tokens at the last access, without those accrued since."""
        with self._lock:
            self._settle()
            return self._bucket.tokens

    def enter_starvation(self) -> bool:
        """``True`` once per episode of an empty bucket, so that it is reported once."""
        with self._lock:
            first, self._starved = not self._starved, True
            return first

    def metrics(self) -> RetryBudgetMetrics:
        """A snapshot of the bucket."""
        with self._lock:
            self._settle()
            self._bucket.refill(self._clock())
            tokens = self._bucket.tokens
            return RetryBudgetMetrics(
                dependency=self.dependency,
                tokens=tokens,
                capacity=self.config.capacity,
                utilization=1.0 - tokens / self.config.capacity,
                granted=self._granted,
                denied=self._denied,
            )


def _identity(clock: Callable[[], float]) -> Hashable:
    try:
        hash(clock)
    except TypeError:
        return id(clock)  # the budget keeps the clock alive, so its id is not reused
    return clock


budgets_in_use: Final[InUse[RetryBudget]] = InUse()


def forget_budgets() -> None:
    """For tests: the next request for a dependency's bucket creates a new one. Those in use are not changed.

    Examples:
        >>> from otel_resilience.testing import forget_budgets
        >>> budget = RetryBudget.for_dependency("supplier")
        >>> forget_budgets()
        >>> RetryBudget.for_dependency("supplier") is budget
        False
    """
    with _making:
        _by_sizes.clear()
        _first.clear()
