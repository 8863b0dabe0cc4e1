"""The rate limiter: the sliding log with a clock, a lock, a queue and telemetry around it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from otel_resilience import telemetry
from otel_resilience._internal import validation as check
from otel_resilience._internal.forks import new_lock, renew_after_fork
from otel_resilience._internal.in_use import InUse
from otel_resilience._internal.operations import running_loop
from otel_resilience._internal.process_bound import ProcessBound
from otel_resilience._internal.waiting import wait
from otel_resilience.errors import RateLimitedError
from otel_resilience.limits.config import RateLimit, longest_wait
from otel_resilience.limits.semaphore import FairSemaphore
from otel_resilience.limits.sliding_log import SlidingLog

RATE: Final = "rate"
_ROUNDING: Final = 1e-6
"""Seconds by which the difference of two clock readings may be off."""


class RateLimiter(ProcessBound):
    """Gives permits no faster than a :class:`RateLimit` allows, first come, first served.

    Safe for threads and for several event loops. It waits at most as long as the deadline of the enclosing calls
    allows. ``clock`` gives monotonic seconds; ``sleep`` and ``async_sleep`` are called to wait, with seconds. Raises
    ``TypeError`` or ``ValueError`` naming the parameter.

    Examples:
        >>> import asyncio
        >>> limiter = RateLimiter("supplier", RateLimit(10))
        >>> limiter.acquire()
        >>> asyncio.run(limiter.acquire_async())
        >>> limiter.take(cost=9)  # of ten permits per second two are used
        False
    """

    def __init__(
        self,
        dependency: str,
        config: RateLimit,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        async_sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.dependency = check.label("dependency", dependency)
        check.instance("config", config, RateLimit)
        for name, function in (("clock", clock), ("sleep", sleep)):
            check.def_function(name, function)
        check.function("async_sleep", async_sleep)
        self.config = config
        self.sleep = sleep
        self.async_sleep = async_sleep
        self._clock = clock
        self._log = SlidingLog(config.limit, config.window)
        self._turn = FairSemaphore(1)
        """Held by whoever waits for the next permit; the others queue for it."""
        self.renew_after_fork()
        renew_after_fork(self)
        rate_limiters_in_use.add(self)

    def renew_after_fork(self) -> None:
        """The threads that may hold the lock, or wait, are not in the child."""
        self._lock = new_lock()
        self._queued = 0
        """Permits that callers are waiting for."""

    def __repr__(self) -> str:
        config = self.config
        return (
            f"<{type(self).__name__} {self.dependency} {config.limit} per {config.per:g} s{' SHADOW' * config.shadow}>"
        )

    def take(self, cost: int = 1) -> bool:
        """Takes ``cost`` permits if they are available now and nobody is waiting for them.

        In shadow mode always ``True``; permits that an enforcing limit would not have given are counted.
        """
        now = self._clock()
        if not self._turn.in_use and self._take(now, cost) <= now:
            return True
        if self.config.shadow:
            telemetry.limit_exceeded(self.dependency, RATE, enforced=False)
        return self.config.shadow

    def give_back(self, cost: int = 1, *, age: float = 0.0) -> None:
        """Permits that were taken ``age`` seconds ago were not used; has no effect once they have expired."""
        if self.config.shadow:
            return
        now = self._clock()
        with self._lock:
            self._log.give_back(now, now - age + _ROUNDING, cost)

    def used(self, cost: int = 1, *, age: float = 0.0) -> None:
        """Permits that were taken ``age`` seconds ago are used only now: they count from now.

        For callers that take time between their permit and the wire, for example to open a connection: a late request,
        together with the next ones on time, could fall into one window of the server. The transports of
        :mod:`otel_resilience.integrations.httpx` call it for each request.
        """
        if self.config.shadow:
            return
        now = self._clock()
        with self._lock:
            self._log.use(now, now - age + _ROUNDING, cost)

    def pause(self, seconds: float) -> None:
        """Gives no permits for ``seconds``: the server asked a caller to wait. A longer pause stays in effect."""
        check.seconds("seconds", seconds, zero=True)
        with self._lock:
            self._log.pause(self._clock() + seconds)

    def reset(self) -> None:
        """Forgets the given permits, and a pause."""
        with self._lock:
            self._log = SlidingLog(self.config.limit, self.config.window)

    def acquire(
        self, cost: int = 1, *, within: float | None = None, sleep: Callable[[float], object] | None = None
    ) -> None:
        """Waits for ``cost`` permits; more than the limit count as the whole limit.

        ``within``: maximum seconds to wait, besides ``max_wait``; by default the seconds of
        :func:`~otel_resilience.remaining`. Raises :class:`~otel_resilience.RateLimitedError`, immediately if the
        permits cannot be given in time.

        Within a running event loop it blocks the loop, and overtakes waiting tasks, which cannot continue meanwhile.
        """
        if self.take(check.count("cost", cost)):
            return
        started = self._clock()
        until = started + longest_wait(self.config.max_wait, within)
        if running_loop() is not None:
            self._wait_for_permits(cost, started, until, sleep or self.sleep)
            return
        with self._queue(cost, started, until):
            if not self._turn.wait(until - started):
                raise self._rejection(cost)
            try:
                self._wait_for_permits(cost, started, until, sleep or self.sleep)
            finally:
                self._turn.give()

    async def acquire_async(
        self,
        cost: int = 1,
        *,
        within: float | None = None,
        sleep: Callable[[float], Awaitable[object]] | None = None,
    ) -> None:
        """Like :meth:`acquire`, for an ``async def``. A cancelled task takes no permits."""
        if self.take(check.count("cost", cost)):
            return
        started = self._clock()
        until = started + longest_wait(self.config.max_wait, within)
        with self._queue(cost, started, until):
            if not await self._turn.wait_async(until - started):
                raise self._rejection(cost)
            try:
                now = max(started, self._clock())
                while (ready := await self._take_async(now, cost)) > now:
                    self._check(ready, now, until)
                    await (sleep or self.async_sleep)(ready - now)
                    now = max(ready, self._clock())
            finally:
                self._turn.give()
        telemetry.limit_waited(self.dependency, RATE, now - started)

    def _wait_for_permits(self, cost: int, started: float, until: float, sleep: Callable[[float], object]) -> None:
        now = max(started, self._clock())
        while (ready := self._take(now, cost)) > now:
            self._check(ready, now, until)
            wait(sleep, ready - now)
            now = max(ready, self._clock())
        telemetry.limit_waited(self.dependency, RATE, now - started)

    def _take(self, now: float, cost: int) -> float:
        """Takes permits if they are available ``now``, otherwise says when to ask again."""
        with self._lock:
            ready = self._log.ready_at(now, cost)
            if ready <= now:
                self._log.take(now, cost)
        return ready

    async def _take_async(self, now: float, cost: int) -> float:
        return self._take(now, cost)

    @contextlib.contextmanager
    def _queue(self, cost: int, now: float, until: float) -> Iterator[None]:
        """Waits from here on. Refused immediately if those ahead need all of the available time."""
        with self._lock:
            ready = self._log.ready_at(now, cost, self._queued)
            self._queued += cost
        try:
            self._check(ready, now, until)
            yield
        finally:
            with self._lock:
                self._queued = max(0, self._queued - cost)

    def _check(self, ready: float, now: float, until: float) -> None:
        if ready > until:
            telemetry.limit_exceeded(self.dependency, RATE, enforced=True)
            raise RateLimitedError(self.dependency, ready - now)

    def _rejection(self, cost: int) -> RateLimitedError:
        now = self._clock()
        with self._lock:
            ready = self._log.ready_at(now, cost, self._queued - cost)
        telemetry.limit_exceeded(self.dependency, RATE, enforced=True)
        return RateLimitedError(self.dependency, ready - now)


rate_limiters_in_use: Final[InUse[RateLimiter]] = InUse()
