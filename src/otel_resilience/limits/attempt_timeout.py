"""Cuts off an attempt when its time limit passes."""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from collections.abc import Callable
from contextvars import Context
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from otel_resilience._internal.nesting import Enclosing, enclosing, leave
from otel_resilience._internal.operations import running_loop
from otel_resilience.classification.requests_seen import seen_in_task, seen_in_thread
from otel_resilience.correlation import correlation_id

if TYPE_CHECKING:
    from otel_resilience.limits.threads import Worker

T = TypeVar("T")


class Timer(Protocol):
    """What :data:`start_timer` returns."""

    def cancel(self) -> object:
        """The callback is not called any more."""
        ...


Callback = Callable[[asyncio.AbstractEventLoop], object]


def _call_later(loop: asyncio.AbstractEventLoop, seconds: float, callback: Callback) -> Timer:
    # In a new context: a loop keeps cancelled timers for a while, and with them everything that the context refers to,
    # such as the time limit itself, which refers to its timer.
    return loop.call_at(loop.time() + seconds, callback, loop, context=Context())


start_timer: Callable[[asyncio.AbstractEventLoop, float, Callback], Timer] = _call_later
"""Calls back in a loop after that many seconds; a test clock replaces it."""

TimeLimitError = Callable[[float, bool | None], Exception]
"""Makes the error for an attempt that was cut off: from its limit in seconds, and whether it may be repeated."""


class CutAttempt(Enclosing):
    """One attempt that may be cut off. Once it is, no call that runs inside it starts another attempt."""

    def __init__(self, call: Enclosing, seconds: float) -> None:
        self.outer = self._call = call
        self.attempts = call.attempts
        self.seconds = seconds
        self.given_up = False

    @property
    def over(self) -> bool:  # type: ignore[override]  # read-only
        """That of the call, unless the attempt is given up: code that it left running starts nothing."""
        return self._call.over and not self.given_up

    def left(self) -> float | None:
        """``None``, until it is given up."""
        return 0.0 if self.given_up else None

    def report(self, failure: Any) -> None:
        """Passed to the call, while it waits for this attempt."""
        if not self.given_up:
            self._call.report(failure)

    def note_sent(self, *, unsafe: bool) -> None:
        """Like :meth:`report`."""
        if not self.given_up:
            self._call.note_sent(unsafe=unsafe)

    def note_on_wire(self) -> None:
        """Like :meth:`report`."""
        if not self.given_up:
            self._call.note_on_wire()

    def time_is_up(self) -> None:
        """As :meth:`report`."""
        if not self.given_up:
            self._call.time_is_up()


def run_limited(
    operation: Callable[[], T], limit: float, call: Enclosing, error_of: TimeLimitError, worker: Worker
) -> T:
    """Runs a ``def`` operation for at most ``limit`` seconds, in a thread that is abandoned when they pass."""
    correlation_id()  # created here if there is none, so that all attempts and their error share it
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


class SharedTimer:
    """One timer of a loop for all time limits of one length, which pass in the order in which they started.

    A separate timer for each would cost asyncio more than everything else about a limit, and hardly any ever fires.
    """

    __slots__ = ("_handle", "_limits", "_seconds", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self.loop = weakref.ref(loop)
        self._seconds = seconds
        self._limits: dict[TimeLimit, float] = {}
        """The running limits and when they pass on the clock of the loop, the next one first."""
        self._handle: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop, limit: TimeLimit) -> None:
        """Calls back when the limit passes."""
        until = self._limits[limit] = loop.time() + self._seconds
        if self._handle is None:
            self._set(loop, until)

    def stop(self, limit: TimeLimit) -> None:
        """Cancels the callback."""
        self._limits.pop(limit, None)

    def _set(self, loop: asyncio.AbstractEventLoop, until: float) -> None:
        # In a new context: that of the attempt which happens to be the first would be kept alive as long.
        self._handle = loop.call_at(until, self._on_time, loop, context=contextvars.Context())

    def _on_time(self, loop: asyncio.AbstractEventLoop) -> None:
        self._handle = None
        now = loop.time()
        passed = []
        for limit, until in self._limits.items():
            if until > now:
                self._set(loop, until)
                break
            passed.append(limit)
        for limit in passed:
            del self._limits[limit]
        for limit in passed:
            limit.on_time(loop)


class TimeLimit(CutAttempt):
    """Cuts off the block of the current task after ``limit`` seconds; a context manager, entered once."""

    def __init__(
        self,
        limit: float,
        call: Enclosing,
        error_of: TimeLimitError,
        loop: asyncio.AbstractEventLoop | None = None,
        timer: SharedTimer | None = None,
    ) -> None:
        """``loop``: the running one, if already known; finding it takes a system call. ``timer``: of that loop, for
        limits of this length."""
        self.outer = self._call = call
        self.attempts = call.attempts
        self.seconds = limit
        self.given_up = False
        self._error_of = error_of
        self._loop = loop
        self._shared = timer if start_timer is _call_later else None
        self._timer: Timer | None = None
        self._seen: bool | None = None

    def __enter__(self) -> CutAttempt:
        loop = self._loop or running_loop()
        task = None if loop is None else asyncio.current_task(loop)
        if loop is None or task is None:
            raise RuntimeError("a time limit can cut only what runs in a task of asyncio")
        self._task = task
        self._cancelling = task.cancelling()
        self._token = enclosing.set(self)
        if self._shared is not None:
            self._shared.start(loop, self)
        else:
            self._timer = start_timer(loop, self.seconds, self.on_time)
        return self

    def on_time(self, _: asyncio.AbstractEventLoop) -> None:
        """The limit has passed."""
        self.given_up = True
        self._seen = seen_in_task(self._task, self)
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._shared is not None:
            self._shared.stop(self)
        elif self._timer is not None:
            self._timer.cancel()
        leave(self._token)
        if not self.given_up:
            return
        # Like asyncio.timeout: our own cancellation is undone, one by somebody else stays.
        if self._task.uncancel() <= self._cancelling and kind is not None and issubclass(kind, asyncio.CancelledError):
            cut = TimeoutError()
            cut.__cause__ = error
            raise self._error_of(self.seconds, self._seen) from cut
