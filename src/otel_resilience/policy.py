"""One object for everything that protects the calls to one dependency.

Outside in: total deadline, retry with its budget, circuit breaker (asked once per attempt), attempt timeout.
"""

from __future__ import annotations

import asyncio
import functools
import math
import random
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from opentelemetry import trace as trace_api
from opentelemetry.metrics import _internal as metrics_internal

from otel_resilience import _validation as check
from otel_resilience import cardinality, observers, telemetry
from otel_resilience._call import GIVE_UP, Call
from otel_resilience._call_telemetry import attempt_number
from otel_resilience._operations import discard, function_name, is_async_callable, is_awaitable, plain_types
from otel_resilience._parts import make_breaker, make_budget
from otel_resilience._time_limits import run_limited, run_limited_async
from otel_resilience.breaker_config import CircuitBreakerConfig
from otel_resilience.budget import RetryBudget, RetryBudgetConfig
from otel_resilience.circuit_breaker import CircuitBreaker
from otel_resilience.classification import Classifier
from otel_resilience.defaults import default_classifier
from otel_resilience.errors import CircuitOpenError
from otel_resilience.retry import IsRetryable, RetryConfig

if TYPE_CHECKING:
    from otel_resilience.storage import SharedState

T = TypeVar("T")
P = ParamSpec("P")

set_attempt_number = attempt_number.set

_ONE_ATTEMPT = RetryConfig(max_attempts=1)


