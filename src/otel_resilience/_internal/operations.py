"""Inspects operations: ``def`` or ``async def``, fast enough for every call, and what cannot be protected."""

from __future__ import annotations

import asyncio
import contextlib
import dis
import functools
import inspect
import weakref
from collections.abc import Callable, Mapping
from types import AsyncGeneratorType, CellType, CodeType, CoroutineType, FunctionType, GeneratorType, MethodType
from typing import Any, Final, NamedTuple

from otel_resilience._internal.foreign import attribute, is_a

COROUTINE_FLAGS: Final = inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE
running_loop = asyncio._get_running_loop  # noqa: SLF001  # documented for libraries; returns None outside a loop
_MAX_KNOWN_TYPES: Final = 1024
_MAX_KNOWN_CODES: Final = 4096
plain_types: set[type] = set()
"""Result types that were seen and need no await; checking here first saves a call to :func:`is_awaitable`."""


def is_coroutine_function(operation: Any) -> bool:
    """Whether ``operation`` itself is an ``async def``: a function, method, partial or callable object."""
    if type(operation) is FunctionType:  # the most frequent kind
        return bool(operation.__code__.co_flags & COROUTINE_FLAGS)
    code = attribute(operation, "__code__")
    if isinstance(code, CodeType):  # a proxy of a remote object has attributes of any name
        return bool(code.co_flags & COROUTINE_FLAGS)
    if isinstance(operation, functools.partial):
        return is_coroutine_function(operation.func)
    if isinstance(operation, type):
        return False
    method = attribute(operation, "__call__")
    try:
        return inspect.iscoroutinefunction(operation) or inspect.iscoroutinefunction(method)
    except Exception:  # noqa: BLE001  # a proxy whose target is unreachable raises on any access
        return inspect.iscoroutinefunction(method)


def is_async_callable(operation: Any) -> bool:
    """Whether calling ``operation`` is known to return an awaitable: an ``async def`` in any form.

    Within a running event loop also a lambda or function, or a ``functools.partial`` of one, that only calls an ``async
    def`` or a function of asyncio that returns a future, such as ``lambda: fetch(1)``.
    """
    if type(operation) is FunctionType:
        if operation.__code__.co_flags & COROUTINE_FLAGS:
            return True
    elif is_coroutine_function(operation) or not isinstance(operation, (functools.partial, MethodType)):
        return is_coroutine_function(operation)
    return running_loop() is not None and passes_on_an_awaitable(operation)


def discard(awaitable: object) -> None:
    """Closes a coroutine that will not be awaited, so that Python does not warn about it."""
    if isinstance(awaitable, CoroutineType):
        awaitable.close()


def is_awaitable(value: object) -> bool:
    """Whether ``value`` must be awaited, by its type: a lazy object would do its work if asked for its ``__class__``.
    Remembers the types that need no await."""
    kind = type(value)
    if kind in plain_types:
        return False
    if kind is CoroutineType or hasattr(kind, "__await__"):
        return True
    if is_a(value, GeneratorType) and value.gi_code.co_flags & inspect.CO_ITERABLE_COROUTINE:
        return True
    if len(plain_types) < _MAX_KNOWN_TYPES and kind not in _LAZY_TYPES:
        plain_types.add(kind)
    return False


def function_name(operation: Any) -> str:
    """The name of the function; ``call`` for a lambda, the type's name for a callable object."""
    target = operation.func if isinstance(operation, functools.partial) else operation
    name = attribute(target, "__name__")
    if not is_a(name, str) or not name.strip():
        name = type(target).__name__
    return "call" if name == "<lambda>" else name


