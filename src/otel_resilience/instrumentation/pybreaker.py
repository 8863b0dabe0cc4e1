"""OpenTelemetry instrumentation of pybreaker: :class:`PybreakerInstrumentor`."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Generator
from contextvars import ContextVar
from functools import partial
from types import GeneratorType
from typing import Any

from otel_resilience import telemetry
from otel_resilience._internal.operations import is_coroutine_function
from otel_resilience.circuitbreaker.states import BreakerState, TransitionReason
from otel_resilience.instrumentation._base import (
    CIRCUIT_OPEN,
    Observing,
    Patches,
    hide_frame,
    replaced_failure,
)
from otel_resilience.instrumentation._breakers import BreakerInstrumentor, Watch
from otel_resilience.instrumentation._frames import callers, place_of
from otel_resilience.instrumentation._observed import ObservedCall
from otel_resilience.telemetry import never_raise

__all__ = ["PybreakerInstrumentor"]


def _shown(state: Any) -> BreakerState:
    return BreakerState(state.name.replace("-", "_"))


_circuits = Watch(lambda breaker: _shown(breaker._state), "pybreaker")  # noqa: SLF001  # `state` may query Redis


class PybreakerInstrumentor(BreakerInstrumentor):
    """Reports pybreaker's circuits and the calls that they let pass or reject, without changes to the code.

    The dependency is the ``name`` of the breaker, ``pybreaker`` if it has none. The state is the one that this process
    knows: a storage in Redis is not queried. Calls of generator functions, of ``async def`` functions (whose errors
    pybreaker does not see) and of Tornado's coroutines have no spans; their rejections are counted.

    Examples:
        >>> from otel_resilience.instrumentation.pybreaker import PybreakerInstrumentor
        >>> PybreakerInstrumentor().instrument()
        >>> PybreakerInstrumentor().uninstrument()
    """

    _supported = "pybreaker >= 1.0, < 2"
    _watch = _circuits
    _patches = Patches()

    def _replace(self, patches: Patches) -> type:
        import pybreaker

        breaker: type = pybreaker.CircuitBreaker
        patches.replace(breaker, __init__=_circuits.adding, _create_new_state=_create_new_state, call=_call)
        patches.replace(pybreaker.CircuitBreakerState, call=_attempt)
        return breaker


class _Call(ObservedCall):
    """A call through a breaker."""

    breaker: Any
    block: bool


_current: ContextVar[_Call | None] = ContextVar("otel_resilience_pybreaker", default=None)
"""The innermost call, which distinguishes its change of state from a manual one."""


def _create_new_state(wrapped: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(wrapped)
    def create_new_state(self: Any, new_state: str, prev_state: Any = None, notify: bool = False) -> Any:  # its own
        made = wrapped(self, new_state, prev_state=prev_state, notify=notify)
        if notify:
            _changing(self, prev_state, made)
        return made

    return create_new_state


def _call(wrapped: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(wrapped)
    def call(self: Any, func: Any, *args: Any, **kwargs: Any) -> Any:
        around = _current.get()
        again = around is not None and around.breaker is self and not around.attempts  # the trial of an open circuit
        observed = around if again else _open(self, func)
        token = _current.set(observed)
        try:
            with Observing(partial(_failed, None if again else observed)):
                result = wrapped(self, func, *args, **kwargs)
        finally:
            _current.reset(token)
        if again or observed is None:
            return result
        if observed.block and isinstance(result, GeneratorType):
            return _block(observed, result)
        observed.succeeded()
        return result

    return call


def _attempt(wrapped: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(wrapped)
    def call(self: Any, func: Any, *args: Any, **kwargs: Any) -> Any:
        observed = _current.get()
        if observed is not None and observed.breaker is self._breaker and not observed.attempts:
            observed.begin_attempt()
        try:
            return wrapped(self, func, *args, **kwargs)
        except BaseException as error:
            hide_frame(error)
            raise

    return call


def _block(observed: _Call, inner: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """The generator behind ``with breaker.calling():``, which yields once."""
    try:
        try:
            yield next(inner)
        except BaseException as error:  # noqa: BLE001  # raised again by the function that it is passed to
            _step(observed, partial(inner.throw, error))
        else:
            _step(observed, partial(next, inner, None))
    except BaseException as error:
        _failed(observed, error)
        raise
    observed.succeeded()


def _step(observed: _Call, step: Callable[[], object]) -> None:
    token = _current.set(observed)
    try:
        step()
    finally:
        _current.reset(token)


@never_raise
def _open(breaker: Any, func: Any) -> _Call | None:
    watched = _circuits.add(breaker)
    if watched is None or _circuits.settings is None:
        return None
    block = getattr(func, "__module__", "") == "pybreaker" and getattr(func, "__name__", "") == "_wrapper"
    place = place_of(next(callers(sys._getframe(), ("pybreaker", "contextlib")))) if block else None  # noqa: SLF001
    unseen = not block and (is_coroutine_function(func) or inspect.isgeneratorfunction(func))
    call = _Call(
        watched.plan,
        _circuits.settings.classify,
        func,
        place.operation if place else None,
        current=not (place and place.generator),
        listening=not unseen,
    )
    call.breaker, call.block = breaker, block
    return call


@never_raise
def _failed(call: _Call | None, error: BaseException) -> None:
    if call is None:
        return
    if call.attempts:
        call.failed(replaced_failure(error) or error)
    else:
        from pybreaker import CircuitBreakerError

        if not isinstance(error, CircuitBreakerError):
            call.failed(error)
            return
        telemetry.rejected(call.policy.dependency, enforced=True)
        call.rejected(CIRCUIT_OPEN, error)


@never_raise
def _changing(breaker: Any, source: Any, target: Any) -> None:
    """The breaker is about to enter the state ``target``, under its own lock."""
    watched = _circuits.add(breaker)
    if watched is not None:
        watched.moved(
            _reason(breaker, source, target),
            target=_shown(target),
            error=sys.exception(),
            failures=breaker.fail_max,
            open_for=breaker.reset_timeout,
        )


def _reason(breaker: Any, source: Any, target: Any) -> TransitionReason:
    call = _current.get()
    if call is None or call.breaker is not breaker:
        return TransitionReason.MANUAL
    if target.name == "half-open":
        return TransitionReason.OPEN_TIME_ENDED
    if not call.attempts:
        return TransitionReason.SHARED
    if target.name == "closed":
        return TransitionReason.PROBE_SUCCEEDED
    probe = getattr(source, "name", "") == "half-open"
    return TransitionReason.PROBE_FAILED if probe else TransitionReason.CONSECUTIVE_FAILURES
