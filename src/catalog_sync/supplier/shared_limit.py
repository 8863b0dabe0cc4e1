"""One rate limit for all processes that send from one address: turns given out by Redis, on the clock of the server.

Where Redis does not answer in time each process keeps its share of the limit for itself, which is logged once. Why the
rule is a script: docs/decisions/why-lua.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from typing import TYPE_CHECKING, Final

from redis import exceptions as redis_errors

from catalog_sync.domain.cancellation import heeding_cancellation
from catalog_sync.supplier.protection import scope
from catalog_sync.supplier.rate_limit import RateLimiter
from otel_resilience import classify

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import redis.asyncio as redis

    from catalog_sync.settings.settings import Settings

WAIT: Final = 0.05
"""Seconds that a request waits for Redis at most."""
FIRST_WAIT: Final = 1.0
"""Seconds that the first contact may take, before any request: connection and script are new then."""
RETRY_EVERY: Final = 1.0
"""Seconds between two attempts to reach an unreachable Redis."""
MARGIN: Final = 0.1
"""Several processes together stay this far below the limit: a request reaches the supplier some time after its grant,
and that time differs from process to process."""
ALONE_AFTER: Final = 2.0
"""Seconds after which a process that requested nothing counts as gone."""
LONGEST_TURN: Final = 0.5
"""Seconds for which a turn is kept for a process; where it would have to wait longer it requests again."""

TAKE: Final = """
local seconds = redis.call('TIME')
local now = tonumber(seconds[1]) + tonumber(seconds[2]) / 1000000
local gap, window, cost, pause = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local id, longest, alone_after = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - alone_after)
redis.call('ZREMRANGEBYSCORE', KEYS[2], now, '+inf')
redis.call('ZADD', KEYS[2], now, id)
local processes = redis.call('ZCARD', KEYS[2])
local alone = processes == 1
local next_turn = tonumber(redis.call('HGET', KEYS[1], 'next_turn') or '0')
next_turn = math.max(now, math.min(next_turn, now + window + longest))
local paused = math.max(tonumber(redis.call('HGET', KEYS[1], 'paused_until') or '0'), now + pause)
local turn = math.max(now, paused)
if not alone then turn = math.max(turn, next_turn) end
local granted = cost > 0 and turn - now <= longest
if granted and alone then
  next_turn = math.min(next_turn + cost * gap, now + window)
elseif granted then
  next_turn = turn + cost * gap
end
redis.call('HSET', KEYS[1], 'next_turn', string.format('%.6f', next_turn))
redis.call('HSET', KEYS[1], 'paused_until', string.format('%.6f', paused))
local keep = math.ceil(1000 * (alone_after + math.max(window, next_turn - now, paused - now)))
redis.call('PEXPIRE', KEYS[1], keep)
redis.call('PEXPIRE', KEYS[2], keep)
return {string.format('%.6f', turn - now), granted and 1 or 0, processes}
"""
"""KEYS: hash of the turns, sorted set of the processes. ARGV: seconds from turn to turn, window in s, cost, pause in s,
the process, the longest time that a turn is kept, the time after which a process counts as gone. Answers how long to
wait, whether the turn then is kept for this process, and how many processes take turns.

