"""Time that moves only on request: a clock, and an event loop on it."""

from __future__ import annotations

import asyncio
import math
import selectors
import time
from typing import Final

_RESOLUTION: Final = time.get_clock_info("monotonic").resolution
"""Seconds by which asyncio may run a timer early. If a clock's floating-point steps are larger, timers never run."""


class FakeClock:
    """A monotonic clock that moves only by :meth:`advance`, or when something sleeps on it.

    Give it to a policy as ``clock``, its :meth:`sleep` as ``sleep`` and its :meth:`async_sleep` as ``async_sleep``.

    ``start`` is its first time in seconds.

    Examples:
        >>> from otel_resilience.testing import FakeClock
        >>> clock = FakeClock()
        >>> config = CircuitBreakerConfig(reset_timeout=30)
        >>> breaker = CircuitBreaker("supplier", config, clock=clock)
        >>> clock.advance(30)
        >>> breaker.metrics().time_in_state
        30.0
    """

    def __init__(self, start: float = 1000.0) -> None:
        self.now = start
        self.sleeps: list[float] = []
        """Every requested wait, in seconds."""

    def __call__(self) -> float:
        """The time in seconds."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Moves the time forward. Raises ``ValueError`` for a negative step."""
        if seconds < 0:
            raise ValueError("a monotonic clock does not go back")
        self.now += seconds

    def sleep(self, seconds: float) -> None:
        """Moves the time instead of waiting."""
        self.sleeps.append(seconds)
        self.advance(seconds)

    async def async_sleep(self, seconds: float) -> None:
        """Moves the time instead of waiting, and lets other tasks run."""
        self.sleep(seconds)
        await asyncio.sleep(0)


class FakeTimeLoop(asyncio.SelectorEventLoop):
    """An event loop that jumps to its next timer instead of waiting for it.

    ``asyncio.timeout`` and ``asyncio.sleep`` use fake time, so that an operation that hangs for ever reaches its
    attempt timeout immediately. Only for tests without real I/O: a timer that is due fires before a socket is ready.

    Examples:
        >>> import asyncio
        >>> from otel_resilience.testing import FakeTimeLoop
        >>> with asyncio.Runner(loop_factory=FakeTimeLoop) as runner:
        ...     runner.run(asyncio.sleep(3600, "an hour later"))
        'an hour later'
    """

    def __init__(self, clock: FakeClock | None = None) -> None:
        self.clock = clock or FakeClock()
        super().__init__(_JumpingSelector(self.clock))

    def time(self) -> float:
        """The fake time in seconds."""
        return self.clock.now

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  # asyncio's own
        """Waits for the threads however long they take: ``timeout``, in seconds of fake time, would be over before they
        can end."""
        del timeout
        await super().shutdown_default_executor()


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0 if timeout is not None else None)
        if not ready and timeout is not None and timeout > 0:
            self._clock.advance(timeout)
            if self._clock.now + _RESOLUTION == self._clock.now:
                self._clock.advance(math.ulp(self._clock.now))
        return ready
