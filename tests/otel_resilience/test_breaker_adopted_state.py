"""A machine that takes over a state which was decided elsewhere says everything about that change."""

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
