"""The rate limit: never more than N requests in any window of a second, first come, first served, pausable."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog_sync.domain.errors import RateLimitError
from catalog_sync.supplier.port import Deadline
from catalog_sync.supplier.rate_limit import RateLimiter, SlidingLog

if TYPE_CHECKING:
    from collections.abc import Callable


class Time:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.during_sleep: Callable[[], None] | None = None

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        if self.during_sleep is not None:
            todo, self.during_sleep = self.during_sleep, None
            todo()
        self.now += seconds


def most_in_a_second(grants: list[tuple[float, int]]) -> int:
    return max(sum(cost for at, cost in grants if start <= at < start + 1.0) for start, _ in grants)


@given(
    st.integers(1, 20),
    st.lists(
        st.tuples(st.floats(0, 2.5), st.integers(1, 4), st.sampled_from([0.0, 0.0, 0.0, 0.7])), min_size=1, max_size=60
    ),
)
def test_no_window_of_a_second_ever_holds_more_than_the_limit(rate: int, calls: list[tuple[float, int, float]]) -> None:
    log = SlidingLog(rate)
    now = 0.0
    grants: list[tuple[float, int]] = []
    resume = 0.0
    for think, cost, pause in calls:
        now += think
        if pause:
            log.pause(now + pause)
            resume = max(resume, now + pause)
        now = log.ready_at(now, cost)
        log.take(now, cost)
        assert now >= resume
        grants.append((now, min(cost, rate)))

    assert most_in_a_second(grants) <= rate


@given(st.integers(1, 50), st.integers(1, 200))
def test_the_limit_is_used_up_to_its_safety_margin(rate: int, calls: int) -> None:
    log = SlidingLog(rate)
    now = 0.0
    for _ in range(calls):
        now = log.ready_at(now)
        log.take(now)

    floor = (calls - 1) // rate
    assert floor <= now <= floor * 1.011


@pytest.mark.parametrize(("rate", "spacing"), [(0.5, 2.0), (0.1, 10.0)])
def test_a_rate_below_one_spaces_single_requests(rate: float, spacing: float) -> None:
    log = SlidingLog(rate, margin=0)
    log.take(0.0)

    assert log.ready_at(0.0) == pytest.approx(spacing)


def test_rate_zero_sets_no_limit_but_still_pauses() -> None:
    log = SlidingLog(0)
    for _ in range(1000):
        assert log.ready_at(5.0) == 5.0
        log.take(5.0)
    log.pause(7.0)
    log.pause(6.0)

    assert log.ready_at(5.0) == 7.0


@pytest.mark.parametrize("rate", [-1, -0.5])
def test_a_negative_rate_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="negative"):
        SlidingLog(rate)


async def test_waiters_are_served_in_the_order_of_their_arrival() -> None:
    time = Time()
    limiter = RateLimiter(2, clock=time.clock, sleep=time.sleep)
    served: list[int] = []

    async def caller(number: int) -> None:
        await limiter.acquire()
        served.append(number)

    await asyncio.gather(*(caller(number) for number in range(9)))

    assert served == list(range(9))
    assert time.now == pytest.approx(1000 + 4 * 1.01)


async def test_a_cancelled_waiter_takes_nothing_and_lets_the_next_one_pass() -> None:
    time = Time()
    limiter = RateLimiter(1, clock=time.clock, sleep=time.sleep)
    await limiter.acquire()
    waiting = [asyncio.create_task(limiter.acquire()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    waiting[1].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)

    assert waiting[2].exception() is None
    assert time.now == pytest.approx(1000 + 1.01)


async def test_a_pause_holds_for_callers_that_wait_already() -> None:
    time = Time()
    limiter = RateLimiter(1, clock=time.clock, sleep=time.sleep)
    await limiter.acquire()
    time.during_sleep = lambda: limiter.pause(30.0)

    await limiter.acquire()

    assert time.now == pytest.approx(1030.0)


async def test_a_pause_beyond_the_deadline_is_told_at_once_with_the_time_to_wait() -> None:
    time = Time()
    limiter = RateLimiter(10, clock=time.clock, sleep=time.sleep)
    limiter.pause(86_400)

    with pytest.raises(RateLimitError) as caught:
        await limiter.acquire(deadline=Deadline(900, time.clock))

    assert caught.value.retry_after == pytest.approx(86_400)
    assert time.now == 1000.0
