"""The retry budget against an exact ledger that replays its whole history."""

from __future__ import annotations

import threading
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from otel_resilience import ErrorClass, RetryBudget, RetryBudgetConfig
from otel_resilience.testing import FakeClock

CONFIGS = [
    RetryBudgetConfig(refill_rate=0.25),
    RetryBudgetConfig(refill_rate=0.0),
    RetryBudgetConfig(capacity=20, transient_cost=8, throttle_cost=4, success_credit=0.5, refill_rate=0.5),
    RetryBudgetConfig(capacity=10, transient_cost=10, throttle_cost=1, success_credit=0, refill_rate=10),
]


class Ledger:
    """Every movement with its time; the balance is worked out anew from the first entry on each question."""

    def __init__(self, config: RetryBudgetConfig, start: float) -> None:
        self.config = config
        self.entries: list[tuple[Fraction, Fraction]] = []
        self.start = Fraction(start)

    def balance(self, now: float) -> Fraction:
        capacity = Fraction(self.config.capacity)
        rate = Fraction(self.config.refill_rate)
        tokens, at = capacity, self.start
        for when, movement in [*self.entries, (Fraction(now), Fraction(0))]:
            tokens = min(capacity, tokens + (when - at) * rate)
            tokens = min(capacity, tokens + movement)
            at = when
        return tokens

    def move(self, now: float, tokens: float) -> None:
        self.entries.append((Fraction(now), Fraction(tokens)))


class BudgetModel(RuleBasedStateMachine):
    @initialize(config=st.sampled_from(CONFIGS))
    def begin(self, config: RetryBudgetConfig) -> None:
        self.config = config
        self.clock = FakeClock()
        self.budget = RetryBudget("supplier", config, clock=self.clock)
        self.ledger = Ledger(config, self.clock())
        self.unsettled: list[float] = []
        self.granted = self.denied = 0
        self.told = False

    @rule(error_class=st.sampled_from([ErrorClass.TRANSIENT, ErrorClass.THROTTLED, ErrorClass.LOCAL]))
    def pay_for_a_retry(self, error_class: ErrorClass) -> None:
        cost = self.config.throttle_cost if error_class is ErrorClass.THROTTLED else self.config.transient_cost
        assert self.config.cost(error_class) == cost
        affordable = self.ledger.balance(self.clock()) >= cost
        assert self.budget.take(cost) is affordable
        if affordable:
            self.ledger.move(self.clock(), -cost)
            self.unsettled.append(cost)
            self.granted += 1
            self.told = False
        else:
            self.denied += 1
            assert self.budget.enter_starvation() is not self.told  # told once per episode
            self.told = True

    @precondition(lambda self: self.unsettled)
    @rule()
    def the_retry_succeeds_and_is_refunded(self) -> None:
        self._give(self.unsettled.pop(), self.budget.refund)

    @precondition(lambda self: self.unsettled)
    @rule()
    def the_retry_fails(self) -> None:
        self.unsettled.pop()

    @rule()
    def a_first_attempt_succeeds(self) -> None:
        if not self.budget.full:  # as the policy does it: a full bucket is left alone
            self._give(self.config.success_credit, self.budget.give)

    @rule(quarters=st.integers(1, 400))
    def time_passes(self, quarters: int) -> None:
        self.clock.advance(quarters / 4)

    def _give(self, credit: float, give: Callable[[float], None]) -> None:
        self.ledger.balance(self.clock())
        self.budget.metrics()  # accrues what the ledger accrues before the movement
        give(credit)
        self.ledger.move(self.clock(), credit)

    @invariant()
    def balance_agrees_and_stays_within_bounds(self) -> None:
        if not hasattr(self, "budget"):
            return
        metrics = self.budget.metrics()
        assert metrics.tokens == float(self.ledger.balance(self.clock()))
        assert 0 <= metrics.tokens <= self.config.capacity
        assert metrics.utilization == pytest.approx(1 - metrics.tokens / self.config.capacity)
        assert (metrics.granted, metrics.denied) == (self.granted, self.denied)
        assert not self.budget.full or metrics.tokens == self.config.capacity


