"""The two limits in use: waiting, rejection, cancellation, pauses, shadow mode, telemetry."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_resilience import (
    ConcurrencyLimit,
    ConcurrencyLimiter,
    ConcurrencyLimitError,
    ErrorClass,
    LimitError,
    Policy,
    RateLimit,
    RateLimitedError,
    RateLimiter,
    classify,
)
from otel_resilience.limits.rate import rate_limiters_in_use
from otel_resilience.testing import FakeClock, FakeTimeLoop, RecordedTelemetry
from support.resilience import run_fake

Acquire = Callable[..., None]
LONG = 60.0


def limiter(clock: FakeClock, config: RateLimit) -> RateLimiter:
    return RateLimiter("supplier", config, clock=clock, sleep=clock.sleep, async_sleep=clock.async_sleep)


def no_wait(seconds: float) -> None:
    raise AssertionError("another way to wait was named")


async def no_async_wait(seconds: float) -> None:
    raise AssertionError("another way to wait was named")


@pytest.fixture(params=[False, True], ids=["def", "async_def"])
def acquire(request: pytest.FixtureRequest) -> Callable[[RateLimiter | ConcurrencyLimiter], Acquire]:
    def of(limiter: RateLimiter | ConcurrencyLimiter) -> Acquire:
        if not request.param:
            return limiter.acquire
        return lambda *args, **kwargs: asyncio.run(limiter.acquire_async(*args, **kwargs))

    return of


@pytest.fixture
def telemetry() -> Iterator[RecordedTelemetry]:
    with RecordedTelemetry().recording() as recorded:
        yield recorded


FORK = """
import os, sys, threading
from otel_resilience import RateLimit, RateLimiter
from otel_resilience.limits.rate import rate_limiters_in_use
from otel_resilience.testing import FakeClock

clock, waits, go_on = FakeClock(), threading.Event(), threading.Event()

def wait(seconds):
    waits.set()
    go_on.wait(60)
    clock.advance(seconds)

limiter = RateLimiter("supplier", RateLimit(1, per=60, margin=0), clock=clock)
limiter.acquire()
waiting = threading.Thread(target=limiter.acquire, kwargs={"sleep": wait})
waiting.start()
waits.wait(60)
child = os.fork()
if child == 0:
    limiter.acquire(within=60, sleep=clock.sleep)  # the next one: nobody waits here
    os._exit(0)
go_on.set()
waiting.join()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs os.fork")
def test_a_forked_child_does_not_queue_behind_threads_of_its_parent() -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORK]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr


