"""A semaphore for threads and for the tasks of any event loop alike."""

from __future__ import annotations

import asyncio
import threading

from otel_resilience._internal.forks import new_lock, renew_after_fork
from otel_resilience._internal.operations import running_loop
from otel_resilience.limits.places import Places


class _Thread:
    __slots__ = ("event",)

    def __init__(self) -> None:
        self.event = threading.Event()

    def wake(self) -> bool:
        self.event.set()
        return True


class _Task:
    __slots__ = ("_loop", "future")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.future: asyncio.Future[None] = loop.create_future()

    def wake(self) -> bool:
        """``False`` if its loop was closed, so that it will never take its place."""
        try:
            self._loop.call_soon_threadsafe(self._set)
        except RuntimeError:
            return False
        return True

    def _set(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class FairSemaphore:
    """A bounded number of places. A waiter that gives up, also by cancellation, does not leak a place."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.renew_after_fork()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """The threads and loops that had or wanted a place do not exist in the child."""
        self._lock = new_lock()
        self._places: Places[_Thread | _Task] = Places(self._limit)

    @property
    def in_use(self) -> int:
        """Places taken."""
        return self._places.in_use

    @property
    def waiting(self) -> int:
        """Threads and tasks that are waiting."""
        return len(self._places.waiting)

    def take(self) -> bool:
        """Takes a place if one is free and nobody is waiting for it."""
        with self._lock:
            return self._places.take()

    def give(self) -> None:
        """Returns a place."""
        with self._lock:
            while (waiter := self._places.give()) is not None:
                if waiter.wake():
                    return

    def wait(self, seconds: float) -> bool:
        """Takes a place as soon as it is this thread's turn. ``False`` if that takes longer than ``seconds``."""
        waiter = _Thread()
        if self._take_or_join(waiter):
            return True
        try:
            waiter.event.wait(min(seconds, threading.TIMEOUT_MAX))
        except BaseException:
            self._abandon(waiter)
            raise
        return not self._leave(waiter)

    async def wait_async(self, seconds: float) -> bool:
        """Like :meth:`wait`, for a task. Raises ``RuntimeError`` outside asyncio."""
        loop = running_loop()
        if loop is None:
            raise RuntimeError("no running asyncio event loop: without one, an async def cannot wait for a limit")
        waiter = _Task(loop)
        if self._take_or_join(waiter):
            return True
        try:
            await asyncio.wait((waiter.future,), timeout=min(seconds, threading.TIMEOUT_MAX))
        except BaseException:
            self._abandon(waiter)
            raise
        return not self._leave(waiter)

    def _take_or_join(self, waiter: _Thread | _Task) -> bool:
        with self._lock:
            if self._places.take():
                return True
            self._places.join(waiter)
            return False

    def _leave(self, waiter: _Thread | _Task) -> bool:
        with self._lock:
            return self._places.leave(waiter)

    def _abandon(self, waiter: _Thread | _Task) -> None:
        if not self._leave(waiter):
            self.give()  # it was given a place at the last moment
