"""One protected call: what it has used up, and what is to be done after each failure.

The same object serves ``def`` and ``async def``; the two drivers in :mod:`otel_resilience.policy` only run the
operation and wait.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from opentelemetry._logs import _internal as logs_internal

from otel_resilience import observers, telemetry
from otel_resilience._call_telemetry import CallTelemetry, attempt_number
from otel_resilience.classification import CANCELLED, Classification, ErrorClass
from otel_resilience.correlation import correlation_id
from otel_resilience.errors import (
    CONTEXT_ATTRIBUTE,
    AttemptTimeoutError,
    CircuitOpenError,
    DeadlineExceededError,
    ErrorContext,
    attach_context,
    error_context,
)

if TYPE_CHECKING:
    from otel_resilience.budget import RetryBudget
    from otel_resilience.circuit_breaker import CircuitBreaker
    from otel_resilience.policy import Policy
    from otel_resilience.retry import IsRetryable

GIVE_UP = -1.0
_CANCELLED = ErrorClass.CANCELLED
_is_logged = telemetry.event_log.isEnabledFor


class Call(CallTelemetry):
    """State of one protected call."""

    __slots__ = ("deadline", "error", "idempotent", "is_retryable", "paid", "permit", "rejected",
                 "retries_by_type", "suppressed", "used_immediate", "verdict")  # fmt: skip

    permit: int
    error: BaseException | None
    verdict: Classification | None
    retries_by_type: dict[str, int] | None

    def __init__(
        self,
        policy: Policy,
        started: float,
        deadline: float | None,
        idempotent: bool | None,  # internal, three-valued
        is_retryable: IsRetryable | None,
        function: object,
        name: str | None,
        permit: int | None = None,
    ) -> None:
        """With a ``permit`` the call takes over after its first attempt, which was made without it."""
        self.policy = policy
        self.started = self.started_attempt = started
        self.deadline = deadline
        self.idempotent = idempotent
        self.is_retryable = is_retryable
        self.function = function
        self.name = name
        self.listener = self.numbered = self.error = self.verdict = self.retries_by_type = None
        if permit is None:
            self.attempts = self.permit = 0
        else:
            self.attempts = 1
            self.permit = permit
        self.delay = self.paid = 0.0
        self.suppressed = ""
        self.used_immediate = self.rejected = False

    def time_limit(self) -> float | None:
        """Seconds that the attempt about to run may take, or ``None``. Raises where the deadline has passed."""
        limit = self.policy.attempt_timeout
        if self.deadline is not None:
            left = self.started + self.deadline - self.policy.clock()
            if left <= 0:
                raise DeadlineExceededError(self.deadline) from self.error
            if limit is None or left < limit:
                return left
        return limit

    def time_limit_error(self, limit: float) -> TimeoutError:
        """The error for an attempt that was cut short after ``limit`` seconds: by its own timeout or the deadline."""
        timeout = self.policy.attempt_timeout
        if self.deadline is None or (timeout is not None and limit >= timeout):
            return AttemptTimeoutError(limit)
        return DeadlineExceededError(self.deadline)

    def begin_attempt(self) -> None:
        """Asks the breaker, then opens the attempt's span. Raises :class:`CircuitOpenError`."""
        breaker = self.policy.breaker
        if breaker is not None:
            self._ask(breaker)
        self.attempts += 1
        self.started_attempt = self.policy.clock()
        if self.listener is not None:
            self._open_attempt_span(self.listener)
        if self.attempts > 1:
            self.numbered = attempt_number.set(self.attempts)

    def begin_quietly(self, breaker: CircuitBreaker) -> None:
        """As :meth:`begin_attempt` for a retry that nobody watches; a rejection ends the call."""
        try:
            self._ask(breaker)
        except CircuitOpenError as rejection:
            self.ended(rejection)
            raise
        self.started_attempt = self.policy.clock()
        self.attempts += 1
        self.numbered = attempt_number.set(self.attempts)

    def _ask(self, breaker: CircuitBreaker) -> None:
        try:
            self.permit = breaker.fast_permit or breaker.admit()
        except CircuitOpenError as rejection:
            self._take_back()
            self.rejected = True
            if self.error is None:
                raise
            self._suppress("breaker_open")
            raise rejection from self.error

    def succeeded(self) -> None:
        """The attempt, and with it the call, succeeded."""
        policy = self.policy
        if policy.breaker is not None:
            policy.breaker.record_success(self.permit, self.started_attempt)
        budget = policy.budget
        if budget is not None:
            if self.paid:
                budget.give(self.paid)
                self.paid = 0.0
            elif self.attempts == 1 and not budget.full:
                budget.give(budget.config.success_credit)
        self.error = None
        if policy.dependency in observers.awaited:
            observers.tell_success(policy.dependency, self.operation)
        if self.listener is not None:
            self._close_attempt_span()
            self._close("ok_after_retry" if self.attempts > 1 else "ok", None)
        elif self.numbered is not None:
            attempt_number.reset(self.numbered)

    def abandon(self) -> None:
        """An attempt that was begun will not be made after all."""
        if self.attempts and self.policy.breaker is not None:
            self.policy.breaker.release(self.permit)

    def failed(self, error: BaseException) -> float:
        """The attempt failed. Seconds to wait before the next one, or :data:`GIVE_UP`."""
        policy = self.policy
        self.error = error
        verdict = self.verdict = policy.verdicts.get(type(error)) or policy.classify(error)
        if policy.breaker is not None:
            if verdict.immediate and not self.used_immediate:
                policy.breaker.release(self.permit)  # an idle connection that was closed says nothing yet
            else:
                policy.breaker.record_error(self.permit, verdict, self.started_attempt, error)
        if verdict.error_class is _CANCELLED:
            self._take_back()
            self._close_attempt_span()
            return GIVE_UP
        if self.paid:
            self.paid = 0.0
        if observers.subscribed:
            observers.tell_error(policy.dependency, self.operation, verdict, error)
        listening = (
            self.listener is not None or _is_logged(logging.INFO) or logs_internal._LOGGER_PROVIDER is not None  # noqa: SLF001  # the public getter reads the environment
        )
        if listening:
            self._report_failure(error, verdict)
            self._close_attempt_span()
        elif self.numbered is not None:
            self.detach()
        if self.attempts >= policy.max_attempts:
            return GIVE_UP
        budget = policy.budget
        at_once = (
            policy.eager
            and verdict.plain
            and self.is_retryable is None
            and self.idempotent is not False
            and self.deadline is None
            and not hasattr(error, CONTEXT_ATTRIBUTE)
            and (budget is None or self._pay_plain(budget))
        )
        delay = self.delay = 0.0 if at_once else self._next_delay(error, verdict)
        if listening and delay >= 0:
            self._report_retry(verdict)
        return delay

    def ended(self, error: BaseException) -> None:
        """The call ends with ``error``, whatever that is: the context is attached, the span closed."""
        self._close_attempt_span()
        cause, self.error = self.error, None
        if self.verdict is None or error is not cause:
            self.verdict = self.policy.classify(error)
        verdict = self.verdict
        self._take_back()
        if verdict.error_class is ErrorClass.CANCELLED:
            self._close("cancelled", CANCELLED)
            return
        exhausted = self.attempts >= self.policy.retry.max_attempts > 1 and not self.rejected
        if exhausted and not self.suppressed:
            self._report_exhausted(verdict)
        self._attach_context(error, verdict, exhausted=exhausted)
        if self.rejected:
            outcome = "rejected"
        elif self.suppressed == "deadline" or isinstance(error, DeadlineExceededError):
            outcome = "deadline"
        else:
            outcome = "failed"
        self._close(outcome, verdict, error)

    def _pay_plain(self, budget: RetryBudget) -> bool:
        """Pays for a retry after a plain failure; where that fails, :meth:`_next_delay` finds out and says why."""
        cost = budget.config.transient_cost
        if budget.tokens < cost or not budget.take(cost):
            return False
        self.paid = cost
        return True

    def _next_delay(self, error: BaseException, verdict: Classification) -> float:
        policy = self.policy
        if self.is_retryable is None:
            wanted = verdict.retryable and (verdict.max_retries is None or not self._used_up(verdict))
        else:
            wanted = not isinstance(error, CircuitOpenError) and self.is_retryable(error)
        if not wanted:
            return self._suppress("breaker_open" if isinstance(error, CircuitOpenError) else "not_retryable")
        idempotent = verdict.idempotent if self.idempotent is None else self.idempotent
        if idempotent is False and not verdict.unsent:
            return self._suppress("not_idempotent")
        if hasattr(error, CONTEXT_ATTRIBUTE) and self._exhausted_below(error):
            return self._suppress("exhausted_below")
        if verdict.immediate and not self.used_immediate:
            self.used_immediate = True
            return 0.0 if self._in_time(0.0) else self._suppress("deadline")
        hint = verdict.retry_after
        config = policy.retry
        delay = config.delay(verdict, self.attempts - 1, self.delay, policy.rng)
        if hint is not None and hint > config.max_retry_after:
            return self._suppress("retry_after_too_long")
        if self.deadline is not None and not self._in_time(delay):
            return self._suppress("retry_after_too_long" if delay == hint else "deadline")
        return delay if policy.budget is None or self._pay(verdict) else self._suppress("budget")

    def _in_time(self, delay: float) -> bool:
        return self.deadline is None or self.policy.clock() + delay < self.started + self.deadline

    def _used_up(self, verdict: Classification) -> bool:
        if self.retries_by_type is None:
            self.retries_by_type = {}
        used = self.retries_by_type.get(verdict.error_type, 0)
        self.retries_by_type[verdict.error_type] = used + 1
        return verdict.max_retries is not None and used >= verdict.max_retries

    def _exhausted_below(self, error: BaseException) -> bool:
        context = error_context(error)
        return (
            context is not None
            and context.exhausted
            and context.owner != id(self.policy)
            and context.ended_at >= self.started
        )

    def _pay(self, verdict: Classification) -> bool:
        budget = self.policy.budget
        if budget is None:
            return True
        cost = budget.config.cost(verdict.error_class)
        if budget.take(cost):
            self.paid = cost
            return True
        if budget.enter_starvation():
            telemetry.budget_exhausted(self.policy.dependency)
        return False

    def _take_back(self) -> None:
        if self.paid and self.policy.budget is not None:
            self.policy.budget.give(self.paid)
        self.paid = 0.0

    def _suppress(self, reason: str) -> float:
        self.suppressed = reason
        if self.listener is not None:
            self._count_suppressed(reason)
        return GIVE_UP

    def _attach_context(self, error: BaseException, verdict: Classification, *, exhausted: bool) -> None:
        existing = error_context(error)
        policy = self.policy
        if existing is not None and existing.owner:
            # What a call within this one attached stays; what an earlier call attached does not.
            since = existing.ended_at - self.started
            if since > 0 or (since == 0 and existing.owner != id(policy)):
                return
        now = policy.clock()
        elapsed = now - self.started
        if existing is not None and not existing.owner:
            identifier = existing.correlation_id
        elif self.listener is None or self.span is None:
            identifier = correlation_id()
        else:
            identifier = f"{self.span.get_span_context().trace_id:032x}"
        note = (
            f"{policy.dependency} {self.operation}: {self.attempts} attempt{'' if self.attempts == 1 else 's'}"
            f" in {elapsed:.3f} s, correlation ID {identifier}"
        )
        attach_context(
            error,
            ErrorContext(
                correlation_id=identifier,
                dependency=policy.dependency,
                operation=self.operation,
                attempts=self.attempts,
                elapsed=elapsed,
                retry_after=verdict.retry_after,
                exhausted=exhausted,
                details={} if existing is None else existing.details,
                note=note,
                owner=id(policy),
                ended_at=now,
            ),
        )
