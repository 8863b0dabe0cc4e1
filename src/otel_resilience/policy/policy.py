"""One object for everything that protects the calls to one dependency.

From the outside in: fallback, total deadline, slot for the call, retry with its budget, and for each attempt: permit of
the rate limit, circuit breaker, attempt timeout.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import random
import time
import types
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self, TypeVar, TypeVarTuple, Unpack, overload

from otel_resilience import telemetry
from otel_resilience._internal import interventions
from otel_resilience._internal import validation as check
from otel_resilience._internal.foreign import is_a
from otel_resilience._internal.forks import ProcessLock
from otel_resilience._internal.in_use import InUse
from otel_resilience._internal.operations import (
    COROUTINE_FLAGS,
    UNUSUAL_FLAGS,
    check_result,
    discard,
    function_name,
    is_async_callable,
    is_awaitable,
    is_coroutine_function,
    may_pass_on_an_awaitable,
    plain_types,
    protectable,
    running_loop,
    takes_place_of,
)
from otel_resilience._internal.predicates import Retryable, predicate, takes_one
from otel_resilience._internal.process_bound import ProcessBound
from otel_resilience.circuitbreaker.breaker import CircuitBreaker
from otel_resilience.circuitbreaker.config import CircuitBreakerConfig
from otel_resilience.classification.classifier import Classifier
from otel_resilience.classification.defaults import default_classifier
from otel_resilience.classification.model import Classification
from otel_resilience.errors import AttemptThreadsExhaustedError, FailedResultError
from otel_resilience.limits import DEFAULT_MAX_THREADS
from otel_resilience.limits.attempt_timeout import SharedTimer, TimeLimit, run_limited
from otel_resilience.policy.call import GIVE_UP, Call, begin_call
from otel_resilience.policy.parts import (
    SharedParts,
    check_shared,
    make_breaker,
    make_budget,
    make_concurrency_limiter,
    make_rate_limiter,
)
from otel_resilience.policy.plan import NO_OPTIONS, CallOptions
from otel_resilience.policy.waits import (
    can_wait_async,
    check_can_cut,
    wait_for_turn,
    wait_for_turn_async,
    warn_of_loop,
)
from otel_resilience.retries.bucket import RetryBudgetConfig
from otel_resilience.retries.budget import RetryBudget
from otel_resilience.retries.config import RetryConfig
from otel_resilience.telemetry import cardinality
from otel_resilience.telemetry import hooks as observed
from otel_resilience.telemetry.hooks import Hooks, Observers
from otel_resilience.telemetry.listener import listening
from otel_resilience.telemetry.providers import any_set

if TYPE_CHECKING:
    from otel_resilience.limits.concurrency import ConcurrencyLimiter
    from otel_resilience.limits.config import ConcurrencyLimit, RateLimit
    from otel_resilience.limits.rate import RateLimiter
    from otel_resilience.limits.threads import AttemptThreads, Worker
    from otel_resilience.policy.attempts import Attempts
    from otel_resilience.policy.keywords import ExecuteKeywords
    from otel_resilience.policy.latencies import HedgeDelay
    from otel_resilience.policy.results import RetryResult

T = TypeVar("T")
P = ParamSpec("P")
Args = TypeVarTuple("Args")

_ONE_ATTEMPT = RetryConfig(max_attempts=1)
_SPECIAL_FLAGS: Final = COROUTINE_FLAGS | UNUSUAL_FLAGS
_log = logging.getLogger("otel_resilience")


class Policy(ProcessBound):
    """Protects the calls to one dependency. Safe for threads and for several event loops.

    ``retry``, ``breaker``, ``budget``, ``deadline`` and ``attempt_timeout`` (both in seconds, greater than 0) are all
    optional; ``retry`` comes with a budget unless ``budget=False``. With ``shared`` the breaker and the budget outlive
    the process and are shared with all users of that state.

    ``deadline`` limits the waits and the start of attempts, and cuts off an ``async def``; a ``def`` runs in the thread
    of its caller, and can read the remaining time with :func:`~otel_resilience.remaining`. ``attempt_timeout`` cuts off
    an ``async def`` too. A ``def`` with an ``attempt_timeout`` runs in one of at most ``max_attempt_threads`` reused
    threads (at least 1; 40 by default, as many as anyio uses for synchronous code), with a copy of the caller's context
    but without its thread-local state, and is abandoned there when the time is up. A thread cannot be stopped, so it is
    counted (``resilience.timeout.abandoned``) until the operation returns; if all are abandoned,
    :class:`~otel_resilience.AttemptThreadsExhaustedError` is raised. Within a running event loop a ``def`` is called
    directly and not cut off, which is logged once.

    ``max_concurrency``: maximum concurrent calls. ``rate_limit``: maximum attempts per time. A call waits for its slot
    and an attempt for its permit, first come, first served, as long as the deadline allows; this wait does not count
    towards the attempt timeout. What cannot be given in time is rejected
    (:class:`~otel_resilience.ConcurrencyLimitError`, :class:`~otel_resilience.RateLimitedError`) and never sent. An
    open circuit uses no permit. With ``shared`` the rate limit is shared with all users of that state. Several policies
    share a limit if they are given the same :class:`~otel_resilience.ConcurrencyLimiter` or
    :class:`~otel_resilience.RateLimiter`.

    ``idempotent``: ``True`` if every operation may safely be repeated, ``False`` if none may be that was perhaps sent,
    ``None`` to decide by what the failed request shows (HTTP method, idempotency key). An attempt that was cut off by a
    time limit and shows no request is repeated only with ``True``.

    ``retry_result``, a function of the result, may judge a result a failure of its attempt. If it returns ``True`` the
    attempt is retried, and the result's HTTP status and ``Retry-After``, if it has them, determine the effect on the
    breaker and the wait; a :class:`~otel_resilience.Classification` is used as the verdict. If no attempt succeeds, the
    last result is returned unchanged.

    ``hedge_after`` is for an ``async def`` with a latency tail, declared idempotent: if an attempt has no result after
    that many seconds (at least 0), or takes longer than that percentile of the last 100 (``"p95"``; from ``p1`` to
    ``p99``), a second one is started concurrently, at most one per call, paid from the budget and not refunded. The
    first success wins, and the other one is cancelled. Each attempt runs in a task.

    ``fallback`` is a value, or a function of the error, that replaces the final failure or rejection: an error, or a
    result that was judged a failure (then the error is a :class:`~otel_resilience.FailedResultError`). For an ``async
    def`` it may be ``async def`` too. Cancellation is never replaced; an error of the fallback is raised with the
    original one as its cause. A ``def`` whose fallback is ``async def`` raises its own error, which is logged once.
    ``None`` means no fallback; use ``lambda error: None`` to return ``None``.

    ``hooks`` are notified of the calls of this policy (:class:`~otel_resilience.Hooks`).

    A copy of a policy is the policy itself, and it cannot be pickled: its parts belong to one process.

    Raises ``TypeError`` or ``ValueError`` naming the parameter, also if the parts do not fit together: the attempt
    timeout must not be longer than the deadline, the breaker's ``monitoring_period`` must be at least twice the attempt
    timeout, its ``probe_lease`` longer than it, and the budget must be able to pay for all retries of one call.

    ``clock`` gives monotonic seconds, ``sleep`` and ``async_sleep`` wait, ``rng`` gives random numbers in ``[0, 1)``.

    Examples:
        >>> import asyncio
        >>> policy = Policy(
        ...     "supplier", retry=RetryConfig(), breaker=CircuitBreakerConfig(), deadline=30, fallback="none"
        ... )
        >>> def fetch(page):
        ...     if current_attempt() < 3:
        ...         raise ConnectionResetError
        ...     return f"page {page}"
        >>> policy.execute(fetch, 1, name="list plans")
        'page 1'
        >>> @policy
        ... async def refused():
        ...     raise PermissionError
        >>> asyncio.run(refused())
        'none'
        >>> Policy("supplier", deadline=5, attempt_timeout=10)
        Traceback (most recent call last):
            ...
        ValueError: attempt_timeout (10) must be at most deadline (5)
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
        max_concurrency: int | ConcurrencyLimit | ConcurrencyLimiter | None = None,
        rate_limit: RateLimit | RateLimiter | None = None,
        max_attempt_threads: int = DEFAULT_MAX_THREADS,
        idempotent: bool | None = None,
        retry_result: RetryResult | None = None,
        hedge_after: float | str | None = None,
        fallback: Any = None,
        hooks: Hooks | Sequence[Hooks] = (),
        shared: SharedParts | None = None,
        classifier: Classifier | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        async_sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.dependency = check.label("dependency", dependency)
        check.instance("retry", retry, RetryConfig, types.NoneType)
        check.instance("breaker", breaker, CircuitBreaker, CircuitBreakerConfig, types.NoneType)
        check.instance("budget", budget, RetryBudget, RetryBudgetConfig, bool, types.NoneType)
        check.instance("classifier", classifier, Classifier, types.NoneType)
        _check_functions(shared, clock, sleep, async_sleep, rng)
        self.retry = retry or _ONE_ATTEMPT
        self.deadline = None if deadline is None else check.seconds("deadline", deadline)
        self.attempt_timeout = None if attempt_timeout is None else check.seconds("attempt_timeout", attempt_timeout)
        if self.deadline is not None and self.attempt_timeout is not None and self.attempt_timeout > self.deadline:
            raise ValueError(f"attempt_timeout ({attempt_timeout!r}) must be at most deadline ({deadline!r})")
        self.max_attempt_threads = check.count("max_attempt_threads", max_attempt_threads)
        self.idempotent = check.optional_flag("idempotent", idempotent)
        self.retry_result = _retry_result("retry_result", retry_result)
        if isinstance(fallback, type):
            raise TypeError(f"fallback must be a value or a function of the error, not the class {fallback.__name__}")
        if callable(fallback):
            takes_one("fallback", fallback, "exception")
        self.fallback = fallback
        self.observers = self._observers(hooks)
        self.hedge_delay = None if hedge_after is None else _hedge_delay(hedge_after)
        self.classifier = classifier or default_classifier()
        self.clock = clock
        self.sleep = sleep
        self.async_sleep = async_sleep
        self.rng = rng
        self.shared = shared
        """Where the breaker, the budget and the rate limit created here keep their state; ``None``: in themselves."""
        self.classify: Callable[[BaseException], Classification] = self.classifier.classify
        self.max_attempts = self.retry.max_attempts
        self.breaker = make_breaker(self, breaker, shared)
        self.budget = make_budget(self, budget, shared)
        self.concurrency_limiter = make_concurrency_limiter(self, max_concurrency)
        self.rate_limiter = make_rate_limiter(self, rate_limit, shared)
        self._waits_for_limits = self.concurrency_limiter is not None or self.rate_limiter is not None
        self.is_limited = self._waits_for_limits or self.attempt_timeout is not None
        """Whether an attempt has to wait for a limit, or has a time limit."""
        if self.budget is not None:
            telemetry.watch_budgets()
        self._operation_name = cardinality.BoundedNames(cardinality.MAX_OPERATIONS)
        self._threads: AttemptThreads | None = None
        self._timer: SharedTimer | None = None
        self._warned: set[str] = set()
        self._bare: Policy | None = None
        policies_in_use.add(self)

    @classmethod
    def from_env(cls, dependency: str, *, environ: Mapping[str, str] | None = None, **defaults: Any) -> Self:
        """The policy of ``dependency`` from environment variables, with ``defaults`` for parameters not set by them.

        The variables start with ``RESILIENCE_`` and the name of the dependency in capitals, with ``_`` for everything
        that is not a letter or digit, and end with the parameter and its unit: ``RESILIENCE_SUPPLIER_MAX_ATTEMPTS``,
        ``RESILIENCE_SUPPLIER_DEADLINE_S`` (docs/registry.md lists all). Any variable of the retries, of the circuit
        breaker or of the budget switches that part on. An empty variable counts as unset; ``none`` switches off what
        may be ``None``. ``environ`` replaces ``os.environ``.

        Raises one ``ValueError`` that lists all problems: each invalid variable with its value and what is allowed, and
        each unknown one with this prefix together with the nearest known name.

        Examples:
            >>> policy = Policy.from_env("supplier", environ={"RESILIENCE_SUPPLIER_MAX_ATTEMPTS": "5"}, deadline=30)
            >>> policy.retry.max_attempts, policy.deadline
            (5, 30.0)
        """
        from otel_resilience.policy.environment import policy_from  # many do not use it

        return policy_from(cls, dependency, environ, defaults)

    def __repr__(self) -> str:
        parts: dict[str, object] = {
            "retry": None if self.max_attempts == 1 else self.retry,
            "breaker": self.breaker,
            "budget": self.budget,
            "deadline": self.deadline,
            "attempt_timeout": self.attempt_timeout,
            "idempotent": self.idempotent,
        }
        shown = (f"{name}={part!r}" for name, part in parts.items() if part is not None)
        return f"{type(self).__name__}({', '.join((repr(self.dependency), *shown))})"

    # Without arguments first: so that a user's own protocol, such as one for tests, can match that overload.
    @overload
    def execute(
        self,
        operation: Callable[[], Awaitable[T]],
        **options: Unpack[ExecuteKeywords],
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def execute(
        self,
        operation: Callable[[Unpack[Args]], Awaitable[T]],
        *args: *Args,
        **options: Unpack[ExecuteKeywords],
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def execute(
        self,
        operation: Callable[[Unpack[Args]], T],
        *args: *Args,
        **options: Unpack[ExecuteKeywords],
    ) -> T: ...
    def execute(  # type: ignore[misc]  # mypy cannot match the signature without arguments and those with them
        self,
        operation: Callable[[Unpack[Args]], Any],
        *args: *Args,
        name: str | None = None,
        idempotent: bool | None = None,
        deadline: float | None = None,
        is_retryable: Retryable | None = None,
        retry_result: RetryResult | None = None,
        permits: int = 1,
    ) -> Any:
        """Runs ``operation(*args)`` under this policy: a value, or a coroutine for an async operation.

        To pass keyword arguments to the operation, use a lambda or a ``functools.partial``.

        An operation is async if that is known without calling it: an ``async def``, also as a method, a callable object
        or in a ``functools.partial``, or within an event loop a lambda that only calls one. Then nothing is checked or
        started before the first step of the coroutine. Any other operation that returns an awaitable is called once
        before that, if the circuit lets it pass.

        ``name`` is the operation's name on spans and metrics, from a small set. ``idempotent`` overrides the policy's
        parameter for this call. ``deadline`` in seconds replaces the policy's if it is shorter. ``is_retryable`` (a
        predicate, an exception type, or several of them) replaces the classifier's decision about what to retry; a
        predicate that fails is logged once and counts as ``False``. ``retry_result`` replaces the policy's for this
        call. ``permits``: how many permits of the rate limit each attempt takes, 1 or more.

        Raises :class:`~otel_resilience.CircuitOpenError`, :class:`~otel_resilience.RateLimitedError`,
        :class:`~otel_resilience.ConcurrencyLimitError`, :class:`~otel_resilience.AttemptTimeoutError`,
        :class:`~otel_resilience.DeadlineExceededError`, :class:`~otel_resilience.AttemptThreadsExhaustedError`, or the
        operation's own last error with a note; ``TypeError`` if it cannot be protected, such as a generator.

        Examples:
            >>> policy = Policy("supplier", retry=RetryConfig())
            >>> def get(path):
            ...     return f"GET {path}"
            >>> policy.execute(get, "/plans/small", name="get plan", is_retryable=ConnectionError | TimeoutError)
            'GET /plans/small'
            >>> policy.execute(lambda: get("/plans"), name="list plans", deadline=5)
            'GET /plans'
        """
        flags = operation.__code__.co_flags if type(operation) is FunctionType else UNUSUAL_FLAGS
        if flags & UNUSUAL_FLAGS:
            protectable("operation", operation)
        options = NO_OPTIONS
        if name is not None or idempotent is not None or is_retryable is not None or permits != 1:
            options = _checked_options(name, idempotent, is_retryable, permits)
        deadline = self.deadline if deadline is None else self._shorter(deadline)
        bound: Callable[..., Any] = functools.partial(operation, *args) if args else operation
        if flags & _SPECIAL_FLAGS:
            asynchronous = flags & COROUTINE_FLAGS != 0 or is_async_callable(bound)
        else:
            asynchronous = running_loop() is not None and is_async_callable(bound)
        if retry_result is not None or self.retry_result is not None:
            wanted = _retry_result("retry_result", retry_result)
            bound = self._judged(bound, wanted, name or function_name(bound), asynchronous=asynchronous)
        if asynchronous:
            return self._execute_async(bound, options, deadline)
        return self._execute(bound, options, deadline)

    def _judged(
        self, operation: Callable[[], Any], retry_result: RetryResult | None, name: str, *, asynchronous: bool
    ) -> Callable[[], Any]:
        """The operation, with its result judged by ``retry_result`` or the policy's; unchanged if there is neither."""
        wanted = retry_result or self.retry_result
        if wanted is None:
            return operation
        from otel_resilience.policy.results import judged  # imported late: few policies judge results

        return judged(operation, wanted, self, name, asynchronous=asynchronous)

    def _execute(  # noqa: C901  # one function, since each call of another costs 3 % of a successful call
        self, operation: Callable[[], Any], options: CallOptions, deadline: float | None
    ) -> Any:
        """The only loop for ``def``."""
        if interventions.active:
            from otel_resilience.policy.off_switch import changed_call  # here and below: rarely used

            self, operation, options, deadline = changed_call(
                self, self._unprotected, operation, options, deadline, asynchronous=False
            )
        if self.hedge_delay is not None:
            raise TypeError("hedge_after needs an async def: a def cannot be cancelled")
        breaker = self.breaker
        if breaker is not None and breaker.rejects_until and self._rejects_at_once():
            breaker.reject()
        call = begin_call(self, operation, options, deadline)
        if any_set():
            call.observe(listening())
        delay, worker = 0.0, None
        limited = call.is_limited
        if limited and not self.is_limited and call.outer is None:
            limited = deadline is not None and deadline <= 0  # one that just began leaves time for an attempt
        try:
            while True:
                if limited:
                    if delay or self._waits_for_limits:
                        wait_for_turn(delay, call)
                    limit = call.time_limit()
                    if self.attempt_timeout is not None:
                        worker = self._reserve(limit, call)
                if worker is None:
                    call.begin_attempt()
                    run = operation
                else:
                    run = self._begin_in_thread(operation, call, worker)
                try:
                    result = run()
                except BaseException as error:
                    delay = call.failed(error)
                    if delay == GIVE_UP:
                        raise
                    limited = call.is_limited or delay > 0
                else:
                    if type(result) not in plain_types:
                        if is_awaitable(result):
                            call.suspend()
                            return self._later(operation, call, result)
                        self._check_result(result, call)
                    if worker is None and self.attempt_timeout is not None:
                        warn_of_loop(call, "attempt_timeout does not cut")
                    call.succeeded()
                    return result
        except BaseException as error:
            failure = call.to_replace(error, self.fallback)
            if failure is None:
                raise
            try:
                return self._replacement(failure, call)
            finally:
                del failure  # its traceback refers to this frame

    def _replacement(self, failure: Exception, call: Call) -> Any:
        """What the caller gets instead of ``failure``: what the fallback returns, else the last result."""
        if is_a(failure, FailedResultError) and self.fallback is None:
            return failure.result
        with call.replacing(failure):
            value = self.fallback(failure) if callable(self.fallback) else self.fallback
            if is_awaitable(value):
                discard(value)
                self.warn_once("async_fallback", f"has an async def as fallback, which cannot serve {call.operation}")
                raise failure
        return value

    async def _replacement_async(self, failure: Exception, call: Call) -> Any:
        if is_a(failure, FailedResultError) and self.fallback is None:
            return failure.result
        with call.replacing(failure):
            value = self.fallback(failure) if callable(self.fallback) else self.fallback
            if is_awaitable(value):
                value = await value
        return value

    def _begin_in_thread(self, operation: Callable[[], Any], call: Call, worker: Worker) -> Callable[[], Any]:
        """Starts an attempt in that thread. Returns what runs it, for the time left after waiting for the thread."""
        try:
            limit = call.time_limit()
            call.begin_attempt()
        except BaseException:
            worker.release()
            raise
        return functools.partial(run_limited, operation, limit, call, call.time_limit_error, worker)

    def _reserve(self, limit: float, call: Call) -> Worker | None:
        """The thread in which the attempt can be cut off; ``None`` within an event loop."""
        if running_loop() is not None:
            return None
        threads = self._threads
        if threads is None:
            from otel_resilience.limits.threads import AttemptThreads  # few policies cut off a def

            with _making:
                threads = self._threads = self._threads or AttemptThreads(self.dependency, self.max_attempt_threads)
        try:
            return threads.reserve(limit)
        except AttemptThreadsExhaustedError as refusal:
            call.refuse(refusal)

    def _later(self, operation: Callable[[], Awaitable[T]], call: Call, begun: Awaitable[T]) -> Coroutine[Any, Any, T]:
        """Continues when the result is awaited. If it never is, nothing stays reserved or open."""

        def never_awaited() -> None:
            discard(begun)
            if call.suspended and call.attempts:
                call.ended(asyncio.CancelledError())

        awaitable = self._execute_async(operation, call.options, call.deadline, call, begun)
        weakref.finalize(awaitable, never_awaited).atexit = False
        return awaitable

    def _check_result(self, result: object, call: Call) -> None:
        try:
            check_result(result)
        except TypeError:
            call.release()
            raise

    async def _execute_async(  # noqa: C901  # as in _execute
        self,
        operation: Callable[[], Awaitable[T]],
        options: CallOptions,
        deadline: float | None,
        call: Call | None = None,
        begun: Awaitable[T] | None = None,
    ) -> T:
        """The only loop for ``async def``; with ``begun``, what a first call of the operation already returned, it
        continues ``call``."""
        if call is None:
            if interventions.active:
                from otel_resilience.policy.off_switch import changed_call

                self, operation, options, deadline = changed_call(
                    self, self._unprotected, operation, options, deadline, asynchronous=True
                )
            breaker = self.breaker
            if breaker is not None and breaker.rejects_until and self._rejects_at_once():
                breaker.reject()
            call = begin_call(self, operation, options, deadline)
            if any_set():
                call.observe(listening())
            if self.hedge_delay is not None:
                from otel_resilience.policy.hedging import run_hedged  # few policies hedge

                operation = functools.partial(run_hedged, operation, call, self.hedge_delay)
        call.cuts = True
        delay, loop = 0.0, None
        try:
            if begun is not None:
                call.resume()
            while True:
                if delay or call.is_limited:
                    if delay or self._waits_for_limits:
                        await wait_for_turn_async(delay, call)
                    limit = call.time_limit()
                    loop = None if limit == math.inf else check_can_cut(call)
                call.begin_attempt()
                awaitable, begun = begun, None
                try:
                    if loop is None:
                        result = await (operation() if awaitable is None else awaitable)
                    else:
                        timer = self._shared_timer(loop) if limit == self.attempt_timeout else None
                        attempt = TimeLimit(limit, call, call.time_limit_error, loop, timer)  # found in frames
                        with attempt:
                            result = await (operation() if awaitable is None else awaitable)
                except BaseException as error:
                    delay = call.failed(error)
                    if delay == GIVE_UP or (delay > 0 and not can_wait_async(call)):
                        raise
                else:
                    if type(result) not in plain_types:
                        self._check_result(result, call)
                    call.succeeded()
                    return result
        except BaseException as error:
            discard(begun)
            failure = call.to_replace(error, self.fallback)
            if failure is None:
                raise
            try:
                return await self._replacement_async(failure, call)  # type: ignore[no-any-return]  # as its author says
            finally:
                del failure  # as above

    def _shared_timer(self, loop: asyncio.AbstractEventLoop) -> SharedTimer:
        """The timer of all attempts in this loop; only the one of the most recently used loop is kept."""
        timer = self._timer
        if timer is None or timer.loop() is not loop:
            timer = self._timer = SharedTimer(loop, self.attempt_timeout or 0.0)
        return timer

    def warn_once(self, key: str, message: str) -> None:
        """Logs ``message`` as a warning the first time that it is called with this ``key``."""
        if key not in self._warned:
            self._warned.add(key)
            _log.warning("%s %s", self.dependency, message)

    def attempts(
        self,
        *,
        name: str | None = None,
        idempotent: bool | None = None,
        deadline: float | None = None,
        is_retryable: Retryable | None = None,
        permits: int = 1,
    ) -> Attempts:
        """The attempts of one protected call as blocks, for code that is not a function of its own: within a generator,
        or if it needs the local variables around it. The parameters are those of :meth:`execute`.

            for attempt in policy.attempts(name="list bundles"):  # `async for` in async code
                with attempt:  # or `async with`
                    rows = client.get(url).json()

        The loop waits between attempts and ends after the first block that succeeds. The last error is raised from its
        block, and so is :class:`~otel_resilience.CircuitOpenError` if the circuit is open. Leaving the loop early
        leaves nothing open. ``attempt.number`` counts from 1. The loop also waits for limits, which may reject it.

        With ``async for``, deadline and ``attempt_timeout`` cut off the block; otherwise they cannot, and code inside
        can read the remaining time with :func:`~otel_resilience.remaining`. The result is not visible here, so
        ``retry_result``, ``fallback`` and ``hedge_after`` have no effect: raise in the block, catch around the loop.
        """
        from otel_resilience.policy.attempts import Attempts  # imported late: many use functions alone

        options = _checked_options("call" if name is None else name, idempotent, is_retryable, permits)
        deadline = self.deadline if deadline is None else self._shorter(deadline)

        def begin() -> Call:
            policy, limit = self, deadline
            if interventions.active:
                from otel_resilience.policy.off_switch import changed_call

                policy, _, _, limit = changed_call(
                    self, self._unprotected, self.attempts, options, limit, asynchronous=False
                )
            return begin_call(policy, None, options, limit)

        return Attempts(begin)

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
        is_retryable: Retryable | None = None,
        retry_result: RetryResult | None = None,
    ) -> Callable[[Callable[P, T]], Callable[P, T]]:
        """A decorator with options; see :meth:`execute`. Raises ``TypeError`` for what cannot be protected."""
        _checked_options(name, idempotent, is_retryable)
        wanted = _retry_result("retry_result", retry_result)
        is_judged = wanted is not None or self.retry_result is not None

        def bound(function: Callable[..., Any], args: Any, kwargs: Any, name: str, *, asynchronous: bool) -> Any:
            operation = functools.partial(function, *args, **kwargs) if args or kwargs else function
            return self._judged(operation, wanted, name, asynchronous=asynchronous) if is_judged else operation

        def decorate(function: Callable[P, T]) -> Callable[P, T]:
            protectable("a protected function", function)
            shown = name or function_name(function)
            options = _checked_options(shown, idempotent, is_retryable)
            if is_coroutine_function(function):

                @takes_place_of(function)
                async def protected_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                    operation: Any = function
                    if args or kwargs or is_judged:
                        operation = bound(function, args, kwargs, shown, asynchronous=True)
                    return await self._execute_async(operation, options, self.deadline)

                return protected_async

            passes_on = may_pass_on_an_awaitable(function)

            @takes_place_of(function)
            def protected(*args: P.args, **kwargs: P.kwargs) -> T:
                asynchronous = passes_on and running_loop() is not None and is_async_callable(function)
                operation: Any = function
                if args or kwargs or is_judged:
                    operation = bound(function, args, kwargs, shown, asynchronous=asynchronous)
                if asynchronous:
                    return self._execute_async(operation, options, self.deadline)  # type: ignore[return-value]  # T is a coroutine
                return self._execute(operation, options, self.deadline)  # type: ignore[no-any-return]  # what the operation returns

            return protected

        return decorate

    def _observers(self, hooks: Hooks | Sequence[Hooks]) -> Observers | None:
        given = tuple(hooks) if isinstance(hooks, Sequence) else (hooks,)
        for each in given:
            observed.check_hooks("hooks", each)
        if not given:
            return None
        observed.watch_policy(self)
        return Observers.of(*given)

    def _rejects_at_once(self) -> bool:
        """Whether no fallback and no hook needs to see a rejection."""
        return self.fallback is None and self.observers is None and not observed.everywhere.failures

    def _shorter(self, deadline: float) -> float:
        deadline = check.number("deadline", deadline, minimum=-math.inf)
        return deadline if self.deadline is None else min(deadline, self.deadline)

    def _unprotected(self) -> Policy:
        """A policy that only reports the calls to this dependency: it replaces this one while the off switch is on."""
        if self._bare is None:
            bare = Policy(self.dependency, idempotent=self.idempotent, classifier=self.classifier, clock=self.clock)
            bare.observers = self.observers
            self._bare = bare
        return self._bare

    def operation_name(self, function: object, name: str | None) -> str:
        """The name of an operation on telemetry: the given one, else the function's; from a bounded set."""
        return self._operation_name(name or function_name(function))


def _retry_result(name: str, value: RetryResult | None) -> RetryResult | None:
    if value is None:
        return None
    from otel_resilience.policy.results import retry_result_predicate  # few policies judge results

    return retry_result_predicate(name, value)


_making = ProcessLock()
policies_in_use: Final[InUse[Policy]] = InUse()


def _checked_options(name: object, idempotent: object, is_retryable: Retryable | None, permits: int = 1) -> CallOptions:
    return CallOptions(
        check.optional_label("name", name),
        check.optional_flag("idempotent", idempotent),
        predicate("is_retryable", is_retryable),
        check.count("permits", permits),
    )


def _hedge_delay(hedge_after: float | str) -> HedgeDelay:
    from otel_resilience.policy.latencies import HedgeDelay  # few policies hedge

    return HedgeDelay(hedge_after)


def _check_functions(shared: object, clock: object, sleep: object, async_sleep: object, rng: object) -> None:
    check_shared(shared)
    for name, function in (("clock", clock), ("sleep", sleep), ("rng", rng)):
        check.def_function(name, function)
    check.function("async_sleep", async_sleep)
    if isinstance(async_sleep, types.BuiltinFunctionType):
        raise TypeError(f"async_sleep must be an async function, not {async_sleep!r}")
