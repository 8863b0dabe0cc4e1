"""Hooks: observers of failures, retries, successes and transitions besides OpenTelemetry.

Users derive from :class:`Hooks`, for one policy or for all; the alert service uses the protocols.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from otel_resilience._internal.foreign import repr_of
from otel_resilience._internal.forks import ProcessLock
from otel_resilience._internal.in_use import InUse
from otel_resilience._internal.nesting import enclosing
from otel_resilience._internal.once import Once
from otel_resilience._internal.operations import discard, is_awaitable
from otel_resilience.classification.control_flow import pass_interruption_on
from otel_resilience.redaction import redact

if TYPE_CHECKING:
    from otel_resilience.circuitbreaker.states import Transition
    from otel_resilience.classification.model import Classification

_log = logging.getLogger("otel_resilience")
_lock = ProcessLock()

Answer = Awaitable[None] | None
"""What a hook returns: nothing, or, if it is an ``async def``, an awaitable."""


class Hooks:
    """Notified of what happens to protected calls. Derive from it and override the methods that you need, as ``def`` or
    ``async def``; pass it to a policy (``Policy(hooks=...)``) or to all (:func:`add_hooks`).

    A ``def`` is called in the thread and the context of the call, so it must be quick. An ``async def`` runs as a task
    of the running event loop, concurrently with the call; without a loop it is not run, which is logged once. An
    exception from a hook is logged and dropped, unless it ends the job; calls made in a hook notify no hooks.

    Examples:
        >>> class Count(Hooks):
        ...     retries = 0
        ...     def on_retry(self, dependency: str, operation: str, attempt: int, delay: float) -> None:
        ...         self.retries += 1
        >>> count = Count()
        >>> @Policy("supplier", retry=RetryConfig(), hooks=count)
        ... def fetch():
        ...     if current_attempt() < 3:
        ...         raise ConnectionResetError
        >>> fetch()
        >>> count.retries
        2
    """

    def on_error(self, dependency: str, operation: str, verdict: Classification, error: BaseException) -> Answer:
        """An attempt failed, other than by cancellation."""

    def on_retry(self, dependency: str, operation: str, attempt: int, delay: float) -> Answer:
        """Attempt number ``attempt`` (from 2) will start after ``delay`` seconds."""

    def on_success(self, dependency: str, operation: str) -> Answer:
        """A call succeeded."""

    def on_failure(self, dependency: str, operation: str, outcome: str, error: BaseException) -> Answer:
        """A call ended with ``error``, other than by cancellation. ``outcome`` is that of telemetry: ``failed``,
        ``rejected``, ``deadline``, or ``fallback`` if the caller got a substitute."""

    def on_transition(self, dependency: str, transition: Transition) -> Answer:
        """A circuit breaker changed its state; for the hooks of a policy, one of its dependency."""


class Observer(Protocol):
    """The part of :class:`Hooks` that the alert service implements for every call."""

    def on_error(self, dependency: str, operation: str, verdict: Classification, error: BaseException) -> None:
        """An attempt failed, other than by cancellation."""
        ...

    def on_transition(self, dependency: str, transition: Transition) -> None:
        """A circuit breaker changed its state."""
        ...


class SuccessObserver(Protocol):
    """Notified of the successes requested with :func:`await_success`."""

    def on_success(self, dependency: str, operation: str) -> None:
        """A call succeeded."""
        ...


_Function = Callable[..., Answer]


class Observers(NamedTuple):
    """The functions to call, by event: only those that a class or an object has overridden."""

    errors: tuple[_Function, ...] = ()
    retries: tuple[_Function, ...] = ()
    successes: tuple[_Function, ...] = ()
    failures: tuple[_Function, ...] = ()
    transitions: tuple[_Function, ...] = ()

    @classmethod
    def of(cls, *observers: Hooks | Observer) -> Observers:
        """Those of ``observers``. An :class:`Observer` that is not a :class:`Hooks` requests successes itself."""
        functions: list[tuple[_Function, ...]] = []
        for name in ("on_error", "on_retry", "on_success", "on_failure", "on_transition"):
            able = [each for each in observers if isinstance(each, Hooks) or name in ("on_error", "on_transition")]
            asked = (getattr(each, name) for each in able)
            functions.append(
                tuple(each for each in asked if getattr(each, "__func__", each) is not getattr(Hooks, name))
            )
        return cls(*functions)


class HasObservers(Protocol):
    """A policy with hooks of its own."""

    @property
    def dependency(self) -> str:
        """What it protects."""
        ...

    @property
    def observers(self) -> Observers | None:
        """Its hooks."""
        ...


NO_OBSERVERS: Final = Observers()
subscribed: tuple[Hooks | Observer, ...] = ()
everywhere = NO_OBSERVERS
"""The functions of :data:`subscribed`. Read on every failure, so it is a plain tuple, replaced as a whole."""
_of_policies: InUse[HasObservers] = InUse()
"""Policies with hooks."""

awaited: frozenset[str] = frozenset()
"""Dependencies whose next success an observer wants to know."""
_awaiting: tuple[tuple[SuccessObserver, frozenset[str]], ...] = ()
success_wanted = False
"""Whether anything other than a policy's own hooks wants to know of successes; read on every call."""


