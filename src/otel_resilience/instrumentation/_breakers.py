"""Circuit breakers of other libraries: their status metric and the reports of their state changes."""

from __future__ import annotations

import functools
import gc
import time
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

from otel_resilience import telemetry
from otel_resilience._internal.forks import new_lock, renew_lock_after_fork
from otel_resilience.circuitbreaker.states import BreakerState, Transition, TransitionReason
from otel_resilience.instrumentation._base import LibraryInstrumentor, Patches, Plan, Settings
from otel_resilience.telemetry import never_raise

_OPENING = (TransitionReason.CONSECUTIVE_FAILURES, TransitionReason.PROBE_FAILED)


class WatchedBreaker:
    """Wraps one breaker without keeping it alive."""

    def __init__(self, breaker: Any, read: Callable[[Any], BreakerState], name: str, settings: Settings) -> None:
        self._breaker = weakref.ref(breaker)
        self._read = read
        self._name = name
        self._settings = settings
        self._lock = new_lock()
        self.last = read(breaker)
        """The last reported state."""
        self._opened_at: float | None = None
        renew_lock_after_fork(self)

    @property
    def plan(self) -> Plan:
        """How its calls are reported; the breaker may get its name late."""
        return self._settings.plan(getattr(self._breaker(), "name", None) or self._name)

    @property
    def dependency(self) -> str:
        """What it protects."""
        return self.plan.dependency

    @property
    def state(self) -> BreakerState:
        """Its current state."""
        return self._read_state() or self.last

    @never_raise
    def _read_state(self) -> BreakerState | None:
        breaker = self._breaker()
        return None if breaker is None else self._read(breaker)

    @never_raise
    def moved(
        self,
        reason: TransitionReason,
        *,
        target: BreakerState | None = None,
        error: BaseException | None = None,
        failures: int = 0,
        open_for: float | None = None,
    ) -> None:
        """Reports the change to ``target``, by default the current state, if it is a change."""
        now, target = time.monotonic(), target or self.state
        with self._lock:
            source, self.last = self.last, target
            opened_at = self._opened_at
            if target is BreakerState.OPEN and source is BreakerState.CLOSED:
                self._opened_at = now
            elif target is BreakerState.CLOSED:
                self._opened_at = None
        if source is target:
            return
        opening = target is BreakerState.OPEN
        telemetry.state_changed(
            self.dependency,
            Transition(
                source,
                target,
                reason,
                now,
                error_type=self._settings.classify(error).error_type if error and reason in _OPENING else None,
                failures=failures if opening else 0,
                calls=failures if opening else 0,
                open_for=open_for if opening else None,
                open_duration=now - opened_at if opened_at is not None and target is BreakerState.CLOSED else None,
            ),
        )


class Watch:
    """The breakers of one library that are in use."""

    def __init__(self, read: Callable[[Any], BreakerState], name: str) -> None:
        self._read = read
        self._name = name
        self._known: weakref.WeakKeyDictionary[Any, WatchedBreaker] = weakref.WeakKeyDictionary()
        self.settings: Settings | None = None

    def begin(self, settings: Settings, kind: type) -> None:
        """Watches every existing breaker; those created later are passed to :meth:`add`."""
        self.settings = settings
        for each in gc.get_objects():
            if issubclass(type(each), kind):  # not isinstance, which consults the object's __class__
                self.add(each)

    def end(self) -> None:
        """Stops watching them."""
        self.settings = None
        self._known.clear()

    def adding(self, wrapped: Callable[..., None]) -> Callable[..., None]:
        """Wraps the ``__init__`` of breakers to add each new one."""

        @functools.wraps(wrapped)
        def __init__(breaker: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
            wrapped(breaker, *args, **kwargs)
            self.add(breaker)

        return __init__

    @never_raise
    def add(self, breaker: Any) -> WatchedBreaker | None:
        """Its watched breaker; ``None`` while nothing is watched."""
        known = self._known.get(breaker)
        if known is None and self.settings is not None:
            known = self._known[breaker] = WatchedBreaker(breaker, self._read, self._name, self.settings)
            telemetry.watch_breaker(known)
        return known


class BreakerInstrumentor(LibraryInstrumentor):
    """Base of the instrumentors of circuit breakers."""

    _watch: ClassVar[Watch]
    """The breakers that are in use."""
    _patches: ClassVar[Patches]

    def _enable(self, settings: Settings) -> None:
        self._watch.begin(settings, self._replace(self._patches))

    def _uninstrument(self, **kwargs: Any) -> None:
        self._patches.restore()
        self._watch.end()

    def _replace(self, patches: Patches) -> type:
        """Replaces the library's methods; returns the class of its breakers."""
        raise NotImplementedError
