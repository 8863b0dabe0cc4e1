"""A dependency that answers correctly but slowly closes its circuit: with one process and with several.

Simulated traffic on a fake clock: after a burst of failures every call succeeds after the same time. Nothing but the
first good probes decides, whether their leases have expired or not.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_resilience import BreakerState, CircuitBreaker, CircuitBreakerConfig, CircuitOpenError
from otel_resilience.storage import MemoryStorage, SharedCircuitBreaker, SharedState
from otel_resilience.testing import FakeClock
from support.resilience import TransientFault


@dataclasses.dataclass
class Traffic:
    """The outcome of the calls."""

    rejected: int = 0
    closed_after: float | None = None
    """Seconds from the end of the open time to the close."""
    most_leases: int = 0


def trip(breaker: CircuitBreaker) -> None:
    while breaker.state is BreakerState.CLOSED:
        error = TransientFault()
        breaker.record_error(breaker.admit(), error.classification, breaker.clock(), error)


def play(clock: FakeClock, breakers: list[CircuitBreaker], *, duration: float, interval: float, calls: int) -> Traffic:
    """Sends a call every ``interval`` seconds through each breaker in turn; each succeeds after ``duration``."""
    traffic = Traffic()
    lease = breakers[0]._machine.lease
    open_until = clock() + max(breaker.metrics().retry_after or 0.0 for breaker in breakers)
    order = itertools.count()
    starts = [(clock() + number * interval, next(order), number, None) for number in range(calls)]
    events: list[tuple[float, int, int, tuple[int, float] | None]] = list(starts)
    heapq.heapify(events)
    leases: list[float] = []
    while events:
        at, _, number, ending = heapq.heappop(events)
        clock.advance(at - clock())
        breaker = breakers[number % len(breakers)]
        if ending is not None:
            breaker.record_success(*ending)
            if traffic.closed_after is None and breaker.state is BreakerState.CLOSED:
                traffic.closed_after = at - open_until
            continue
        probing = traffic.closed_after is None
        try:
            permit = breaker.admit()
        except CircuitOpenError:
            traffic.rejected += 1
            continue
        if probing:
            leases = [until for until in leases if until > at] + [at + min(lease, duration)]
            traffic.most_leases = max(traffic.most_leases, len(leases))
        heapq.heappush(events, (at + duration, next(order), number, (permit, at)))
    return traffic


@pytest.mark.fault("L3")
def test_one_blip_of_a_dependency_that_takes_75_seconds_costs_one_probe_and_not_the_hour() -> None:
    clock = FakeClock()
    breaker = CircuitBreaker("model", clock=clock, rng=lambda: 0.5)
    trip(breaker)
    traffic = play(clock, [breaker], duration=75, interval=2.5, calls=1440)
    assert breaker.state is BreakerState.CLOSED
    assert traffic.closed_after is not None
    assert traffic.closed_after <= 75 + 2.5
    assert traffic.rejected <= 33


@pytest.mark.fault("L3")
@pytest.mark.parametrize("processes", [1, 2, 5])
@settings(max_examples=60)
@given(
    duration=st.integers(1, 4000).map(lambda quarters: quarters / 4),
    interval=st.integers(1, 120).map(lambda quarters: quarters / 4),
    lease=st.integers(2, 400).map(lambda quarters: quarters / 4),
    slots=st.integers(1, 4),
    shared=st.booleans(),
)
def test_a_slow_healthy_dependency_is_never_cut_off(
    processes: int,
    duration: float,
    interval: float,
    lease: float,
    slots: int,
    shared: bool,  # drawn
) -> None:
    clock = FakeClock()
    config = CircuitBreakerConfig(consecutive_failures=1, probe_lease=lease, half_open_max_calls=slots)
    breakers: list[CircuitBreaker]
    if shared:
        state = SharedState(MemoryStorage(clock=clock), staleness=0.01)
        breakers = [SharedCircuitBreaker("slow", config, shared=state, clock=clock) for _ in range(processes)]
    else:
        breakers = [CircuitBreaker("slow", config, clock=clock, rng=lambda: 0.5)]
    trip(breakers[0])
    calls = int((10 + duration) / interval) + 10 * slots
    traffic = play(clock, breakers, duration=duration, interval=interval, calls=calls)
    assert {breaker.state for breaker in breakers} == {BreakerState.CLOSED}
    assert traffic.most_leases <= slots
    assert traffic.closed_after is not None
    assert traffic.closed_after <= duration + slots * interval + 0.01
