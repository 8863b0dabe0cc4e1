"""The request rate limit: a sliding log of what was granted, and the queue in front of it.

A supplier counts in windows of its own that we cannot see. Whatever they are, a client that never sends more than N
requests within any span of one second stays within N per second.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING

from catalog_sync.domain.errors import RateLimitError
from otel_resilience import Classification, ErrorClass, Severity

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from catalog_sync.supplier.port import Deadline

SAFETY_MARGIN = 0.01
"""The window is this much longer than asked for: a later request may reach the supplier faster than an earlier one."""


class SlidingLog:
    """Pure: at most ``rate`` units per second, in any window, and nothing while paused.

    A rate of 0 sets no limit; pauses still hold. For rates below 1 it is one unit per ``1 / rate`` seconds.
    """

    __slots__ = ("_granted", "_limit", "_paused_until", "_used", "_window")

    def __init__(self, rate: float, *, margin: float = SAFETY_MARGIN) -> None:
        if rate < 0 or margin < 0:
            raise ValueError("rate and margin must not be negative")
        self._limit = max(1, int(rate)) if rate else 0
        self._window = self._limit / rate * (1 + margin) if rate else 0.0
        self._granted: deque[tuple[float, int]] = deque()
        self._used = 0
        self._paused_until = float("-inf")

    def pause(self, until: float) -> None:
        """Grant nothing before ``until``. An earlier pause that lasts longer stays."""
        self._paused_until = max(self._paused_until, until)

    def ready_at(self, now: float, cost: int = 1) -> float:
        """The earliest time at which ``cost`` units may be granted; never before ``now``.

        A cost above the limit is counted as the whole limit.
        """
        start = max(now, self._paused_until)
        if not self._limit:
            return start
        self._forget(now)
        over = self._used + self._units(cost) - self._limit
        for granted_at, units in self._granted:
            if over <= 0:
                break
            over -= units
            start = max(start, granted_at + self._window)
        return start

    def take(self, now: float, cost: int = 1) -> None:
        """Record a grant. Call :meth:`ready_at` first."""
        if self._limit:
            units = self._units(cost)
            self._granted.append((now, units))
            self._used += units

    def _units(self, cost: int) -> int:
        return min(max(cost, 1), self._limit)

    def _forget(self, now: float) -> None:
        while self._granted and self._granted[0][0] + self._window <= now:
            self._used -= self._granted.popleft()[1]


class RateLimiter:
    """The limit, shared by all calls of one client: first come, first served, and pausable."""

    def __init__(
        self,
        rate: float,
        *,
        margin: float = SAFETY_MARGIN,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.rate = rate
        """Requests per second; 0: no limit."""
        self._log = SlidingLog(rate, margin=margin)
        self._clock = clock
        self._sleep = sleep
        self._turn = asyncio.Lock()  # hands over in the order of arrival, also when a waiter is cancelled

    async def acquire(self, cost: int = 1, *, deadline: Deadline | None = None) -> None:
        """Wait until a request may be sent.

        Raises ``RateLimitError`` at once, with the time to wait, where the pause lasts longer than ``deadline`` allows.
        """
        async with self._turn:
            while True:
                await self._report_pause()
                now = self._clock()
                wait = self._log.ready_at(now, cost) - now
                if wait <= 0:
                    wait = await self._take(cost)
                if wait <= 0:
                    return
                if deadline is not None and wait > deadline.remaining():
                    raise RateLimitError(
                        f"the supplier asked to wait another {wait:.1f} s, longer than this run may last",
                        classification=_PAUSED,
                        retry_after=wait,
                    )
                await self._sleep(wait)

    async def _take(self, cost: int) -> float:
        """Takes ``cost`` units that this client's own limit allows. Returns 0, or how long to wait where it may not."""
        self._log.take(self._clock(), cost)
        return 0.0

    async def _report_pause(self) -> None:
        """No other process shares this limit."""

    def pause(self, seconds: float) -> None:
        """Send nothing for ``seconds``: the supplier requested it from one of the callers."""
        self._log.pause(self._clock() + seconds)


_PAUSED = Classification(ErrorClass.THROTTLED, Severity.MEDIUM, "429", unsent=True)
