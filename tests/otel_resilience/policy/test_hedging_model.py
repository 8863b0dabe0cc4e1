"""Hedged calls in any order: at most one hedge each, paid for, and nothing held once they have ended."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from otel_resilience import (
    CircuitBreakerConfig,
    CircuitOpenError,
    Policy,
    RateLimit,
    RetryBudgetConfig,
    RetryConfig,
)
from otel_resilience.testing import FakeClock
from support.resilience import PermanentFault, TransientFault, make_policy, run_fake, tokens

CAPACITY, COST, CREDIT = 60.0, 10.0, 1.0
PERMITS, PERIOD = 5, 10.0
PROBES = 2


class Outcome(NamedTuple):
    seconds: float
    error: type[Exception] | None


OUTCOMES = st.builds(
    Outcome,
    st.sampled_from([0.0, 1.5, 3.0, 3.0, 60.0]),
    st.sampled_from([None, TransientFault, TransientFault, PermanentFault]),
)


class Run:
    """The attempts of one call, and what became of each."""

    def __init__(self, clock: FakeClock, outcomes: list[Outcome]) -> None:
        self.clock = clock
        self.outcomes = outcomes
        self.began: list[float] = []
        self.rounds: list[list[int]] = []
        """Attempts that ran beside each other."""
        self.running: set[int] = set()
        self.ended: dict[int, str] = {}

    async def __call__(self) -> str:
        number = len(self.began)
        self.began.append(self.clock())
        if self.running:
            self.rounds[-1].append(number)
        else:
            self.rounds.append([number])
        self.running.add(number)
        outcome = self.outcomes[min(number, len(self.outcomes) - 1)]
        self.ended[number] = "cancelled"
        try:
            await asyncio.sleep(outcome.seconds)
            self.ended[number] = "ok" if outcome.error is None else "failed"
            if outcome.error is not None:
                raise outcome.error
        finally:
            self.running.discard(number)
        return "value"

    @property
    def hedges(self) -> int:
        return sum(len(each) - 1 for each in self.rounds)

    @property
    def succeeded(self) -> bool:
        return "ok" in self.ended.values()

    @property
    def spent(self) -> float:
        """A hedge costs whatever comes of it, a retry only if it failed."""
        failed = sum(all(self.ended[number] == "failed" for number in each) for each in self.rounds[1:])
        return COST * (self.hedges + failed)


class HedgedCalls(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.began: list[float] = []
        self.balance = CAPACITY
        self.policy: Policy

    @initialize(attempts=st.integers(1, 3), threshold=st.integers(1, 4))
    def build(self, attempts: int, threshold: int) -> None:
        self.policy = make_policy(
            self.clock,
            retry=RetryConfig(max_attempts=attempts, base_delay=0.25, jitter="none"),
            budget=RetryBudgetConfig(capacity=CAPACITY, refill_rate=0.0),
            breaker=CircuitBreakerConfig(
                failure_threshold=threshold, reset_timeout=5.0, max_reset_timeout=5.0, half_open_max_calls=PROBES
            ),
            rate_limit=RateLimit(PERMITS, per=PERIOD, margin=0.0),
            max_concurrency=1,
            hedge_after=1.0,
            idempotent=True,
            deadline=None,
        )

    @rule(seconds=st.sampled_from([0.5, 6.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(
        outcomes=st.lists(OUTCOMES, min_size=1, max_size=4), cancel_after=st.sampled_from([None, None, 0.75, 1.25, 4.0])
    )
    def call(self, outcomes: list[Outcome], cancel_after: float | None) -> None:
        run = Run(self.clock, outcomes)
        run_fake(self.clock, self._play(run, cancel_after))
        assert run.hedges <= 1
        assert all(len(each) <= 2 for each in run.rounds)
        self.began += run.began
        if run.succeeded and len(run.began) == 1:
            self.balance = min(CAPACITY, self.balance + CREDIT)
        self.balance -= run.spent
        assert tokens(self.policy) == self.balance

    async def _play(self, run: Run, cancel_after: float | None) -> None:
        task: asyncio.Task[Any] = asyncio.ensure_future(self.policy.execute(run))
        if cancel_after is not None:
            asyncio.get_running_loop().call_later(cancel_after, task.cancel)
        with contextlib.suppress(asyncio.CancelledError, CircuitOpenError, TransientFault, PermanentFault):
            assert await task == "value"
            assert run.succeeded
        await asyncio.sleep(0)  # the loser was cancelled, and ends by itself
        assert not run.running

    @invariant()
    def nothing_is_held(self) -> None:
        self.clock.advance(0.01)
        assert self.balance >= 0
        breaker, rate, slots = self.policy.breaker, self.policy.rate_limiter, self.policy.concurrency_limiter
        assert breaker is not None
        assert rate is not None
        assert slots is not None
        assert slots.in_flight == 0
        if breaker.state.name == "HALF_OPEN":
            for permit in [breaker.admit() for _ in range(PROBES)]:
                breaker.release(permit)
        free = 0
        while rate.take():
            free += 1
        for _ in range(free):
            rate.give_back()
        assert free == PERMITS - sum(at > self.clock() - PERIOD for at in self.began)


TestHedgedCalls = HedgedCalls.TestCase
TestHedgedCalls.settings = settings(max_examples=60, stateful_step_count=20)
