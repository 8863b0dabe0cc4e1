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
from otel_resilience.policy.waits import can_wait_async, check_block_can_be_cut, wait_for_turn, wait_for_turn_async


class Attempts:
    """What :meth:`Policy.attempts` returns. Each loop over it is a separate call."""

    def __init__(self, begin: Callable[[], Call]) -> None:
        self._begin = begin

    def __iter__(self) -> Iterator[Attempt]:
        return _Loop(self._begin, asynchronous=False)

    def __aiter__(self) -> AsyncIterator[Attempt]:
        return _Loop(self._begin, asynchronous=True)


class _Loop:
    """One loop, and with it one call, which ends at the latest when the iterator is dropped.

    An attempt that outlives the loop in a variable refers only to the call, so that it does not keep the loop open.
    """

    def __init__(self, begin: Callable[[], Call], *, asynchronous: bool) -> None:
        self._begin = begin
        self._asynchronous = asynchronous
        self._call: Call | None = None
        self._given = 0
        """Attempts handed out so far."""

    def __iter__(self) -> Iterator[Attempt]:
        return self

    def __aiter__(self) -> AsyncIterator[Attempt]:
        return self

    def __next__(self) -> Attempt:
        call = self._advance()
        if call.over:
            raise StopIteration
        try:
            wait_for_turn(call.delay, call)
        except BaseException as error:
            _end(call, error)
            raise
        return Attempt(call)

    async def __anext__(self) -> Attempt:
        call = self._advance()
        if call.over:
            raise StopAsyncIteration
        try:
            await wait_for_turn_async(call.delay, call)
        except BaseException as error:
            _end(call, error)
            raise
        return Attempt(call)

    def _advance(self) -> Call:
        call = self._call
        if call is None:
            call = self._call = self._begin()
            call.cuts = self._asynchronous
            call.observe(telemetry.active())
        elif not call.over and (call.attempts < self._given or call.token is not None):
            _end(call, asyncio.CancelledError())
            raise RuntimeError("each attempt needs its block: `with attempt:`")
        self._given += 1
        return call

    def __del__(self) -> None:
        call = self._call
        if call is not None and not call.over and call.token is None:
            _end(call, asyncio.CancelledError())


def _end(call: Call, error: BaseException) -> None:
    call.over = True
    call.ended(error)


class Attempt:
    """One attempt of a protected call, to be entered once: ``with attempt:``, in async code ``async with`` as well."""

    __slots__ = ("_call", "_limit", "number")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._limit: TimeLimit | _ShownLimit | None = None
        self.number = call.attempts + 1
        """The number of this attempt, from 1."""

    def __repr__(self) -> str:
        return f"<Attempt {self.number} of {self._call.policy.dependency} {self._call.operation}>"

    def __enter__(self) -> Attempt:
        """Starts the attempt. Raises ``RuntimeError`` if it was entered before, and any error that keeps an attempt
        from starting, such as :class:`~otel_resilience.CircuitOpenError`."""
        call = self._call
        if call.over or call.attempts >= self.number:
            raise RuntimeError(f"{self!r} was entered already, or its loop has ended")
        try:
            limit = call.time_limit()
            cuts = call.cuts and limit != math.inf
            if cuts:
                check_block_can_be_cut(call)
            call.begin_attempt()
        except BaseException as error:
            _end(call, error)
            raise
        if cuts:
            self._limit = TimeLimit(limit, call, call.time_limit_error)
        elif call.policy.attempt_timeout is not None:
            self._limit = _ShownLimit(limit, call)
        if self._limit is not None:
            self._limit.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        call = self._call
        failure = error
        if self._limit is not None:
            try:
                self._limit.__exit__(kind, error, traceback)
            except BaseException as cut:  # noqa: BLE001  # judged below as if the block had raised it
                failure = cut
        try:
            if failure is None:
                call.succeeded()
                call.over = True
                return False
            delay = call.failed(failure)
        except BaseException as interruption:
            _end(call, interruption)
            raise
        if delay != GIVE_UP and (not delay or not call.cuts or can_wait_async(call)):
            return True
        _end(call, failure)
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
    """The time limit of a block that cannot be cut off: calls inside see what is left, and none starts after it."""

    __slots__ = ("_clock", "_token", "_until")

    def __init__(self, limit: float, call: Call) -> None:
        super().__init__(call, limit)
        self._clock = call.policy.clock
        self._until = self._clock() + limit

    def left(self) -> float | None:
        """Seconds until the limit passes."""
        return self._until - self._clock()

    def __enter__(self) -> Enclosing:
        self._token = enclosing.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        leave(self._token)
