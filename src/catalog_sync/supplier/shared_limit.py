"""One rate limit for all processes that send from one address: turns kept in Redis, on the clock of the server.

Where Redis does not answer in time each process keeps its share of the limit for itself, which is logged once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import time
from typing import TYPE_CHECKING, Any, Final

from redis import exceptions as redis_errors

from catalog_sync.domain.cancellation import heeding_cancellation
from catalog_sync.supplier.protection import scope
from catalog_sync.supplier.rate_limit import RateLimiter
from catalog_sync.supplier.turns import LONGEST_TURN, Spacing, Turn, Turns
from otel_resilience import classify
from otel_resilience.storage.backends.redis import COMPARE_AND_SET, KEEP, PAUSE, ROUNDS

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
_log = logging.getLogger(__name__)


class SharedRateLimiter(RateLimiter):
    """As :class:`~catalog_sync.supplier.rate_limit.RateLimiter`; all with the same key in one Redis share the limit.

    A decision is two round trips. A pause is passed to the others with the next decision of this process.
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
        self._spacing = Spacing.of(rate)
        self._latest = (self._spacing.window - self._spacing.limit / rate) / 2
        """Seconds by which a turn may be used late: half of what the margin leaves, the way to the supplier has the
        rest."""
        self._key = f"{{{key}}}:turns"
        self._name = secrets.token_hex(8)
        self._script = client.register_script(COMPARE_AND_SET)
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
        turn = await self._request(min(max(cost, 1), self._spacing.limit))
        if turn is None:
            # Others may still take their turns: no faster than one of so many.
            own_turn = self._taken_at + self._spacing.gap * self._processes * cost if self._processes > 1 else 0.0
            if own_turn > self._clock():
                return own_turn - self._clock()
            return await self._taken(cost)
        if not turn.kept:
            return max(turn.wait - LONGEST_TURN / 2, LONGEST_TURN / 2)
        if turn.wait > 0:
            begins = self._clock() + turn.wait
            await self._sleep(turn.wait)
            now = self._clock()
            # A turn that was missed is another process's time, and a pause may have begun.
            if now - begins > self._latest or self._log.ready_at(now, cost) > now:
                return min(self._spacing.gap, LONGEST_TURN)
        return await self._taken(cost)

    async def _taken(self, cost: int) -> float:
        self._taken_at = self._clock()
        return await super()._take(cost)

    async def _request(self, cost: int, limit: float | None = None) -> Turn | None:
        """The turn that this process gets; ``None`` without an answer."""
        now = self._clock()
        if now < self._retry_from:
            return None
        pause = max(0.0, self._unreported_until - now)
        try:
            async with asyncio.timeout(self._wait if limit is None else limit):
                turn = await self._decide(cost, pause)
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
        self._processes = turn.processes
        return turn

    async def _decide(self, cost: int, pause: float) -> Turn:
        """Reads the turns, takes one, and writes them unless another process did meanwhile: then once more."""
        found = await self._call()
        for attempt in range(ROUNDS):
            text, seconds, microseconds = found
            turns = Turns.load(text)
            now = int(seconds) + int(microseconds) / 1e6
            turn = turns.take(now, self._name, self._spacing, cost=cost, pause=pause)
            found = await self._call(text, turns.dump())
            if found is None:
                return turn
            if attempt % 2:
                await asyncio.sleep(random.random() * PAUSE)  # noqa: S311  # spreads the processes, no secret
                found = await self._call()
        raise TimeoutError(f"other processes took turns {ROUNDS} times meanwhile")

    async def _call(self, *texts: bytes) -> Any:
        return await heeding_cancellation(self._script(keys=[self._key], args=[int(KEEP * 1000), *texts]))


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
