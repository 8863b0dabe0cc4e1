"""OpenTelemetry instrumentation of circuitbreaker: :class:`CircuitbreakerInstrumentor`."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from contextvars import ContextVar
from types import FrameType
from typing import Any

from otel_resilience import telemetry
from otel_resilience._internal.operations import is_coroutine_function
from otel_resilience.circuitbreaker.states import BreakerState, TransitionReason
from otel_resilience.instrumentation._base import CIRCUIT_OPEN, Patches
from otel_resilience.instrumentation._breakers import BreakerInstrumentor, Watch
from otel_resilience.instrumentation._frames import package_of, place_of
from otel_resilience.instrumentation._observed import ObservedCall
from otel_resilience.telemetry import never_raise

__all__ = ["CircuitbreakerInstrumentor"]

_circuits = Watch(lambda breaker: BreakerState(breaker.state), "circuitbreaker")


class CircuitbreakerInstrumentor(BreakerInstrumentor):
    """Reports the circuits of circuitbreaker and the calls that they let pass or reject, without changes to the code.

    The dependency is the ``name`` of the breaker: by default the qualified name of the function that it decorates;
    ``circuitbreaker`` for a block without a name. The end of an open time is reported with the next call. Calls of
    generator functions have no spans; their rejections are counted.

    Examples:
        >>> from otel_resilience.instrumentation.circuitbreaker import CircuitbreakerInstrumentor
        >>> CircuitbreakerInstrumentor().instrument()
        >>> CircuitbreakerInstrumentor().uninstrument()
    """

    _supported = "circuitbreaker >= 2.0, < 3"
    _watch = _circuits
    _patches = Patches()

    def _replace(self, patches: Patches) -> type:
        import circuitbreaker

        breaker: type = circuitbreaker.CircuitBreaker
        patches.replace(breaker, __init__=_circuits.adding, __enter__=_enter, __exit__=_exit, opened=_opened)
        return breaker


class _Call(ObservedCall):
    """A call through a breaker: everything between its ``__enter__`` and its ``__exit__``."""

    breaker: Any
    frame: int
    around: _Call | None


_current: ContextVar[_Call | None] = ContextVar("otel_resilience_circuitbreaker", default=None)


def _enter(wrapped: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(wrapped)
    def __enter__(self: Any) -> Any:  # noqa: N807
        entered = wrapped(self)
        _entered(self, sys._getframe(1))  # noqa: SLF001
        return entered

    return __enter__


def _exit(wrapped: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(wrapped)
    def __exit__(self: Any, exc_type: Any, exc_value: Any, _traceback: Any) -> Any:  # noqa: N807
        suppress = wrapped(self, exc_type, exc_value, _traceback)
        _left(self, sys._getframe(1), exc_value)  # noqa: SLF001
        return suppress

    return __exit__


def _opened(wrapped: property) -> property:
    def opened(self: Any) -> bool:
        answer: bool = wrapped.__get__(self)
        if answer:
            _asked(self, sys._getframe(1))  # noqa: SLF001
        return answer

    return property(opened, doc=wrapped.__doc__)


@never_raise
def _entered(breaker: Any, frame: FrameType) -> None:
    watched = _circuits.add(breaker)
    if watched is None or _circuits.settings is None:
        return
    probe = watched.state is BreakerState.HALF_OPEN
    watched.moved(TransitionReason.OPEN_TIME_ENDED if probe else TransitionReason.MANUAL)
    inside = package_of(frame) == "circuitbreaker"
    function = frame.f_locals.get("func") if inside else None
    place = place_of(frame, function)
    if place.generator or (is_coroutine_function(function) and frame.f_code.co_name == "call"):
        return
    call = _Call(watched.plan, _circuits.settings.classify, function, None if inside else place.operation)
    call.breaker, call.frame, call.around = breaker, id(frame), _current.get()
    _current.set(call)
    call.begin_attempt()


@never_raise
def _left(breaker: Any, frame: FrameType, error: BaseException | None) -> None:
    watched, call = _circuits.add(breaker), _current.get()
    if watched is not None:
        watched.moved(_reason(watched.last, watched.state), error=error, failures=breaker.failure_count,
                      open_for=breaker.open_remaining)  # fmt: skip
    if call is None or call.breaker is not breaker or call.frame != id(frame):
        return
    _current.set(call.around)
    if error is None:
        call.succeeded()
    else:
        call.failed(error)


@never_raise
def _asked(breaker: Any, frame: FrameType) -> None:
    """The circuit is open: the decorated function that checked it will not be called."""
    watched = _circuits.add(breaker)
    decorated = package_of(frame) == "circuitbreaker" and "function" in frame.f_code.co_freevars
    if watched is None or _circuits.settings is None or not decorated:
        return
    from circuitbreaker import CircuitBreakerError

    telemetry.rejected(watched.dependency, enforced=True)
    function = frame.f_locals["function"]
    if not place_of(frame).generator:
        call = _Call(watched.plan, _circuits.settings.classify, function)
        outcome = "fallback" if breaker.fallback_function else "rejected"
        call.rejected(CIRCUIT_OPEN, CircuitBreakerError(breaker), outcome=outcome)


def _reason(source: BreakerState, target: BreakerState) -> TransitionReason:
    if target is BreakerState.CLOSED:
        return TransitionReason.PROBE_SUCCEEDED
    probe = source is not BreakerState.CLOSED
    return TransitionReason.PROBE_FAILED if probe else TransitionReason.CONSECUTIVE_FAILURES
