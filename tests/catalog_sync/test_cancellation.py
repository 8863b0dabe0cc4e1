"""A cancellation ends a call of Redis even if redis-py swallows it, so that no caller waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import redis.asyncio as redis
from redis.exceptions import ConnectionError as RedisConnectionError

from catalog_sync.domain.cancellation import heeding_cancellation
from catalog_sync.store.client import GuardedRedis
from otel_resilience import Policy, RetryConfig
from support.redis_server import free_port

Answer = asyncio.Future[str]
Settle = Callable[[Answer], None]

answered: Settle = lambda answer: answer.set_result("answer")  # noqa: E731
lost: Settle = lambda answer: answer.set_exception(RedisConnectionError("Connection closed by server."))  # noqa: E731
both_ends = pytest.mark.parametrize("settle", [answered, lost], ids=["answered", "lost"])


class Exchange:
    """A call like those of redis-py that ends at the moment of its cancellation."""

    def __init__(self) -> None:
        self.answer: Answer = asyncio.get_running_loop().create_future()
        self.calls = 0

    async def __call__(self, *_: object, **__: object) -> str:
        self.calls += 1
        return await asyncio.wait_for(self.answer, 60)

    async def cancelled_in(self, work: Awaitable[object], settle: Settle) -> asyncio.Task[object]:
        """Cancels ``work`` as its call ends, and waits for its end."""
        task = asyncio.ensure_future(work)
        assert isinstance(task, asyncio.Task)
        while not self.calls:
            await asyncio.sleep(0)
        settle(self.answer)
        task.cancel()
        await asyncio.wait([task], timeout=5)
        return task


@both_ends
async def test_the_cancellation_passes(settle: Settle) -> None:
    exchange = Exchange()
    task = await exchange.cancelled_in(heeding_cancellation(exchange()), settle)
    assert task.cancelled()


@both_ends
async def test_what_was_cancelled_is_not_tried_again(settle: Settle) -> None:
    exchange = Exchange()
    async with redis.Redis(port=free_port()) as client:
        guarded = GuardedRedis(client, Policy("redis", retry=RetryConfig(max_attempts=3, base_delay=0)))
        task = await exchange.cancelled_in(guarded.call("read", exchange), settle)
    assert task.cancelled()
    assert exchange.calls == 1


async def test_without_a_cancellation_nothing_is_changed() -> None:
    async def say(what: str) -> str:
        return what

    async def fail() -> None:
        raise RedisConnectionError("no")

    assert await heeding_cancellation(say("a")) == "a"
    with pytest.raises(RedisConnectionError):
        await heeding_cancellation(fail())


@both_ends
async def test_an_earlier_cancellation_that_was_dealt_with_counts_for_nothing(settle: Settle) -> None:
    """Who caught a cancellation on purpose, to clean up, may still use Redis."""

    async def ends() -> str:
        answer: Answer = asyncio.get_running_loop().create_future()
        settle(answer)
        return await answer

    async def cleans_up() -> str:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            try:
                return await heeding_cancellation(ends())
            except RedisConnectionError:
                return "lost"
        return "never"

    task = asyncio.create_task(cleans_up())
    await asyncio.sleep(0)
    task.cancel()
    assert await task in {"answer", "lost"}