BudgetModel.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestBudgetModel = BudgetModel.TestCase


def test_a_bucket_starts_full_and_an_outage_drains_it() -> None:
    budget = RetryBudget("supplier", clock=FakeClock())
    assert [budget.take(10) for _ in range(11)] == [True] * 10 + [False]


def test_the_trickle_accrues_only_up_to_the_capacity() -> None:
    clock = FakeClock()
    budget = RetryBudget("supplier", clock=clock)
    for _ in range(10):
        budget.take(10)
    clock.advance(50)
    assert budget.metrics().tokens == pytest.approx(10)
    clock.advance(1e9)
    assert budget.metrics().tokens == 100


def test_a_clock_that_steps_back_adds_nothing() -> None:
    clock = FakeClock()
    budget = RetryBudget("supplier", clock=clock)
    budget.take(10)
    clock.now -= 500
    assert budget.metrics().tokens == 90
    assert budget.take(10)
    clock.now += 500
    assert budget.metrics().tokens == 80


def test_threads_never_overdraw_it() -> None:
    budget = RetryBudget(
        "supplier", RetryBudgetConfig(capacity=1000, transient_cost=1, refill_rate=0), clock=FakeClock()
    )
    granted: list[int] = []

    def work() -> None:
        granted.append(sum(budget.take(1) for _ in range(500)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(granted) == 1000
    assert budget.metrics().tokens == 0
    assert budget.metrics().denied == 1000


def test_what_is_paid_back_counts_at_the_next_look_whatever_that_is() -> None:
    looks: list[Callable[[RetryBudget], float]] = [lambda each: each.tokens, lambda each: each.metrics().tokens]
    for look in looks:
        budget = RetryBudget("supplier", clock=FakeClock())
        assert budget.take(30)
        budget.refund(10.0)
        budget.refund(10.0)
        assert look(budget) == 90
    budget = RetryBudget("supplier", RetryBudgetConfig(capacity=10, transient_cost=10), clock=FakeClock())
    for _ in range(5):
        assert budget.take(10)
        budget.refund(10.0)
    budget.give(0.0)
    assert budget.full


def test_what_is_paid_back_stays_within_the_capacity_of_that_time() -> None:
    budget = RetryBudget("supplier", clock=FakeClock())
    budget.take(10)
    budget.refund(50.0)
    budget.enlarge(200)
    assert budget.tokens == 200
    budget.take(20)
    budget.refund(20.0)
    budget.reset()
    budget.take(5)
    assert budget.tokens == 195


def test_threads_pay_back_what_they_took() -> None:
    budget = RetryBudget("supplier", RetryBudgetConfig(capacity=1000, refill_rate=0), clock=FakeClock())

    def work() -> None:
        for _ in range(500):
            if budget.take(10.0):
                budget.refund(10.0)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert budget.tokens == 1000


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"capacity": 0}, ValueError, "capacity must be greater than 0"),
        ({"capacity": float("nan")}, ValueError, "capacity"),
        ({"transient_cost": 101}, ValueError, "transient_cost must be greater than 0 and at most 100"),
        ({"capacity": 3}, ValueError, "at most 3, the capacity"),
        ({"throttle_cost": -1}, ValueError, "throttle_cost"),
        ({"success_credit": "1"}, TypeError, "success_credit must be a number, not '1'"),
        ({"refill_rate": True}, TypeError, "refill_rate must be a number, not True"),
        ({"refill_rate": -0.1}, ValueError, "refill_rate must be at least 0"),
        ({"capacity": float("inf")}, ValueError, "capacity"),
    ],
)
def test_a_wrong_configuration_names_the_parameter(options: dict[str, object], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        RetryBudgetConfig(**options)  # type: ignore[arg-type]
