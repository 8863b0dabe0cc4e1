"""One protected call: what it has used up, and what to do after each failure.

The same object serves ``def`` and ``async def``; the two loops in :mod:`otel_resilience.policy.policy` only run the
operation and wait. While an attempt runs, calls inside it find this one by context
(:mod:`otel_resilience._internal.nesting`).
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator
from contextvars import Token
from typing import TYPE_CHECKING, Final, NoReturn

from otel_resilience import telemetry
from otel_resilience._internal.foreign import cause_of, is_a
from otel_resilience._internal.nesting import Enclosing, Failure, chain, enclosing, leave, nearest_deadline, not_over
from otel_resilience._internal.operations import discard, is_awaitable
from otel_resilience.circuitbreaker.states import BreakerState
from otel_resilience.classification.control_flow import pass_interruption_on
from otel_resilience.classification.model import CANCELLED, Classification, ErrorClass
from otel_resilience.classification.requests_seen import left_running, shows_nothing, shows_unsafe_request
from otel_resilience.correlation import correlation_id
from otel_resilience.errors import (
    AttemptTimeoutError,
    CircuitOpenError,
    DeadlineExceededError,
    ErrorContext,
    FailedResultError,
    ResilienceError,
    attach_context,
    attached_context,
)
from otel_resilience.telemetry import hooks
from otel_resilience.telemetry.call_telemetry import CallTelemetry

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from otel_resilience.circuitbreaker.breaker import CircuitBreaker
    from otel_resilience.limits.concurrency import ConcurrencyLimiter
    from otel_resilience.policy.plan import CallOptions, CallPlan
    from otel_resilience.retries.budget import RetryBudget

GIVE_UP = -1.0
_OPEN = (BreakerState.OPEN, BreakerState.FORCED_OPEN)
_CANCELLED = ErrorClass.CANCELLED
_is_logged = telemetry.events_logger.isEnabledFor
_enclosing = enclosing.get
_enter = enclosing.set
_reset = enclosing.reset


class Call(CallTelemetry):
    """State of one protected call, created by :func:`begin_call`."""

    policy: CallPlan
    options: CallOptions
    deadline: float | None
    """Deadline of this call alone, in seconds; ``None`` if it has none, and after its success."""
    paid_for = 0
    """The number of the attempt that has its rate limit permits."""
    paid_at = 0.0
    """When it got them."""
    permit: int
    slots: ConcurrencyLimiter | None = None
    """Where this call holds a slot."""
    token: Token[Enclosing | None] | None = None
    """Set while an attempt runs."""
    budget_cost = 0.0
    error: BaseException | None = None
    verdict: Classification | None = None
    below: tuple[Failure, ...] = ()
    """Failures of enclosed calls that the last attempt failed with, or because of."""
    unsent = False
    """It is certain that the last attempt sent nothing."""
    sent = False
    """Any attempt may have sent something."""
    bound_by: float | None = None
    """The whole deadline, own or of an outer call, if that limits the attempt rather than the attempt timeout."""
    is_limited: bool
    """Whether an attempt has to wait for a limit, or has a time limit, which :meth:`time_limit` returns."""
    suppressed = ""
    rejected = False
    suspended = False
    used_immediate = False
    hedged = False
    """A second attempt was made besides the first."""
    retries_by_type: dict[str, int] | None = None

    @property
    def name(self) -> str | None:  # type: ignore[override]  # read-only
        """The operation's name, if one was given."""
        return self.options.name

    @property
    def idempotent(self) -> bool | None:
        """Whether the operation may be repeated, as declared for this call or for all; ``None``: not declared."""
        declared = self.options.idempotent
        return self.policy.idempotent if declared is None else declared

    @property
    def seconds(self) -> float:  # type: ignore[override]  # read-only
        """The whole deadline."""
        return self.deadline or 0.0

    def left(self) -> float | None:
        """Seconds until the deadline of this call."""
        return None if self.deadline is None else self.started + self.deadline - self.policy.clock()

    def report(self, failure: Failure) -> None:
        """An enclosed call failed; has no effect once the attempt has ended."""
        if self.token is not None:
            super().report(failure)

    def note_sent(self, *, unsafe: bool) -> None:
        """Like :meth:`report`."""
        if self.token is not None:
            super().note_sent(unsafe=unsafe)

    def note_on_wire(self) -> None:
        """The permits of the attempt count from now, since the server counts from when it gets the request."""
        if self.paid_for == self.attempts:
            self.paid_at = self.use_permits(self.paid_at)

    def time_is_up(self) -> None:
        """As if the deadline of this call had passed."""
        self.deadline, self.is_limited = 0.0, True

    def use_permits(self, paid_at: float) -> float:
        """Permits taken at ``paid_at`` count from now, which is returned."""
        now = self.policy.clock()
        if self.policy.rate_limiter is not None:
            self.policy.rate_limiter.used(self.options.permits, age=now - paid_at)
        return now

    def give_permits_back(self, paid_at: float) -> None:
        """Permits taken at ``paid_at`` were not used for an attempt."""
        if self.policy.rate_limiter is not None:
            self.policy.rate_limiter.give_back(self.options.permits, age=self.policy.clock() - paid_at)

    def time_left(self) -> float:
        """Seconds until the nearest deadline, infinity if there is none. Raises :class:`DeadlineExceededError`."""
        self.time_limit()
        nearest = nearest_deadline(self)
        return math.inf if nearest is None else nearest[0]

    def time_limit(self) -> float:
        """Seconds that the next attempt may take, infinity without a limit.

        Raises :class:`DeadlineExceededError` if the nearest deadline has passed, or the attempt around this call was
        given up.
        """
        policy = self.policy
        limit = policy.attempt_timeout
        if limit is None:
            limit = math.inf
        owner: Enclosing = self
        if self.outer is None:
            if self.deadline is None:
                return limit
            clock = policy.clock
            left = self.started + self.deadline - clock()
        else:
            nearest = nearest_deadline(self)
            if nearest is None:
                return limit
            left, owner = nearest
        if left <= 0:
            too_late = DeadlineExceededError(owner.seconds)
            too_late.cut = False
            too_late.attempts = self.attempts
            raise too_late from self.error
        self.bound_by = None
        if limit <= left or (owner.cuts and owner is not self):
            return limit
        self.bound_by = owner.seconds
        return left

    def time_limit_error(self, limit: float, idempotent: bool | None) -> TimeoutError:  # internal, three-valued
        """The error for an attempt cut off after ``limit`` seconds, and whether its request may be repeated."""
        if self.bound_by is not None:
            cut_by_deadline = DeadlineExceededError(self.bound_by)
            cut_by_deadline.idempotent = idempotent
            return cut_by_deadline
        cut = AttemptTimeoutError(limit)
        if idempotent is not None:
            cut.classification = cut.classification.replace(idempotent=idempotent)
        return cut

    def begin_attempt(self) -> None:
        """Asks the breaker, then starts the attempt. Raises :class:`CircuitOpenError`."""
        policy = self.policy
        breaker = policy.breaker
        self.permit = 0 if breaker is None else breaker.fast_permit or self._ask(breaker)
        self.attempts = attempts = self.attempts + 1
        if attempts > 1 or policy.is_limited or self.listener is not None:
            self.started_attempt = policy.clock()
        else:
            self.started_attempt = self.started  # without a wait
        self.token = _enter(self)
        if self.listener is not None:
            self._open_attempt_span(self.listener)

    def _ask(self, breaker: CircuitBreaker) -> int:
        try:
            return breaker.admit()
        except CircuitOpenError as rejection:
            self.refuse(rejection, "breaker_open")

    def check_circuit(self) -> None:
        """Raises :class:`CircuitOpenError` while the circuit is open."""
        breaker = self.policy.breaker
        if breaker is not None and breaker.state in _OPEN:
            breaker.release(self._ask(breaker))

    def is_inside(self, slots: ConcurrencyLimiter) -> bool:
        """Whether a call around this one has a slot."""
        outer = self.outer
        while outer is not None:
            if isinstance(outer, Call) and outer.slots is slots:
                return True
            outer = outer.outer
        return False

    def refuse(self, rejection: ResilienceError, suppressed: str = "") -> NoReturn:
        """The attempt does not start: its cost is refunded, and ``rejection`` is raised, with what was done before.

        ``suppressed``: why a retry is not made, for telemetry.
        """
        self._refund()
        self.rejected = True
        if self.attempts:
            rejection.attempts = self.attempts
        if suppressed and self.error is not None:
            self._suppress(suppressed)
        try:
            if self.error is None:
                raise rejection
            raise rejection from self.error
        finally:
            del rejection  # otherwise its traceback would keep it alive

    def succeeded(self) -> None:
        """The attempt, and with it the call, succeeded."""
        policy = self.policy
        token, self.token = self.token, None
        try:
            _reset(token)  # type: ignore[arg-type]  # an attempt has begun
        except ValueError:
            self.attached = None  # in another context, from which neither can be undone
        breaker = policy.breaker
        if breaker is not None:
            breaker.record_success(self.permit, self.started_attempt)
        budget = policy.budget
        if self.attempts > 1:
            if self.budget_cost and budget is not None:
                budget.refund(self.budget_cost)
                self.budget_cost = 0.0
            self.error = None
        elif budget is not None and not budget.full:
            budget.give(budget.config.success_credit)
        if hooks.success_wanted or policy.observers is not None:
            hooks.notify_success(policy.observers, policy.dependency, self.operation)
        if self.listener is not None:
            self._close_attempt_span()
            self._close("ok" if self.verdict is None else "ok_after_retry", None)
        if self.is_limited:
            if self.outer is not None:
                self.outer.note_sent(unsafe=self.idempotent is False or self.unsafe_inside)
            if self.slots is not None:
                self._leave_limits()
            self.deadline = None  # whatever the operation started and left running is on its own from here

    def suspend(self) -> None:
        """The operation returned an awaitable: the attempt is withdrawn, and starts again when that is awaited."""
        self.release()
        self._leave_limits()
        self.suspended = True
        self.attempts -= 1
        self._forget_spans()

    def resume(self) -> None:
        """Continues after :meth:`suspend`; a call that had made no attempt starts here."""
        self.suspended = False
        if not self.attempts:
            self.started = self.policy.clock()
            self.observe(self.listener)

    def release(self) -> None:
        """The running attempt, if any, says nothing about the dependency."""
        token = self.token
        if token is not None:
            self.token = None
            if not leave(token):
                self.attached = None  # cannot be undone from here either
            if self.policy.breaker is not None:
                self.policy.breaker.release(self.permit)

    def failed(self, error: BaseException) -> float:  # noqa: C901  # as Policy._execute
        """The attempt failed. Seconds to wait before the next one, or :data:`GIVE_UP`."""
        policy = self.policy
        token, self.token = self.token, None
        try:
            _reset(token)  # type: ignore[arg-type]  # an attempt has begun
        except ValueError:
            self.attached = None  # in another context, from which it cannot be undone
        self.error = error
        verdict = self.verdict = policy.classify(error)
        unsent = verdict.unsent
        if self.cuts and (unsent or self.attempts < policy.max_attempts):
            repeatable = left_running(self)
            if repeatable is not None:
                Enclosing.note_sent(self, unsafe=not repeatable)
        heard = self.heard
        if heard:
            if self.failures is not None or self.below:
                self._inspect_enclosed_calls(error)
            unsent = unsent and not self.sent_inside
            self.sent_inside = False
        self.unsent = unsent
        if not unsent:
            self.sent = True
        if policy.breaker is not None:
            if verdict.immediate and not self.used_immediate:
                policy.breaker.release(self.permit)  # closing an idle connection says nothing yet
            else:
                policy.breaker.record_error(self.permit, verdict, self.started_attempt, error)
        if verdict.error_class is _CANCELLED:
            self._refund()
            self._close_attempt_span()
            return GIVE_UP
        if self.attempts > 1 and self.budget_cost:
            self.budget_cost = 0.0
        if hooks.subscribed or policy.observers is not None:
            hooks.notify_error(policy.observers, policy.dependency, self.operation, verdict, error)
        listening = self.listener is not None or _is_logged(logging.INFO)
        if listening:
            self._report_failure(error, verdict)
            self._close_attempt_span()
        if self.attempts >= policy.max_attempts:
            return GIVE_UP
        delay = self.delay = self._next_delay(error, verdict, heard)
        if delay < 0:
            return delay
        made = not policy.retry.shadow
        if listening:
            self._report_retry(verdict, made=made)
        if made:
            if hooks.subscribed or policy.observers is not None:
                hooks.notify_retry(policy.observers, policy.dependency, self.operation, self.attempts + 1, delay)
            return delay
        self._refund()  # the budget is shared with policies that do retry
        return self._suppress("shadow")

    @property
    def held(self) -> tuple[int, float, int, Span | None]:
        """What belongs to the latest attempt alone: permit, start time, number, span."""
        return self.permit, self.started_attempt, self.attempts, self.attempt_span

    def hold(self, held: tuple[int, float, int, Span | None]) -> None:
        """Makes the attempt that :attr:`held` returned this for the current one."""
        self.permit, self.started_attempt, self.number, self.attempt_span = held

    def begin_hedge(self) -> Context | None:
        """Starts a second attempt immediately, which is then the held one. Returns the context for it, with its span;
        ``None`` if no permit is available now, or the budget does not pay. Raises :class:`CircuitOpenError`.

        It is not refunded when it succeeds: if a dependency is slow as a whole, hedges must stay few.
        """
        policy, permit = self.policy, 0
        if policy.breaker is not None:
            permit = policy.breaker.fast_permit or policy.breaker.admit()
        self.hedged = True
        reason = self._hedge_refused()
        if reason:
            if policy.breaker is not None:
                policy.breaker.release(permit)
            if self.listener is not None:
                self._count_suppressed(reason)
            return None
        self.permit = permit
        self.attempts += 1
        self.number = 0
        self.sent = True
        self.started_attempt = policy.clock()
        return self._open_hedge_span()

    def _hedge_refused(self) -> str:
        """Why a hedge is not made; empty if it is paid for. Never waits: the first attempt is running."""
        rate, budget = self.policy.rate_limiter, self.policy.budget
        if rate is not None and not rate.take(self.options.permits):
            return "rate_limited"
        if budget is not None and not budget.take(budget.config.transient_cost):
            self._report_starvation(budget)
            if rate is not None:
                rate.give_back(self.options.permits)
            return "budget"
        return ""

    def refund_hedge(self) -> None:
        """A hedge was cancelled before its first step: its cost is refunded."""
        budget = self.policy.budget
        if budget is not None:
            budget.refund(budget.config.transient_cost)

    def lost(self, error: BaseException | None) -> None:
        """The held attempt does not decide the call: it failed with ``error``, or was cancelled."""
        policy = self.policy
        verdict = CANCELLED if error is None else policy.classify(error)
        if error is None or verdict.error_class is _CANCELLED:
            if policy.breaker is not None:
                policy.breaker.release(self.permit)
        else:
            self.verdict = verdict
            if policy.breaker is not None:
                policy.breaker.record_error(self.permit, verdict, self.started_attempt, error)
            if hooks.subscribed or policy.observers is not None:
                hooks.notify_error(policy.observers, policy.dependency, self.operation, verdict, error)
            if self.listener is not None or _is_logged(logging.INFO):
                self._report_failure(error, verdict)
        if self.attempt_span is not None:
            self._end_attempt_span(self.attempt_span)

    def to_replace(self, error: BaseException, fallback: object) -> Exception | None:
        """The error to replace by a fallback or the last result; ``None`` if the caller gets ``error``.

        The call has ended, unless a fallback is still to be called in :meth:`replacing`.
        """
        last = self.error
        judged: FailedResultError | None = None
        if is_a(last, FailedResultError) and last.pending and (last is error or last is cause_of(error)):
            judged = last
            judged.pending = False
        failure = judged or error
        if fallback is not None and is_a(failure, Exception) and not self._is_control_flow(failure):
            return failure
        self.ended(failure)
        return judged

    def _is_control_flow(self, error: Exception) -> bool:
        verdict = self.verdict if self.verdict is not None and error is self.error else self.policy.classify(error)
        return verdict.error_class is _CANCELLED

    @contextlib.contextmanager
    def replacing(self, error: BaseException) -> Iterator[None]:
        """The block makes the replacement for ``error``; the call ends with that, or with the block's exception."""
        self.release()
        self._leave_limits()
        self._close_attempt_span()
        try:
            with self._in_span():
                yield
        except BaseException as broken:
            self.ended(broken)
            if broken is error or cause_of(broken) is not None or not is_a(broken, Exception):
                raise
            raise broken from error
        self.ended(error, replaced=True)

    def ended(self, error: BaseException, *, replaced: bool = False) -> None:
        """The call ends with ``error``, of any kind: the context is attached, the span closed. ``replaced``: the caller
        gets what a fallback returned."""
        self.release()
        self._leave_limits()
        self._close_attempt_span()
        if self.sent and is_a(error, ResilienceError):
            error.attempts = max(error.attempts, self.attempts)
        cause, self.error = self.error, None
        if self.verdict is None or error is not cause:
            self.verdict = self.policy.classify(error)
        verdict = self.verdict
        self._refund()
        if verdict.error_class is ErrorClass.CANCELLED:
            if self.outer is not None and self.attempts:
                self.outer.note_sent(unsafe=self._known_idempotent(chain(error), verdict) is False)
            self._close("cancelled", CANCELLED)
            return
        exhausted = self.attempts >= self.policy.max_attempts > 1 and not self.rejected
        if exhausted and not self.suppressed:
            self._report_exhausted(verdict)
        exhausted = exhausted or any(each.exhausted for each in self.below)
        self._attach_context(error, verdict, exhausted=exhausted)
        if self.outer is not None:
            idempotent = self._known_idempotent(chain(error), verdict)
            if not replaced:
                self.outer.report(Failure(error, exhausted, idempotent, self.sent))
            elif self.sent:
                self.outer.note_sent(unsafe=idempotent is False)
        if self.below:
            self.below = ()
        outcome = "fallback" if replaced else self._outcome(error)
        policy = self.policy
        if hooks.subscribed or policy.observers is not None:
            hooks.notify_failure(policy.observers, policy.dependency, self.operation, outcome, error)
        self._close(outcome, verdict, error)

    def _outcome(self, error: BaseException) -> str:
        if self.rejected and not self.attempts:
            return "rejected"
        deadline = self.suppressed == "deadline" or is_a(error, DeadlineExceededError)
        return "deadline" if deadline else "failed"

    def _leave_limits(self) -> None:
        """Returns the slot, and a permit with which no attempt was started."""
        slots, self.slots = self.slots, None
        if slots is not None:
            slots.release()
        if self.paid_for > self.attempts:
            self.paid_for = 0
            self.give_permits_back(self.paid_at)

    def _inspect_enclosed_calls(self, error: BaseException) -> None:
        """Finds out which enclosed calls caused this failure."""
        self.below = ()
        if self.failures is not None:
            raised = {id(each) for each in chain(error)}
            self.below = tuple(each for each in self.failures if id(each.error) in raised)
            self.failures = None

    def _next_delay(self, error: BaseException, verdict: Classification, heard: bool) -> float:  # internal
        policy = self.policy
        if issubclass(type(error), CircuitOpenError):
            return self._suppress("breaker_open")
        plain = verdict.plain and self.options.is_retryable is None  # the most frequent case
        if not plain and not self._retry_can_help(error, verdict):
            return self._suppress("not_retryable")
        if not self.unsent:
            reason = self._unsafe_to_repeat(error, verdict, heard)
            if reason:
                return self._suppress(reason)
        if heard and any(each.exhausted for each in self.below):
            return self._suppress("exhausted_below")
        if verdict.immediate and not self.used_immediate:
            self.used_immediate = True
            return 0.0 if self._in_time(0.0) else self._suppress("deadline")
        hint = verdict.retry_after
        config = policy.retry
        delay = config.delay(verdict, self.attempts - 1, self.delay, policy.rng)
        if hint is not None and hint > config.max_retry_after:
            return self._suppress("retry_after_too_long")
        if self.is_limited and not self._in_time(delay):
            return self._suppress("retry_after_too_long" if delay == hint else "deadline")
        budget = policy.budget
        if budget is None:
            return delay
        cost = budget.costs[verdict.error_class]
        if not budget.take(cost):
            self._report_starvation(budget)
            return self._suppress("budget")
        self.budget_cost = cost
        return delay

    def _retry_can_help(self, error: BaseException, verdict: Classification) -> bool:
        """Whether a retry can help, by the caller's predicate or the classifier."""
        is_retryable = self.options.is_retryable
        if is_retryable is None or (issubclass(type(error), FailedResultError) and error.pending):  # type: ignore[attr-defined]  # its attribute
            return verdict.retryable and (verdict.max_retries is None or not self._used_up(verdict))
        try:
            answer: object = is_retryable(error)
            if answer is True:
                return True
            if answer is False:
                return False
            if not is_awaitable(answer):
                return bool(answer)
            discard(answer)
            problem = "returned an awaitable"
        except Exception as broken:  # noqa: BLE001  # a broken predicate must not replace the error being judged
            pass_interruption_on(broken)
            problem = f"failed with {type(broken).__name__}"
        self.policy.warn_once(
            "is_retryable", f"{self.operation}: the predicate is_retryable {problem}; the error was not retried"
        )
        return False

    def _unsafe_to_repeat(self, error: BaseException, verdict: Classification, heard: bool) -> str:  # internal
        """Why an operation that may have been sent is not sent again; empty if it may be."""
        known = self.options.idempotent
        if known is None:
            known = self.policy.idempotent
        if known is True:
            return ""
        errors: tuple[BaseException, ...] = ()
        if known is None:
            if verdict.idempotent is not None and not (heard and self.below):
                known = verdict.idempotent and not (heard and self.unsafe_inside)
            elif not heard and shows_nothing(error):
                return ""
            else:
                errors = chain(error)
                known = self._seen_idempotent(errors, verdict)
        if known is False:
            return "not_idempotent"
        if known is None and self._was_cut(errors):
            self.policy.warn_once(
                "idempotent",
                f"{self.operation}: a time limit cut the attempt, and nothing shows whether it may be repeated, so it "
                "was not; declare it with Policy(idempotent=True) or execute(..., idempotent=True) if it may",
            )
            return "idempotency_unknown"
        return ""

    def _known_idempotent(self, errors: tuple[BaseException, ...], verdict: Classification) -> bool | None:
        """Whether what the last attempt sent may be repeated, as declared or seen; ``None``: neither."""
        declared = self.idempotent
        return self._seen_idempotent(errors, verdict) if declared is None else declared

    def _seen_idempotent(self, errors: tuple[BaseException, ...], verdict: Classification) -> bool | None:
        """Like :meth:`_known_idempotent`, if nothing is declared."""
        if self.unsafe_inside:
            return False
        below = self.below
        for each in below:
            if each.error is errors[0] and each.idempotent is not None:
                return each.idempotent
        if verdict.idempotent is False or (below and any(each.idempotent is False for each in below)):
            return False
        if verdict.idempotent is None and shows_unsafe_request(errors):
            return False
        if below and all(each.idempotent for each in below) and not self._was_cut(errors):
            return True
        return verdict.idempotent

    def _was_cut(self, errors: tuple[BaseException, ...]) -> bool:
        """Whether one of our time limits, here or in an enclosed call, cut off something that showed no request."""
        for each in errors:
            if (
                issubclass(type(each), ResilienceError)
                and is_a(each, (AttemptTimeoutError, DeadlineExceededError))
                and getattr(each, "cut", True)
                and each.classification.idempotent is not True  # type: ignore[attr-defined]  # both kinds have one
                and not any(enclosed.error is each and enclosed.idempotent for enclosed in self.below)
            ):
                return True
        return False

    def _in_time(self, delay: float) -> bool:
        if self.deadline is None and self.outer is None:
            return True
        nearest = nearest_deadline(self)
        return nearest is None or delay < nearest[0]

    def _used_up(self, verdict: Classification) -> bool:
        if self.retries_by_type is None:
            self.retries_by_type = {}
        used = self.retries_by_type.get(verdict.error_type, 0)
        self.retries_by_type[verdict.error_type] = used + 1
        return verdict.max_retries is not None and used >= verdict.max_retries

    def _report_starvation(self, budget: RetryBudget) -> None:
        """The budget did not pay; logged once per episode."""
        if budget.enter_starvation():
            telemetry.budget_exhausted(self.policy.dependency)

    def _refund(self) -> None:
        if self.budget_cost and self.policy.budget is not None:
            self.policy.budget.refund(self.budget_cost)
        self.budget_cost = 0.0

    def _suppress(self, reason: str) -> float:
        self.suppressed = reason
        if self.listener is not None:
            self._count_suppressed(reason)
        return GIVE_UP

    def _attach_context(self, error: BaseException, verdict: Classification, *, exhausted: bool) -> None:
        existing = attached_context(error)
        nested = any(each.error is error for each in self.below)
        if existing is not None and nested and self.attempts <= 1:
            existing.exhausted = exhausted  # the enclosed call knows the rest best
            return
        policy = self.policy
        elapsed = policy.clock() - self.started
        if existing is not None and existing.dependency is None:
            identifier = existing.correlation_id
        elif self.span is None:
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
                unsent=not self.sent,
                details=existing.details if existing is not None and (nested or existing.dependency is None) else {},
                note=note,
            ),
        )


