"""What an operation is: ``def`` or ``async def``, told fast enough for every call, and its name."""

from __future__ import annotations

import functools
import inspect
from types import CoroutineType
from typing import Any

_COROUTINE_FLAGS = inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE
_MAX_KNOWN_TYPES = 1024
plain_types: set[type] = set()
"""Types of results that were seen and need no await; looking here first saves a call of :func:`is_awaitable`."""


def is_async_callable(operation: Any) -> bool:
    """Whether calling ``operation`` is known to give a coroutine: functions, methods, partials, callable objects."""
    try:
        return bool(operation.__code__.co_flags & _COROUTINE_FLAGS)
    except AttributeError:
        return inspect.iscoroutinefunction(operation) or inspect.iscoroutinefunction(
            getattr(operation, "__call__", None)  # noqa: B004  # the method itself is wanted, not whether there is one
        )


def discard(awaitable: object) -> None:
    """Ends a coroutine that will not be awaited, so that it does not warn of that."""
    if isinstance(awaitable, CoroutineType):
        awaitable.close()


def is_awaitable(value: object) -> bool:
    """Whether ``value`` must be awaited. Remembers the types that need not be."""
    kind = type(value)
    if kind in plain_types:
        return False
    if kind is CoroutineType or hasattr(kind, "__await__") or inspect.isawaitable(value):
        return True
    if len(plain_types) < _MAX_KNOWN_TYPES:
        plain_types.add(kind)
    return False


def function_name(operation: Any) -> str:
    """The name of the function; ``call`` for a lambda, the type's name for a callable object."""
    target = operation.func if isinstance(operation, functools.partial) else operation
    name = getattr(target, "__name__", type(target).__name__)
    return "call" if name == "<lambda>" else str(name)


def qualified_name(operation: Any) -> str:
    """Module and qualified name of the function; those of the type for a callable object."""
    target = operation.func if isinstance(operation, functools.partial) else operation
    if not hasattr(target, "__qualname__"):
        target = type(target)
    return f"{target.__module__}.{target.__qualname__}"