def takes_place_of(function: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Like ``functools.wraps``, but accepts a ``function`` that is not a function: a proxy has attributes of any name,
    and a name must be a string."""
    named = is_a(attribute(function, "__name__"), str)
    return functools.wraps(function, functools.WRAPPER_ASSIGNMENTS if named else ("__module__", "__doc__"))


# Operations that cannot be protected: calling them does none of the work.

_GENERATOR_FLAGS: Final = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
UNUSUAL_FLAGS: Final = _GENERATOR_FLAGS | inspect.CO_VARARGS
"""A function without these flags can be protected. Those that contextlib makes have variable arguments."""

_LAZY_TYPES: Final = (
    GeneratorType,
    AsyncGeneratorType,
    contextlib._GeneratorContextManager,  # noqa: SLF001  # the type of what `contextmanager` makes has no public name
    contextlib._AsyncGeneratorContextManager,  # noqa: SLF001
)


def protectable(name: str, operation: object) -> None:
    """Raises ``TypeError`` if a call of ``operation`` cannot be protected; the message calls it ``name``.

    A call of a generator function, an async generator function or a context manager runs none of its body: there is
    nothing to retry or count. A decorated class would become a function. A property cannot be called.
    """
    problem = _unprotectable(operation)
    if problem:
        raise TypeError(f"{name} must be a function, def or async def, not {problem}")


def _unprotectable(operation: Any) -> str:
    if type(operation) is FunctionType and not operation.__code__.co_flags & _GENERATOR_FLAGS:  # the most frequent kind
        return _CONTEXT_MANAGER if operation.__globals__ is contextlib.__dict__ else ""
    if isinstance(operation, functools.partial):
        return "" if isinstance(operation.func, type) else _unprotectable(operation.func)
    if isinstance(operation, (staticmethod, classmethod, property)):
        return f"a {type(operation).__name__}: protect the function inside, with the policy's decorator below that one"
    if isinstance(operation, type):
        return f"the class {operation.__name__}: protect its methods, or a function that makes the instance"
    if not callable(operation):
        return f"{operation!r}, which cannot be called"
    if isinstance(operation, (contextlib.ContextDecorator, contextlib.AsyncContextDecorator)):
        return _CONTEXT_MANAGER
    if isinstance(operation, MethodType):
        return _unprotectable(operation.__func__)
    called = operation if isinstance(operation, FunctionType) else type(operation).__call__
    if inspect.isasyncgenfunction(called):
        return f"an async generator: {_LATER}; inside it, {_BLOCK.format('async for')}, or return a list"
    if inspect.isgeneratorfunction(called):
        return f"a generator: {_LATER}; inside it, {_BLOCK.format('for')}, or return a list"
    return ""


_CONTEXT_MANAGER: Final = "a context manager: protect the calls in its body"
_LATER: Final = "its body runs only while it is iterated"
_BLOCK: Final = "protect each step by a block, '{} attempt in policy.attempts(): with attempt: ...'"


def check_result(result: object) -> None:
    """Raises ``TypeError`` if ``result`` is work that has not started: a fresh generator, or a context manager.

    A generator expression passes, since its first iterable was evaluated within the operation.
    """
    if not is_a(result, _LAZY_TYPES):
        return
    if is_a(result, GeneratorType):
        begun = inspect.getgeneratorstate(result) != inspect.GEN_CREATED
        if begun or result.gi_code.co_name == "<genexpr>":
            return
    elif is_a(result, AsyncGeneratorType) and (result.ag_running or result.ag_code.co_name == "<genexpr>"):
        return
    kind = type(result).__name__.strip("_")
    raise TypeError(
        f"the operation returned a {kind} that has not started, so nothing was protected: "
        "use it within the operation, or protect the calls inside it with blocks, "
        "'for attempt in policy.attempts(): with attempt: ...'"
    )


# Functions that only call an async function: `lambda: client.get(url)`. This is detected without calling them.

_GIVE_FUTURES: Final = (
    asyncio.create_task,
    asyncio.ensure_future,
    asyncio.gather,
    asyncio.shield,
    asyncio.wrap_future,
    asyncio.BaseEventLoop.create_future,
    asyncio.BaseEventLoop.create_task,
    asyncio.BaseEventLoop.run_in_executor,
    asyncio.TaskGroup.create_task,
)
"""Functions that are not ``async def`` but always return an awaitable."""


class _Callee(NamedTuple):
    """Where the single function that is called comes from: a variable and attributes of it."""

    load: str
    name: str
    attributes: tuple[str, ...]


_callees: dict[int, tuple[weakref.ref[CodeType], _Callee | None]] = {}
_SKIPPED: Final = frozenset({"RESUME", "COPY_FREE_VARS", "PUSH_NULL", "NOP", "CACHE", "MAKE_CELL", "EXTENDED_ARG"})
_ATTRIBUTES: Final = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_CALLS: Final = frozenset({"CALL", "CALL_KW", "CALL_FUNCTION_EX"})
_VARIABLES: Final = {
    "LOAD_GLOBAL": "global",
    "LOAD_NAME": "global",
    "LOAD_DEREF": "closure",
    "LOAD_FAST": "argument",
    "LOAD_FAST_BORROW": "argument",
    "LOAD_FAST_CHECK": "argument",
}


def passes_on_an_awaitable(operation: Any) -> bool:
    """Whether ``operation`` is a Python function that only calls an async one: ``lambda: fetch(1)``."""
    only = _callee_of(operation)
    if only is None:
        return False
    callee = _resolve(operation, only)
    return callee is not None and (any(callee is each for each in _GIVE_FUTURES) or is_coroutine_function(callee))


def may_pass_on_an_awaitable(operation: Any) -> bool:
    """Whether :func:`is_async_callable` could ever be true of an ``operation`` that is not an ``async def``: its code
    only calls one function, which may be async at the time of a call."""
    return not isinstance(operation, FunctionType) or _callee_of(operation) is not None


def _callee_of(operation: Any) -> _Callee | None:
    """The function that ``operation`` calls, if that is all it does."""
    function = _function_of(operation)
    code = function.__code__ if type(function) is FunctionType else attribute(function, "__code__")
    if not isinstance(code, CodeType):
        return None
    known = _callees.get(id(code))
    if known is None or known[0]() is not code:
        if len(_callees) >= _MAX_KNOWN_CODES:
            _callees.clear()
        known = weakref.ref(code), _only_callee(code)
        _callees[id(code)] = known
    return known[1]


def _only_callee(code: CodeType) -> _Callee | None:
    """The function whose result ``code`` returns, if that is all it does."""
    if code.co_flags & (_GENERATOR_FLAGS | COROUTINE_FLAGS):
        return None
    steps: list[dis.Instruction] = []
    for step in dis.get_instructions(code):
        if step.opname in _SKIPPED:
            continue
        if step.opcode in dis.hasjrel or step.opcode in dis.hasjabs or step.opname.startswith(("STORE_", "DELETE_")):
            return None
        steps.append(step)
        if steps[0].opname not in _VARIABLES:
            return None  # most functions return here, before all their code is disassembled
    if len(steps) < 3 or steps[-1].opname != "RETURN_VALUE":
        return None
    attributes: list[str] = []
    depth = 0
    for number, step in enumerate(steps[:-1]):
        if number and number == len(attributes) + 1 and step.opname in _ATTRIBUTES:
            attributes.append(str(step.argval))
        before, argument = depth, step.arg if step.opcode >= dis.HAVE_ARGUMENT else None
        depth += dis.stack_effect(step.opcode, argument, jump=False)
        last = number == len(steps) - 2
        if step.opname in _CALLS and depth <= 1 and not last:
            return None  # the result of the first call is used further, not returned
        if last and (step.opname not in _CALLS or before < 1):
            return None
    return _Callee(_VARIABLES[steps[0].opname], str(steps[0].argval), tuple(attributes))


def _function_of(operation: Any) -> Any:
    """The plain function in a ``functools.partial`` or a method."""
    inner = operation.func if isinstance(operation, functools.partial) else operation
    return inner.__func__ if isinstance(inner, MethodType) else inner


def _resolve(operation: Any, callee: _Callee) -> Any:
    function: Any = _function_of(operation)
    code: CodeType = function.__code__
    cells: tuple[CellType, ...] = function.__closure__ or ()
    found: Any = None
    if callee.load == "global":
        found = function.__globals__.get(callee.name)
    elif callee.load == "closure" and callee.name in code.co_freevars:
        cell = cells[code.co_freevars.index(callee.name)]
        with contextlib.suppress(ValueError):  # a cell that is not assigned yet
            found = cell.cell_contents
    elif callee.load == "argument":
        found = _argument(operation, function, callee.name)
    for name in callee.attributes:
        try:
            found = inspect.getattr_static(found, name)
        except AttributeError:
            return None
        if isinstance(found, (staticmethod, classmethod)):
            found = found.__func__
    return found


def _argument(operation: Any, function: Any, name: str) -> Any:
    code: CodeType = function.__code__
    positional = code.co_varnames[: code.co_argcount]
    first: tuple[Any, ...] = ()
    if isinstance(operation, functools.partial):
        if name in operation.keywords:
            return operation.keywords[name]
        first, operation = operation.args, operation.func
    if isinstance(operation, MethodType):
        first = (operation.__self__, *first)
    if name in positional[: len(first)]:
        return first[positional.index(name)]
    defaults: tuple[Any, ...] = function.__defaults__ or ()
    given: Mapping[str, Any] = dict(zip(positional[len(positional) - len(defaults) :], defaults, strict=True))
    return given.get(name, (function.__kwdefaults__ or {}).get(name))
