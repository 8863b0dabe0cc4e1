"""Which HTTP request an attempt was performing, if the error or the stack shows it.

Clients may attach the request to their errors (httpx, requests) or not (urllib, http.client, any client whose call was
cut by a time limit). In the latter case it is found in a local variable of the client's own functions.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import math
import sys
import threading
import weakref
from collections.abc import Iterable, Iterator
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType
from typing import Any, Final

from otel_resilience._internal.foreign import attribute, class_has_none_of, traceback_of
from otel_resilience._internal.nesting import Enclosing, enclosing
from otel_resilience.classification.request_shown import (
    REQUEST_ATTRIBUTES,
    has_key,
    is_idempotent,
    method_of,
    shown_idempotent,
    shows_no_request,
)

_CLIENTS: Final = frozenset({"aiohttp", "httpx", "httpx2", "requests", "urllib3"})
_STDLIB_CLIENTS: Final = frozenset({"http.client", "urllib.request"})
_GROUPS: Final = frozenset({"asyncio.taskgroups", "anyio._backends._asyncio"})
_OTHERS: Final = frozenset(
    {"anyio", "asyncio", "concurrent", "contextlib", "http", "httpcore", "socket", "ssl", "threading"}
)
"""Packages whose own tasks and threads send no requests of the operation."""
_STEPS: Final = frozenset({"coroutine_wrapper", "async_generator_asend", "async_generator_athrow", "anext_awaitable"})
"""Awaitables behind ``async for``, ``async with`` on an async generator, and ``__await__`` of a coroutine."""
_AT_ONCE: Final = (asyncio.Future, concurrent.futures.Future, concurrent.futures.Executor, threading.Thread)
_MOST_FRAMES: Final = 500
_CROWDED: Final = 1000
"""Tasks of a loop. Looking through this many takes about a millisecond."""
_OURS: Final = __name__.partition(".")[0]
_HOLDER: Final = "otel_resilience.policy.policy"
"""The module whose loop keeps the attempt that it cuts in a variable of that name."""


def shows_unsafe_request(errors: Iterable[BaseException]) -> bool:
    """Whether any of these, or the frames that they passed through, shows a request that must not be repeated."""
    for error in errors:
        if (not shows_no_request(error) and shown_idempotent(error) is False) or seen_in_frames(error) is False:
            return True
    return False


def shows_nothing(error: BaseException) -> bool:
    """Whether it is certain that neither ``error``, nor what it was raised from or while handling, nor the frames that
    they passed through show a request: a quick check that settles most failures."""
    left = _MOST_LOOKED_THROUGH
    try:
        while left:
            kind = type(error)
            if kind not in _showing_nothing and not _class_shows_nothing(kind):
                return False
            kept = error.__dict__
            if kept and not _SHOWN.isdisjoint(kept):
                return False
            step = error.__traceback__
            while step is not None:
                if step.tb_frame.f_globals["__name__"] not in _no_clients:
                    return False
                step = step.tb_next
            reason = error.__cause__
            if reason is None:
                reason = error.__context__
                if reason is None or error.__suppress_context__:
                    return True
            error = reason
            left -= 1
    except Exception:  # noqa: BLE001  # metaclasses and third-party frames: what cannot be read may show anything
        return False
    return False


def seen_in_frames(error: BaseException) -> bool | None:
    """Whether the request of the client that raised ``error`` may be repeated; ``None`` if no request is seen."""
    try:
        found: list[FrameType] = []
        step = traceback_of(error)
        left = _MOST_FRAMES
        while step is not None and left:
            if _is_client(step.tb_frame.f_globals.get("__name__")):
                found.append(step.tb_frame)
            step = step.tb_next
            left -= 1
        return _judge(found) if found else None
    except Exception:  # noqa: BLE001  # third-party frames: what cannot be read shows nothing
        return None


def seen_in_thread(identifier: int | None) -> bool | None:
    """Whether the request that the thread with this ``ident`` waits for may be repeated; ``None``: none is seen."""
    try:
        frames = sys._current_frames()  # noqa: SLF001  # the documented way
        return _in_stack(_outwards(None if identifier is None else frames.get(identifier)))
    except Exception:  # noqa: BLE001  # third-party frames: what cannot be read shows nothing
        return None


def seen_in_task(task: asyncio.Task[Any] | None, attempt: Enclosing) -> bool | None:
    """The same for a task that is suspended in ``attempt``. ``None`` also if it waits for other tasks: only one of
    several requests would be seen."""
    if task is None:
        return None
    try:
        frames, awaited = _suspended(task)
        if awaited is None or isinstance(awaited, asyncio.Task) or type(awaited) is not type(asyncio.Future()):
            return None
        if any(other is not task for other in _tasks_inside(attempt)):
            return None
        return _in_stack(reversed(_inside(attempt, frames)))
    except Exception:  # noqa: BLE001  # third-party frames: what cannot be read shows nothing
        return None


def left_running(call: Enclosing) -> bool | None:
    """Whether the requests that tasks of ``call`` are still performing may be repeated: ``False`` if one must not be,
    ``None`` if no task is left. Skipped in a :data:`_CROWDED` loop, in which each failure would cost milliseconds.

    ``asyncio.gather`` raises the first error while the other requests continue.
    """
    try:
        if _crowded(asyncio.get_running_loop()):
            return None
        tasks = _tasks_inside(call)
        return not any(_in_stack(reversed(_suspended(task)[0])) is False for task in tasks) if tasks else None
    except Exception:  # noqa: BLE001  # third-party frames: what cannot be read shows nothing
        return None


class _Snapshot:
    """The tasks of a loop by their enclosing call, during one iteration: shared by many calls that fail together.

    A task that is created later has not run yet.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.tasks: dict[int, list[asyncio.Task[Any]]] = {}
        for task in asyncio.all_tasks(loop):
            inner = _enclosing_of(task)
            while inner is not None:
                self.tasks.setdefault(id(inner), []).append(task)
                inner = inner.outer