A process alone may send in bursts, as far as its own log lets it. Several take turns at even distances: a burst of one
that is late and a burst of another that is not would meet at the supplier."""

_log = logging.getLogger(__name__)


class SharedRateLimiter(RateLimiter):
    """As :class:`~catalog_sync.supplier.rate_limit.RateLimiter`; all with the same key in one Redis share the limit.

    A decision is one round trip. A pause is passed to the others with the next decision of this process.
    """

    def __init__(
        self,
        rate: float,
        client: redis.Redis,
        key: str,
        *,
        wait: float = WAIT,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        super().__init__(rate, clock=clock, sleep=sleep)
        self.degraded = False
        """Whether this process keeps its share of the limit for itself."""
        self._processes = 1
        """That took turns at the last answer of Redis."""
        self._taken_at = float("-inf")
        self._limit = max(1, int(rate))
        self._window = self._limit / rate * (1 + MARGIN)
        self._gap = self._window / self._limit
        self._latest = (self._window - self._limit / rate) / 2
        """Seconds by which a turn may be used late: half of what the margin leaves, the way to the supplier has the
        rest."""
        self._keys = [f"{{{key}}}:rate", f"{{{key}}}:processes"]
        self._name = secrets.token_hex(8)
        self._script = client.register_script(TAKE)
        self._wait = wait
        self._retry_from = float("-inf")
        self._unreported_until = float("-inf")

    def pause(self, seconds: float) -> None:
        """Send nothing for ``seconds``, in any process."""
        super().pause(seconds)
        self._unreported_until = max(self._unreported_until, self._clock() + seconds)

    async def reach(self) -> None:
        """Makes the first contact; waits longer for it than a request would."""
        await self._request(0, FIRST_WAIT)

    async def _report_pause(self) -> None:
        if self._unreported_until > self._clock():
            await self._request(0)

    async def _take(self, cost: int) -> float:
        answer = await self._request(min(max(cost, 1), self._limit))
        if answer is None:
            # Others may still take their turns: no faster than one of so many.
            own_turn = self._taken_at + self._gap * self._processes * cost if self._processes > 1 else 0.0
            if own_turn > self._clock():
                return own_turn - self._clock()
            return await self._taken(cost)
        wait, kept = answer
        if not kept:
            return max(wait - LONGEST_TURN / 2, LONGEST_TURN / 2)
        if wait > 0:
            turn = self._clock() + wait
            await self._sleep(wait)
            now = self._clock()
            # A turn that was missed is another process's time, and a pause may have begun.
            if now - turn > self._latest or self._log.ready_at(now, cost) > now:
                return min(self._gap, LONGEST_TURN)
        return await self._taken(cost)

    async def _taken(self, cost: int) -> float:
        self._taken_at = self._clock()
        return await super()._take(cost)

    async def _request(self, cost: int, limit: float | None = None) -> tuple[float, bool] | None:
        """Seconds to wait and whether the turn then is kept; ``None`` without an answer."""
        now = self._clock()
        if now < self._retry_from:
            return None
        pause = max(0.0, self._unreported_until - now)
        arguments: list[str | float] = [self._gap, self._window, cost, pause, self._name, LONGEST_TURN, ALONE_AFTER]
        try:
            async with asyncio.timeout(self._wait if limit is None else limit):
                wait, kept, self._processes = await heeding_cancellation(self._script(keys=self._keys, args=arguments))
        except (redis_errors.RedisError, OSError) as error:  # a timeout is an OSError
            self._retry_from = self._clock() + RETRY_EVERY
            if not self.degraded:
                self.degraded = True
                _log.warning(
                    "the shared rate limit cannot be reached (%s); this process keeps its share for itself",
                    classify(error).error_type,
                )
            return None
        self._unreported_until = float("-inf")
        if self.degraded:
            self.degraded = False
            _log.info("the shared rate limit is reached again")
        return float(wait), bool(kept)


@contextlib.asynccontextmanager
async def open_limiter(settings: Settings) -> AsyncIterator[RateLimiter]:
    """The limit of the settings: shared through ``REDIS_URL`` where that is set, else of this process."""
    if not settings.redis_url or not settings.supplier_rate:
        yield RateLimiter(settings.supplier_rate)
        return
    from catalog_sync.store.client import connect_url

    client = connect_url(settings.redis_url)
    limiter = SharedRateLimiter(settings.supplier_rate, client, f"esim-go:{scope(settings.base_url)}")
    try:
        await limiter.reach()
        yield limiter
    finally:
        with contextlib.suppress(OSError, redis_errors.RedisError):  # nothing is lost with a connection
            await client.aclose()
