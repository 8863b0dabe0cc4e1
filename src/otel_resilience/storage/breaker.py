"""A circuit breaker that shares its state.

In the closed state only a failure (or a slow call) calls the storage. While the latest known call is a failure, each
call checks the storage before it starts, so that none starts after another process opened the circuit. An open circuit
rejects without asking the storage; each probe is requested there, and its verdict reported. If the storage does not
answer, the breaker uses local state.
"""

from __future__ import annotations

import dataclasses
import random
import secrets
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from otel_resilience import telemetry
from otel_resilience._internal import interventions
from otel_resilience._internal import validation as check
from otel_resilience.circuitbreaker.breaker import UNRECORDED, CircuitBreaker
from otel_resilience.circuitbreaker.config import CircuitBreakerConfig, CircuitBreakerMetrics
from otel_resilience.circuitbreaker.machine import NEVER
from otel_resilience.circuitbreaker.states import BreakerState, Transition, TransitionReason
from otel_resilience.classification.classifier import Classifier
from otel_resilience.classification.model import BreakerEffect, Classification, ErrorClass
from otel_resilience.storage.links import Link
from otel_resilience.storage.protocol import Action, BreakerStep, BreakerView, Claim, StorageError
from otel_resilience.storage.sharing import Sharing, ask, copy_behind

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


class _Stored(NamedTuple):
    view: BreakerView
    reported: tuple[int, int]
    """The machine's generation, and how many of its successes have been reported with the step."""
    local_steps: int
    """How many local steps the breaker had made by then."""
    sent: float
    """When it was sent, on the clock of the breaker."""


