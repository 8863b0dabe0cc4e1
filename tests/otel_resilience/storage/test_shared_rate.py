"""One limit for all senders with one address, and a share for each without the storage."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from otel_resilience import RateLimit, RateLimitedError, RateLimiter
from otel_resilience.storage import (
    DiskStorage,
    MemoryStorage,
    RateStep,
    RateView,
    RedisStorage,
    SharedRateLimiter,
    SharedState,
    Storage,
)
from otel_resilience.storage.backends.redis import LONGEST_TURN
from otel_resilience.storage.rate import MARGIN
from otel_resilience.testing import FakeClock, FakeTimeLoop
from support.counting_server import counting_server
from support.frail_storage import FrailStorage
from support.permits import Permit, WatchedLimiter, most_within
from support.redis_server import RedisServer, free_port
from support.timing import TRIES, quickest

TESTS = Path(__file__).parents[2]
PATIENT = 10.0
"""Seconds that an attempt waits for Redis where that wait is not what is tested: the machine may be busy."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as running:
        yield running


Limiters = Callable[..., WatchedLimiter]


@contextmanager
def limiters(url: str) -> Iterator[Limiters]:
    """Makes limiters as different processes would have them."""
    states = []

    def make(limit: int, key: str = "supplier", *, per: float = 1.0, wait: float = PATIENT) -> WatchedLimiter:
        states.append(SharedState(RedisStorage(url), wait=wait))
        return WatchedLimiter(key, RateLimit(limit, per=per), shared=states[-1])

    try:
        yield make
    finally:
        for state in states:
            state.close()


class TestInOneProcess:
    @pytest.fixture(params=["memory", "disk"])
    def storages(self, request: pytest.FixtureRequest, clock: FakeClock, tmp_path: Path) -> Callable[[], Storage]:
        memory = MemoryStorage(clock=clock)
        if request.param == "memory":
            return lambda: memory
        return lambda: DiskStorage(tmp_path, monotonic=clock, wall_clock=clock)

    @pytest.fixture
    def make(self, storages: Callable[[], Storage], clock: FakeClock) -> Limiters:
        def make(config: RateLimit) -> RateLimiter:
            shared = SharedState(storages())
            return shared.rate_limiter(
                "supplier", config, clock=clock, sleep=clock.sleep, async_sleep=clock.async_sleep
            )

        return make  # type: ignore[return-value]  # both kinds

    def test_no_thread_is_needed(self, make: Limiters) -> None:
        """While one works, a loop on fake time would jump to the next timer, such as that of a deadline."""

        class NoThreads(ThreadPoolExecutor):
            def submit(self, *args: object, **kwargs: object) -> Future[Any]:
                raise AssertionError("work for a thread")

        async def main() -> None:
            asyncio.get_running_loop().set_default_executor(NoThreads(1))
            await make(RateLimit(4)).acquire_async()

        asyncio.run(main())

    def test_all_together_stay_within_the_limit(self, make: Limiters, clock: FakeClock) -> None:
        several = [make(RateLimit(4)) for _ in range(3)]
        grants = []
        for number in range(40):
            if number % 2:
                several[number % 3].acquire()
            else:
                asyncio.run(several[number % 3].acquire_async())
            grants.append(clock())

        assert all(sum(start <= at < start + 1 for at in grants) <= 4 for start in grants)
        assert clock.now - 1000 < 11, "and they use it"

    def test_a_pause_holds_for_all(self, make: Limiters) -> None:
        first, second = make(RateLimit(4)), make(RateLimit(4))
        first.pause(60)
        with pytest.raises(RateLimitedError):
            first.acquire(within=1)
        with pytest.raises(RateLimitedError) as caught:
            second.acquire(within=1)

        assert caught.value.retry_after == pytest.approx(60)

    def test_in_shadow_mode_each_counts_for_itself(self, make: Limiters, clock: FakeClock) -> None:
        limiter = make(RateLimit(1, shadow=True))
        limiter.acquire()
        limiter.acquire()

        assert clock.sleeps == []
        assert type(limiter) is RateLimiter

    def test_a_storage_that_fails_leaves_each_its_own_limit(self, clock: FakeClock) -> None:
        storage = FrailStorage(clock)
        limiter = SharedRateLimiter(
            "supplier", RateLimit(2, margin=0), shared=SharedState(storage), clock=clock, sleep=clock.sleep
        )
        limiter.acquire()
        storage.gone = True
        for _ in range(4):
            limiter.acquire()

        assert clock.now == 1002


