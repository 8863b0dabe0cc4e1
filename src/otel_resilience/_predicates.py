"""Which errors are worth a repetition, in every form in which a caller may say it."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from otel_resilience._foreign import is_a
from otel_resilience._operations import is_async_callable

IsRetryable = Callable[[BaseException], bool]
Retryable = type[BaseException] | Iterable[type[BaseException]] | types.UnionType | IsRetryable
"""A predicate, an exception type, or several: a tuple, list, set or frozenset of types, or a union ``A | B``."""


def predicate(name: str, value: Any) -> IsRetryable | None:
    """``value`` as a predicate; ``None`` leaves the decision to the classifier.

    Raises ``TypeError`` naming the parameter ``name`` for what says nothing about errors: an exception instance, a
    text, a type that is no exception, an ``async def``; ``ValueError`` where no type is named.
    """
    if value is None or isinstance(value, types.FunctionType):
        if value is not None and _answers_later(value):
            raise TypeError(f"{name} must answer at once, not be an async or a generator function: {value!r}")
        return value
    if isinstance(value, (type, tuple, list, set, frozenset)) or typing.get_origin(value) in _UNIONS:
        named = tuple(_types(name, value))
        if not named:
            raise ValueError(f"{name} must name at least one exception type; None leaves it to the classifier")
        return lambda error: is_a(error, named)
    if not callable(value):
        raise TypeError(f"{name} must be a predicate or exception types, not {value!r}")
    if _answers_later(value):
        raise TypeError(f"{name} must answer at once, not be an async or a generator function: {value!r}")
    return typing.cast("IsRetryable", value)


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


def _answers_later(value: Any) -> bool:
    called = value if isinstance(value, types.FunctionType) else getattr(value, "__call__", value)  # noqa: B004  # the method
    return (
        is_async_callable(value)
        or inspect.isgeneratorfunction(value)
        or inspect.isasyncgenfunction(value)
        or inspect.isgeneratorfunction(called)
    )
