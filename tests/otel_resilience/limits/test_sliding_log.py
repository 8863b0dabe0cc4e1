"""The rule of the rate limit: never more than N permits in any window, and no permit is wasted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_resilience.limits.sliding_log import SlidingLog


def most_within(window: float, grants: list[tuple[float, int]]) -> int:
    return max(sum(cost for at, cost in grants if start <= at < start + window) for start, _ in grants)


@given(
    st.integers(1, 20),
    st.lists(
        st.tuples(st.floats(0, 2.5), st.integers(1, 4), st.sampled_from([0.0, 0.0, 0.0, 0.7])), min_size=1, max_size=60
    ),
)
def test_no_window_ever_holds_more_than_the_limit(limit: int, calls: list[tuple[float, int, float]]) -> None:
    log = SlidingLog(limit, 1.01)
    now = resume = 0.0
    grants: list[tuple[float, int]] = []
    for think, cost, pause in calls:
        now += think
        if pause:
            log.pause(now + pause)
            resume = max(resume, now + pause)
        now = log.ready_at(now, cost)
        log.take(now, cost)
        assert now >= resume
        grants.append((now, min(cost, limit)))

    assert most_within(1.0, grants) <= limit


@given(st.integers(1, 50), st.integers(1, 200))
def test_the_limit_is_used_up(limit: int, calls: int) -> None:
    log = SlidingLog(limit, 1.0)
    now = 0.0
    for _ in range(calls):
        now = log.ready_at(now)
        log.take(now)

    assert now == (calls - 1) // limit


@given(
    st.integers(1, 6),
    st.lists(st.floats(0, 0.5), max_size=20),
    st.integers(1, 20),
    st.sampled_from([0.0, 1.7]),
)
def test_the_forecast_for_those_who_wait_is_when_their_turn_comes(
    limit: int, thinks: list[float], waiting: int, pause: float
) -> None:
    log = SlidingLog(limit, 1.0)
    now = 0.0
    for think in thinks:
        now = log.ready_at(now + think)
        log.take(now)
    log.pause(now + pause)

    for expected in [log.ready_at(now, 1, place) for place in range(waiting)]:
        now = log.ready_at(now)
        log.take(now)
        assert now == pytest.approx(expected)


@given(st.integers(1, 6), st.lists(st.integers(1, 6), min_size=1, max_size=20))
def test_the_forecast_for_dear_calls_is_never_too_late(limit: int, waiting: list[int]) -> None:
    log, empty = SlidingLog(limit, 1.0), SlidingLog(limit, 1.0)
    now = 0.0
    for place, cost in enumerate(waiting):
        now = log.ready_at(now, cost)
        log.take(now, cost)
        assert empty.ready_at(0.0, cost, sum(min(each, limit) for each in waiting[:place])) <= now


def test_a_cost_above_the_limit_counts_as_the_whole_limit() -> None:
    log = SlidingLog(3, 1.0)
    log.take(0.0, 100)

    assert log.ready_at(0.5, 1) == 1.0
    assert log.ready_at(1.0, 100) == 1.0


def test_what_was_given_back_can_be_given_again() -> None:
    log = SlidingLog(2, 1.0)
    log.take(0.0)
    log.take(0.3)
    log.give_back(0.35, 0.3)

    assert log.ready_at(0.4) == 0.4
    log.take(0.4)
    assert log.ready_at(0.5) == 1.0


def test_what_is_given_back_is_the_permit_that_was_not_used_and_no_later_one() -> None:
    log = SlidingLog(2, 1.0)
    log.take(0.0)
    log.take(0.5)
    log.give_back(0.6, 0.0)
    log.take(0.6)

    assert log.ready_at(0.7) == 1.5


def test_a_permit_that_has_expired_is_not_given_back() -> None:
    log = SlidingLog(1, 1.0)
    log.take(0.0)
    assert log.ready_at(5.0) == 5.0
    log.take(5.0)
    log.give_back(5.1, 0.0)

    assert log.ready_at(5.2) == 6.0


def test_a_longer_pause_stays() -> None:
    log = SlidingLog(10, 1.0)
    log.pause(7.0)
    log.pause(6.0)

    assert log.ready_at(5.0) == 7.0
