"""Which errors to retry, in every form in which a caller may specify them."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from otel_resilience._internal.operations import is_async_callable, passes_on_an_awaitable

IsRetryable = Callable[[BaseException], bool]
Retryable = type[BaseException] | Iterable[type[BaseException]] | types.UnionType | IsRetryable
"""A predicate, an exception type, or several: a tuple, list, set or frozenset of types, or a union ``A | B``."""


def predicate(name: str, value: Any) -> IsRetryable | None:
    """``value`` as a predicate; ``None`` leaves the decision to the classifier.

    Raises ``TypeError`` naming the parameter ``name`` for anything that says nothing about errors: an exception
    instance, a string, a type that is not an exception, an ``async def``, a function that does not take exactly one
    argument; ``ValueError`` if no type is given.
    """
    if value is None:
        return None
    if isinstance(value, types.FunctionType):
        judges_errors(name, value)
        return value
    if isinstance(value, (type, tuple, list, set, frozenset)) or _is_annotation(value):
        named = tuple(_types(name, value))
        if not named:
            raise ValueError(f"{name} must name at least one exception type; None leaves it to the classifier")
        return lambda error: issubclass(type(error), named)
    if not callable(value):
        raise TypeError(f"{name} must be a predicate or exception types, not {value!r}")
    judges_errors(name, value)
    return typing.cast("IsRetryable", value)


def judges_errors(name: str, function: Any, *, judged: str = "exception") -> None:
    """Raises ``TypeError`` unless ``function`` takes one exception (or whatever is ``judged``) and returns its answer
    directly, as far as can be seen."""
    if _answers_later(function):
        raise TypeError(
            f"{name} must return its answer directly, not be an async or a generator function: {function!r}"
        )
    takes_one(name, function, judged)


def takes_one(name: str, function: Any, what: str) -> None:
    """Raises ``TypeError`` unless ``function`` can be called with one ``what``, as far as can be seen."""
    if not _takes_one_argument(function):
        raise TypeError(f"{name} must take one {what} as its only argument: {function!r}")


_UNIONS = (types.UnionType, typing.Union)


def _types(name: str, value: Any) -> Iterator[type[BaseException]]:
    if isinstance(value, type):
        if not issubclass(value, BaseException):
            raise TypeError(f"{name} must name exception types, and {value.__name__} is none")
        yield value
        return
    if typing.get_origin(value) in _UNIONS:
        members: Iterable[Any] = typing.get_args(value)
    elif isinstance(value, (tuple, list, set, frozenset)):
        members = value
    else:
        raise TypeError(f"{name} must name exception types, not {value!r}")
    for member in members:
        yield from _types(name, member)


def _is_annotation(value: Any) -> bool:
    """Whether ``value`` belongs in an annotation: a union, ``type[KeyError]``, a ``NewType``. Some can be called."""
    return typing.get_origin(value) is not None or isinstance(value, typing.NewType)


def _answers_later(function: Any) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, (types.FunctionType, types.MethodType)):
        code = getattr(function, "__code__", None)  # a method may be one of a callable object
        if code is not None:
            return bool(code.co_flags & _LATER) or passes_on_an_awaitable(function)
    called = getattr(function, "__call__", function)  # noqa: B004  # the method
    return is_async_callable(function) or inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called)


_LATER = inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


def _takes_one_argument(function: Any) -> bool:
    called, bound = function, 0
    if isinstance(function, types.MethodType):
        called, bound = function.__func__, 1
    elif isinstance(type(function).__call__, types.FunctionType):
        called, bound = type(function).__call__, 1
    if isinstance(called, types.FunctionType) and not called.__code__.co_kwonlyargcount:  # twenty times as fast
        code = called.__code__
        required = code.co_argcount - len(called.__defaults__ or ()) - bound
        return required <= 1 and (code.co_argcount > bound or bool(code.co_flags & inspect.CO_VARARGS))
    try:
        inspect.signature(function, follow_wrapped=False).bind(None)
    except ValueError:  # no signature, as some functions that are written in C
        return True
    except TypeError:
        return False
    return True
