"""Faults with a known verdict, scripted operations, and one driver for ``def`` and ``async def``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ClassVar, TypeVar

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

from otel_resilience import (
    BreakerEffect,
    CircuitBreakerConfig,
    Classification,
    ErrorClass,
    Policy,
    RetryBudgetConfig,
    RetryConfig,
    Severity,
)
from otel_resilience.testing import FakeClock, FakeTimeLoop

T = TypeVar("T")

defaults: dict[str, float | None] = {"deadline": 30.0}
"""The deadline of :func:`make_policy`; without one, and unobserved, a call takes a shorter path."""


class Fault(Exception):  # noqa: N818  # a name of the tests, not of an API
    """An error that carries its own verdict; ``retry_after`` and the like may be set per instance."""

    verdict: ClassVar[Classification]

    def __init__(self, message: str = "fault", **changes: object) -> None:
        super().__init__(message)
        self.classification = self.verdict.replace(**changes) if changes else self.verdict


class TransientFault(Fault):
    verdict = Classification(ErrorClass.TRANSIENT, Severity.MEDIUM, "503", BreakerEffect.FAILURE)


class ThrottledFault(Fault):
    verdict = Classification(ErrorClass.THROTTLED, Severity.LOW, "429", BreakerEffect.NEUTRAL)


class SlowHealingFault(Fault):
    verdict = Classification(ErrorClass.TRANSIENT_SLOW, Severity.HIGH, "redis_loading", BreakerEffect.FAILURE)


class LocalFault(Fault):
    verdict = Classification(ErrorClass.LOCAL, Severity.MEDIUM, "pool_exhausted", BreakerEffect.NEUTRAL, unsent=True)


class PermanentFault(Fault):
    verdict = Classification(ErrorClass.PERMANENT, Severity.HIGH, "payload_too_large", BreakerEffect.FAILURE)


class NotFoundFault(Fault):
    """A proper answer of a healthy dependency."""

    verdict = Classification(ErrorClass.PERMANENT, Severity.LOW, "404", BreakerEffect.SUCCESS)


class Script:
    """Plays outcomes in order and repeats the last: exceptions are raised, callables called, others returned."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = outcomes
        self.calls = 0

    def play(self) -> Any:
        outcome = self.outcomes[min(self.calls, len(self.outcomes) - 1)]
        self.calls += 1
        if isinstance(outcome, BaseException) or (isinstance(outcome, type) and issubclass(outcome, BaseException)):
            raise outcome
        return outcome() if callable(outcome) else outcome


class Driver:
    """Runs the same script as a ``def`` or as an ``async def`` operation."""

    def __init__(self, clock: FakeClock, *, asynchronous: bool) -> None:
        self.clock = clock
        self.asynchronous = asynchronous

    def __repr__(self) -> str:
        return "async def" if self.asynchronous else "def"

    def operation(self, play: Callable[[], Any]) -> Callable[[], Any]:
        if not self.asynchronous:

            def operation() -> Any:
                return play()

            return operation

        async def async_operation() -> Any:
            return play()

        return async_operation

    def run(self, result: Any) -> Any:
        """The value of a protected call, awaited if necessary."""
        return run_fake(self.clock, result) if self.asynchronous else result

    def execute(self, target: Any, script: Script | Callable[[], Any], **options: Any) -> Any:
        """Runs ``script`` under a policy or a breaker."""
        play = script.play if isinstance(script, Script) else script
        return self.run(target.execute(self.operation(play), **options))


def run_fake(clock: FakeClock, awaitable: Awaitable[T]) -> T:
    """Runs ``awaitable`` to its end on a loop whose time is ``clock``'s."""

    async def main() -> T:
        return await awaitable

    main_coroutine: Coroutine[Any, Any, T] = main()
    with asyncio.Runner(loop_factory=lambda: FakeTimeLoop(clock)) as runner:
        return runner.run(main_coroutine)


def make_policy(clock: FakeClock, **options: Any) -> Policy:
    """The bench of the fault matrix: three attempts, delays of 0.05, 0.10 s, 100 tokens without trickle, a breaker
    that first opens for 5 s, a deadline of 30 s. Every part can be replaced."""
    settings: dict[str, Any] = {
        "retry": RetryConfig(),
        "breaker": CircuitBreakerConfig(),
        "budget": RetryBudgetConfig(refill_rate=0.0),
        "deadline": defaults["deadline"],
        "clock": clock,
        "sleep": clock.sleep,
        "async_sleep": clock.async_sleep,
        "rng": lambda: 1.0,
    }
    return Policy(options.pop("dependency", "supplier"), **{**settings, **options})


def tokens(policy: Policy) -> float:
    """The tokens in the policy's budget."""
    assert policy.budget is not None
    return policy.budget.metrics().tokens


def context_of(span: ReadableSpan) -> SpanContext:
    """The context of a span that was recorded."""
    context = span.get_span_context()
    assert context is not None
    return context