_ATTRIBUTES: Final = (
    *("policy", "function", "options", "deadline", "attempts", "token", "listener", "outer", "is_limited", "started"),
    *("permit", "started_attempt", "cuts", "error", "verdict", "unsent", "sent", "delay", "budget_cost", "suppressed"),
    *("_operation", "context", "span", "attempt_span", "attached", "make_current", "bound_by", "slots"),
    "rejected",
)


def _share_attribute_names() -> None:
    """Lets CPython store these attributes of all calls without a dictionary for each.

    It learns their names from the first few instances of a class, which must set them all. A call with another
    attribute gets a dictionary, which makes everything slower; there is room for 30.
    """
    call = Call()
    for name in _ATTRIBUTES:
        setattr(call, name, None)


_share_attribute_names()


def begin_call(policy: CallPlan, function: object, options: CallOptions, deadline: float | None) -> Call:
    """Creates a call that starts now. A function, since the interpreter takes longer to call an ``__init__``."""
    call = Call()
    call.policy = policy
    call.function = function
    call.options = options
    call.deadline = deadline
    call.attempts = 0
    call.listener = None
    call.outer = outer = _enclosing()
    if outer is not None and outer.over:
        call.outer = outer = not_over(outer)
    call.is_limited = policy.is_limited or deadline is not None or outer is not None
    clock = policy.clock
    call.started = clock()
    return call