_snapshots = threading.local()
_counts: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[float, bool]] = weakref.WeakKeyDictionary()


def _crowded(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the loop has so many tasks that looking through them is expensive; counted once a second."""
    now = loop.time()
    counted, crowded = _counts.get(loop, (-math.inf, False))
    if now >= counted + 1.0:
        crowded = len(asyncio.all_tasks(loop)) > _CROWDED
        _counts[loop] = now, crowded
    return crowded


def _tasks_inside(attempt: Enclosing) -> list[asyncio.Task[Any]]:
    """The tasks, other than the current one, that run inside ``attempt``."""
    loop = asyncio.get_running_loop()
    snapshot: _Snapshot | None = getattr(_snapshots, "latest", None)
    if snapshot is None or snapshot.loop is not loop:
        snapshot = _snapshots.latest = _Snapshot(loop)
        loop.call_soon(setattr, _snapshots, "latest", None, context=contextvars.Context())
    current = asyncio.current_task()
    return [task for task in snapshot.tasks.get(id(attempt), ()) if task is not current and not task.done()]


def _enclosing_of(task: asyncio.Task[Any]) -> Enclosing | None:
    """The scope around the code of a task; ``None`` if it has not started."""
    if sys.version_info >= (3, 12):
        return task.get_context().get(enclosing)
    for callback, context in getattr(getattr(task, "_fut_waiter", None), "_callbacks", None) or ():
        if getattr(callback, "__self__", None) is task:
            return context.get(enclosing)  # type: ignore[no-any-return]  # of a private field
    return None


def _inside(attempt: Enclosing, frames: list[FrameType]) -> list[FrameType]:
    """The frames inside ``attempt``: those further in than the one that holds it in a variable of that name."""
    for number, frame in enumerate(frames):
        if frame.f_globals.get("__name__") == _HOLDER and frame.f_locals.get("attempt") is attempt:
            return frames[number + 1 :]
    return frames


def _suspended(task: asyncio.Task[Any]) -> tuple[list[FrameType], Any]:
    """The frames of a suspended task from the outside in, and the future that it waits for."""
    frames: list[FrameType] = []
    awaited: Any = task.get_coro()
    while len(frames) < _MOST_FRAMES:
        if isinstance(awaited, CoroutineType):
            frame, awaited = awaited.cr_frame, awaited.cr_await
        elif isinstance(awaited, GeneratorType):
            frame, awaited = awaited.gi_frame, awaited.gi_yieldfrom
        elif isinstance(awaited, AsyncGeneratorType):
            frame, awaited = awaited.ag_frame, awaited.ag_await
        elif type(awaited).__name__ in _STEPS:
            frame, awaited = None, _stepped(awaited)
        else:
            break
        if frame is not None:
            frames.append(frame)
    iterates_future = type(awaited).__name__ in ("FutureIter", "NoneType")
    return frames, getattr(task, "_fut_waiter", None) if iterates_future else awaited


def _stepped(step: Any) -> Any:
    """The coroutine or async generator that a step belongs to; the step object itself does not expose it."""
    kinds = (CoroutineType, AsyncGeneratorType)
    return next((each for each in gc.get_referents(step) if isinstance(each, kinds)), None)


_MOST_LOOKED_THROUGH: Final = 20
_SHOWN: Final = REQUEST_ATTRIBUTES | {"classification"}
"""Attributes in which an exception shows its request, or says itself whether it may be repeated."""
_MAX_CLASSES: Final = 1024
_showing_nothing: Final[set[type[BaseException]]] = set()
"""Classes that are read plainly, and whose exceptions could have these attributes only in their own dictionaries."""


def _class_shows_nothing(kind: type[BaseException]) -> bool:
    if issubclass(kind, BaseExceptionGroup) or not class_has_none_of(kind, _SHOWN):
        return False
    if len(_showing_nothing) >= _MAX_CLASSES:
        _showing_nothing.clear()
    _showing_nothing.add(kind)
    return True


_MAX_MODULES: Final = 4096
_no_clients: Final[set[str]] = set()
"""Modules that were seen in frames and do not belong to clients."""


def _is_client(module: object) -> bool:
    if not isinstance(module, str) or module in _no_clients:
        return False
    if module.partition(".")[0] in _CLIENTS or module in _STDLIB_CLIENTS:
        return True
    if len(_no_clients) >= _MAX_MODULES:
        _no_clients.clear()
    _no_clients.add(module)
    return False


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    for _ in range(_MOST_FRAMES):
        if frame is None:
            return
        yield frame
        frame = frame.f_back


def _in_stack(frames: Iterable[FrameType]) -> bool | None:
    """Whether the request on a stack, from the inside out, may be repeated; ``None`` if there may be more requests than
    the one that is seen. The declaration of an enclosed call covers everything inside it."""
    clients: list[FrameType] = []
    declared: bool | None = None
    several = False
    for frame in frames:
        module = frame.f_globals.get("__name__")
        if not isinstance(module, str):
            continue
        package = module.partition(".")[0]
        if package == _OURS:
            said = _declared(frame.f_locals.get("call"))
            if said is not None:
                declared, several = said, False
                clients.clear()
        elif module in _GROUPS and frame.f_code.co_name == "__aexit__":
            several = True
        elif _is_client(module):
            clients.append(frame)
        elif package not in _OTHERS and _does_more(frame.f_locals.values()):
            several = True
    if several:
        return None
    seen = _judge(clients)
    return seen if declared is None else declared and seen is not False


def _declared(call: Any) -> bool | None:
    """``idempotent`` of an enclosed call."""
    said = getattr(call, "idempotent", None) if isinstance(call, Enclosing) else None
    return said if isinstance(said, bool) else None


def _judge(frames: Iterable[FrameType]) -> bool | None:
    """One stack is one request: it may be repeated if any frame shows an idempotency key, or all show a safe method."""
    answer: bool | None = None
    for frame in frames:
        for method, headers in _in_frame(frame.f_locals):
            if has_key(headers):
                return True
            answer = is_idempotent(method) if answer is None else answer and is_idempotent(method)
    return answer


def _does_more(variables: Iterable[Any]) -> bool:
    """Whether a function of the operation holds tasks, futures or threads: it may send more than the request seen."""
    for variable in variables:
        members = (
            variable if isinstance(variable, (list, tuple, set)) and len(variable) <= _MOST_FRAMES else (variable,)
        )
        if any(isinstance(each, _AT_ONCE) or type(each).__name__ == "TaskGroup" for each in members):
            return True
    return False


def _in_frame(variables: Any) -> Iterator[tuple[str, Any]]:
    this = variables.get("self")
    for request in (variables.get("request"), variables.get("req"), attribute(this, "request")):
        method = method_of(request)
        if method is not None:
            yield method, attribute(request, "headers")
    method = variables.get("method")
    if isinstance(method, str):
        yield method, variables.get("headers")
    for name in ("_method", "method"):  # http.client and aiohttp responses keep only the method
        method = attribute(this, name)
        if isinstance(method, str):
            yield method, attribute(attribute(this, "request_info"), "headers")
