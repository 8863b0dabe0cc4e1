"""Hedging: a second attempt besides a slow one; the first success wins, and the other one is cancelled."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from opentelemetry.context import attach

from otel_resilience._internal.nesting import enclosing
from otel_resilience.errors import CircuitOpenError
from otel_resilience.limits.attempt_timeout import CutAttempt
from otel_resilience.policy.call import Call
from otel_resilience.policy.latencies import HedgeDelay
from otel_resilience.policy.waits import check_can_cut


class _Attempt(CutAttempt):
    """One of two concurrent attempts, as seen by the code in it."""

    def __init__(self, call: Call, paid_at: float) -> None:
        super().__init__(call, call.seconds)
        self._hedged = call
        self.paid_at = paid_at
        """When it got its rate limit permits."""
        self.begun = False
        """Its task has run. One that is cancelled before its first step never does."""

    def note_on_wire(self) -> None:
        """Like :meth:`Call.note_on_wire`, for this attempt's permits."""
        if not self.given_up:
            self.paid_at = self._hedged.use_permits(self.paid_at)

    async def run(self, operation: Callable[[], Awaitable[Any]]) -> Any:
        self.begun = True
        return await operation()


class _Runner(NamedTuple):
    """One of two concurrent attempts, as seen by the call."""

    task: asyncio.Task[Any]
    attempt: _Attempt
    held: tuple[Any, ...]
    """What the call holds for it: permit, start time, number, span."""


async def run_hedged(operation: Callable[[], Awaitable[Any]], call: Call, delay: HedgeDelay) -> Any:
    """Awaits ``operation``, and a second attempt of it if the first has no result after ``delay``.

    Only if the call is declared idempotent, once per call, and if the budget pays for it and the circuit lets it pass.
    If one fails, the other decides.
    """
    check_can_cut(call)
    if call.idempotent is not True:
        call.policy.warn_once(
            "hedge_after",
            f"{call.operation}: hedge_after has no effect on an operation that is not declared idempotent; declare it "
            "with Policy(idempotent=True) or execute(..., idempotent=True) if it is",
        )
        return await operation()
    runners: list[_Runner] = [_start(operation, call, contextvars.copy_context(), call.paid_at)]
    wait = delay.seconds()
    try:
        if wait is not None and not call.hedged:
            await asyncio.wait([runners[0].task], timeout=wait)
            if not runners[0].task.done():
                runners.extend(_hedge(operation, call))
        result = await _first_success(runners, call)
    except BaseException as error:
        await _stop(runners, call, wait=not isinstance(error, GeneratorExit))
        runners.clear()  # the traceback refers to this frame, and a task to its error
        raise
    delay.add(call.policy.clock() - call.started_attempt)
    return result


def _start(
    operation: Callable[[], Awaitable[Any]], call: Call, context: contextvars.Context, paid_at: float
) -> _Runner:
    attempt = _Attempt(call, paid_at)
    context.run(enclosing.set, attempt)
    return _Runner(asyncio.create_task(attempt.run(operation), context=context), attempt, call.held)


def _hedge(operation: Callable[[], Awaitable[Any]], call: Call) -> list[_Runner]:
    """The second attempt, if one may be made."""
    first = call.held
    try:
        shown = call.begin_hedge()
    except CircuitOpenError:
        return []  # counted by the breaker; the first attempt continues
    if shown is None:
        return []
    context = contextvars.copy_context()
    context.run(attach, shown)
    second = _start(operation, call, context, call.started_attempt)
    call.hold(first)
    return [second]


async def _first_success(runners: list[_Runner], call: Call) -> Any:
    """The result of the first that succeeds, or the last error; the call then holds what belongs to that attempt."""
    while len(runners) > 1:
        await asyncio.wait([runner.task for runner in runners], return_when=asyncio.FIRST_COMPLETED)
        _drop_loser(runners, call)
    return await runners[0].task


def _drop_loser(runners: list[_Runner], call: Call) -> None:
    """Drops one of two attempts, of which at least one is done: it no longer decides the call."""
    done = [runner for runner in runners if runner.task.done()]
    winner = next((each for each in done if not each.task.cancelled() and each.task.exception() is None), None)
    if winner is None:
        loser = done[0]
        error = asyncio.CancelledError() if loser.task.cancelled() else loser.task.exception()
    else:
        (loser,) = (runner for runner in runners if runner is not winner)
        error = None
    runners.remove(loser)
    call.hold(loser.held)
    call.lost(error)
    if winner is not None:
        _cancel(loser)
    call.hold(runners[0].held)


_ending: set[asyncio.Task[Any]] = set()
"""Cancelled attempts that have not ended yet, and that nothing waits for."""


def _cancel(runner: _Runner) -> None:
    runner.attempt.given_up = True
    runner.task.add_done_callback(_forget)
    if not runner.task.done():
        _ending.add(runner.task)
        runner.task.cancel()


def _forget(task: asyncio.Task[Any]) -> None:
    _ending.discard(task)
    if not task.cancelled():
        task.exception()  # marks it as retrieved; another attempt decided the call


async def _stop(runners: list[_Runner], call: Call, *, wait: bool) -> None:
    """The call ends by an error or by cancellation: running attempts are cancelled, and have ended when this returns,
    unless the coroutine is being closed and cannot ``wait``. The call then holds what belongs to the first attempt."""
    for runner in runners:
        _cancel(runner)
        if not runner.attempt.begun:
            call.give_permits_back(runner.attempt.paid_at)
    for hedge in runners[1:]:
        call.hold(hedge.held)
        call.lost(None)
        if not hedge.attempt.begun:
            call.refund_hedge()
        call.hold(runners[0].held)
    running = [runner.task for runner in runners if not runner.task.done()]
    if running and wait:
        await asyncio.wait(running)