async def test_all_together_stay_within_the_limit(server: RedisServer) -> None:
    permits: list[Permit] = []

    async def work(limiter: WatchedLimiter) -> None:
        for _ in range(8):
            await limiter.acquire_async()
            permits.append(limiter.permit())

    with limiters(server.url) as make:
        for number in range(TRIES):
            permits.clear()
            await asyncio.gather(*(work(make(20, f"supplier {number}")) for _ in range(4)))
            assert most_within(1.0, permits) <= 20
            if permits[-1].latest - permits[0].latest < 32 / 20 * (1 + MARGIN) + 1:
                return
    pytest.fail("they waste turns")


def test_threads_share_it_with_other_processes(server: RedisServer) -> None:
    permits: list[Permit] = []

    def work(limiter: WatchedLimiter) -> None:
        for _ in range(8):
            limiter.acquire()
            permits.append(limiter.permit())

    with limiters(server.url) as make:
        threads = [threading.Thread(target=work, args=(limiter,)) for limiter in (make(20), make(20)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(permits) == 32
    assert most_within(1.0, permits) <= 20


async def test_a_process_alone_may_send_in_bursts(server: RedisServer) -> None:
    with limiters(server.url) as make:
        for number in range(TRIES):
            limiter = make(10, f"supplier {number}")
            started = time.monotonic()
            for _ in range(10):
                await limiter.acquire_async()
            burst = time.monotonic() - started
            await limiter.acquire_async()
            whole = time.monotonic() - started
            assert whole >= 1
            if burst < 0.95 and whole < 1.5:
                return
    pytest.fail(f"ten took {burst:.2f} s, one more {whole:.2f} s")


async def test_a_process_that_comes_after_a_burst_waits_for_its_end(server: RedisServer) -> None:
    with limiters(server.url) as make:
        for number in range(TRIES):
            first, second = (make(10, f"supplier {number}") for _ in range(2))
            started = time.monotonic()
            for _ in range(10):
                await first.acquire_async()
            await second.acquire_async()
            whole = time.monotonic() - started
            assert whole >= 1
            if whole < 2:
                return
    pytest.fail(f"it waited until {whole:.2f} s")


async def test_other_keys_have_a_limit_of_their_own(server: RedisServer) -> None:
    with limiters(server.url) as make:
        started = time.monotonic()
        for key in ("a", "b", "c"):
            await make(1, key, per=100).acquire_async()
        assert time.monotonic() - started < 50


async def test_a_cost_counts_as_many(server: RedisServer) -> None:
    with limiters(server.url) as make:
        first, second = make(4), make(4)
        started = time.monotonic()
        await first.acquire_async(3)
        await second.acquire_async(100)  # more than the limit counts as all of it
        await first.acquire_async()
        assert 7 / 4 <= time.monotonic() - started < 100 / 4


async def test_a_pause_holds_for_all(server: RedisServer) -> None:
    with limiters(server.url) as make:
        first, second = make(100), make(100)
        await second.acquire_async()
        first.pause(60)  # before its first contact
        with pytest.raises(RateLimitedError):
            await first.acquire_async(within=1.0)

        async def go_on() -> None:
            while True:
                await second.acquire_async(within=1.0)

        with pytest.raises(RateLimitedError) as raised:
            await asyncio.wait_for(go_on(), PATIENT)
        assert raised.value.retry_after == pytest.approx(60, abs=1)


async def test_a_request_that_is_cancelled_while_it_asks_takes_no_permit(server: RedisServer) -> None:
    with limiters(server.url) as make:
        limiter = make(10)
        await limiter.acquire_async()
        server.pause()
        try:
            task = asyncio.create_task(limiter.acquire_async())
            await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.wait([task])
        finally:
            server.resume()
        assert task.cancelled()
        assert len(limiter._log.dump()["given"]) == 1
        await limiter.acquire_async()


async def test_without_redis_each_keeps_the_limit_for_itself() -> None:
    with limiters(f"redis://127.0.0.1:{free_port()}/0") as make:
        limiter = make(1000)
        for _ in range(20):
            await limiter.acquire_async()
        assert limiter._link.degraded


async def test_a_process_that_loses_redis_keeps_its_share_of_what_they_had_together(server: RedisServer) -> None:
    with limiters(server.url) as make:
        first, second = make(40), make(40)
        for limiter in (first, second, first):
            await limiter.acquire_async()
        server.kill()
        began = time.monotonic()
        for _ in range(11):
            await first.acquire_async()
        assert first._link.degraded
        assert time.monotonic() - began >= 10 * 2 / 40, "half of the limit, since the other may be sending"


async def test_a_redis_that_hangs_holds_a_request_up_once_for_the_limit(server: RedisServer) -> None:
    with limiters(server.url) as make:
        for number in range(TRIES):
            limiter = make(1000, f"supplier {number}", wait=0.05)
            while True:
                await limiter.acquire_async()
                if not limiter._link.degraded:
                    break
                await asyncio.sleep(0.05)
            server.pause()
            try:
                started = time.monotonic()
                for _ in range(20):
                    await limiter.acquire_async()
                held_up = time.monotonic() - started
                assert limiter._link.degraded
            finally:
                server.resume()
            if held_up < 0.4:  # type: ignore[unreachable]  # it changed meanwhile
                return
    pytest.fail(f"it was held up for {held_up:.2f} s")


async def test_a_clock_of_redis_that_was_set_back_stops_nobody(server: RedisServer) -> None:
    server.command("HSET", "resilience:{supplier}:rate", "next_turn", time.time() + 1e6)
    server.command("ZADD", "resilience:{supplier}:senders", time.time() + 1e6, "another", time.time(), "a third")
    with limiters(server.url) as make:
        started = time.monotonic()
        await make(5).acquire_async()
        assert time.monotonic() - started < 30  # a window at most, and what the machine takes


@pytest.mark.slow
def test_four_processes_never_exceed_it_together(server: RedisServer) -> None:
    rate, each, workers = 10, 8, 4

    def sending() -> float:
        """All together; how many seconds it took, without turns that the machine let them miss."""
        with counting_server() as target:
            arguments = [server.url, target.url, str(rate), str(each)]
            command = [sys.executable, "-m", "support.limited_sender", *arguments]
            senders = [
                subprocess.Popen(command, cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                for _ in range(workers)
            ]
            try:
                for sender in senders:
                    assert sender.stdout is not None
                    assert sender.stdout.readline() == "ready\n"
                time.sleep(1.1)
                for sender in senders:
                    assert sender.stdin is not None
                    sender.stdin.write("go\n")
                    sender.stdin.flush()
                ends = [json.loads(sender.communicate(timeout=60)[0]) for sender in senders]
            finally:
                for sender in senders:
                    sender.kill()
                    sender.communicate()
            assert [end["degraded"] for end in ends] == [False] * workers
            permits = [Permit(*permit) for end in ends for permit in end["permits"]]
            assert len(permits) == len(target.seen) == each * workers
            assert most_within(1.0, permits) <= rate
            took = max(permit.latest for permit in permits) - min(permit.latest for permit in permits)
            return float(took - sum(end["missed"] for end in ends) * turn)

    turn = (1 + MARGIN) / rate
    good = each * workers * turn + 2
    assert quickest(sending, good) <= good


class Turns(MemoryStorage):
    """Gives turns in advance, as Redis does, on the clock of the test."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock=clock)
        self._now = clock
        self._next_turn = 0.0

    def rate(self, key: str, step: RateStep) -> RateView:
        now = self._now()
        turn = max(now, self._next_turn)
        granted = turn - now <= LONGEST_TURN
        if granted:
            self._next_turn = turn + step.cost * step.window / step.limit
        return RateView(turn - now, granted, senders=3)


@pytest.mark.parametrize("rate", [2, 5, 20])
def test_turns_that_are_used_late_stay_within_the_limit(clock: FakeClock, rate: int) -> None:
    """A process that wakes late, as on a loaded machine, does not send into the turn of another one."""
    grants: list[float] = []
    naps = itertools.cycle((0.9, 0.0, 0.45, 0.0, 0.8, 0.1))

    async def oversleep(seconds: float) -> None:
        await asyncio.sleep(seconds + next(naps) / rate)

    async def work(limiter: SharedRateLimiter) -> None:
        while clock.now < began + 60:
            await limiter.acquire_async()
            grants.append(clock.now)

    async def all_of_them() -> None:
        storage, config = Turns(clock), RateLimit(rate, margin=MARGIN)
        several = (
            SharedRateLimiter("supplier", config, shared=SharedState(storage), clock=clock, async_sleep=oversleep)
            for _ in range(3)
        )
        await asyncio.gather(*map(work, several))

    began = clock.now
    with asyncio.Runner(loop_factory=lambda: FakeTimeLoop(clock)) as runner:
        runner.run(all_of_them())
    grants.sort()
    most = max(sum(1 for at in grants[index:] if at < start + 1) for index, start in enumerate(grants))
    assert most <= rate
    assert len(grants) >= 60 * rate / 4, "they still get on"
