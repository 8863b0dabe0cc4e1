"""The attempts of one protected call as blocks: ``for attempt in policy.attempts(): with attempt: ...``.

The blocks drive the same :class:`~otel_resilience.policy.call.Call` as the loops of ``Policy.execute``, which decides.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType

from otel_resilience import telemetry
from otel_resilience._internal.nesting import Enclosing, enclosing, leave
from otel_resilience.limits.attempt_timeout import CutAttempt, TimeLimit
from otel_resilience.policy.call import GIVE_UP, Call
from otel_resilience.policy.waits import can_wait_async, task_to_cut, wait_for_turn, wait_for_turn_async


class Attempts:
    """What :meth:`Policy.attempts` returns. Each loop over it is a call of its own."""

    def __init__(self, begin: Callable[[], Call]) -> None:
        self._begin = begin

    def __iter__(self) -> Iterator[Attempt]:
        return _Loop(self._begin, asynchronous=False)

    def __aiter__(self) -> AsyncIterator[Attempt]:
        return _Loop(self._begin, asynchronous=True)


class _Progress:
    """Where a loop stands. Its iterator and its attempts share it, so that an attempt that outlives the loop in a
    variable does not keep the call open."""

    def __init__(self, call: Call, *, asynchronous: bool) -> None:
        self.call = call
        self.asynchronous = asynchronous
        self.delay = 0.0
        """Seconds to wait before the next attempt."""
        self.open = True
        """The call has not ended."""
        self.running = False
        """An attempt has been entered and not left."""

    def end(self, error: BaseException) -> None:
        """The call ends with ``error``."""
        self.close()
        self.call.ended(error)

    def close(self) -> None:
        """The call ends."""
        self.open = False
        self.call.over = True


class _Loop:
    """One loop, and with it one call, which ends at the latest when the iterator is dropped."""

    def __init__(self, begin: Callable[[], Call], *, asynchronous: bool) -> None:
        self._begin = begin
        self._asynchronous = asynchronous
        self._progress: _Progress | None = None
        self._latest: Attempt | None = None

    def __iter__(self) -> Iterator[Attempt]:
        return self

    def __aiter__(self) -> AsyncIterator[Attempt]:
        return self

    def __next__(self) -> Attempt:
        progress = self._advance()
        if not progress.open:
            raise StopIteration
        try:
            wait_for_turn(progress.delay, progress.call)
        except BaseException as error:
            progress.end(error)
            raise
        return self._attempt(progress)

    async def __anext__(self) -> Attempt:
        progress = self._advance()
        if not progress.open:
            raise StopAsyncIteration
        try:
            await wait_for_turn_async(progress.delay, progress.call)
        except BaseException as error:
            progress.end(error)
            raise
        return self._attempt(progress)

    def _advance(self) -> _Progress:
        progress = self._progress
        if progress is None:
            call = self._begin()
            call.cuts = self._asynchronous
            call.observe(telemetry.active())
            progress = self._progress = _Progress(call, asynchronous=self._asynchronous)
        elif progress.open and (self._latest is None or not self._latest.left):
            progress.end(asyncio.CancelledError())
            raise RuntimeError("each attempt needs its block: `with attempt:`")
        return progress

    def _attempt(self, progress: _Progress) -> Attempt:
        attempt = self._latest = Attempt(progress)
        return attempt

    def __del__(self) -> None:
        progress = self._progress
        if progress is not None and progress.open and not progress.running:
            progress.end(asyncio.CancelledError())


class Attempt:
    """One attempt of a protected call, to be entered once: ``with attempt:``, in async code ``async with`` as well."""

    __slots__ = ("_entered", "_limit", "_progress", "left", "number")

    def __init__(self, progress: _Progress) -> None:
        self._progress = progress
        self._limit: TimeLimit | _ShownLimit | None = None
        self._entered = False
        self.left = False
        """Its block has ended."""
        self.number = progress.call.attempts + 1
        """Of this attempt, from 1."""

    def __repr__(self) -> str:
        call = self._progress.call
        return f"<Attempt {self.number} of {call.policy.dependency} {call.operation}>"

    def __enter__(self) -> Attempt:
        """Begins the attempt. Raises ``RuntimeError`` the second time, and what keeps an attempt from beginning, such
        as :class:`~otel_resilience.CircuitOpenError`."""
        progress, call = self._progress, self._progress.call
        if self._entered or not progress.open:
            raise RuntimeError(f"{self!r} was entered already, or its loop has ended")
        self._entered = True
        try:
            limit = call.time_limit()
            task = task_to_cut(call) if progress.asynchronous and limit != math.inf else None
            call.begin_attempt()
        except BaseException as error:
            progress.end(error)
            raise
        progress.running = True
        if task is not None:
            self._limit = TimeLimit(limit, call, call.time_limit_error, task)
        elif call.policy.attempt_timeout is not None:
            self._limit = _ShownLimit(limit, call)
        if self._limit is not None:
            self._limit.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        progress, call = self._progress, self._progress.call
        progress.running, self.left = False, True
        failure = error
        if self._limit is not None:
            try:
                self._limit.__exit__(kind, error, traceback)
            except BaseException as cut:  # noqa: BLE001  # judged below as if the block had raised it
                failure = cut
        if failure is None:
            progress.close()
            call.succeeded()
            return False
        delay = progress.delay = call.failed(failure)
        if delay != GIVE_UP and (not delay or not progress.asynchronous or can_wait_async(call)):
            return True
        progress.end(failure)
        if failure is not error:
            raise failure
        return False

    async def __aenter__(self) -> Attempt:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        return self.__exit__(kind, error, traceback)


class _ShownLimit(CutAttempt):
    """The time limit of a block that cannot be cut: calls inside see what is left, and none begins after it."""

    __slots__ = ("_token", "_until")

    def __init__(self, limit: float, call: Call) -> None:
        super().__init__(call, limit)
        self._until = call.policy.clock() + limit

    def left(self) -> float | None:
        """Seconds until the limit passes."""
        call = self.outer
        return self._until - call.policy.clock() if isinstance(call, Call) else None

    def __enter__(self) -> Enclosing:
        self._token = enclosing.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        leave(self._token)
