"""One limit for all who send from behind one address, and each for itself without Redis."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from catalog_sync.domain.errors import RateLimitError
from catalog_sync.store.client import connect_url
from catalog_sync.supplier.port import Deadline
from catalog_sync.supplier.rate_limit import RateLimiter
from catalog_sync.supplier.shared_limit import MARGIN, SharedRateLimiter, open_limiter
from support import limited_sender
from support.counting_server import counting_server
from support.redis_server import RedisServer, free_port
from support.settings import make_settings
from support.timing import TRIES, quickest

PATIENT = 10.0
"""Seconds that a request waits for Redis where that wait is not what is tested: the machine may be busy."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as running:
        yield running


Limiters = Callable[..., SharedRateLimiter]


@asynccontextmanager
async def limiters(url: str) -> AsyncIterator[Limiters]:
    """Makes limiters as different processes would have them."""
    clients = []

    def make(rate: float, key: str = "supplier", wait: float = PATIENT) -> SharedRateLimiter:
        clients.append(connect_url(url))
        return SharedRateLimiter(rate, clients[-1], key, wait=wait)

    try:
        yield make
    finally:
        for client in clients:
            await client.aclose()


async def test_all_together_stay_within_the_limit(server: RedisServer) -> None:
    grants: list[float] = []

    async def work(limiter: SharedRateLimiter) -> None:
        for _ in range(8):
            await limiter.acquire()
            grants.append(time.monotonic())

    async with limiters(server.url) as make:
        for number in range(TRIES):
            grants.clear()
            await asyncio.gather(*(work(make(20, f"supplier {number}")) for _ in range(4)))
            grants.sort()
            for index, start in enumerate(grants):
                assert sum(1 for at in grants[index:] if at < start + 1) <= 20
            if grants[-1] - grants[0] < 32 / 20 * (1 + MARGIN) + 1:
                return
    pytest.fail("they waste turns")


async def test_a_process_alone_may_send_in_bursts(server: RedisServer) -> None:
    async with limiters(server.url) as make:
        for number in range(TRIES):
            limiter = make(10, f"supplier {number}")
            started = time.monotonic()
            for _ in range(10):
                await limiter.acquire()
            burst = time.monotonic() - started
            await limiter.acquire()
            whole = time.monotonic() - started
            assert whole >= 1
            if burst < 0.95 and whole < 1.5:
                return
    pytest.fail(f"ten took {burst:.2f} s, one more {whole:.2f} s")


async def test_a_process_that_comes_after_a_burst_waits_for_its_end(server: RedisServer) -> None:
    async with limiters(server.url) as make:
        for number in range(TRIES):
            first, second = (make(10, f"supplier {number}") for _ in range(2))
            started = time.monotonic()
            for _ in range(10):
                await first.acquire()
            await second.acquire()
            whole = time.monotonic() - started
            assert whole >= 1
            if whole < 2:
                return
    pytest.fail(f"it waited until {whole:.2f} s")


async def test_other_keys_have_a_limit_of_their_own(server: RedisServer) -> None:
    async with limiters(server.url) as make:
        started = time.monotonic()
        for key in ("a", "b", "c"):
            await make(0.01, key).acquire()
        assert time.monotonic() - started < 50


async def test_a_cost_counts_as_many(server: RedisServer) -> None:
    async with limiters(server.url) as make:
        first, second = make(4), make(4)
        started = time.monotonic()
        await first.acquire(3)
        await second.acquire(100)  # more than the limit counts as all of it
        await first.acquire()
        assert 7 / 4 <= time.monotonic() - started < 100 / 4


async def test_a_pause_holds_for_all(server: RedisServer) -> None:
    async with limiters(server.url) as make:
        first, second = make(100), make(100)
        await second.acquire()
        first.pause(60)
        with pytest.raises(RateLimitError):
            await first.acquire(deadline=Deadline(1.0, time.monotonic))
        with pytest.raises(RateLimitError) as raised:
            await second.acquire(deadline=Deadline(1.0, time.monotonic))
        assert raised.value.retry_after == pytest.approx(60, abs=1)


async def test_without_redis_each_keeps_the_limit_for_itself_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with limiters(f"redis://127.0.0.1:{free_port()}/0") as make:
        limiter = make(1000)
        with caplog.at_level(logging.WARNING, "catalog_sync"):
            for _ in range(20):
                await limiter.acquire()
        assert limiter.degraded
        assert [record.getMessage() for record in caplog.records] == [
            "the shared rate limit cannot be reached (connection_error); this process keeps its share for itself"
        ]


