"""The limit on concurrent calls: slots with a clock, waiting and telemetry around them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, NoReturn

from otel_resilience import telemetry
from otel_resilience._internal import validation as check
from otel_resilience._internal.process_bound import ProcessBound
from otel_resilience.errors import ConcurrencyLimitError
from otel_resilience.limits.config import ConcurrencyLimit, longest_wait
from otel_resilience.limits.semaphore import FairSemaphore

CONCURRENCY: Final = "concurrency"
FIRST_ESTIMATE: Final = 1.0
"""Seconds until a slot becomes free, assumed before any did."""
WEIGHT: Final = 0.2
"""Weight of the latest interval in the moving average of the intervals in which slots become free."""


class ConcurrencyLimiter(ProcessBound):
    """Lets no more calls run concurrently than a :class:`ConcurrencyLimit` allows, first come, first served.

    Safe for threads and for several event loops. Also a context manager, which raises
    :class:`~otel_resilience.ConcurrencyLimitError` if no slot becomes free in time. ``clock`` gives monotonic seconds.
    Raises ``TypeError`` or ``ValueError`` naming the parameter.

    Examples:
        >>> import asyncio
        >>> limiter = ConcurrencyLimiter("supplier", ConcurrencyLimit(16))
        >>> with limiter:
        ...     limiter.in_flight
        1
        >>> async def count():
        ...     async with limiter:
        ...         return limiter.in_flight
        >>> asyncio.run(count())
        1
    """

    def __init__(
        self, dependency: str, config: ConcurrencyLimit, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.dependency = check.label("dependency", dependency)
        check.instance("config", config, ConcurrencyLimit)
        check.def_function("clock", clock)
        self.config = config
        self._clock = clock
        self._slots = FairSemaphore(sys.maxsize if config.shadow else config.limit)
        self._interval = FIRST_ESTIMATE
        self._full_since = 0.0
        """Since when no slot has become free."""
        telemetry.watch_concurrency(self)

    def __repr__(self) -> str:
        shadow = " SHADOW" * self.config.shadow
        return f"<{type(self).__name__} {self.dependency} {self.in_flight} of {self.config.limit}{shadow}>"

    @property
    def in_flight(self) -> int:
        """Running calls; in shadow mode there may be more than the limit."""
        return self._slots.in_use

    def take(self) -> bool:
        """Takes a slot if one is free and nobody is waiting for it.

        In shadow mode always ``True``; calls that an enforcing limit would not have let pass are counted.
        """
        if not self._slots.take():
            return False
        if self._slots.in_use >= self.config.limit:
            self._filled()
        return True

    def release(self) -> None:
        """Returns a slot, which goes to the caller that has waited the longest."""
        if self._slots.in_use == self.config.limit:
            now = self._clock()
            self._interval += WEIGHT * (now - self._full_since - self._interval)
            self._full_since = now
        self._slots.give()

    def acquire(self, *, within: float | None = None) -> None:
        """Waits for a slot.

        ``within``: maximum seconds to wait, besides ``max_wait``; by default the seconds of
        :func:`~otel_resilience.remaining`. Raises :class:`~otel_resilience.ConcurrencyLimitError` if no slot becomes
        free in time.

        Within a running event loop it blocks the loop, also tasks that would free a slot: limit such a wait.
        """
        if self.take():
            return
        started = self._clock()
        self._waited(started, in_time=self._slots.wait(self._patience(within)))

    async def acquire_async(self, *, within: float | None = None) -> None:
        """Like :meth:`acquire`, for an ``async def``. A cancelled task takes no slot."""
        if self.take():
            return
        started = self._clock()
        self._waited(started, in_time=await self._slots.wait_async(self._patience(within)))

    def __enter__(self) -> None:
        """Waits for a slot."""
        self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Returns the slot."""
        self.release()

    async def __aenter__(self) -> None:
        """Like ``with``, for an ``async def``."""
        await self.acquire_async()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Returns the slot."""
        self.release()

    def _filled(self) -> None:
        self._full_since = self._clock()
        if self.config.shadow and self._slots.in_use > self.config.limit:
            telemetry.limit_exceeded(self.dependency, CONCURRENCY, enforced=False)

    def _patience(self, within: float | None) -> float:
        seconds = longest_wait(self.config.max_wait, within)
        if seconds <= 0:
            self._reject()
        return seconds

    def _waited(self, started: float, *, in_time: bool) -> None:
        if not in_time:
            self._reject()
        telemetry.limit_waited(self.dependency, CONCURRENCY, max(0.0, self._clock() - started))

    def _reject(self) -> NoReturn:
        telemetry.limit_exceeded(self.dependency, CONCURRENCY, enforced=True)
        raise ConcurrencyLimitError(self.dependency, (self._slots.waiting + 1) * self._interval)
