"""Reports one call that another library protects, with the same spans, events and metrics as our own calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Token
from typing import TYPE_CHECKING

from otel_resilience import telemetry
from otel_resilience._internal.nesting import Enclosing, Failure, enclosing, leave
from otel_resilience.classification.control_flow import is_control_flow
from otel_resilience.classification.model import CANCELLED, Classification, ErrorClass
from otel_resilience.errors import FailedResultError
from otel_resilience.policy.results import verdict_on
from otel_resilience.telemetry import hooks, never_raise
from otel_resilience.telemetry.call_telemetry import CallTelemetry

if TYPE_CHECKING:
    from otel_resilience.instrumentation._base import Plan

ABANDONED = asyncio.CancelledError()
"""Ends a call that the application abandoned before it had a result."""


def failed_result(result: object) -> FailedResultError:
    """The failure of an attempt whose result the library was asked to retry."""
    return FailedResultError(result, verdict_on(result, 1))


class ObservedCall(CallTelemetry):
    """Reports one call, step by step. No step raises; steps after the end of the call have no effect.

    With ``current=False`` the spans of the attempts are created but never made current: between the steps of a
    generator its caller runs.
    """

    policy: Plan
    error: BaseException | None = None
    verdict: Classification | None = None
    token: Token[Enclosing | None] | None = None
    running = False
    ended = False

    def __init__(
        self,
        plan: Plan,
        classify: Callable[[BaseException], Classification],
        function: object,
        name: str | None = None,
        *,
        current: bool = True,
        listening: bool = True,
    ) -> None:
        self.outer = enclosing.get()
        self.attempts = 0
        self.policy = plan
        self.classify = classify
        self.function = function
        self.name = name
        self.current = current
        self.listener = None
        self.started = plan.clock()
        if listening:
            self.observe(telemetry.active())

    def report(self, failure: Failure) -> None:
        """Passes what an enclosed call of this package reports to the nearest scope that acts on it."""
        if self.outer is not None:
            self.outer.report(failure)

    def note_sent(self, *, unsafe: bool) -> None:
        """Like :meth:`report`."""
        if self.outer is not None:
            self.outer.note_sent(unsafe=unsafe)

    @never_raise
    def begin_attempt(self) -> None:
        """An attempt starts in the current context."""
        if self.ended:
            return
        self.attempts += 1
        self.running = True
        self.error = self.verdict = None
        self.started_attempt = self.policy.clock()
        if self.listener is not None:
            self._open_attempt_span(self.listener)
        if self.current:
            self.token = enclosing.set(self)
        else:
            self._detach()

    @never_raise
    def leave_attempt(self) -> None:
        """The attempt is no longer current; its outcome is not known yet."""
        self._detach()
        if self.token is not None:
            leave(self.token)
            self.token = None

    @never_raise
    def attempt_succeeded(self) -> None:
        if self.running:
            self.running = False
            self.leave_attempt()
            self._close_attempt_span()

    @never_raise
    def attempt_failed(self, error: BaseException) -> None:
        if not self.running:
            return
        self.running = False
        self.error = error
        verdict = self.verdict = self.classify(error)
        if verdict.error_class is not ErrorClass.CANCELLED:
            if hooks.subscribed:
                hooks.notify_error(None, self.policy.dependency, self.operation, verdict, error)
            self._report_failure(error, verdict)
        self.leave_attempt()
        self._close_attempt_span()

    @never_raise
    def retry_in(self, delay: float) -> None:
        """Another attempt follows after ``delay`` seconds."""
        if self.verdict is not None and not self.ended:
            self.delay = delay
            self._report_retry(self.verdict, made=True)
            if hooks.subscribed:
                hooks.notify_retry(None, self.policy.dependency, self.operation, self.attempts + 1, delay)

    @never_raise
    def succeeded(self) -> None:
        """The call has a result."""
        self.attempt_succeeded()
        if self.ended:
            return
        self.ended = True
        if hooks.success_wanted:
            hooks.notify_success(None, self.policy.dependency, self.operation)
        self._close("ok_after_retry" if self.attempts > 1 else "ok", None)

    @never_raise
    def failed(self, error: BaseException, *, exhausted: bool = False, outcome: str = "failed") -> None:
        """The call ends with ``error``. With ``exhausted`` the attempts are used up, and the last one's error counts,
        whatever the library replaced it with."""
        self.attempt_failed(error)
        if self.ended:
            return
        self.ended = True
        verdict, last = self.verdict, self.error
        self.error = None
        if exhausted and last is not None:
            error = last
        if verdict is None or error is not last:
            verdict = self.classify(error)
        if is_control_flow(error):
            self._close("cancelled", CANCELLED)
            return
        if exhausted and self.attempts > 1:
            self._report_exhausted(verdict)
        self._end(outcome, verdict, error)

    @never_raise
    def rejected(self, verdict: Classification, error: BaseException, *, outcome: str = "rejected") -> None:
        """A circuit breaker did not let the call pass."""
        if not self.ended:
            self.ended = True
            self._end(outcome, verdict, error)

    def _end(self, outcome: str, verdict: Classification, error: BaseException) -> None:
        if hooks.subscribed:
            hooks.notify_failure(None, self.policy.dependency, self.operation, outcome, error)
        self._close(outcome, verdict, error)
