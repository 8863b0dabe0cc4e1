"""A rate limit shared by many processes: the storage gives the permits.

Every attempt asks the storage, and waits for the answer for a limited time. Without an answer each process keeps to its
own share of the limit.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Final

from otel_resilience._internal import validation as check
from otel_resilience.limits.config import RateLimit
from otel_resilience.limits.rate import RateLimiter
from otel_resilience.storage.links import Link
from otel_resilience.storage.protocol import RateStep, RateView
from otel_resilience.storage.sharing import Sharing

FIRST_WAIT: Final = 1.0
"""Seconds that the first attempt waits for the first contact with the storage."""
MARGIN: Final = 0.1
"""Processes on several machines stay at least this share below the limit: a request reaches the server some time after
its permit was given, and that time differs from process to process."""
LEAST_WAIT: Final = 0.001
"""Minimum seconds between two requests to the storage."""


class SharedRateLimiter(RateLimiter):
    """Like :class:`~otel_resilience.RateLimiter`; all with the same dependency and the same storage share the limit.

    A permit costs one step of the storage. A pause reaches the others with this process's next step.

    A policy with ``shared`` creates its own.

    Examples:
        >>> from otel_resilience.storage import MemoryStorage, SharedRateLimiter, SharedState
        >>> limiter = SharedRateLimiter("supplier", RateLimit(10), shared=SharedState(MemoryStorage()))
        >>> limiter.acquire()
    """

    def __init__(
        self,
        dependency: str,
        config: RateLimit,
        *,
        shared: Sharing,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        async_sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        check.instance("shared", shared, Sharing)
        super().__init__(dependency, config, clock=clock, sleep=sleep, async_sleep=async_sleep)
        self.key = shared.key(dependency)
        self._link = shared.links[0]
        self._reached = False
        margin = max(config.margin, MARGIN) if self._link.storage.remote else config.margin
        self._window = config.per * (1 + margin)
        self._gap = self._window / config.limit
        self._latest_use = (self._window - config.per) / 2
        """Seconds by which a turn may be used late: half of the margin; the other half is for the way to the server."""
        self._sender = secrets.token_hex(8)
        self._senders = 1
        """Processes that asked recently, by the last answer."""
        self._taken_at = -math.inf
        self._turn_at: float | None = None
        """When the turn that the storage reserves for this process comes."""
        self._unreported_until = -math.inf
        shared.join(self)

    def pause(self, seconds: float) -> None:
        """Gives no permits for ``seconds``, in any process."""
        super().pause(seconds)
        with self._lock:
            self._unreported_until = max(self._unreported_until, self._clock() + seconds)
            step = self._step(0)
        self._link.submit(lambda: self._ask(step), lambda _: self._reported(step))

    def refresh(self, link: Link) -> None:
        """Reports a pause that was not reported before. Raises :class:`~otel_resilience.storage.StorageError`."""
        step = self._step(0)
        if step.pause and link is self._link:
            link.run(lambda: self._ask(step))
            self._reported(step)

    def flush(self) -> None:
        """Like :meth:`refresh`, ignoring errors."""
        self._link.refresh(self)

    def take(self, cost: int = 1) -> bool:
        """Always ``False``: only the storage knows."""
        return False

    def _take(self, now: float, cost: int) -> float:
        ready, step = self._own(now, cost)
        if step is None:
            return ready
        if not self._reached:
            self._reached = True
            self._link.ready(FIRST_WAIT)
        answers: list[RateView] = []
        self._link.call(lambda: self._ask(step), answers.append)
        return self._decide(ready, now, step, answers, cost)

    async def _take_async(self, now: float, cost: int) -> float:
        ready, step = self._own(now, cost)
        if step is None:
            return ready
        if not self._reached:
            self._reached = True
            if self._link.storage.remote:
                await asyncio.to_thread(self._link.ready, FIRST_WAIT)
        answers: list[RateView] = []
        await self._link.call_async(lambda: self._ask(step), answers.append)
        return self._decide(ready, now, step, answers, cost)

    def _own(self, now: float, cost: int) -> tuple[float, RateStep | None]:
        """When this process allows itself to continue, and the request to the storage, if one is needed."""
        with self._lock:
            ready = self._log.ready_at(now, cost)
            turn = self._turn_at
            if turn is not None and now < turn:
                return turn, None
            self._turn_at = None
            if turn is not None:
                # A missed turn belongs to another process, and a pause may have started.
                if now - turn <= self._latest_use and ready <= now:
                    return self._use(now, cost), None
                return max(ready, now + self._gap), None
            step = self._step(0 if ready > now else min(cost, self.config.limit))
            return ready, step if step.cost or step.pause else None

    def _ask(self, step: RateStep) -> RateView:
        return self._link.storage.rate(self.key, step)

    def _step(self, cost: int) -> RateStep:
        pause = max(0.0, self._unreported_until - self._clock())
        return RateStep(limit=self.config.limit, window=self._window, cost=cost, pause=pause, sender=self._sender)

    def _reported(self, step: RateStep) -> None:
        if self._unreported_until <= self._clock() + step.pause:  # no longer pause has started meanwhile
            self._unreported_until = -math.inf

    def _decide(self, ready: float, now: float, step: RateStep, answers: list[RateView], cost: int) -> float:
        with self._lock:
            if not answers:
                if self._senders > 1:  # the others may still take their turns: keep to this process's share
                    ready = max(ready, self._taken_at + self._gap * self._senders * cost)
                return ready if ready > now else self._use(now, cost)
            (view,) = answers
            self._senders = view.senders
            self._reported(step)
            answered = max(now, self._clock())
            if not view.granted:
                return max(ready, answered + max(view.wait, LEAST_WAIT))
            if view.wait > 0:
                self._turn_at = answered + view.wait
                return self._turn_at
            return self._use(now, cost)

    def _use(self, now: float, cost: int) -> float:
        self._log.take(now, cost)
        self._taken_at = now
        return now