def add_hooks(hooks: Hooks) -> None:
    """Notifies ``hooks`` of the calls of all policies from now on; once, however often it is added.

    Raises ``TypeError`` if it is not a :class:`Hooks`.

    Examples:
        >>> hooks = Hooks()
        >>> add_hooks(hooks)
        >>> remove_hooks(hooks)
    """
    check_hooks("hooks", hooks)
    subscribe(hooks)


def remove_hooks(hooks: Hooks) -> None:
    """Stops notifying ``hooks``, which :func:`add_hooks` added. Has no effect if it was not added.

    Examples:
        >>> hooks = Hooks()
        >>> add_hooks(hooks)
        >>> remove_hooks(hooks)
        >>> remove_hooks(hooks)
    """
    unsubscribe(hooks)


def check_hooks(name: str, value: object) -> None:
    """Raises ``TypeError`` naming the parameter if it is not a :class:`Hooks`."""
    if not isinstance(value, Hooks):
        raise TypeError(f"{name} must be an instance of a class derived from Hooks, not {value!r}")


def subscribe(observer: Hooks | Observer) -> None:
    """Notifies ``observer`` from now on; once, however often it is subscribed."""
    with _lock:
        if not any(each is observer for each in subscribed):
            _replace((*subscribed, observer), _awaiting)


def unsubscribe(observer: Hooks | Observer) -> None:
    """Stops notifying it. Has no effect if it is not subscribed."""
    with _lock:
        _replace(tuple(each for each in subscribed if each is not observer), _awaiting)


def await_success(observer: SuccessObserver, dependencies: frozenset[str]) -> None:
    """Notifies ``observer`` of successful calls to only these dependencies; with an empty set, of none any more."""
    with _lock:
        others = tuple(each for each in _awaiting if each[0] is not observer)
        _replace(subscribed, (*others, (observer, dependencies)) if dependencies else others)


def _replace(
    observers: tuple[Hooks | Observer, ...], awaiting: tuple[tuple[SuccessObserver, frozenset[str]], ...]
) -> None:
    global subscribed, everywhere, awaited, _awaiting, success_wanted  # one list per process
    subscribed, _awaiting = observers, awaiting
    everywhere = Observers.of(*observers)
    awaited = frozenset().union(*(wanted for _, wanted in awaiting))
    success_wanted = bool(awaited or everywhere.successes)


def watch_policy(policy: HasObservers) -> None:
    """Notifies the hooks of a policy of transitions of its dependency, as long as the policy is in use."""
    _of_policies.add(policy)


def notify_error(
    own: Observers | None, dependency: str, operation: str, verdict: Classification, error: BaseException
) -> None:
    """An attempt failed."""
    _notify("errors", everywhere.errors + (own or NO_OBSERVERS).errors, dependency, operation, verdict, error)


def notify_retry(own: Observers | None, dependency: str, operation: str, attempt: int, delay: float) -> None:
    """A retry will follow."""
    _notify("retries", everywhere.retries + (own or NO_OBSERVERS).retries, dependency, operation, attempt, delay)


def notify_success(own: Observers | None, dependency: str, operation: str) -> None:
    """A call succeeded."""
    asked = tuple(observer.on_success for observer, wanted in _awaiting if dependency in wanted)
    _notify("successes", asked + everywhere.successes + (own or NO_OBSERVERS).successes, dependency, operation)


def notify_failure(own: Observers | None, dependency: str, operation: str, outcome: str, error: BaseException) -> None:
    """A call ended with an error."""
    _notify("failures", everywhere.failures + (own or NO_OBSERVERS).failures, dependency, operation, outcome, error)


def notify_transition(dependency: str, transition: Transition) -> None:
    """A circuit breaker changed its state."""
    functions = list(everywhere.transitions)
    for policy in _of_policies:
        if policy.observers is not None and policy.dependency == dependency:
            functions.extend(policy.observers.transitions)
    _notify("transitions", tuple(functions), dependency, transition)


_notifying: Final[contextvars.ContextVar[bool]] = contextvars.ContextVar("otel_resilience_notifying", default=False)
_tasks: set[asyncio.Task[None]] = set()
_refused: Final = Once()


def _notify(what: str, functions: tuple[_Function, ...], *details: Any) -> None:
    if not functions or _notifying.get():
        return
    token = _notifying.set(True)
    try:
        for function in functions:
            try:
                answer = function(*details)
                if answer is not None and is_awaitable(answer):
                    _run_beside(what, answer)
            except Exception as broken:  # noqa: BLE001  # an observer must not change the call that it observes
                _report(what, broken)
    finally:
        _notifying.reset(token)


def _run_beside(what: str, answer: Awaitable[None]) -> None:
    loop = asyncio._get_running_loop()  # noqa: SLF001  # documented for libraries; returns None outside a loop
    if loop is None:
        discard(answer)
        if _refused.first(what):
            _log.warning("an async observer of %s was not run: no event loop of asyncio runs here", what)
        return
    context = contextvars.copy_context()
    context.run(enclosing.set, None)  # it may outlive the call
    task = loop.create_task(_await(what, answer), context=context)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


async def _await(what: str, answer: Awaitable[None]) -> None:
    try:
        await answer
    except Exception as broken:  # noqa: BLE001  # an observer must not change the call that it observes
        _report(what, broken)


def _report(what: str, broken: Exception) -> None:
    pass_interruption_on(broken)
    _log.warning("an observer of %s failed: %s", what, redact(repr_of(broken)))
