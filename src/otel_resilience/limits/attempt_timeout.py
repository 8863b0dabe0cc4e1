"""Cutting an attempt when its time limit passes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from types import TracebackType
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


Callback = Callable[[asyncio.AbstractEventLoop], object]


def _call_later(loop: asyncio.AbstractEventLoop, seconds: float, callback: Callback) -> Timer:
    # In a context of its own: a loop keeps cancelled timers for a while, and with them all that the caller's refers to,
    # such as the time limit itself, which refers to its timer.
    return loop.call_at(loop.time() + seconds, callback, loop, context=Context())


start_timer: Callable[[asyncio.AbstractEventLoop, float, Callback], Timer] = _call_later
"""Calls back in a loop after so many seconds; a clock of the tests puts its own here."""

TimeLimitError = Callable[[float, bool | None], Exception]
"""The error for an attempt that was cut after so many seconds, and what its request showed."""


class CutAttempt(Enclosing):
    """One attempt that may be cut. Once it is, no call that runs inside it begins another attempt."""

    def __init__(self, call: Enclosing, seconds: float) -> None:
        self.outer = self._call = call
        self.attempts = call.attempts
        self.seconds = seconds
        self.given_up = False

    @property
    def over(self) -> bool:  # type: ignore[override]  # read alone
        """As the call, unless it is given up: what it left running begins nothing."""
        return self._call.over and not self.given_up

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

    def note_on_wire(self) -> None:
        """As :meth:`report`."""
        if not self.given_up:
            self._call.note_on_wire()


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


class TimeLimit(CutAttempt):
    """Cuts the block of the current task after ``limit`` seconds; a context manager, entered once."""

    def __init__(
        self, limit: float, call: Enclosing, error_of: TimeLimitError, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        """``loop``: the running one, where that is known already; to find it out takes a system call."""
        self.outer = self._call = call
        self.attempts = call.attempts
        self.seconds = limit
        self.given_up = False
        self._error_of = error_of
        self._loop = loop
        self._seen: bool | None = None

    def __enter__(self) -> CutAttempt:
        loop = self._loop or asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("a time limit can cut only what runs in a task of asyncio")
        self._task = task
        self._cancelling = task.cancelling()
        self._token = enclosing.set(self)
        self._timer = start_timer(loop, self.seconds, self._on_time)
        return self

    def _on_time(self, _: asyncio.AbstractEventLoop) -> None:
        self.given_up = True
        self._seen = seen_in_task(self._task, self)
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        leave(self._token)
        if not self.given_up:
            return
        # As asyncio.timeout does it: our cancellation is taken back, and one of somebody else's stands.
        if self._task.uncancel() <= self._cancelling and kind is not None and issubclass(kind, asyncio.CancelledError):
            cut = TimeoutError()
            cut.__cause__ = error
            raise self._error_of(self.seconds, self._seen) from cut
