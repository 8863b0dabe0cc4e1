"""Observes tenacity's retries, for its own users and those of stamina, which is built on it, with the same patches.

``iter()`` of a controller is called before and after each attempt, and says what happens next; the call's state is
given each outcome. Everything else (decorators, ``retry_with``, blocks) is built on these.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from functools import partial
from types import FrameType
from typing import Any, ClassVar

from otel_resilience.instrumentation._base import (
    LibraryInstrumentor,
    Observing,
    Patches,
    Settings,
    hide_frame,
    module_of,
)
from otel_resilience.instrumentation._frames import Place, callers, package_of, place_of
from otel_resilience.instrumentation._observed import ABANDONED, ObservedCall, failed_result
from otel_resilience.telemetry import never_raise

_CALL = "_otel_resilience_call"
"""The attribute of a ``RetryCallState`` that holds the observed call; both live as long as the call."""
_JUDGE_RESULTS = frozenset(
    {"retry_if_result", "retry_if_not_result", "retry_always", "retry_unless_exception_type",
     "retry_if_not_exception_message"}
)  # fmt: skip
"""Predicates of tenacity that may retry an attempt which raised nothing."""

_settings: dict[str, Settings] = {}
_patches = Patches()
_entered: ContextVar[tuple[object, ObservedCall] | None] = ContextVar("otel_resilience_entered", default=None)
"""The controller that was called, and the observed call, until its first step."""


class RetryingInstrumentor(LibraryInstrumentor):
    """Base of the instrumentors of libraries that retry through tenacity."""

    _library: ClassVar[str]
    """The library whose users' calls are reported."""

    def _enable(self, settings: Settings) -> None:
        import tenacity

        if not _settings:
            _patches.replace(tenacity.BaseRetrying, iter=_iter, __iter__=_block)
            _patches.replace(tenacity.Retrying, __call__=_call)
            _patches.replace(tenacity.AsyncRetrying, __call__=_call_async, iter=_iter_async, __anext__=_block_async)
            _patches.replace(tenacity.RetryCallState, set_result=_set_result, set_exception=_set_exception)
        _settings[self._library] = settings

    def _uninstrument(self, **kwargs: Any) -> None:
        _settings.pop(self._library, None)
        if not _settings:
            _patches.restore()


# Replacements for tenacity's methods.


