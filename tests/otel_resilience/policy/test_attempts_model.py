"""Blocks in any order: loops that continue, are left early, fail or are never entered hold nothing in the end."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
from collections.abc import Iterator
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from otel_resilience import (
    CircuitBreakerConfig,
    CircuitOpenError,
    ConcurrencyLimit,
    LimitError,
    Policy,
    RateLimit,
    RetryConfig,
)
from otel_resilience.testing import FakeClock
from support.resilience import NotFoundFault, PermanentFault, TransientFault, make_policy

SLOTS, PERMITS, PERIOD, PROBES = 2, 5, 10.0, 2
OUTCOMES = [
    None,
    TransientFault,
    TransientFault,
    PermanentFault,
    NotFoundFault,
    asyncio.CancelledError,
    KeyboardInterrupt,
]


@dataclasses.dataclass(eq=False)
class Loop:
    """One loop over ``policy.attempts()``, in a context of its own as that of a task or thread would be."""

    iterator: Iterator[Any]
    context: contextvars.Context
    attempt: Any
    permitted: float = 0.0
    """When the attempt got its permit."""
    entered: bool = False


class Blocks(RuleBasedStateMachine):
    waiting = Bundle("waiting")
    """Loops that gave an attempt whose block has not begun."""
    inside = Bundle("inside")
    """Loops within a block."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.policy: Policy
        self.loops: list[Loop] = []
        """Those whose call has not ended."""
        self.used: list[float] = []
        """When the permits were given with which an attempt began."""

    @initialize(threshold=st.integers(1, 4))
    def build(self, threshold: int) -> None:
        self.policy = make_policy(
            self.clock,
            retry=RetryConfig(max_attempts=3, base_delay=0.25, jitter="none"),
            breaker=CircuitBreakerConfig(
                failure_threshold=threshold, reset_timeout=5.0, max_reset_timeout=5.0, half_open_max_calls=PROBES
            ),
            rate_limit=RateLimit(PERMITS, per=PERIOD, margin=0.0, max_wait=0),
            max_concurrency=ConcurrencyLimit(SLOTS, max_wait=0),
            deadline=None,
        )

    @rule(seconds=st.sampled_from([0.5, 6.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(target=waiting)
    def begin(self) -> Any:
        loop = Loop(iter(self.policy.attempts(name="list")), contextvars.copy_context(), None)
        self.loops.append(loop)
        return self._next(loop)

    @rule(target=inside, loop=consumes(waiting))
    def enter(self, loop: Loop) -> Any:
        try:
            loop.context.run(loop.attempt.__enter__)
        except CircuitOpenError:
            self._over(loop)
            return multiple()
        self.used.append(loop.permitted)
        loop.entered = True
        return loop

    @rule(target=waiting, loop=consumes(inside), outcome=st.sampled_from(OUTCOMES))
    def leave(self, loop: Loop, outcome: type[BaseException] | None) -> Any:
        """The block ends, by itself, by ``continue`` or with an error; the loop goes on where that was swallowed."""
        error = None if outcome is None else outcome()
        loop.entered = False
        if not loop.context.run(loop.attempt.__exit__, outcome, error, None):
            self._over(loop)
            return multiple()
        return self._next(loop)

    @rule(loop=consumes(waiting))
    def break_off(self, loop: Loop) -> None:
        self._over(loop)

    @rule(loop=consumes(waiting))
    def go_on_without_the_block(self, loop: Loop) -> None:
        try:
            loop.context.run(next, loop.iterator)
        except RuntimeError:
            self._over(loop)
        else:
            raise AssertionError("an attempt was skipped")

    @rule(loop=consumes(inside))
    def enter_twice(self, loop: Loop) -> None:
        try:
            loop.context.run(loop.attempt.__enter__)
        except RuntimeError as error:
            loop.context.run(loop.attempt.__exit__, RuntimeError, error, None)
            self._over(loop)
        else:
            raise AssertionError("a block began twice")

    def _next(self, loop: Loop) -> Any:
        try:
            loop.attempt = loop.context.run(next, loop.iterator)
        except (LimitError, CircuitOpenError):
            self._over(loop)
            return multiple()
        loop.permitted = self.clock()
        return loop

    def _over(self, loop: Loop) -> None:
        """Nobody refers to the loop any more: for one that was left early, its end."""
        self.loops.remove(loop)
        del loop.iterator, loop.attempt

    @invariant()
    def what_is_held_is_that_of_open_loops(self) -> None:
        self.clock.advance(0.01)
        breaker, rate, slots = self.policy.breaker, self.policy.rate_limiter, self.policy.concurrency_limiter
        assert breaker is not None
        assert rate is not None
        assert slots is not None
        assert slots.in_flight == len(self.loops)
        if breaker.state.name == "HALF_OPEN" and not any(loop.entered for loop in self.loops):
            for permit in [breaker.admit() for _ in range(PROBES)]:
                breaker.release(permit)

    def teardown(self) -> None:
        if not hasattr(self, "policy"):
            return
        for loop in list(self.loops):
            if loop.entered:
                loop.context.run(loop.attempt.__exit__, None, None, None)
            self._over(loop)
        self.what_is_held_is_that_of_open_loops()
        rate = self.policy.rate_limiter
        assert rate is not None
        free = sum(rate.take() for _ in range(PERMITS))
        assert free == PERMITS - sum(at > self.clock() - PERIOD for at in self.used)


TestBlocks = Blocks.TestCase
TestBlocks.settings = settings(max_examples=60, stateful_step_count=30)
