"""OpenTelemetry instrumentation of backoff: :class:`BackoffInstrumentor`.

backoff's decorators return closures, which cannot be patched by name; only what they call from their module can. The
retried function is in a cell of the closure, though, and a cell can be reassigned: that is where each attempt is
observed. What happens between attempts is seen in the helpers ``_call_handlers`` and ``sleep``.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import sys
import time
import types
import weakref
from collections.abc import Awaitable, Callable
from functools import partial
from types import CellType, CodeType, FrameType, FunctionType
from typing import Any

from otel_resilience._internal.operations import is_coroutine_function
from otel_resilience.instrumentation._base import LibraryInstrumentor, Observing, Patches, Settings, module_of
from otel_resilience.instrumentation._observed import ObservedCall, failed_result
from otel_resilience.telemetry import never_raise

__all__ = ["BackoffInstrumentor"]


class BackoffInstrumentor(LibraryInstrumentor):
    """Reports what backoff retries, without changes to the code: each call with its attempts, waits and errors.

    Covers functions and methods, ``def`` and ``async def``, with ``on_exception`` and ``on_predicate``. Functions that
    were decorated before are found through the garbage collector.

    Examples:
        >>> from otel_resilience.instrumentation.backoff import BackoffInstrumentor
        >>> BackoffInstrumentor().instrument()
        >>> BackoffInstrumentor().uninstrument()
    """

    _supported = "backoff >= 2.0, < 3"

    def _enable(self, settings: Settings) -> None:
        from backoff import _async, _sync  # the modules that define what its decorators return

        global _settings  # one set of options per process
        _settings = settings
        codes = [_closure_code(getattr(module, name)) for module in (_sync, _async) for name in _MAKERS]
        for module in (_sync, _async):
            _patches.replace(module, **dict.fromkeys(_MAKERS, _maker))
        _patches.replace(_sync, _call_handlers=_call_handlers, time=partial(_Module, sleep=_sleep))
        _patches.replace(_async, _call_handlers=_call_handlers_async, asyncio=partial(_Module, sleep=_sleep_async))
        for function in gc.get_referrers(*codes):
            if type(function) is FunctionType and function.__code__ in codes:
                _observe(function)

    def _uninstrument(self, **kwargs: Any) -> None:
        global _settings
        _settings = None
        _patches.restore()
        for function in _observed:
            cell = _cell(function, "target")
            cell.cell_contents = cell.cell_contents.__wrapped__
        _observed.clear()


_MAKERS = ("retry_exception", "retry_predicate")
_patches = Patches()
_settings: Settings | None = None
_observed: weakref.WeakSet[Any] = weakref.WeakSet()
"""The closures whose cell was reassigned."""
_targets: weakref.WeakSet[Any] = weakref.WeakSet()
"""The functions assigned to the cells."""
_calls: weakref.WeakKeyDictionary[Any, ObservedCall] = weakref.WeakKeyDictionary()
"""The calls by their generator of waits, a variable of the closure that is different for each call."""


class _Module:
    """A module of the standard library, as backoff sees it: with a replaced ``sleep``."""

    def __init__(self, module: types.ModuleType, sleep: Callable[[float], object]) -> None:
        self._module = module
        self.sleep = sleep

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _closure_code(maker: FunctionType) -> CodeType:
    return next(each for each in maker.__code__.co_consts if isinstance(each, CodeType))


def _cell(closure: FunctionType, name: str) -> CellType:
    return (closure.__closure__ or ())[closure.__code__.co_freevars.index(name)]


def _observe(closure: FunctionType) -> None:
    """Replaces the function that the closure retries by an observed one."""
    cell = _cell(closure, "target")
    expected = _cell(closure, "exception") if "exception" in closure.__code__.co_freevars else None
    make = _target_async if is_coroutine_function(closure) else _target
    observed = make(cell.cell_contents, () if expected is None else expected.cell_contents)
    cell.cell_contents = observed
    _targets.add(observed)
    _observed.add(closure)


def _maker(wrapped: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(wrapped)
    def make(*args: Any, **kwargs: Any) -> Any:
        closure = wrapped(*args, **kwargs)
        _observe(closure)
        return closure

    return make


def _target(wrapped: Callable[..., Any], expected: Any) -> Callable[..., Any]:
    @functools.wraps(wrapped)
    def target(*args: Any, **kwargs: Any) -> Any:
        call = _begin(wrapped, sys._getframe(1))  # noqa: SLF001
        with Observing(partial(_raised, call, expected)):
            result = wrapped(*args, **kwargs)
        if call is not None:
            call.leave_attempt()
        return result

    return target


def _target_async(wrapped: Callable[..., Awaitable[Any]], expected: Any) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(wrapped)
    async def target(*args: Any, **kwargs: Any) -> Any:
        call = _begin(wrapped, sys._getframe(1))  # noqa: SLF001
        with Observing(partial(_raised, call, expected)):
            result = await wrapped(*args, **kwargs)
        if call is not None:
            call.leave_attempt()
        return result

    return target


def _call_handlers(wrapped: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(wrapped)
    def call_handlers(hdlrs: Any, target: Any, *args: Any, **details: Any) -> None:
        with Observing(partial(_interrupted, _handled(sys._getframe(1), hdlrs, details))):  # noqa: SLF001
            wrapped(hdlrs, _original(target), *args, **details)

    return call_handlers


def _call_handlers_async(wrapped: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(wrapped)
    async def call_handlers(handlers: Any, *, target: Any, **details: Any) -> None:
        with Observing(partial(_interrupted, _handled(sys._getframe(1), handlers, details))):  # noqa: SLF001
            await wrapped(handlers, target=_original(target), **details)

    return call_handlers


def _sleep(seconds: float) -> None:
    with Observing(partial(_interrupted, _call_in(sys._getframe(1)))):  # noqa: SLF001
        time.sleep(seconds)


async def _sleep_async(seconds: float) -> None:
    with Observing(partial(_interrupted, _call_in(sys._getframe(1)))):  # noqa: SLF001
        await asyncio.sleep(seconds)


def _original(target: Any) -> Any:
    """The function that handlers are shown as the retried one."""
    return vars(target)["__wrapped__"] if isinstance(target, FunctionType) and target in _targets else target


@never_raise
def _call_in(closure: FrameType) -> ObservedCall | None:
    """The call that runs in this frame of a closure."""
    return _calls.get(closure.f_locals.get("wait"))


@never_raise
def _begin(function: Any, closure: FrameType) -> ObservedCall | None:
    call = _call_in(closure)
    if call is None and _settings is not None and closure.f_locals["tries"] == 1:
        call = ObservedCall(_settings.plan(module_of(function)), _settings.classify, function)
        _calls[closure.f_locals["wait"]] = call
    if call is not None:
        call.begin_attempt()
    return call


@never_raise
def _raised(call: ObservedCall | None, expected: Any, error: BaseException) -> None:
    if call is None:
        return
    call.attempt_failed(error)
    if not isinstance(error, expected):
        call.failed(error)


@never_raise
def _handled(closure: FrameType, handlers: object, details: dict[str, Any]) -> ObservedCall | None:
    """The closure calls its handlers: on success, before a wait, or when it gives up."""
    call = _call_in(closure)
    if call is None:
        return None
    variables = closure.f_locals
    if handlers is variables["on_success"]:
        call.succeeded()
        return call
    if call.running:
        call.attempt_failed(failed_result(details.get("value")))
    if "wait" in details:
        call.retry_in(details["wait"])
    elif call.error is not None:
        call.failed(call.error, exhausted=_exhausted(variables))
    return call


def _exhausted(variables: dict[str, Any]) -> bool:
    """Whether it gives up because its attempts or its time are used up, not because of ``giveup``."""
    return bool(variables.get("max_tries_exceeded") or variables.get("max_time_exceeded"))


@never_raise
def _interrupted(call: ObservedCall | None, error: BaseException) -> None:
    if call is not None:
        call.failed(error)