class Policy:
    """Protects the calls to one dependency. Safe for threads and for several event loops.

    ``retry``, ``breaker``, ``budget``, ``deadline`` and ``attempt_timeout`` (both in seconds) may each be left out;
    with ``retry`` comes a budget unless ``budget=False``. Raises ``ValueError`` naming the parameter where the parts do
    not fit each other: the attempt timeout must not be longer than the deadline, the breaker's ``monitoring_period``
    must be at least twice the attempt timeout, its ``probe_lease`` longer than it. With ``shared`` the breaker and the
    budget outlive the process and are those of all who share that state.

    A ``def`` operation with a time limit runs in a thread of its own with the caller's context, and is left behind
    there when the limit passes. Inside a running event loop it is called as it is, and no limit cuts it short.
    """

    def __init__(
        self,
        dependency: str,
        *,
        retry: RetryConfig | None = None,
        breaker: CircuitBreaker | CircuitBreakerConfig | None = None,
        budget: RetryBudget | RetryBudgetConfig | bool | None = None,
        deadline: float | None = None,
        attempt_timeout: float | None = None,
        shared: SharedState | None = None,
        classifier: Classifier | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        async_sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.dependency = check.label("dependency", dependency)
        self.retry = retry or _ONE_ATTEMPT
        self.deadline = None if deadline is None else check.seconds("deadline", deadline)
        self.attempt_timeout = None if attempt_timeout is None else check.seconds("attempt_timeout", attempt_timeout)
        if self.deadline is not None and self.attempt_timeout is not None and self.attempt_timeout > self.deadline:
            raise ValueError(f"attempt_timeout ({attempt_timeout!r}) must be at most deadline ({deadline!r})")
        self.classifier = classifier or default_classifier()
        self.clock = clock
        self.sleep = sleep
        self.async_sleep = async_sleep
        self.rng = rng
        self.shared = shared
        """Where the breaker and the budget made here keep their state; ``None``: in themselves."""
        self.classify = self.classifier.classify
        self.verdicts = self.classifier.by_type
        """Verdicts on exact types, to be looked into before :attr:`classify` is asked."""
        self.max_attempts = self.retry.max_attempts
        self.eager = self.retry.base_delay == 0
        """Whether transient errors are retried without any wait."""
        self.breaker = make_breaker(self, breaker)
        self.budget = make_budget(self, budget)
        self._operation_name = cardinality.BoundedNames(cardinality.MAX_OPERATIONS)
        self._unlimited = self.deadline is None and self.attempt_timeout is None
        if self.budget is not None:
            telemetry.watch_budget(self.budget)

    @overload
    def execute(
        self,
        operation: Callable[[], Awaitable[T]],
        *,
        name: str | None = None,
        idempotent: bool | None = None,
        deadline: float | None = None,
        is_retryable: IsRetryable | None = None,
    ) -> Awaitable[T]: ...
    @overload
    def execute(
        self,
        operation: Callable[[], T],
        *,
        name: str | None = None,
        idempotent: bool | None = None,
        deadline: float | None = None,
        is_retryable: IsRetryable | None = None,
    ) -> T: ...
    def execute(
        self,
        operation: Callable[[], Any],
        *,
        name: str | None = None,
        idempotent: bool | None = None,
        deadline: float | None = None,
        is_retryable: IsRetryable | None = None,
    ) -> Any:
        """Runs ``operation`` under this policy: a value, or an awaitable for an async operation.

        ``name`` is the operation's name on spans and metrics, from a small set. ``idempotent``: ``False`` repeats the
        call only where it was provably not sent, ``True`` marks it as safe, ``None`` looks at the failed request (HTTP
        method, idempotency key). ``deadline`` in seconds replaces the policy's where it is shorter.
        ``is_retryable`` replaces the classifier's word on what is worth a repetition.

        Raises :class:`~otel_resilience.CircuitOpenError`, :class:`~otel_resilience.AttemptTimeoutError`,
        :class:`~otel_resilience.DeadlineExceededError`, or the operation's own last error with a note.
        """
        if is_async_callable(operation):
            return self._execute_async(operation, name, idempotent, deadline, is_retryable)
        return self._execute(operation, name, idempotent, deadline, is_retryable)

    def _execute(  # noqa: C901  # one loop without detours: this is the path that must cost nothing
        self,
        operation: Callable[[], Any],
        name: str | None,
        idempotent: bool | None,  # internal, three-valued
        deadline: float | None,
        is_retryable: IsRetryable | None,
    ) -> Any:
        if not (
            self._unlimited
            and deadline is None
            and telemetry.override is None
            and trace_api._TRACER_PROVIDER is None  # noqa: SLF001  # as telemetry.active(), without the call
            and metrics_internal._METER_PROVIDER is None  # noqa: SLF001
            and not observers.awaited
        ):
            call = Call(self, self.clock(), self._shorter(deadline), idempotent, is_retryable, operation, name)
            call.observe(telemetry.active())
            return self._run(operation, call)
        breaker = self.breaker
        permit = 0
        if breaker is not None:
            if breaker.rejects_until:
                breaker.reject()
            permit = breaker.fast_permit or breaker.admit()
        started = self.clock()
        retrying: Call | None = None
        while True:
            try:
                result = operation()
            except BaseException as error:
                if retrying is None:
                    retrying = Call(self, started, None, idempotent, is_retryable, operation, name, permit)
                delay = retrying.failed(error)
                if delay:
                    if delay == GIVE_UP:
                        retrying.ended(error)
                        raise
                    self._wait(delay, retrying)
                if breaker is None:
                    retrying.attempts += 1
                    retrying.numbered = set_attempt_number(retrying.attempts)
                else:
                    retrying.begin_quietly(breaker)
                continue
            if type(result) not in plain_types and is_awaitable(result):
                if breaker is not None:
                    breaker.release(permit if retrying is None else retrying.permit)
                return self._execute_async(operation, name, idempotent, deadline, is_retryable, result)
            if retrying is not None:
                retrying.succeeded()
                return result
            if breaker is not None:
                breaker.record_success(permit, started)
            budget = self.budget
            if budget is not None and not budget.full:
                budget.give(budget.config.success_credit)
            return result

    async def _execute_async(
        self,
        operation: Callable[[], Awaitable[T]],
        name: str | None,
        idempotent: bool | None,  # internal, three-valued
        deadline: float | None,
        is_retryable: IsRetryable | None,
        begun: Awaitable[T] | None = None,
    ) -> T:
        if not (
            self._unlimited
            and deadline is None
            and telemetry.override is None
            and trace_api._TRACER_PROVIDER is None  # noqa: SLF001  # as telemetry.active(), without the call
            and metrics_internal._METER_PROVIDER is None  # noqa: SLF001
            and not observers.awaited
        ):
            call = Call(self, self.clock(), self._shorter(deadline), idempotent, is_retryable, operation, name)
            call.observe(telemetry.active())
            return await self._run_async(operation, call, begun)
        breaker = self.breaker
        try:
            permit = 0 if breaker is None else breaker.fast_permit or breaker.admit()
        except CircuitOpenError:
            discard(begun)
            raise
        started = self.clock()
        retrying: Call | None = None
        while True:
            try:
                result = await (operation() if begun is None else begun)
            except BaseException as error:
                begun = None
                if retrying is None:
                    retrying = Call(self, started, None, idempotent, is_retryable, operation, name, permit)
                delay = retrying.failed(error)
                if delay:
                    if delay == GIVE_UP:
                        retrying.ended(error)
                        raise
                    await self._wait_async(delay, retrying)
                if breaker is None:
                    retrying.attempts += 1
                    retrying.numbered = set_attempt_number(retrying.attempts)
                else:
                    retrying.begin_quietly(breaker)
                continue
            if retrying is not None:
                retrying.succeeded()
                return result
            if breaker is not None:
                breaker.record_success(permit, started)
            budget = self.budget
            if budget is not None and not budget.full:
                budget.give(budget.config.success_credit)
            return result

    def _wait(self, delay: float, call: Call) -> None:
        try:
            self.sleep(delay)
        except BaseException as error:
            call.ended(error)
            raise

    async def _wait_async(self, delay: float, call: Call) -> None:
        try:
            await self.async_sleep(delay)
        except BaseException as error:
            call.ended(error)
            raise

    @overload
    def __call__(self, function: Callable[P, T]) -> Callable[P, T]: ...
    @overload
    def __call__(self, function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]: ...
    def __call__(self, function: Callable[P, Any]) -> Callable[P, Any]:
        """As a decorator, for ``def`` and ``async def``; the function's name is the operation's."""
        return self.decorator()(function)

    def decorator(
        self,
        *,
        name: str | None = None,
        idempotent: bool | None = None,
        is_retryable: IsRetryable | None = None,
    ) -> Callable[[Callable[P, T]], Callable[P, T]]:
        """A decorator with options; see :meth:`execute`."""

        def decorate(function: Callable[P, T]) -> Callable[P, T]:
            operation_name = name or function_name(function)
            breaker = self.breaker
            if is_async_callable(function):

                @functools.wraps(function)
                async def protected_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                    if breaker is not None and breaker.rejects_until:
                        breaker.reject()
                    return await self._execute_async(
                        (lambda: function(*args, **kwargs)) if args or kwargs else function,  # type: ignore[arg-type,return-value]
                        operation_name,
                        idempotent,
                        None,
                        is_retryable,
                    )

                return protected_async  # type: ignore[return-value]  # the same signature as the async function

            @functools.wraps(function)
            def protected(*args: P.args, **kwargs: P.kwargs) -> T:
                if breaker is not None and breaker.rejects_until:
                    breaker.reject()
                return self._execute(  # type: ignore[no-any-return]  # what the operation returns
                    (lambda: function(*args, **kwargs)) if args or kwargs else function,
                    operation_name,
                    idempotent,
                    None,
                    is_retryable,
                )

            return protected

        return decorate

    def _run(self, operation: Callable[[], Any], call: Call) -> Any:
        """The driver of a call that is observed or has a time limit."""
        delay = 0.0
        try:
            while True:
                if delay > 0:
                    self.sleep(delay)
                limit = call.time_limit()
                call.begin_attempt()
                try:
                    result = operation() if limit is None else run_limited(operation, limit, call)
                except BaseException as error:
                    delay = call.failed(error)
                    if delay == GIVE_UP:
                        raise
                    continue
                if is_awaitable(result):
                    call.detach()
                    return self._run_async(operation, call, result)
                call.succeeded()
                return result
        except BaseException as error:
            call.ended(error)
            raise

    async def _run_async(self, operation: Callable[[], Awaitable[T]], call: Call, begun: Awaitable[T] | None) -> T:
        """As :meth:`_run`; ``begun`` is a first attempt that was begun already."""
        delay = 0.0
        try:
            while True:
                if delay > 0:
                    await self.async_sleep(delay)
                limit = call.time_limit()
                if begun is None or not call.reattach():
                    call.begin_attempt()
                awaitable, begun = begun, None
                try:
                    if limit is None:
                        result = await (operation() if awaitable is None else awaitable)
                    else:
                        result = await run_limited_async(operation if awaitable is None else awaitable, limit, call)
                except BaseException as error:
                    delay = call.failed(error)
                    if delay == GIVE_UP:
                        raise
                    continue
                call.succeeded()
                return result
        except BaseException as error:
            if begun is not None:
                discard(begun)
                call.abandon()
            call.ended(error)
            raise

    def _shorter(self, deadline: float | None) -> float | None:
        if deadline is None:
            return self.deadline
        deadline = check.number("deadline", deadline, minimum=-math.inf)
        return deadline if self.deadline is None else min(deadline, self.deadline)

    def operation_name(self, function: object, name: str | None) -> str:
        """The name of an operation on telemetry: the given one, else the function's; from a bounded set."""
        return self._operation_name(name or function_name(function))