async def test_a_process_that_loses_redis_keeps_its_share_of_what_they_had_together(server: RedisServer) -> None:
    async with limiters(server.url) as make:
        first, second = make(40), make(40)
        for limiter in (first, second, first):
            await limiter.acquire()
        server.kill()
        began = time.monotonic()
        for _ in range(11):
            await first.acquire()
        assert first.degraded
        assert time.monotonic() - began >= 10 * 2 / 40, "half of the limit, since the other may be sending"


async def test_the_first_contact_may_take_longer_than_a_request_waits(server: RedisServer) -> None:
    async with limiters(server.url) as make:
        limiter = make(40, wait=0.0)
        await limiter.reach()
        assert not limiter.degraded


async def test_a_redis_that_hangs_holds_a_request_up_once_for_the_limit(server: RedisServer) -> None:
    async with limiters(server.url) as make:
        for number in range(TRIES):
            limiter = make(1000, f"supplier {number}")
            await limiter.acquire()
            limiter._wait = 0.05
            server.pause()
            try:
                started = time.monotonic()
                for _ in range(20):
                    await limiter.acquire()
                held_up = time.monotonic() - started
                assert limiter.degraded
            finally:
                server.resume()
            limiter._retry_from = 0.0  # a second later
            limiter._wait = PATIENT
            await limiter.acquire()
            assert not limiter.degraded
            if held_up < 0.4:  # type: ignore[unreachable]  # it changed meanwhile
                return
    pytest.fail(f"it was held up for {held_up:.2f} s")


async def test_a_clock_of_redis_that_was_set_back_stops_nobody(server: RedisServer) -> None:
    server.command("HSET", "{supplier}:rate", "next_turn", time.time() + 1e6)
    server.command("ZADD", "{supplier}:processes", time.time() + 1e6, "another", time.time(), "a third")
    async with limiters(server.url) as make:
        started = time.monotonic()
        await make(5).acquire()
        assert time.monotonic() - started < 30  # a window at most, and what the machine takes


async def test_the_settings_decide(server: RedisServer, tmp_path: Path) -> None:
    async with open_limiter(
        make_settings("http://x.example/v2.5", tmp_path, redis_url=server.url, supplier_rate=10)
    ) as shared:
        assert isinstance(shared, SharedRateLimiter)
        assert shared._keys == ["{esim-go:x.example:80}:rate", "{esim-go:x.example:80}:processes"]
    for changes in ({"redis_url": None, "supplier_rate": 10}, {"redis_url": server.url, "supplier_rate": 0.0}):
        async with open_limiter(make_settings("http://x.example/v2.5", tmp_path, **changes)) as own:
            assert type(own) is RateLimiter


@pytest.mark.slow
def test_four_processes_never_exceed_it_together(server: RedisServer) -> None:
    rate, each, workers = 10, 8, 4

    def sending() -> float:
        """All together; how many seconds it took."""
        with counting_server() as target:
            command = [sys.executable, str(Path(limited_sender.__file__)), server.url, target.url, str(rate), str(each)]
            senders = [
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
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
                answers = [sender.communicate(timeout=60)[0] for sender in senders]
            finally:
                for sender in senders:
                    sender.kill()
                    sender.communicate()
            assert answers == ["shared\n"] * workers
            assert len(target.seen) == each * workers
            assert target.most_within(1.0) <= rate
            times = sorted(seen.sent_at for seen in target.seen)
            return times[-1] - times[0]

    good = each * workers / rate * (1 + MARGIN) + 2
    assert quickest(sending, good) <= good


@pytest.mark.slow
@pytest.mark.parametrize("rate", [2.0, 5.0, 20.0])
async def test_turns_that_are_used_late_stay_within_the_limit(server: RedisServer, rate: float) -> None:
    """A process that wakes late, as on a loaded machine, does not send into the turn of another one."""
    grants: list[float] = []
    naps = iter((0.9, 0.0, 0.45, 0.0, 0.8, 0.1) * 100)
    began = time.monotonic()
    enough = min(25, 2 * rate)

    async def oversleep(seconds: float) -> None:
        await asyncio.sleep(seconds + next(naps) / rate)

    async def work(limiter: SharedRateLimiter) -> None:
        while len(grants) < 25 and (lasted := time.monotonic() - began) < 60 and (lasted < 6 or len(grants) < enough):
            await limiter.acquire()
            grants.append(time.monotonic())

    async with limiters(server.url) as make:
        several = [make(rate) for _ in range(3)]
        for limiter in several:
            limiter._sleep = oversleep
            await limiter.reach()
        await asyncio.gather(*map(work, several))
    grants.sort()
    most = max(sum(1 for at in grants[index:] if at < start + 1) for index, start in enumerate(grants))
    assert most <= rate
    assert len(grants) >= enough, "they still get on"
