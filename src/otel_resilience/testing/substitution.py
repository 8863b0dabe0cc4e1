"""Temporarily replaces clocks and sleeps of the library's objects, and resets their state."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Any, Final

from otel_resilience.circuitbreaker.breaker import CircuitBreaker
from otel_resilience.limits.concurrency import ConcurrencyLimiter
from otel_resilience.limits.rate import RateLimiter, rate_limiters_in_use
from otel_resilience.policy.policy import Policy, policies_in_use
from otel_resilience.policy.registry import registries_in_use
from otel_resilience.retries.budget import RetryBudget, budgets_in_use, forget_budgets
from otel_resilience.telemetry import living_breakers
from otel_resilience.testing.clock import FakeClock

CLOCK: Final = "clock"
SLEEP: Final = "sleep"
ASYNC_SLEEP: Final = "async_sleep"

_ATTRIBUTES: Final[dict[type, dict[str, str]]] = {
    Policy: {CLOCK: "clock", SLEEP: "sleep", ASYNC_SLEEP: "async_sleep"},
    CircuitBreaker: {CLOCK: "clock"},
    RetryBudget: {CLOCK: "_clock"},
    RateLimiter: {CLOCK: "_clock", SLEEP: "sleep", ASYNC_SLEEP: "async_sleep"},
    ConcurrencyLimiter: {CLOCK: "_clock"},
}
"""The attributes in which each kind of object keeps them."""


class Substitution:
    """Within the block, objects of the library have these clocks or sleeps: existing ones and those created in it.

    An object that was given a :class:`FakeClock` keeps it. ``only`` these objects, if given. Keeps none alive.
    """

    def __init__(self, substitutes: Mapping[str, Any], *, only: Iterable[object] = ()) -> None:
        self._substitutes = substitutes
        self._only = tuple(only)
        self._stack = ExitStack()
        self._replaced: list[tuple[weakref.ref[Any], str, Any]] = []

    def __enter__(self) -> None:
        if not self._only:
            for kind in _ATTRIBUTES:
                self._prepare_new(kind)
        for each in self._only or _in_use():
            self._prepare(each)

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        for reference, attribute, original in reversed(self._replaced):
            each = reference()
            if each is not None:
                setattr(each, attribute, original)

    def _prepare(self, each: object) -> None:
        for kind, attributes in _ATTRIBUTES.items():
            for role in attributes.keys() & self._substitutes if isinstance(each, kind) else ():
                original = getattr(each, attributes[role])
                if self._only or not isinstance(getattr(original, "__self__", original), FakeClock):
                    self._replaced.append((weakref.ref(each), attributes[role], original))
                    setattr(each, attributes[role], self._substitutes[role])

    def _prepare_new(self, kind: Any) -> None:
        original = kind.__init__

        @functools.wraps(original)
        def initialise(made: object, *args: Any, **options: Any) -> None:
            original(made, *args, **options)
            self._prepare(made)

        kind.__init__ = initialise
        self._stack.callback(setattr, kind, "__init__", original)


def _in_use() -> Iterable[object]:
    policies = list(policies_in_use)
    slots = [policy.concurrency_limiter for policy in policies if policy.concurrency_limiter is not None]
    return (*policies, *living_breakers(), *budgets_in_use, *rate_limiters_in_use, *slots)


def start_afresh() -> None:
    """Closes circuits, fills budgets, resets rate limits, empties registries: of all policies in use.

    State shared through a storage is left as it is, and so are the slots of running calls.
    """
    forget_budgets()
    for breaker in living_breakers():
        CircuitBreaker.reset(breaker)  # type: ignore[arg-type]  # of a shared one only what is in this process
    for budget in budgets_in_use:
        budget.reset()
    for registry in registries_in_use:
        registry.clear()
    for limiter in rate_limiters_in_use:
        if type(limiter) is RateLimiter:
            limiter.reset()
