"""The circuit breaker: its state machine with a clock, a lock and telemetry around it.

The lock guards single steps of the machine. It is never held while an operation runs.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from types import NoneType, TracebackType
from typing import Any, Final, Generic, Self, TypeVar, overload

from otel_resilience import telemetry
from otel_resilience._internal import interventions
from otel_resilience._internal import validation as check
from otel_resilience._internal.counting import AtomicCounter
from otel_resilience._internal.forks import new_lock, renew_after_fork
from otel_resilience._internal.once import Once
from otel_resilience._internal.operations import (
    check_result,
    discard,
    is_async_callable,
    is_awaitable,
    plain_types,
    protectable,
)
from otel_resilience._internal.process_bound import ProcessBound
from otel_resilience.circuitbreaker.config import CircuitBreakerConfig, CircuitBreakerMetrics
from otel_resilience.circuitbreaker.machine import CLOSED, OPEN, BreakerMachine
from otel_resilience.circuitbreaker.states import BreakerState, Transition
from otel_resilience.classification.classifier import Classifier
from otel_resilience.classification.defaults import default_classifier
from otel_resilience.classification.model import BreakerEffect, Classification, ErrorClass
from otel_resilience.errors import CircuitOpenError
from otel_resilience.telemetry.providers import metrics_set

T = TypeVar("T")

_log = logging.getLogger("otel_resilience")

_CANCELLED = ErrorClass.CANCELLED
_NEUTRAL = BreakerEffect.NEUTRAL
_SUCCESS = BreakerEffect.SUCCESS

UNRECORDED = -1
"""The permit of a call that passes only in shadow mode, or by the off switch; its result is not counted."""


class _Begun(Generic[T]):
    """An awaitable that the operation returned. A coroutine that is never awaited is closed with this object."""

    __slots__ = ("_awaitable",)

    def __init__(self, awaitable: Awaitable[T]) -> None:
        self._awaitable: Awaitable[T] | None = awaitable

    def take(self) -> Awaitable[T]:
        """The awaitable, once."""
        awaitable, self._awaitable = self._awaitable, None
        if awaitable is None:
            raise RuntimeError("it was awaited already")
        return awaitable

    def __del__(self) -> None:
        discard(self._awaitable)


class _Block:
    """One ``with breaker:`` that was entered."""

    __slots__ = ("breaker", "permit", "started")

    def __init__(self, breaker: CircuitBreaker, permit: int, started: float) -> None:
        self.breaker = breaker
        self.permit = permit
        self.started = started


_blocks: Final[ContextVar[tuple[_Block, ...]]] = ContextVar("breaker_blocks", default=())
"""The blocks around the running code, the innermost last."""


class CircuitBreaker(ProcessBound):
    """Rejects calls to a failing dependency, and finds out when it has recovered.

    Safe for threads and for several event loops. The classifier decides which errors count
    (:attr:`~otel_resilience.Classification.counts`): timeouts, connection faults and 5xx do; a well-formed 4xx counts
    as success; throttling, our own limits and cancellation do not count at all.

    As a context manager (``with``, ``async with``), which may be nested and used by several threads and tasks
    concurrently, it raises :class:`~otel_resilience.CircuitOpenError` on entry, and an exception from the block counts
    as in :meth:`execute`, even if the block is left in a different thread or context than it was entered in.

    ``clock`` gives monotonic seconds, ``rng`` random numbers in ``[0, 1)``. Raises ``TypeError`` or ``ValueError``
    naming the parameter.

    Examples:
        >>> breaker = CircuitBreaker("supplier", CircuitBreakerConfig(failure_threshold=1, reset_timeout=30))
        >>> def fetch():
        ...     raise ConnectionResetError
        >>> try:
        ...     breaker.execute(fetch)
        ... except ConnectionResetError:
        ...     print(breaker.state.name)
        OPEN
        >>> with breaker:
        ...     fetch()
        Traceback (most recent call last):
            ...
        otel_resilience.errors.CircuitOpenError: the circuit of supplier is open; a call may pass in ... s
    """

    def __init__(
        self,
        dependency: str,
        config: CircuitBreakerConfig | None = None,
        *,
        classifier: Classifier | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.dependency = check.label("dependency", dependency)
        _check_parts(config, classifier, clock, rng)
        self.config = config or CircuitBreakerConfig()
        self._classifier = classifier or default_classifier()
        self.clock = clock
        self._lock = new_lock()
        self._machine = BreakerMachine(self.config, clock(), rng)
        self._rejections = AtomicCounter()
        self.count_rejection = self._rejections.add
        self._open_blocks: set[_Block] = set()
        """Entered and not left yet, in any thread and task."""
        self._slow_after = self.config.slow_call_duration
        self.window = self._machine.window
        self.fast_permit = 0
        """The permit of the closed state if a success only needs counting, else 0."""
        self.rejects_until = 0.0
        """Every call is rejected until this time on the clock; 0 if no such time is known."""
        self._refresh_fast_permit()
        renew_after_fork(self)
        telemetry.watch_breaker(self)
        if clock is time.monotonic:  # not in tests with a fake clock
            _count_made(dependency)

    def renew_after_fork(self) -> None:
        """The threads that may hold the lock, or run a probe, do not exist in the child."""
        self._lock = new_lock()
        self._open_blocks.clear()
        self._machine.forget_probes()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.dependency} {self._machine.state.name}{' SHADOW' * self.config.shadow}>"

    @property
    def state(self) -> BreakerState:
        """The state that the next call would see; once the open time has passed, half-open."""
        if self.config.shadow:
            return BreakerState.SHADOW
        return self._current_state()

    def metrics(self) -> CircuitBreakerMetrics:
        """Counts, rates, state, time in state and last transition, all of one moment."""
        would_be = self._current_state()
        now = self.clock()
        with self._lock:
            machine = self._machine
            machine.window.roll(now)
            window = machine.window
            calls = window.calls
            return CircuitBreakerMetrics(
                dependency=self.dependency,
                state=BreakerState.SHADOW if self.config.shadow else would_be,
                time_in_state=now - machine.since,
                calls=calls,
                failures=window.failures,
                slow_calls=window.slow,
                failure_rate=window.failures / calls if calls else 0.0,
                slow_call_rate=window.slow / calls if calls else 0.0,
                consecutive_failures=machine.consecutive_failures,
                rejected=self._rejections.read(),
                stale_results=machine.stale_results,
                opened=machine.opened,
                retry_after=machine.retry_after(now),
                last_transition=machine.last_transition,
                would_be_state=would_be,
            )

    def force_open(self) -> None:
        """Rejects every call until :meth:`close` or :meth:`reset`."""
        self._step(BreakerMachine.force_open)

    def close(self) -> None:
        """Closes the circuit manually, with an empty window; has no effect on a closed one."""
        self._step(BreakerMachine.close)

    def reset(self) -> None:
        """Resets everything: closed, empty window, first open time, counters at zero."""
        self._step(BreakerMachine.reset)
        self._rejections = AtomicCounter()
        self.count_rejection = self._rejections.add

    @overload
    def execute(self, operation: Callable[[], Awaitable[T]]) -> Coroutine[Any, Any, T]: ...
    @overload
    def execute(self, operation: Callable[[], T]) -> T: ...
    def execute(self, operation: Callable[[], Any]) -> Any:
        """Runs ``operation`` unless the circuit is open. Raises :class:`CircuitOpenError`, else what the operation
        raises; ``TypeError`` for an operation that cannot be protected, such as a generator function or a class.

        For an ``async def`` it returns a coroutine, and nothing happens before that is awaited. Within a running event
        loop this also applies to a function that only calls one, such as ``lambda: fetch(1)``.
        """
        protectable("operation", operation)
        if is_async_callable(operation):
            return self._execute_async(operation)
        permit = self.fast_permit
        started = self.clock()
        if not permit:
            until = self.rejects_until
            if until and until > started and not metrics_set() and not interventions.off:
                self.count_rejection()
                raise CircuitOpenError(self.dependency, until - started)
            permit = self.admit()
        try:
            result = operation()
        except BaseException as exc:
            self.record_error(permit, self._classifier.classify(exc), started, exc)
            raise
        if type(result) not in plain_types:
            if is_awaitable(result):
                self.release(permit)
                return self._execute_async(operation, _Begun(result))
            self._check_result(permit, result)
        self.record_success(permit, started)
        return result

    async def _execute_async(self, operation: Callable[[], Awaitable[T]], begun: _Begun[T] | None = None) -> T:
        permit = self.fast_permit
        started = self.clock()
        if not permit:
            until = self.rejects_until
            if until and until > started and not metrics_set() and not interventions.off:
                self.count_rejection()
                raise CircuitOpenError(self.dependency, until - started)
            permit = self.admit()
        try:
            result = await (operation() if begun is None else begun.take())
        except BaseException as exc:
            self.record_error(permit, self._classifier.classify(exc), started, exc)
            raise
        if type(result) not in plain_types:
            self._check_result(permit, result)
        self.record_success(permit, started)
        return result

    def __enter__(self) -> Self:
        """Raises :class:`~otel_resilience.CircuitOpenError` if the circuit is open."""
        started = self.clock()
        block = _Block(self, self.fast_permit or self.admit(), started)
        self._open_blocks.add(block)
        around = _blocks.get()
        if around:  # blocks that were left in another context are still listed in this one
            around = tuple(each for each in around if each in each.breaker._open_blocks)  # noqa: SLF001  # of this class
        _blocks.set((*around, block))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        block = self._leave_block()
        if block is None:
            return
        if error is None:
            self.record_success(block.permit, block.started)
        else:
            self.record_error(block.permit, self._classifier.classify(error), block.started, error)

    def _leave_block(self) -> _Block | None:
        """The innermost block of this context. If there is none, the block was entered in another context, as in a
        generator whose steps run in several threads; then any open block will do, since those of one state have the
        same permit. The lowest permit is used, so that no call from before the last change of state is a probe."""
        blocks = _blocks.get()
        for at in reversed(range(len(blocks))):
            try:
                self._open_blocks.remove(blocks[at])
            except KeyError:  # it belongs to another breaker, or was left elsewhere
                continue
            _blocks.set(blocks[:at] + blocks[at + 1 :])
            return blocks[at]
        with self._lock:
            block = min(tuple(self._open_blocks), key=lambda each: each.permit, default=None)
            self._open_blocks.discard(block)
        return block

    async def __aenter__(self) -> Self:
        """Like ``with``, for an ``async def``."""
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def _check_result(self, permit: int, result: object) -> None:
        try:
            check_result(result)
        except TypeError:
            self.release(permit)
            raise

    def reject(self) -> None:
        """Raises :class:`CircuitOpenError` if the circuit is still open and no telemetry is set up; otherwise
        :meth:`admit` decides. Called only if :attr:`rejects_until` is not 0."""
        left = self.rejects_until - self.clock()
        if left > 0 and not metrics_set() and not interventions.off:
            self.count_rejection()
            raise CircuitOpenError(self.dependency, left)

    def admit(self) -> int:
        """A permit for one call, to be returned with exactly one of :meth:`record_success`, :meth:`record_error` and
        :meth:`release`. Raises :class:`CircuitOpenError`."""
        if interventions.off:
            return UNRECORDED
        now = self.clock()
        machine = self._machine
        if machine.state is OPEN and now >= machine.open_until:
            self._step(BreakerMachine.tick)  # reported before there is a permit that a hook could lose
        with self._lock:
            expired = machine.expired_probes
            permit = machine.admit(now)
            expired = machine.expired_probes - expired
            retry_after = None if permit is not None else machine.retry_after(now)
        if expired:
            telemetry.probe_expired(self.dependency, expired)
        return self._refused(retry_after) if permit is None else permit

    def _refused(self, retry_after: float | None) -> int:
        self.count_rejection()
        if self.config.shadow:
            telemetry.rejected(self.dependency, enforced=False)
            return UNRECORDED
        telemetry.rejected(self.dependency, enforced=True)
        raise CircuitOpenError(self.dependency, retry_after)

    def record_success(self, permit: int, started: float) -> None:
        """The call succeeded; ``started`` is the clock's reading when it started."""
        if permit == self.fast_permit:
            window = self.window
            if started >= window.bucket_end:
                self._roll()
            succeed = window.succeed  # a local variable: calling an attribute is slower in CPython
            succeed()
            return
        if permit == UNRECORDED:
            return
        now = self.clock()
        slow = self._slow_after is not None and now - started >= self._slow_after
        with self._lock:
            stale = self._machine.stale_results
            transition = self._machine.succeed(permit, now, slow=slow)
            stale = self._machine.stale_results - stale
            self._refresh_fast_permit()
        self._report_changes(transition, stale)

    def record_error(self, permit: int, verdict: Classification, started: float, error: BaseException) -> None:
        """The call failed with ``error``; the verdict says how that counts."""
        effect = verdict.breaker
        if verdict.error_class is _CANCELLED or effect is _NEUTRAL or interventions.off:
            self.release(permit)
            return
        if effect is _SUCCESS:
            self.record_success(permit, started)
            return
        if permit == UNRECORDED:
            return
        now = self.clock()
        slow = self._slow_after is not None and now - started >= self._slow_after
        with self._lock:
            stale = self._machine.stale_results
            transition = self._machine.fail(
                permit, now, slow=slow, error_type=verdict.error_type, hint=verdict.retry_after
            )
            stale = self._machine.stale_results - stale
            self._refresh_fast_permit()
        self._report_changes(transition, stale)

    def release(self, permit: int) -> None:
        """The call says nothing about the dependency; a probe releases its slot."""
        if permit in (self.fast_permit, UNRECORDED):
            return
        with self._lock:
            stale = self._machine.stale_results
            self._machine.release(permit)
            stale = self._machine.stale_results - stale
        self._report_changes(None, stale)

    def _current_state(self) -> BreakerState:
        machine = self._machine
        if machine.state is OPEN:
            self._step(BreakerMachine.tick)
        return machine.state

    def _step(self, step: Callable[[BreakerMachine, float], Transition | None]) -> None:
        with self._lock:
            transition = step(self._machine, self.clock())
            self._refresh_fast_permit()
        self._report_changes(transition)

    def _roll(self) -> None:
        with self._lock:
            self._machine.window.roll(self.clock())

    def _refresh_fast_permit(self) -> None:
        machine = self._machine
        state = machine.state
        closed = state is CLOSED and self._slow_after is None
        self.fast_permit = machine.generation if closed else 0
        rejects = state is OPEN and not self.config.shadow
        self.rejects_until = machine.open_until if rejects else 0.0

    def _report_changes(self, transition: Transition | None, stale: int = 0) -> None:
        if transition is not None:
            telemetry.state_changed(self.dependency, transition)
        if stale:
            telemetry.stale_result(self.dependency, stale)


MANY: Final = 1_000
"""Breakers of one name in one process. One that is made for each call sees a single result, and never opens."""
_MOST_NAMES: Final = 256
_made: dict[str, int] = {}
_many: Final = Once()


def _count_made(dependency: str) -> None:
    made = _made.get(dependency, 0) + 1
    if made > 1 or len(_made) < _MOST_NAMES:
        _made[dependency] = made
    if made >= MANY and _many.first(dependency):
        _log.warning(
            "%d circuit breakers were made for %r. Each knows only its own calls: one that is made for each call or "
            "request protects nothing. Make it, or the policy with it, once, and use it for all calls",
            made,
            dependency,
        )


def _check_parts(config: object, classifier: object, clock: object, rng: object) -> None:
    check.instance("config", config, CircuitBreakerConfig, NoneType)
    check.instance("classifier", classifier, Classifier, NoneType)
    check.def_function("clock", clock)
    check.def_function("rng", rng)
