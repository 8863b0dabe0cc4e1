"""A machine that adopts a state decided elsewhere reports that change completely."""

from __future__ import annotations

import pytest

from otel_resilience import BreakerState, CircuitBreakerConfig, TransitionReason
from otel_resilience.circuitbreaker.machine import BreakerMachine
from otel_resilience.circuitbreaker.states import Transition

NOW = 100.0


def adopted(breaker: BreakerMachine, state: BreakerState) -> Transition | None:
    return breaker.adopt(
        state,
        NOW,
        reason=TransitionReason.SHARED,
        age=2.0,
        open_left=5.0,
        openings=3,
        opened_age=12.0,
        error_type="503",
    )


@pytest.mark.parametrize(
    ("state", "opened", "open_for"),
    [(BreakerState.OPEN, 1, 5.0), (BreakerState.FORCED_OPEN, 1, None), (BreakerState.HALF_OPEN, 0, None)],
)
def test_an_adopted_opening(state: BreakerState, opened: int, open_for: float | None) -> None:
    breaker = BreakerMachine(CircuitBreakerConfig(), 0.0, lambda: 1.0)
    assert adopted(breaker, state) == Transition(
        source=BreakerState.CLOSED,
        target=state,
        reason=TransitionReason.SHARED,
        at=NOW,
        error_type="503",
        open_for=open_for,
    )
    assert (breaker.state, breaker.since, breaker.first_opened_at) == (state, 98.0, 88.0)
    assert (breaker.opened, breaker.openings, breaker.open_until) == (opened, 3, 105.0)
    assert adopted(breaker, state) is None


def test_an_adopted_close_says_how_long_it_was_open() -> None:
    breaker = BreakerMachine(CircuitBreakerConfig(), 0.0, lambda: 1.0)
    adopted(breaker, BreakerState.OPEN)
    transition = adopted(breaker, BreakerState.CLOSED)
    assert transition is not None
    assert transition.open_duration == 10.0
    assert breaker.opened == 1


def test_each_adopted_opening_counts() -> None:
    breaker = BreakerMachine(CircuitBreakerConfig(), 0.0, lambda: 1.0)
    for state in (BreakerState.OPEN, BreakerState.CLOSED, BreakerState.FORCED_OPEN):
        adopted(breaker, state)
    assert breaker.opened == 2


def test_an_adopted_opening_says_what_was_counted_where_it_was_decided() -> None:
    breaker = BreakerMachine(CircuitBreakerConfig(), 0.0, lambda: 1.0)
    transition = breaker.adopt(
        BreakerState.OPEN,
        NOW,
        reason=TransitionReason.FAILURE_RATE,
        age=0.0,
        open_left=5.0,
        openings=1,
        opened_age=0.0,
        failures=7,
        calls=9,
    )
    assert transition is not None
    assert (transition.failures, transition.calls) == (7, 9)


@pytest.mark.parametrize(("opened_age", "duration"), [(2.5, 0.5), (2.0, 0.0), (1.0, 0.0)])
def test_a_close_soon_after_the_opening_was_open_for_no_less_than_no_time(opened_age: float, duration: float) -> None:
    breaker = BreakerMachine(CircuitBreakerConfig(), 0.0, lambda: 1.0)
    adopted(breaker, BreakerState.OPEN)
    transition = breaker.adopt(
        BreakerState.CLOSED,
        NOW,
        reason=TransitionReason.SHARED,
        age=2.0,
        open_left=0.0,
        openings=0,
        opened_age=opened_age,
    )
    assert transition is not None
    assert transition.open_duration == duration


def test_a_probe_that_was_granted_elsewhere_has_a_whole_lease() -> None:
    breaker = BreakerMachine(CircuitBreakerConfig(half_open_max_calls=2), 0.0, lambda: 1.0)
    adopted(breaker, BreakerState.HALF_OPEN)
    assert breaker.lease_left(NOW) == 0.0
    breaker.grant(NOW)
    second = breaker.grant(NOW + 1)
    assert breaker.lease_left(NOW + 1) == breaker.lease
    assert breaker.retry_after(NOW + 1) == breaker.lease - 1
    breaker.forget(second)
    assert breaker.lease_left(NOW + 1) == breaker.lease - 1


def test_an_empty_document_is_a_new_machine() -> None:
    config = CircuitBreakerConfig()
    breaker = BreakerMachine.load({}, config, NOW, lease=30.0, fraction=lambda: 1.0)
    assert breaker.dump() == {
        "generation": 0,
        "state": "closed",
        "openings": 0,
        "good": 0,
        "run": 0,
        "leases": {},
        "width": breaker.window.width,
        "window": BreakerMachine(config, NOW, lambda: 1.0).window.dump(),
    }
    assert (breaker.lease, breaker.open_until, breaker.retry_after(NOW)) == (30.0, NOW, 0.0)