class SharedCircuitBreaker(CircuitBreaker):
    """Like :class:`~otel_resilience.CircuitBreaker`; all with the same dependency and the same storage act as one.

    A policy with ``shared`` creates its own.

    Examples:
        >>> from otel_resilience.storage import MemoryStorage, SharedCircuitBreaker, SharedState
        >>> shared = SharedState(MemoryStorage())
        >>> one, other = (SharedCircuitBreaker("supplier", shared=shared) for _ in range(2))
        >>> one.force_open()
        >>> other.state.name
        'FORCED_OPEN'
    """

    def __init__(
        self,
        dependency: str,
        config: CircuitBreakerConfig | None = None,
        *,
        shared: Sharing,
        classifier: Classifier | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._probe_from = NEVER
        """Until then, on the clock, there is no point in requesting a probe."""
        self._busy_until = NEVER
        """When the probe of another process ends at the latest."""
        self._generation = 0
        """Generation of the shared state; never decreases."""
        self._joined = False
        self._answered_by: Link | None = None
        """The storage that this breaker is in sync with; ``None`` after a local step."""
        self._local_steps = 0
        """How often it used local state."""
        self._reported_successes = (0, 0)
        self._last_success = 0.0
        """When the latest successful call was started."""
        self._leases: dict[int, tuple[Link, str]] = {}
        self._view: BreakerView | None = None
        check.instance("shared", shared, Sharing)
        self._shared = shared
        self._fraction = rng
        super().__init__(dependency, config, classifier=classifier, clock=clock, rng=rng)
        self.key = shared.key(dependency)
        shared.join(self)

    def metrics(self) -> CircuitBreakerMetrics:
        """Like :meth:`CircuitBreaker.metrics`; the window covers all processes, as last seen."""
        own = super().metrics()
        view = self._view
        if view is None or self._answered_by is None:
            return own
        return dataclasses.replace(
            own,
            calls=view.calls,
            failures=view.failures,
            slow_calls=view.slow,
            failure_rate=view.failures / view.calls if view.calls else 0.0,
            slow_call_rate=view.slow / view.calls if view.calls else 0.0,
            consecutive_failures=view.run,
            retry_after=self._retry_after(self.clock()),
        )

    def force_open(self) -> None:
        """Rejects every call, in all processes, until :meth:`close` or :meth:`reset`."""
        if self._request(Action.FORCE_OPEN) is None:
            super().force_open()

    def close(self) -> None:
        """Closes the circuit of all processes manually, with an empty window."""
        if self._request(Action.CLOSE) is None:
            super().close()

    def reset(self) -> None:
        """Resets it for all processes; the counters of rejected calls and dropped results are local."""
        self._request(Action.RESET)
        super().reset()

    def admit(self) -> int:
        """Like :meth:`CircuitBreaker.admit`."""
        if interventions.off:
            return UNRECORDED
        machine = self._machine
        now = self.clock()
        if machine.state is CLOSED:
            if self._must_check_storage():
                self._request(Action.LOOK)
            if machine.state is CLOSED:
                return super().admit()
        if now < (machine.open_until if machine.state is OPEN else self._probe_from):
            return self._refused(self._retry_after(now))
        lease = secrets.token_hex(8)
        answer = self._request(Action.PROBE, lease=lease)
        if answer is None:
            return super().admit()
        link, view = answer
        if view.expired:
            telemetry.probe_expired(self.dependency, view.expired)
        permit = None
        with self._lock:
            if machine.state is CLOSED:
                permit = machine.generation
            elif view.granted and machine.state is HALF_OPEN:
                permit = machine.grant(now)
                self._leases[permit] = (link, lease)
        if permit is not None:
            return permit
        return self._refused(self._retry_after(now))

    def record_success(self, permit: int, started: float) -> None:
        """Like :meth:`CircuitBreaker.record_success`."""
        self._last_success = started
        if permit in (self.fast_permit, UNRECORDED):
            super().record_success(permit, started)
            return
        slow = self._slow_after is not None and self.clock() - started >= self._slow_after
        if self._settled(Action.SUCCEED, permit, slow=slow):
            return
        if slow and self._is_current(permit) and self._request(Action.SLOW) is not None:
            with self._lock:
                if self._is_current(permit):
                    self._machine.window.succeed()
            return
        super().record_success(permit, started)
        self._publish()

    def record_error(self, permit: int, verdict: Classification, started: float, error: BaseException) -> None:
        """Like :meth:`CircuitBreaker.record_error`."""
        if (
            permit == UNRECORDED
            or verdict.breaker is not BreakerEffect.FAILURE
            or verdict.error_class is ErrorClass.CANCELLED
            or interventions.off
        ):
            super().record_error(permit, verdict, started, error)
            return
        slow = self._slow_after is not None and self.clock() - started >= self._slow_after
        details: dict[str, Any] = {"slow": slow, "error_type": verdict.error_type, "hint": verdict.retry_after}
        if self._settled(Action.FAIL, permit, **details):
            return
        if self._is_current(permit) and self._request(Action.FAIL, **details) is not None:
            with self._lock:
                if self._is_current(permit):
                    self._machine.count_failure(self.clock())
            return
        super().record_error(permit, verdict, started, error)
        self._publish()

    def release(self, permit: int) -> None:
        """Like :meth:`CircuitBreaker.release`."""
        link, lease = self._leases.pop(permit, (None, ""))
        if link is not None and self._machine.holds(permit):
            with self._lock:
                self._machine.forget(permit)
            link.submit(lambda: self._send(link, Action.RELEASE, lease=lease), lambda answer: self._adopt(link, answer))
            return
        super().release(permit)

    def refresh(self, link: Link) -> None:
        """Reads the shared state. Raises :class:`~otel_resilience.storage.StorageError`."""
        self._adopt(link, link.run(lambda: self._send(link)))

    def flush(self) -> None:
        """Reports what has not been reported yet."""
        answer = self._request(Action.LOOK)
        if answer is not None:
            copy_behind(answer[0], self._shared.links, self._send)

    def _must_check_storage(self) -> bool:
        """Whether the latest known call was a failure, as far as a reachable storage knows."""
        view = self._view
        return self._answered_by is not None and view is not None and view.run > 0

    def _refresh_fast_permit(self) -> None:
        super()._refresh_fast_permit()
        if self.fast_permit and self._must_check_storage():
            self.fast_permit = 0

    def _retry_after(self, now: float) -> float | None:
        own = self._machine.retry_after(now)
        return own if own != 0 or self._machine.state is not HALF_OPEN else max(0.0, self._busy_until - now)

    def _is_current(self, permit: int) -> bool:
        machine = self._machine
        return machine.state is CLOSED and permit == machine.generation

    def _settled(self, action: Action, permit: int, **details: Any) -> bool:
        """Reports the verdict of a probe to the storage that granted it. ``False`` if this breaker has to decide."""
        link, lease = self._leases.pop(permit, (None, ""))
        if link is None or not self._machine.holds(permit):
            return False
        answer = self._request(action, links=(link,), lease=lease, **details)
        if answer is None:
            return False
        with self._lock:
            self._machine.forget(permit)
            if answer[1].stale:
                self._machine.stale_results += 1
        super()._report_changes(None, int(answer[1].stale))
        return True

    def _publish(self) -> None:
        """Called after a local step that a reachable storage does not know of."""
        if self._answered_by is None:
            self._request(Action.LOOK)

    def _request(
        self, action: Action, *, links: tuple[Link, ...] = (), **details: Any
    ) -> tuple[Link, BreakerView] | None:
        """Makes a step at the first storage that answers in time. ``None``: this breaker uses local state."""

        def late(link: Link, answer: _Stored) -> None:
            if answer.view.granted:
                self._return_lease(link, details["lease"])

        # A second time if the storage has lost its state, and now gets this breaker's.
        answered = ask(
            links or self._shared.links, lambda link: self._send(link, action, **details), self._adopt, late, tries=2
        )
        if answered is not None:
            return answered[0], answered[1].view
        with self._lock:
            self._local_steps += 1
            self._answered_by = None
        return None

    def _return_lease(self, link: Link, lease: str) -> None:
        """A probe was granted too late: the call used local state, whose result counts, or requests it again."""
        try:
            link.run(lambda: self._send(link, Action.RELEASE, newest=True, lease=lease))
        except StorageError as error:
            link.failed(error)

    def _send(self, link: Link, action: Action = Action.LOOK, *, newest: bool = False, **details: Any) -> _Stored:
        with self._lock:
            machine = self._machine
            now = self.clock()
            total = machine.window.total_successes() if machine.state is CLOSED else 0
            total += action is Action.SLOW  # the call that it reports
            generation, before = self._reported_successes
            step = BreakerStep(
                action=action,
                config=self.config,
                lease_for=machine.lease,
                generation=self._generation,
                successes=total - before if generation == machine.generation else total,
                success_age=max(0.0, now - self._last_success),
                fraction=self._fraction(),
                claim=None if self._answered_by is link else self._claim(now, newest=newest),
                **details,
            )
            reported, local_steps = (machine.generation, total), self._local_steps
        return _Stored(link.storage.breaker(self.key, step), reported, local_steps, now)

    def _claim(self, now: float, *, newest: bool) -> Claim | None:
        """The local state; ``None`` if there is none. A probe of our own counts as the rest of an open time."""
        machine = self._machine
        if self._generation == 0:
            return None
        state, left = machine.state, 0.0
        if state is OPEN:
            left = max(0.0, machine.open_until - now)
        elif state is HALF_OPEN:
            state, left = OPEN, max(0.0, machine.lease_left(now))
        age = 0.0 if newest else now - machine.since
        return Claim(self._generation, state, age, left, machine.openings, now - machine.first_opened_at)

    def _adopt(self, link: Link, answer: _Stored) -> bool:
        """Takes over a view, unless a local step overtook it, or the storage has lost its state."""
        view = answer.view
        with self._lock:
            if answer.local_steps != self._local_steps:
                return False
            if view.generation < self._generation:
                self._answered_by = None
                return False
            now = self.clock()
            before = self._generation
            transition = self._take_over(view, now, answer.sent)
            self._answered_by = link
            self._reported_successes = answer.reported
            self._view = view
            self._busy_until = now + view.busy_for
            self._probe_from = now + self._pause(view)
            self._refresh_fast_permit()
            silent, self._joined = not self._joined, True
        if not silent:
            super()._report_changes(transition)
        if view.generation != before:
            copy_behind(link, self._shared.links, self._send)
            self._shared.changed(self, link)
        return True

    def _take_over(self, view: BreakerView, now: float, sent: float) -> Transition | None:
        machine = self._machine
        if view.generation == self._generation and view.state is machine.state:
            if view.state is OPEN:
                machine.open_until = now + view.open_left
            return None
        self._generation = view.generation
        return machine.adopt(
            view.state,
            now,
            reason=view.reason if view.moved else TransitionReason.SHARED,
            age=(view.age or 0.0) + now - sent,  # rather too old, so that it never wins over something newer
            open_left=view.open_left,
            openings=view.openings,
            opened_age=view.opened_age,
            failures=view.failures,
            calls=view.calls,
            error_type=view.error_type or None,
        )

    def _pause(self, view: BreakerView) -> float:
        """Seconds for which there is no point in requesting a probe."""
        if view.state is OPEN:
            return view.open_left
        if view.state is BreakerState.FORCED_OPEN:
            return self._shared.staleness
        return min(view.busy_for, self._shared.staleness)

    def _report_changes(self, transition: Transition | None, stale: int = 0) -> None:
        if transition is not None:  # a local one: adopted ones are reported without this method
            with self._lock:
                self._generation += 1
        super()._report_changes(transition, stale)

    def _current_state(self) -> BreakerState:
        machine = self._machine
        if machine.state is OPEN and self.clock() >= machine.open_until:
            return HALF_OPEN
        return machine.state
