"""A fake clock for all objects of the library, which also drives their time limits."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from otel_resilience.limits import attempt_timeout
from otel_resilience.limits.semaphore import FairSemaphore
from otel_resilience.limits.threads import Worker
from otel_resilience.testing.clock import FakeClock

HANGS_AFTER: Final = 1.0
"""Real seconds after which an attempt that neither ends nor sleeps on the clock is assumed to hang."""
SLICE: Final = 0.05
"""Real seconds; they are counted in slices, so that a pause of the whole machine counts as one slice and no more."""


class SharedClock(FakeClock):
    """Like :class:`FakeClock`, thread-safe; it continues from the real time.

    A time limit passes when the clock has moved past it while the attempt ran, or when the attempt really hangs: then
    the clock jumps to the limit after at most a second.
    """

    def __init__(self, sleeps: list[float]) -> None:
        super().__init__(time.monotonic())
        self.sleeps = sleeps
        self._lock = threading.Lock()
        self._timers: set[_Timer] = set()

    def advance(self, seconds: float) -> None:
        """Moves the time forward. Raises ``ValueError`` for a negative step."""
        with self._lock:
            super().advance(seconds)
            due = [timer for timer in self._timers if timer.when <= self.now]
        for timer in due:
            self._end(timer)

    async def async_sleep(self, seconds: float) -> None:
        """Moves the time instead of waiting, and lets other tasks of asyncio run."""
        self.sleep(seconds)
        if asyncio._get_running_loop() is not None:  # noqa: SLF001  # documented for such use, and does not raise
            await asyncio.sleep(0)

    @contextlib.contextmanager
    def cutting(self) -> Iterator[None]:
        """Within the block the time limits of attempts, and of waits in a queue, use this clock."""
        run, start_timer = Worker.run, attempt_timeout.start_timer
        wait, wait_async = FairSemaphore.wait, FairSemaphore.wait_async

        def run_on_clock(worker: Worker, *arguments: Any) -> Any:
            return self._run(worker, run, *arguments)

        def wait_on_clock(places: FairSemaphore, seconds: float) -> bool:
            return self._in_time(seconds, taken=wait(places, _real(seconds)))

        async def wait_async_on_clock(places: FairSemaphore, seconds: float) -> bool:
            return self._in_time(seconds, taken=await wait_async(places, _real(seconds)))

        with contextlib.ExitStack() as stack:
            for owner, name, replacement, original in (
                (Worker, "run", run_on_clock, run),
                (FairSemaphore, "wait", wait_on_clock, wait),
                (FairSemaphore, "wait_async", wait_async_on_clock, wait_async),
                (attempt_timeout, "start_timer", self._start_timer, start_timer),
            ):
                stack.callback(setattr, owner, name, original)
                setattr(owner, name, replacement)
            yield

    def _in_time(self, seconds: float, *, taken: bool) -> bool:
        if not taken:
            self.advance(max(0.0, seconds))
        return taken

    def _run(
        self,
        worker: Worker,
        run: Callable[..., Any],
        operation: Callable[[], Any],
        limit: float,
        on_timeout: Callable[[int | None], BaseException],
    ) -> Any:
        until = self.now + limit
        ended = threading.Event()

        def in_time() -> Any:
            try:
                result = operation()
            except Exception as error:
                self._check(until, error)
                raise
            finally:
                ended.set()
            self._check(until, None)
            return result

        def seems_to_hang(thread: int | None) -> BaseException:
            if any(ended.wait(SLICE) for _ in range(_slices(limit) - 1)):
                while not worker._finished:  # noqa: SLF001  # so that its result is taken
                    time.sleep(0.001)
                return _TooLate()
            self.advance(max(0.0, until - self.now))
            return on_timeout(thread)

        try:
            return run(worker, in_time, min(limit, SLICE), seems_to_hang)
        except _TooLate as late:
            raise on_timeout(None) from late.__cause__

    def _check(self, until: float, error: Exception | None) -> None:
        if self.now >= until:
            raise _TooLate from error

    def _start_timer(
        self, loop: asyncio.AbstractEventLoop, seconds: float, callback: attempt_timeout.Callback
    ) -> _Timer:
        timer = _Timer(self, loop, seconds, callback)
        with self._lock:
            self._timers.add(timer)
        return timer

    def _end(self, timer: _Timer) -> None:
        """Calls back, once."""
        with self._lock:
            if timer not in self._timers:
                return
            self._timers.remove(timer)
        timer.call_back()

    def forget(self, timer: _Timer) -> None:
        """The timer was cancelled."""
        with self._lock:
            self._timers.discard(timer)

    def jump(self, timer: _Timer) -> None:
        """The code limited by the timer hangs."""
        self.advance(max(0.0, timer.when - self.now))
        self._end(timer)  # even if the sum was rounded down


def _slices(seconds: float) -> int:
    """How many slices to wait for a limit of ``seconds`` on the clock."""
    return max(1, math.ceil(min(seconds, HANGS_AFTER) / SLICE))


def _real(seconds: float) -> float:
    """The real seconds to wait for a limit of ``seconds`` on the clock."""
    return seconds if math.isinf(seconds) else min(seconds, HANGS_AFTER)


class _TooLate(BaseException):
    """An attempt ended after its time limit."""


class _Timer:
    """Calls back in its loop once the clock has reached it."""

    def __init__(
        self, clock: SharedClock, loop: asyncio.AbstractEventLoop, seconds: float, callback: attempt_timeout.Callback
    ) -> None:
        self.when = clock.now + seconds
        self._clock = clock
        self._loop = loop
        self._callback = callback
        self._slices = _slices(seconds)
        self._patience = loop.call_later(min(seconds, SLICE), self._look)

    def _look(self) -> None:
        self._slices -= 1
        if self._slices > 0:
            self._patience = self._loop.call_later(SLICE, self._look)
        else:
            self._clock.jump(self)

    def cancel(self) -> None:
        self._patience.cancel()
        self._clock.forget(self)

    def call_back(self) -> None:
        if asyncio._get_running_loop() is self._loop:  # noqa: SLF001  # see async_sleep
            self._callback(self._loop)
        else:
            self._loop.call_soon_threadsafe(self._callback, self._loop)