def _call(wrapped: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(wrapped)
    def __call__(self: Any, fn: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        with Observing(partial(_interrupted, _open_call(self, fn))):
            return wrapped(self, fn, *args, **kwargs)

    return __call__


def _call_async(wrapped: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(wrapped)
    async def __call__(self: Any, fn: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        with Observing(partial(_interrupted, _open_call(self, fn))):
            return await wrapped(self, fn, *args, **kwargs)

    return __call__


def _iter(wrapped: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(wrapped)
    def iter(self: Any, retry_state: Any) -> Any:  # noqa: A001
        call = _call_of(self, retry_state)
        with Observing(partial(_ended, call, self, retry_state)):
            step = wrapped(self, retry_state)
        _decided(call, self, retry_state, step)
        return step

    return iter


def _iter_async(wrapped: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(wrapped)
    async def iter(self: Any, retry_state: Any) -> Any:  # noqa: A001
        call = _call_of(self, retry_state)
        with Observing(partial(_ended, call, self, retry_state)):
            step = await wrapped(self, retry_state)
        _decided(call, self, retry_state, step)
        return step

    return iter


def _block(wrapped: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    @functools.wraps(wrapped)
    def __iter__(self: Any) -> Iterator[Any]:  # noqa: N807
        call = None
        try:
            for manager in wrapped(self):
                call = _known(manager.retry_state)
                yield manager
        except BaseException as error:
            _interrupted(call, error)
            hide_frame(error)
            raise

    return __iter__


def _block_async(wrapped: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(wrapped)
    async def __anext__(self: AsyncIterator[Any]) -> Any:  # noqa: N807
        try:
            return await wrapped(self)
        except BaseException as error:
            if not isinstance(error, StopAsyncIteration):
                _interrupted(_known(getattr(self, "_retry_state", None)), error)
            hide_frame(error)
            raise

    return __anext__


def _set_result(wrapped: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(wrapped)
    def set_result(self: Any, val: Any) -> None:
        wrapped(self, val)
        _returned(self)

    return set_result


def _set_exception(wrapped: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(wrapped)
    def set_exception(self: Any, exc_info: Any) -> None:
        _raised(self, exc_info[1])
        wrapped(self, exc_info)

    return set_exception


# What they report.


def _known(retry_state: Any) -> ObservedCall | None:
    return getattr(retry_state, _CALL, None)


@never_raise
def _open_call(retrying: Any, fn: Any) -> ObservedCall | None:
    settings = _settings.get("tenacity")
    if settings is None or not getattr(retrying, "enabled", True):
        return None
    call = ObservedCall(settings.plan(module_of(fn)), settings.classify, fn)
    _entered.set((retrying, call))
    return call


@never_raise
def _call_of(retrying: Any, retry_state: Any) -> ObservedCall | None:
    """The call that this state belongs to; created here at the first step of a block."""
    known = _known(retry_state)
    if known is not None or retry_state.outcome is not None or retry_state.attempt_number != 1:
        return known
    if retry_state.fn is None:
        call = _open_block(retrying, sys._getframe())  # noqa: SLF001  # documented
    else:
        entered = _entered.get()
        if entered is None or entered[0] is not retrying or entered[1].function is not retry_state.fn:
            return None
        call = entered[1]
        _entered.set(None)
    if call is not None:
        setattr(retry_state, _CALL, call)
    return call


def _open_block(retrying: Any, frame: FrameType) -> ObservedCall | None:
    user = next(callers(frame, ("tenacity",)))
    library = "stamina" if package_of(user) == "stamina" else "tenacity"
    settings = _settings.get(library)
    if settings is None:
        return None
    place = _stamina_place(user) if library == "stamina" else place_of(user)
    name = getattr(retrying, "_name", None) or (place.operation if place.function is None else None)
    plan = settings.plan(place.module)
    return ObservedCall(plan, settings.classify, place.function, name, current=not place.generator)


def _stamina_place(frame: FrameType) -> Place:
    """The function that stamina calls, or else the block of its user."""
    for each in callers(frame, ("tenacity",)):
        if package_of(each) != "stamina":
            return place_of(each)
        code = each.f_code
        name = next((name for name in ("wrapped", "callable_") if name in code.co_freevars + code.co_varnames), None)
        if name is not None:
            return place_of(each, each.f_locals[name])
    return place_of(frame)


@never_raise
def _raised(retry_state: Any, error: BaseException) -> None:
    call = _known(retry_state)
    if call is not None:
        call.attempt_failed(_asked_again(error))


@never_raise
def _returned(retry_state: Any) -> None:
    call = _known(retry_state)
    if call is None or retry_state.fn is not None:
        return  # the controller decides without waiting
    call.leave_attempt()
    if not _judges_results(retry_state.retry_object.retry):
        call.succeeded()


@never_raise
def _decided(call: ObservedCall | None, retrying: Any, retry_state: Any, step: Any) -> None:
    from tenacity import DoAttempt, DoSleep

    if call is None:
        return
    if isinstance(step, DoAttempt):
        call.begin_attempt()
        return
    stopped = retrying.iter_state.stop_run_result
    if call.running and (isinstance(step, DoSleep) or stopped):
        call.attempt_failed(failed_result(retry_state.outcome.result()))
    if isinstance(step, DoSleep):
        call.retry_in(float(step))
    elif stopped and call.error is not None:
        call.failed(call.error, exhausted=True, outcome="fallback")
    else:
        call.succeeded()


@never_raise
def _ended(call: ObservedCall | None, retrying: Any, retry_state: Any, error: BaseException) -> None:
    if call is None:
        return
    if retrying.iter_state.stop_run_result:
        if call.running:
            call.attempt_failed(failed_result(retry_state.outcome.result()))
        call.failed(error, exhausted=True)
    else:
        call.failed(_asked_again(error))


@never_raise
def _interrupted(call: ObservedCall | None, error: BaseException) -> None:
    """The call ends while it waits, or because its user left the block."""
    if call is None or call.ended:
        return
    if not isinstance(error, GeneratorExit):
        call.failed(error)
    elif call.running:
        call.succeeded()
    else:
        call.failed(ABANDONED)


def _asked_again(error: BaseException) -> BaseException:
    """The failure of an attempt that raised ``TryAgain``, with which a function asks to be retried."""
    from tenacity import TryAgain

    if not isinstance(error, TryAgain):
        return error
    return error.__cause__ or error.__context__ or failed_result(None)


def _judges_results(predicate: Any) -> bool:
    """Whether tenacity's predicate may retry an attempt that raised nothing; a user's own is assumed not to."""
    inner = getattr(predicate, "retries", ())
    return type(predicate).__name__ in _JUDGE_RESULTS or any(_judges_results(each) for each in inner)
