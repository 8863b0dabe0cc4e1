"""The rule of the rate limit: never more than N permits in any window, and no permit is wasted."""

from __future__ import annotations

import heapq
import json
import math

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


@given(
    st.integers(1, 10),
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 0.99), st.integers(1, 3)), min_size=1, max_size=50),
)
def test_permits_that_are_used_late_never_meet_later_ones(limit: int, calls: list[tuple[float, float, int]]) -> None:
    log = SlidingLog(limit, 1.0)
    now = 0.0
    pending: list[tuple[float, float, int]] = []
    uses: list[tuple[float, int]] = []

    def use(until: float) -> None:
        while pending and pending[0][0] <= until:
            at, taken, cost = heapq.heappop(pending)
            log.use(at, taken, cost)
            uses.append((at, min(cost, limit)))

    for think, late, cost in calls:
        now += think
        use(now)
        while (ready := log.ready_at(now, cost)) > now:
            now = ready
            use(now)
        log.take(now, cost)
        heapq.heappush(pending, (now + late, now, cost))
    use(math.inf)

    assert most_within(0.999_999, uses) <= limit


def test_a_permit_counts_once_from_when_it_is_used() -> None:
    log = SlidingLog(2, 1.0)
    log.take(0.0)
    log.take(0.1)
    log.use(0.4, 0.1)

    assert log.ready_at(0.5) == 1.0
    assert log.ready_at(0.5, 2) == 1.4


def test_a_permit_that_expired_before_it_was_used_counts_all_the_same() -> None:
    log = SlidingLog(1, 1.0)
    log.take(0.0)
    assert log.ready_at(2.0) == 2.0
    log.use(3.0, 0.0)

    assert log.ready_at(3.1) == 4.0


def test_as_many_permits_as_are_used_late_count_again() -> None:
    log = SlidingLog(4, 1.0)
    log.take(0.0, 3)
    log.use(0.4, 0.0, 2)

    assert log.dump() == {"given": [0.0, 0.4, 0.4]}


def test_a_permit_that_is_recorded_after_the_use_of_another_keeps_its_time() -> None:
    log = SlidingLog(2, 1.0)
    log.take(0.0)
    log.use(0.2, 0.0)
    log.take(0.1)

    assert log.dump() == {"given": [0.1, 0.2]}
    log.give_back(0.3, 0.1)
    assert log.dump() == {"given": [0.2]}


def test_a_longer_pause_stays() -> None:
    log = SlidingLog(10, 1.0)
    log.pause(7.0)
    log.pause(6.0)

    assert log.ready_at(5.0) == 7.0


class TestItsDocument:
    def test_holds_the_permits_and_the_pause(self) -> None:
        log = SlidingLog(3, 10.0)
        log.take(1.0, 2)
        assert log.dump() == {"given": [1.0, 1.0]}
        log.pause(7.0)
        assert log.dump() == {"given": [1.0, 1.0], "paused_until": 7.0}

    def test_makes_the_same_log_again(self) -> None:
        log = SlidingLog(3, 10.0)
        log.take(1.0)
        log.take(2.0, 2)
        log.pause(4.0)
        again = SlidingLog.load(json.loads(json.dumps(log.dump())), 3, 10.0)
        assert again.dump() == log.dump()
        assert [again.ready_at(3.0, cost) for cost in (1, 2)] == [11.0, 12.0]

    def test_that_is_empty_makes_an_empty_log(self) -> None:
        log = SlidingLog.load({}, 3, 10.0)
        assert (log.ready_at(5.0, 3), log.paused_until) == (5.0, -math.inf)
        assert log.dump() == {"given": []}

    def test_of_a_pause_alone_holds_that(self) -> None:
        assert SlidingLog.load({"paused_until": 8.0}, 3, 10.0).ready_at(5.0) == 8.0

    def test_may_be_of_another_limit(self) -> None:
        assert SlidingLog.load({"given": [1.0, 2.0]}, 1, 10.0).ready_at(3.0) == 12.0
        assert SlidingLog.load({"given": [1.0, 2.0]}, 2, 20.0).ready_at(3.0) == 21.0


def test_a_limit_that_was_lowered_is_waited_for_no_longer_than_a_window() -> None:
    log = SlidingLog.load({"given": [float(at) for at in range(10)]}, 2, 60.0)
    assert log.ready_at(10.0) == 68.0
    assert log.ready_at(10.0, 2) == 69.0
    assert [log.ready_at(10.0, 1, ahead) for ahead in (1, 2, 3)] == [69.0, 128.0, 129.0]


@given(st.lists(st.integers(0, 30), max_size=12), st.integers(1, 6), st.integers(0, 12), st.integers(1, 6))
def test_the_forecast_for_any_log_is_when_permits_of_one_can_be_given(
    given: list[int], limit: int, ahead: int, cost: int
) -> None:
    """Each permit is given one window after the one that lies a whole limit before it, and in order."""
    log = SlidingLog.load({"given": sorted(map(float, given))}, limit, 20.0)
    expected = log.ready_at(31.0, min(cost, limit), ahead)
    times = [at for at in sorted(map(float, given)) if at + 20.0 > 31.0]
    for _ in range(ahead + min(cost, limit)):
        times.append(max(31.0, times[-limit] + 20.0 if len(times) >= limit else 0.0))
    assert expected == times[-1]


def test_those_ahead_take_whole_windows() -> None:
    log = SlidingLog(2, 10.0)
    log.take(0.0, 2)
    assert [log.ready_at(1.0, 1, ahead) for ahead in range(6)] == [10.0, 10.0, 20.0, 20.0, 30.0, 30.0]


class TestGivingBack:
    def log(self) -> SlidingLog:
        log = SlidingLog(6, 10.0)
        for at in (1.0, 2.0, 2.0, 3.0):
            log.take(at)
        return log

    def test_frees_the_last_that_were_given_until_then(self) -> None:
        log = self.log()
        log.give_back(4.0, 2.0, 2)
        assert log.dump() == {"given": [1.0, 3.0]}

    def test_of_more_than_were_given_frees_all_of_those(self) -> None:
        log = self.log()
        log.give_back(4.0, 2.0, 9)
        assert log.dump() == {"given": [3.0]}
        log.give_back(4.0, 0.5)
        assert log.dump() == {"given": [3.0]}

    def test_leaves_those_that_have_expired(self) -> None:
        log = self.log()
        log.give_back(12.0, 3.0, 4)
        assert log.dump() == {"given": [1.0, 2.0, 2.0]}
