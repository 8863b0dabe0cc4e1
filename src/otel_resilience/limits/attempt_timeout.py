"""Cutting an attempt when its time limit passes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from otel_resilience._internal.nesting import Enclosing, enclosing, leave
from otel_resilience.classification.requests_seen import seen_in_task, seen_in_thread
from otel_resilience.correlation import correlation_id
from otel_resilience.limits.threads import Worker

T = TypeVar("T")


class Timer(Protocol):
    """What :data:`start_timer` starts."""

    def cancel(self) -> object:
        """The callback is not called any more."""
        ...


def _call_later(loop: asyncio.AbstractEventLoop, seconds: float, callback: Callable[[], object]) -> Timer:
    return loop.call_later(seconds, callback)


start_timer: Callable[[asyncio.AbstractEventLoop, float, Callable[[], object]], Timer] = _call_later
"""Calls back in a loop after so many seconds; a clock of the tests puts its own here."""

TimeLimitError = Callable[[float, bool | None], TimeoutError]
"""The error for an attempt that was cut after so many seconds, and what its request showed."""


class CutAttempt(Enclosing):
    """One attempt that may be cut. Once it is, no call that runs inside it begins another attempt."""

    __slots__ = ("_call", "given_up")

    def __init__(self, call: Enclosing, seconds: float) -> None:
        super().__init__(call, call.attempts, seconds)
        self._call = call
        self.given_up = False

    def left(self) -> float | None:
        """None, until it is given up."""
        return 0.0 if self.given_up else None

    def report(self, failure: Any) -> None:
        """To the call, while it waits for this attempt."""
        if not self.given_up:
            self._call.report(failure)

    def note_sent(self, *, unsafe: bool) -> None:
        """As :meth:`report`."""
        if not self.given_up:
            self._call.note_sent(unsafe=unsafe)


def run_limited(
    operation: Callable[[], T], limit: float, call: Enclosing, error_of: TimeLimitError, worker: Worker
) -> T:
    """Runs a ``def`` operation for at most ``limit`` seconds, in a thread that is left behind when they pass."""
    correlation_id()  # made here where there is none, so that all attempts and their error share it
    attempt = CutAttempt(call, limit)

    def on_timeout(thread: int | None) -> BaseException:
        attempt.given_up = True
        return error_of(limit, seen_in_thread(thread))

    token = enclosing.set(attempt)
    try:
        return worker.run(operation, limit, on_timeout)  # type: ignore[no-any-return]  # what the operation returns
    except BaseException as error:
        if not isinstance(error, Exception):
            attempt.given_up = True  # interrupted: the thread may be running on
        raise
    finally:
        leave(token)


async def run_limited_async(
    operation: Callable[[], Awaitable[T]] | Awaitable[T], limit: float, call: Enclosing, error_of: TimeLimitError
) -> T:
    """Awaits an operation for at most ``limit`` seconds, then cancels it."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    attempt = CutAttempt(call, limit)
    seen: bool | None = None

    def on_time() -> None:
        nonlocal seen
        attempt.given_up = True
        seen = seen_in_task(task, attempt)
        scope.reschedule(loop.time())

    token = enclosing.set(attempt)
    timer = start_timer(loop, limit, on_time)
    try:
        async with asyncio.timeout(None) as scope:
            return await (operation() if callable(operation) else operation)
    except TimeoutError as error:
        if scope.expired():
            raise error_of(limit, seen) from error
        raise
    finally:
        timer.cancel()
        leave(token)