class TestRate:
    def test_waits_for_a_permit(self, clock: FakeClock, acquire: Callable[..., Acquire]) -> None:
        take = acquire(limiter(clock, RateLimit(2, per=10, margin=0)))
        for _ in range(5):
            take()

        assert clock.sleeps == [10, 10]

    @pytest.mark.parametrize("within", [None, 9.9])
    def test_rejects_at_once_what_cannot_be_given_in_time(
        self, clock: FakeClock, acquire: Callable[..., Acquire], within: float | None
    ) -> None:
        limited = limiter(clock, RateLimit(1, per=10, margin=0, max_wait=9.9 if within is None else None))
        acquire(limited)()
        with pytest.raises(RateLimitedError) as caught:
            acquire(limited)(within=within)

        assert clock.sleeps == []
        assert (caught.value.dependency, caught.value.retry_after) == ("supplier", 10)
        assert isinstance(caught.value, LimitError)
        verdict = classify(caught.value)
        assert (verdict.error_class, verdict.error_type) == (ErrorClass.THROTTLED, "rate_limited")
        assert (verdict.unsent, verdict.counts, verdict.retry_after) == (True, False, 10)

    def test_obeys_the_enclosing_deadline(self, clock: FakeClock, acquire: Callable[..., Acquire]) -> None:
        limited = limiter(clock, RateLimit(1, per=10))
        limited.acquire()
        with pytest.raises(RateLimitedError):
            Policy("outer", deadline=5, clock=clock).execute(acquire(limited))

    def test_a_pause_holds_for_all(self, clock: FakeClock, acquire: Callable[..., Acquire]) -> None:
        limited = limiter(clock, RateLimit(10))
        limited.pause(86_400)
        limited.pause(1)
        with pytest.raises(RateLimitedError) as caught:
            acquire(limited)(within=900)
        acquire(limited)()

        assert caught.value.retry_after == 86_400
        assert clock.sleeps == [86_400]

    def test_a_pause_holds_for_those_who_wait_already(self, clock: FakeClock, acquire: Callable[..., Acquire]) -> None:
        limited = limiter(clock, RateLimit(1))
        limited.acquire()
        sleep, limited.sleep = limited.sleep, lambda _: limited.pause(30)

        async def pause(_: float) -> None:
            limited.pause(30)

        limited.async_sleep = pause
        with pytest.raises(RateLimitedError):
            acquire(limited)(within=20)
        limited.sleep = sleep
        limited.acquire()

        assert clock.now == 1030

    def test_a_cost_counts_as_many(self, clock: FakeClock, acquire: Callable[..., Acquire]) -> None:
        take = acquire(limiter(clock, RateLimit(4, margin=0)))
        take(3)
        take(100)
        take()

        assert clock.sleeps == [1, 1]
        with pytest.raises(ValueError, match="cost"):
            take(0)

    def test_unused_permits_are_given_again(self, clock: FakeClock) -> None:
        limited = limiter(clock, RateLimit(1))
        assert limited.take()
        limited.give_back()

        assert limited.take()

    def test_the_place_in_the_queue_counts_for_what_can_be_given_in_time(self, clock: FakeClock) -> None:
        limited = RateLimiter("supplier", RateLimit(1, margin=0), clock=clock)

        async def main() -> None:
            waiting = [asyncio.create_task(limited.acquire_async()) for _ in range(4)]
            await asyncio.sleep(0)
            with pytest.raises(RateLimitedError) as caught:
                await limited.acquire_async(within=3.5)
            assert caught.value.retry_after == pytest.approx(4)
            await asyncio.wait(waiting)

        run_fake(clock, main())

    async def test_tasks_are_served_in_the_order_of_their_arrival(self, clock: FakeClock) -> None:
        limited = limiter(clock, RateLimit(2, margin=0))
        served: list[int] = []

        async def caller(number: int) -> None:
            await limited.acquire_async()
            served.append(number)

        await asyncio.gather(*(caller(number) for number in range(9)))

        assert served == list(range(9))
        assert clock.now == 1004

    async def test_a_cancelled_waiter_takes_nothing_and_lets_the_next_one_pass(self, clock: FakeClock) -> None:
        limited = limiter(clock, RateLimit(1, margin=0))
        await limited.acquire_async()
        waiting = [asyncio.create_task(limited.acquire_async()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        waiting[1].cancel()
        await asyncio.wait(waiting)

        assert waiting[2].exception() is None
        assert clock.now == 1001

    async def test_a_def_in_the_loop_does_not_queue_behind_tasks_which_it_keeps_waiting(self, clock: FakeClock) -> None:
        limited = limiter(clock, RateLimit(1, margin=0))
        await limited.acquire_async()
        waiting = asyncio.create_task(limited.acquire_async())
        await asyncio.sleep(0)
        limited.acquire()
        await waiting

        assert clock.now >= 1002

    @given(
        limit=st.integers(1, 4),
        callers=st.lists(
            st.tuples(st.floats(0, 5), st.sampled_from([None, None, 0.4, 2.0]), st.floats(0, 4) | st.none()),
            min_size=1,
            max_size=25,
        ),
    )
    def test_whoever_arrives_gives_up_or_is_cancelled_the_limit_holds_and_nothing_is_wasted(
        self, limit: int, callers: list[tuple[float, float | None, float | None]]
    ) -> None:
        clock = FakeClock(0.0)
        limited = RateLimiter("supplier", RateLimit(limit, margin=0.001), clock=clock)
        grants: list[tuple[float, float]] = []

        async def caller(arrival: float, within: float | None) -> None:
            await asyncio.sleep(arrival)
            arrived = clock.now
            with contextlib.suppress(RateLimitedError):
                await limited.acquire_async(within=within)
                assert within is None or clock.now <= arrived + within + 1e-6
                grants.append((clock.now, arrived))

        async def main() -> None:
            tasks = []
            for arrival, within, cancelled_after in callers:
                tasks.append(asyncio.create_task(caller(arrival, within)))
                if cancelled_after is not None:
                    asyncio.get_running_loop().call_later(arrival + cancelled_after, tasks[-1].cancel)
            await asyncio.wait(tasks)
            started = clock.now
            for _ in range(limit):
                await limited.acquire_async()
            assert clock.now <= started + 1.001 + 1e-6

        with asyncio.Runner(loop_factory=lambda: FakeTimeLoop(clock)) as runner:
            runner.run(main())
        times = [at for at, _ in grants]
        assert all(sum(start <= at < start + 1 for at in times) <= limit for start in times)
        arrivals = [arrived for _, arrived in grants]
        assert arrivals == sorted(arrivals)

    def test_what_is_used_late_counts_from_then(self, clock: FakeClock) -> None:
        limited = limiter(clock, RateLimit(2, per=1, margin=0))
        limited.acquire()
        limited.acquire()
        clock.advance(0.4)
        limited.used(age=0.4)
        clock.advance(0.6)

        assert [limited.take(), limited.take()] == [True, False]
        clock.advance(0.4)
        assert limited.take()

    def test_in_shadow_mode_nothing_is_moved(self, clock: FakeClock) -> None:
        limited = limiter(clock, RateLimit(1, shadow=True))
        limited.used(age=1)

        assert limited._log.dump() == {"given": []}

    @pytest.mark.parametrize(("age", "given"), [(0.0, True), (0.4, True), (0.9, False)])
    def test_of_what_was_taken_that_long_ago_permits_are_given_again(
        self, clock: FakeClock, age: float, given: bool
    ) -> None:
        limited = limiter(clock, RateLimit(1, per=1, margin=0))
        limited.acquire()
        clock.advance(0.4)
        limited.give_back(age=age)

        assert limited.take() is given

    def test_as_many_permits_are_given_again_as_were_taken(self, clock: FakeClock) -> None:
        limited = limiter(clock, RateLimit(3, margin=0))
        limited.acquire(3)
        limited.give_back(2)

        assert [limited.take() for _ in range(3)] == [True, True, False]

    def test_one_permit_is_given_again_where_nothing_else_is_said(self, clock: FakeClock) -> None:
        limited = limiter(clock, RateLimit(3, margin=0))
        limited.acquire(3)
        limited.give_back()

        assert [limited.take() for _ in range(2)] == [True, False]

    def test_what_is_used_at_once_counts_once(self, clock: FakeClock) -> None:
        limited = limiter(clock, RateLimit(2, per=1, margin=0))
        limited.acquire()
        limited.used()
        assert limited.take()

    def test_what_is_used_late_counts_once(self, clock: FakeClock) -> None:
        limited = limiter(clock, RateLimit(2, per=1, margin=0))
        limited.acquire()
        clock.advance(0.4)
        limited.used(age=0.4)
        assert [limited.take() for _ in range(2)] == [True, False]

    def test_of_several_permits_the_one_of_that_time_is_used_late(self, clock: FakeClock) -> None:
        limited = limiter(clock, RateLimit(2, per=1, margin=0))
        limited.acquire()
        clock.advance(0.4)
        limited.acquire()
        limited.used(age=0.4)
        clock.advance(0.6)

        assert not limited.take()

    def test_as_many_permits_count_again_as_are_used_late(self, clock: FakeClock) -> None:
        limited = limiter(clock, RateLimit(3, per=1, margin=0))
        limited.acquire(3)
        clock.advance(0.5)
        limited.used(2, age=0.5)
        clock.advance(0.5)

        assert [limited.take() for _ in range(2)] == [True, False]

    def test_rounding_of_the_clock_does_not_hide_a_permit(self, clock: FakeClock) -> None:
        limited = limiter(clock, RateLimit(1, per=1, margin=0))
        limited.acquire()
        clock.advance(0.1)
        limited.give_back(age=0.1 + 5e-7)

        assert limited.take()

    def test_is_as_new_after_a_reset(self, clock: FakeClock) -> None:
        limited = limiter(clock, RateLimit(2, per=10, margin=0))
        limited.acquire(2)
        limited.pause(3600)
        limited.reset()

        assert [limited.take() for _ in range(3)] == [True, True, False]
        clock.advance(10)
        assert limited.take()

    def test_a_pause_of_no_time_changes_nothing(self, clock: FakeClock) -> None:
        limited = limiter(clock, RateLimit(1))
        limited.pause(0)

        assert limited.take()

    def test_waiting_callers_go_before_those_that_do_not_wait(self, clock: FakeClock) -> None:
        limited = RateLimiter("supplier", RateLimit(1, per=10, margin=0), clock=clock)
        limited.acquire()

        async def main() -> None:
            waiting = asyncio.create_task(limited.acquire_async())
            await asyncio.sleep(0)
            clock.advance(10)
            assert not limited.take()
            await waiting
            clock.advance(10)
            assert limited.take()

        run_fake(clock, main())

    def test_waits_in_the_way_of_the_call_where_that_has_one(self, clock: FakeClock) -> None:
        limited = RateLimiter("supplier", RateLimit(1, margin=0), clock=clock, sleep=no_wait, async_sleep=no_async_wait)
        limited.acquire()
        limited.acquire(sleep=clock.sleep)
        asyncio.run(limited.acquire_async(sleep=clock.async_sleep))

        assert clock.sleeps == [1, 1]

    @pytest.mark.parametrize(("max_wait", "within"), [(3.0, 9.0), (9.0, 3.0), (3.0, None), (None, 3.0)])
    def test_waits_no_longer_than_the_shorter_of_its_times(
        self, clock: FakeClock, acquire: Callable[..., Acquire], max_wait: float | None, within: float | None
    ) -> None:
        limited = limiter(clock, RateLimit(1, per=5, margin=0, max_wait=max_wait))
        limited.acquire()
        with pytest.raises(RateLimitedError):
            acquire(limited)(within=within)
        clock.advance(2)
        acquire(limited)(within=within)

        assert clock.sleeps == [3]

    def test_a_rejected_waiter_is_told_when_its_turn_would_have_come(
        self, clock: FakeClock, telemetry: RecordedTelemetry
    ) -> None:
        limited = RateLimiter("a paused one", RateLimit(1, per=1, margin=0), clock=clock)
        limited.acquire()

        async def main() -> None:
            first = asyncio.create_task(limited.acquire_async())
            await asyncio.sleep(0)
            second = asyncio.create_task(limited.acquire_async(within=5))
            await asyncio.sleep(0)
            limited.pause(60)
            with pytest.raises(RateLimitedError) as caught:
                await second
            assert caught.value.dependency == "a paused one"
            assert caught.value.retry_after == pytest.approx(56)
            await first

        run_fake(clock, main())
        (rejection,) = telemetry.points("resilience.limit.rejections")
        attributes = {"resilience.dependency": "a paused one", "resilience.limit": "rate"}
        assert (rejection.value, rejection.attributes) == (1, attributes)
        assert clock.now == 1060

    def test_those_who_gave_up_are_in_nobodys_way(self, clock: FakeClock, acquire: Callable[..., Acquire]) -> None:
        limited = limiter(clock, RateLimit(2, per=10, margin=0))
        limited.acquire(2)
        for _ in range(3):
            with pytest.raises(RateLimitedError):
                acquire(limited)(2, within=1)
        with pytest.raises(RateLimitedError) as caught:
            acquire(limited)(within=1)

        assert caught.value.retry_after == 10

    async def test_a_def_in_the_loop_waits_no_longer_than_it_may(self, clock: FakeClock) -> None:
        limited = RateLimiter("supplier", RateLimit(1, per=5, margin=0), clock=clock, sleep=no_wait)
        limited.acquire()
        with pytest.raises(RateLimitedError) as caught:
            limited.acquire(within=4)
        limited.acquire(within=5, sleep=clock.sleep)

        assert caught.value.retry_after == 5
        assert clock.sleeps == [5]

    def test_a_thread_waits_for_its_turn_no_longer_than_it_may(self, clock: FakeClock) -> None:
        limited = RateLimiter("supplier", RateLimit(1, per=0.02, margin=0), clock=clock)
        limited.acquire()
        waits, go_on = threading.Event(), threading.Event()

        def wait(seconds: float) -> None:
            waits.set()
            go_on.wait(LONG)
            clock.advance(seconds)

        first = threading.Thread(target=limited.acquire, kwargs={"sleep": wait}, daemon=True)
        first.start()
        assert waits.wait(LONG)
        with pytest.raises(RateLimitedError) as caught:
            limited.acquire(within=0.05)
        go_on.set()
        first.join(LONG)

        assert caught.value.retry_after == pytest.approx(0.04)

    @pytest.mark.parametrize("shadow", [False, True])
    def test_shows_what_it_allows(self, shadow: bool) -> None:
        shown = repr(RateLimiter("supplier", RateLimit(10, per=2.5, shadow=shadow)))
        assert shown == f"<RateLimiter supplier 10 per 2.5 s{' SHADOW' if shadow else ''}>"

    def test_is_known_to_tests_that_replace_its_clock(self) -> None:
        limited = RateLimiter("supplier", RateLimit(1))
        assert limited in list(rate_limiters_in_use)

    def test_threads_stay_within_the_limit(self) -> None:
        limited = RateLimiter("supplier", RateLimit(5, per=0.1))
        grants: list[float] = []

        def work() -> None:
            for _ in range(5):
                limited.acquire()
                grants.append(limited._clock())

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)

        assert len(grants) == 20
        assert max(grants) - min(grants) >= 0.3

    def test_shadow_mode_lets_pass_and_counts(self, clock: FakeClock, telemetry: RecordedTelemetry) -> None:
        limited = limiter(clock, RateLimit(2, shadow=True))
        for _ in range(5):
            limited.acquire()

        assert clock.sleeps == []
        (point,) = telemetry.points("resilience.limit.shadow_exceeded")
        assert (point.value, point.attributes) == (3, {"resilience.dependency": "supplier", "resilience.limit": "rate"})
        assert not telemetry.points("resilience.limit.rejections")

    def test_telemetry(self, clock: FakeClock, acquire: Callable[..., Acquire], telemetry: RecordedTelemetry) -> None:
        take = acquire(limiter(clock, RateLimit(1, per=2, margin=0)))
        take()
        take()
        with pytest.raises(RateLimitedError):
            take(within=0.5)

        (wait,) = telemetry.points("resilience.limit.wait.duration")
        (rejection,) = telemetry.points("resilience.limit.rejections")
        attributes = {"resilience.dependency": "supplier", "resilience.limit": "rate"}
        assert (wait.value, wait.count, wait.attributes) == (2, 1, attributes)
        assert (rejection.value, rejection.attributes) == (1, attributes)


class TestConcurrency:
    def test_rejects_what_gets_no_slot_in_time(self, acquire: Callable[..., Acquire]) -> None:
        limited = ConcurrencyLimiter("supplier", ConcurrencyLimit(1))
        with limited:
            for within in (0.0, 0.001):
                with pytest.raises(ConcurrencyLimitError) as caught:
                    acquire(limited)(within=within)
        acquire(limited)()

        assert caught.value.retry_after > 0
        verdict = classify(caught.value)
        assert (verdict.error_class, verdict.error_type) == (ErrorClass.LOCAL, "concurrency_limited")
        assert (verdict.unsent, verdict.counts) == (True, False)
        assert "supplier" in str(caught.value)

    def test_max_wait_and_the_enclosing_deadline_bound_the_wait(self, acquire: Callable[..., Acquire]) -> None:
        limited = ConcurrencyLimiter("supplier", ConcurrencyLimit(1, max_wait=0.001))
        with limited, pytest.raises(ConcurrencyLimitError):
            acquire(limited)()
        limited = ConcurrencyLimiter("supplier", ConcurrencyLimit(1))
        with limited, pytest.raises(ConcurrencyLimitError):
            Policy("outer", deadline=0.001).execute(acquire(limited))

    def test_retry_after_goes_by_how_often_a_slot_became_free(self, clock: FakeClock) -> None:
        limited = ConcurrencyLimiter("supplier", ConcurrencyLimit(2), clock=clock)
        for _ in range(40):
            with limited, limited:
                clock.advance(6)

        with limited, limited, pytest.raises(ConcurrencyLimitError) as caught:
            limited.acquire(within=0)
        assert caught.value.retry_after == pytest.approx(6, rel=0.01)

    async def test_as_an_async_block(self) -> None:
        limited = ConcurrencyLimiter("supplier", ConcurrencyLimit(2))
        most = 0

        async def work() -> None:
            nonlocal most
            async with limited:
                most = max(most, limited.in_flight)
                await asyncio.sleep(0)

        await asyncio.gather(*(work() for _ in range(9)))
        assert (most, limited.in_flight) == (2, 0)

    def test_shadow_mode_lets_pass_and_counts(self, telemetry: RecordedTelemetry) -> None:
        limited = ConcurrencyLimiter("supplier", ConcurrencyLimit(1, shadow=True))
        with limited, limited, limited:
            (in_flight,) = [
                point
                for point in telemetry.points("resilience.concurrency.in_flight")
                if point.attributes == {"resilience.dependency": "supplier"}
            ]
        assert in_flight.value >= 3
        (point,) = telemetry.points("resilience.limit.shadow_exceeded")
        assert point.value == 2
        assert point.attributes["resilience.limit"] == "concurrency"

    def test_telemetry(self, clock: FakeClock, telemetry: RecordedTelemetry) -> None:
        limited = ConcurrencyLimiter("a slow one", ConcurrencyLimit(1), clock=clock)

        async def main() -> None:
            async def work() -> None:
                async with limited:
                    await asyncio.sleep(2)

            waiting = [asyncio.create_task(work()) for _ in range(2)]
            await asyncio.sleep(1)
            (in_flight,) = [
                point
                for point in telemetry.points("resilience.concurrency.in_flight")
                if point.attributes == {"resilience.dependency": "a slow one"}
            ]
            assert in_flight.value == 1
            with pytest.raises(ConcurrencyLimitError):
                limited.acquire(within=0)
            await asyncio.wait(waiting)

        run_fake(clock, main())
        (wait,) = telemetry.points("resilience.limit.wait.duration")
        (rejection,) = telemetry.points("resilience.limit.rejections")
        attributes = {"resilience.dependency": "a slow one", "resilience.limit": "concurrency"}
        assert wait.value == pytest.approx(2)
        assert (wait.count, wait.attributes) == (1, attributes)
        assert (rejection.value, rejection.attributes) == (1, attributes)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: RateLimit(0), "limit must be at least 1"),
        (lambda: RateLimit(1.5), "limit must be a whole number"),  # type: ignore[arg-type]
        (lambda: RateLimit(1, per=0), "per must be greater than 0"),
        (lambda: RateLimit(1, max_wait=-1), "max_wait must be at least 0"),
        (lambda: RateLimit(1, margin=-0.1), "margin must be at least 0"),
        (lambda: RateLimit(1, shadow=1), "shadow must be a bool"),  # type: ignore[arg-type]
        (lambda: ConcurrencyLimit(True), "limit must be a whole number"),
        (lambda: ConcurrencyLimit(1, max_wait=float("nan")), "max_wait must be at least 0"),
        (lambda: RateLimiter("", RateLimit(1)), "^dependency must be"),
        (lambda: RateLimiter("x", 10), "^config must be a RateLimit"),  # type: ignore[arg-type]
        (lambda: RateLimiter("x", RateLimit(1), sleep=asyncio.sleep), "^sleep must be a def function"),
        (lambda: RateLimiter("x", RateLimit(1), clock=asyncio.sleep), "^clock must be a def function"),  # type: ignore[arg-type]
        (lambda: RateLimiter("x", RateLimit(1), async_sleep=3), "^async_sleep must be"),  # type: ignore[arg-type]
        (lambda: RateLimiter("x", RateLimit(1)).acquire(0), "^cost must be at least 1"),
        (lambda: asyncio.run(RateLimiter("x", RateLimit(1)).acquire_async(0)), "^cost must be at least 1"),
        (lambda: ConcurrencyLimiter("x", 10), "config must be a ConcurrencyLimit"),  # type: ignore[arg-type]
        (lambda: RateLimiter("x", RateLimit(1)).pause(-1), "^seconds must be at least 0"),
    ],
)
def test_what_is_wrong_is_named(make: Callable[[], object], problem: str) -> None:
    with pytest.raises((TypeError, ValueError), match=problem):
        make()
