"""One rate limit for all who send from behind one address: a sliding log in Redis, on the clock of Redis.

Where Redis does not answer in time each process keeps the limit for itself, and says so once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Final

from redis import exceptions as redis_errors

from catalog_sync.supplier.protection import scope
from catalog_sync.supplier.rate_limit import RateLimiter
from otel_resilience import classify
from otel_resilience.storage.scripts import SERVER_CLOCK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import redis.asyncio as redis

    from catalog_sync.config import Settings

WAIT: Final = 0.05
"""Seconds that a request waits for Redis at most."""
RETRY_EVERY: Final = 1.0
"""Seconds between two attempts to reach a Redis that is gone."""
MARGIN: Final = 0.05
"""The window is this much longer than asked for: what Redis granted at one moment is sent at another."""

TAKE: Final = (
    SERVER_CLOCK
    + """
local limit, window, cost, pause = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local used = tonumber(redis.call('HGET', KEYS[2], 'used') or '0')
local function entry(index)
  local text = redis.call('LINDEX', KEYS[1], index)
  if not text then return nil end
  local at, units = string.match(text, '^(%S+) (%d+)$')
  return tonumber(at), tonumber(units)
end
while true do
  local at, units = entry(0)
  if not at then used = 0 break end
  if at + window > now and at < now + window then break end
  redis.call('LPOP', KEYS[1])
  used = used - units
end
local paused = math.max(tonumber(redis.call('HGET', KEYS[2], 'paused_until') or '0'), now + pause)
local wait = math.max(0, paused - now)
local over, index = used + cost - limit, 0
while over > 0 do
  local at, units = entry(index)
  if not at then break end
  over = over - units
  wait = math.max(wait, at + window - now)
  index = index + 1
end
if wait <= 0 and cost > 0 then
  redis.call('RPUSH', KEYS[1], string.format('%.6f %d', now, cost))
  used = used + cost
end
redis.call('HSET', KEYS[2], 'used', used, 'paused_until', string.format('%.6f', paused))
local keep = math.ceil(1000 * (2 * window + math.max(0, paused - now)))
redis.call('PEXPIRE', KEYS[1], keep)
redis.call('PEXPIRE', KEYS[2], keep)
return string.format('%.6f', wait)
"""
)
"""KEYS: list of grants, hash of the rest. ARGV: limit, window in s, cost, pause in s. Answers how long to wait; where
that is 0, the cost was taken."""

_log = logging.getLogger(__name__)


class SharedRateLimiter(RateLimiter):
    """As :class:`~catalog_sync.supplier.rate_limit.RateLimiter`; all with the same key in one Redis share the limit.

    A decision is one round trip. A pause is told to the others with the next decision of this process.
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
        """Whether this process keeps the limit for itself."""
        self._limit = max(1, int(rate))
        self._window = self._limit / rate * (1 + MARGIN)
        self._keys = [f"{{{key}}}:granted", f"{{{key}}}:rate"]
        self._script = client.register_script(TAKE)
        self._wait = wait
        self._ask_from = float("-inf")
        self._untold_until = float("-inf")

    def pause(self, seconds: float) -> None:
        """Let nobody send for ``seconds``, in no process."""
        super().pause(seconds)
        self._untold_until = max(self._untold_until, self._clock() + seconds)

    async def _tell_others(self) -> None:
        if self._untold_until > self._clock():
            await self._ask(0)

    async def _take(self, cost: int) -> float:
        wait = await self._ask(min(max(cost, 1), self._limit))
        if wait is None or wait <= 0:
            return await super()._take(cost)
        return wait

    async def _ask(self, cost: int) -> float | None:
        """Seconds to wait, 0 where ``cost`` was granted, ``None`` without an answer."""
        now = self._clock()
        if now < self._ask_from:
            return None
        pause = max(0.0, self._untold_until - now)
        try:
            async with asyncio.timeout(self._wait):
                answer = await self._script(keys=self._keys, args=[self._limit, self._window, cost, pause])
        except (redis_errors.RedisError, OSError) as error:  # a timeout is an OSError
            self._ask_from = self._clock() + RETRY_EVERY
            if not self.degraded:
                self.degraded = True
                _log.warning(
                    "the shared rate limit cannot be reached (%s); this process keeps it for itself",
                    classify(error).error_type,
                )
            return None
        self._untold_until = float("-inf")
        if self.degraded:
            self.degraded = False
            _log.info("the shared rate limit is reached again")
        return float(answer)


@contextlib.asynccontextmanager
async def open_limiter(settings: Settings) -> AsyncIterator[RateLimiter]:
    """The limit of the settings: shared through ``REDIS_URL`` where that is set, else of this process."""
    if not settings.redis_url or not settings.supplier_rate:
        yield RateLimiter(settings.supplier_rate)
        return
    from catalog_sync.store.client import connect_url

    client = connect_url(settings.redis_url)
    try:
        yield SharedRateLimiter(settings.supplier_rate, client, f"esim-go:{scope(settings.base_url)}")
    finally:
        with contextlib.suppress(OSError, redis_errors.RedisError):  # nothing is lost with a connection
            await client.aclose()
