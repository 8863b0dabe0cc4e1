"""Observers of failures, successes and transitions besides OpenTelemetry: the alert service, or a user's own."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Protocol

from otel_resilience._internal.foreign import repr_of
from otel_resilience.redaction import redact

if TYPE_CHECKING:
    from otel_resilience.circuitbreaker.states import Transition
    from otel_resilience.classification.model import Classification

_log = logging.getLogger("otel_resilience")
_lock = threading.Lock()


class Observer(Protocol):
    """Called in the thread and the context of the call, so it must be quick. What it raises is logged and dropped."""

    def on_error(self, dependency: str, operation: str, verdict: Classification, error: BaseException) -> None:
        """An attempt failed, and not by cancellation."""
        ...

    def on_transition(self, dependency: str, transition: Transition) -> None:
        """A circuit breaker changed its state."""
        ...


class SuccessObserver(Protocol):
    """As :class:`Observer`, for the successes that it asks for with :func:`await_success`."""

    def on_success(self, dependency: str, operation: str) -> None:
        """A call succeeded."""
        ...


subscribed: tuple[Observer, ...] = ()
"""Looked at on every failure, so it is a plain tuple, replaced as a whole."""

awaited: frozenset[str] = frozenset()
"""Dependencies of which an observer wants to know the next success; looked at on every call."""
_awaiting: tuple[tuple[SuccessObserver, frozenset[str]], ...] = ()


def subscribe(observer: Observer) -> None:
    """Notify ``observer`` from now on; once, however often it is subscribed."""
    global subscribed  # one list per process
    with _lock:
        if observer not in subscribed:
            subscribed = (*subscribed, observer)


def unsubscribe(observer: Observer) -> None:
    """Stop notifying it. Without effect where it is not subscribed."""
    global subscribed  # one list per process
    with _lock:
        subscribed = tuple(each for each in subscribed if each is not observer)


def await_success(observer: SuccessObserver, dependencies: frozenset[str]) -> None:
    """Notify ``observer`` of successful calls to these dependencies alone; an empty set: of none any more."""
    global awaited, _awaiting  # one list per process
    with _lock:
        others = tuple(each for each in _awaiting if each[0] is not observer)
        _awaiting = (*others, (observer, dependencies)) if dependencies else others
        awaited = frozenset().union(*(wanted for _, wanted in _awaiting))


def notify_success(dependency: str, operation: str) -> None:
    """A call to an awaited dependency succeeded."""
    for observer, wanted in _awaiting:
        if dependency in wanted:
            try:
                observer.on_success(dependency, operation)
            except Exception as broken:  # noqa: BLE001  # as below
                _log.warning("an observer of successes failed: %s", redact(repr(broken)))


def notify_error(dependency: str, operation: str, verdict: Classification, error: BaseException) -> None:
    """An attempt failed."""
    for observer in subscribed:
        try:
            observer.on_error(dependency, operation, verdict, error)
        except Exception as broken:  # noqa: BLE001  # an observer must not change the call that it looks at
            _log.warning("an observer of errors failed: %s", redact(repr_of(broken)))


def notify_transition(dependency: str, transition: Transition) -> None:
    """A circuit breaker changed its state."""
    for observer in subscribed:
        try:
            observer.on_transition(dependency, transition)
        except Exception as broken:  # noqa: BLE001  # as above
            _log.warning("an observer of transitions failed: %s", redact(repr_of(broken)))
