"""The circuit breaker as a pure state machine: time and random fractions are passed in, no lock, no I/O.

Every admission hands out a permit: in the closed state the generation, in the half-open state a unique number, with a
lease on one of the probe slots. When the lease expires, the slot becomes free, but the verdict stays valid: the result
of a probe counts as long as the half-open state that admitted it lasts. Results of an earlier generation are dropped.

A machine can be kept as a JSON document, in storages that several processes share: :meth:`BreakerMachine.load` and
:meth:`BreakerMachine.dump`. Its probes then have names instead of numbers.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Self

from otel_resilience.circuitbreaker.config import CircuitBreakerConfig
from otel_resilience.circuitbreaker.states import BreakerState, Transition, TransitionReason
from otel_resilience.circuitbreaker.window import SlidingWindow

DEFAULT_PROBE_LEASE = 60.0

CLOSED = BreakerState.CLOSED
OPEN = BreakerState.OPEN
HALF_OPEN = BreakerState.HALF_OPEN
FORCED_OPEN = BreakerState.FORCED_OPEN

NEVER = -math.inf
"""The time of something that has not happened yet."""

Permit = int | str
"""For a call in the closed state the generation; for a probe a larger number, or a name given by the caller."""


class BreakerMachine:
    """States, permits and trip rules. All times are seconds on one monotonic clock."""

    __slots__ = ("_config", "_failure_times", "_fraction", "_leases", "_open_for", "_probe_successes", "_run",
                 "_run_began", "_run_last", "_run_mark", "_serial", "expired_probes", "first_opened_at", "generation",
                 "last_transition", "lease", "open_until", "opened", "openings", "since", "stale_results", "state",
                 "window")  # fmt: skip

    def __init__(self, config: CircuitBreakerConfig, now: float, fraction: Callable[[], float]) -> None:
        self._config = config
        self._fraction = fraction
        self.lease = config.probe_lease if config.probe_lease is not None else DEFAULT_PROBE_LEASE
        """Seconds after which a probe without a result loses its slot."""
        self._serial = 1
        self.generation = 1
        self.state = CLOSED
        self.since = now
        self.window = SlidingWindow(config.monitoring_period)
        self._failure_times: deque[float] | None = deque(maxlen=config.failure_threshold or 1)
        """``None`` in a machine that is kept as a document, which counts failures in buckets to stay small."""
        self._run = 0
        self._run_mark = 0
        self._run_began = self._run_last = NEVER
        """When the first and the last failure of the current run were counted."""
        self._leases: dict[Permit, float] = {}
        self._probe_successes = 0
        self.openings = 0
        self.first_opened_at = now
        self.open_until: float = 0.0
        self._open_for = 0.0
        self.opened = 0
        self.stale_results = 0
        self.expired_probes = 0
        self.last_transition: Transition | None = None

    @classmethod
    def load(
        cls,
        document: Mapping[str, Any],
        config: CircuitBreakerConfig,
        now: float,
        *,
        lease: float,
        fraction: Callable[[], float],
    ) -> Self:
        """Restores what :meth:`dump` wrote; a new machine of generation 0 from an empty document.

        An open time is bounded by its length, so that a clock that was set back prolongs it by no more than that. If
        the window's period has changed, it starts empty.
        """
        machine = cls(config, NEVER, fraction)
        machine.lease = lease
        machine.generation = machine._serial = document.get("generation", 0)
        machine.state = BreakerState(document.get("state", CLOSED.value))
        machine.since = document.get("changed_at", NEVER)
        machine._failure_times = None
        if document.get("width") == machine.window.width:
            machine.window.load(document["window"])
        machine._run = document.get("run", 0)
        machine._run_began = document.get("run_began", NEVER)
        machine._run_last = document.get("run_last", NEVER)
        machine._leases = dict(document.get("leases", {}))
        machine._probe_successes = document.get("good", 0)
        machine.openings = document.get("openings", 0)
        machine.first_opened_at = document.get("opened_at", NEVER)
        machine._open_for = document.get("open_for", 0.0)
        machine.open_until = min(document.get("open_until", now), now + machine._open_for)
        return machine

    def dump(self) -> dict[str, Any]:
        """Everything that :meth:`load` needs, as a JSON object, and the reason for a change of state since then."""
        document: dict[str, Any] = {
            "generation": self.generation,
            "state": self.state.value,
            "openings": self.openings,
            "good": self._probe_successes,
            "run": self.consecutive_failures,
            "leases": dict(self._leases),
            "width": self.window.width,
            "window": self.window.dump(),
        }
        if self.state is OPEN:
            document.update(open_until=self.open_until, open_for=self._open_for)
        times = {
            "changed_at": self.since,
            "opened_at": self.first_opened_at,
            "run_began": self._run_began,
            "run_last": self._run_last,
        }
        document.update((name, time) for name, time in times.items() if time != NEVER)
        if self.last_transition is not None:
            document.update(reason=self.last_transition.reason.value, error_type=self.last_transition.error_type or "")
        return document

    @property
    def consecutive_failures(self) -> int:
        """Failures since the last success in the closed state."""
        return self._run if self.window.total_successes() == self._run_mark else 0

    def tick(self, now: float) -> Transition | None:
        """Ends the open time if it is over."""
        if self.state is OPEN and now >= self.open_until:
            return self._enter(HALF_OPEN, TransitionReason.OPEN_TIME_ENDED, now)
        return None

    def admit(self, now: float) -> int | None:
        """A permit, or ``None`` for a rejection. Call :meth:`tick` first."""
        if self.state is CLOSED:
            return self.generation
        if self.state is not HALF_OPEN:
            return None
        permit = self._next_serial()
        return permit if self.admit_probe(permit, now) else None

    def admit_probe(self, permit: Permit, now: float) -> bool:
        """Whether the half-open state has a slot for a probe with this permit. Call :meth:`tick` first."""
        if self.state is not HALF_OPEN:
            return False
        if len(self._leases) >= self._config.half_open_max_calls:
            self._drop_expired_leases(now)
            if len(self._leases) >= self._config.half_open_max_calls:
                return False
        self._leases[permit] = now + self.lease
        return True

    def succeed(self, permit: Permit, now: float, *, slow: bool = False) -> Transition | None:
        """The call of this permit succeeded."""
        if self.state is CLOSED and permit == self.generation:
            self.window.roll(now)
            self.window.succeed()
            return self.mark_slow(now) if slow else None
        if not self._end_probe(permit):
            return None
        if slow:
            return self._open(TransitionReason.SLOW_CALL_RATE, now, None, None)
        self._probe_successes += 1
        if self._probe_successes >= self._config.half_open_max_calls:
            return self._enter(CLOSED, TransitionReason.PROBE_SUCCEEDED, now)
        return None

    def fail(
        self,
        permit: Permit,
        now: float,
        *,
        slow: bool = False,
        error_type: str | None = None,
        hint: float | None = None,
    ) -> Transition | None:
        """The call of this permit failed; ``hint`` is the server's requested wait in seconds."""
        if self.state is CLOSED and permit == self.generation:
            reason = self.count_failure(now)
            if reason is not None:
                return self._open(reason, now, error_type, hint)
            return self.mark_slow(now) if slow else None
        if not self._end_probe(permit):
            return None
        return self._open(TransitionReason.PROBE_FAILED, now, error_type, hint)

    def count_successes(self, number: int, now: float, *, began: float) -> None:
        """Counts calls of the closed state that are reported late; the last of them started at ``began``.

        A success ends the run of failures if it started after the last of them. If it started during the run, only the
        last failure remains; if before, the run is unaffected.
        """
        self.window.add_successes(number, now)
        if began >= self._run_last:
            self._run = 0
        elif began >= self._run_began:
            self._run = 1
            self._run_began = self._run_last

    def release(self, permit: Permit) -> None:
        """The call of this permit says nothing about the dependency: a probe returns its slot."""
        if self.state is CLOSED and permit == self.generation:
            return
        self._end_probe(permit)

    def adopt(
        self,
        state: BreakerState,
        now: float,
        *,
        reason: TransitionReason,
        age: float,
        open_left: float,
        openings: int,
        opened_age: float,
        failures: int = 0,
        calls: int = 0,
        error_type: str | None = None,
    ) -> Transition | None:
        """Takes over a state that was decided elsewhere ``age`` seconds ago. All earlier permits become stale."""
        source = self.state
        self._start_generation(state, now)
        self.since = now - age
        self.openings = openings
        self.first_opened_at = now - opened_age
        self.extend_open_time(now, open_left)
        if state is source:
            return None
        if state is OPEN or state is FORCED_OPEN:
            self.opened += 1
        self.last_transition = Transition(
            source=source,
            target=state,
            reason=reason,
            at=now,
            error_type=error_type,
            failures=failures,
            calls=calls,
            open_for=open_left if state is OPEN else None,
            open_duration=max(0.0, opened_age - age) if state is CLOSED else None,
        )
        return self.last_transition

    def extend_open_time(self, now: float, seconds: float) -> None:
        """The circuit stays open for ``seconds`` from now, as decided elsewhere."""
        self.open_until = now + seconds
        self._open_for = seconds

    def skip_to(self, generation: int) -> None:
        """Raises the generation to at least ``generation``, so that no number used elsewhere is reused."""
        self._serial = max(self._serial, generation)
        self.generation = max(self.generation, generation)

    def grant(self, now: float) -> int:
        """A permit for a probe that was granted elsewhere."""
        permit = self._next_serial()
        self._leases[permit] = now + self.lease
        return permit

    def forget(self, permit: Permit) -> None:
        """The probe of this permit was settled elsewhere."""
        self._leases.pop(permit, None)

    def forget_probes(self) -> None:
        """The running probes are made elsewhere: their slots are free here."""
        self._leases.clear()

    def holds(self, permit: Permit) -> bool:
        """Whether the permit belongs to a probe of the present half-open state, with or without its lease."""
        if self.state is not HALF_OPEN:
            return False
        return permit in self._leases or (isinstance(permit, int) and permit > self.generation)

    def lease_left(self, now: float) -> float:
        """Seconds that the longest running probe may still take; 0 if there is none."""
        return max((until - now for until in self._leases.values()), default=0.0)

    def force_open(self, now: float) -> Transition | None:
        """Rejects everything until :meth:`close` or :meth:`reset`."""
        return self._manual(FORCED_OPEN, now)

    def close(self, now: float) -> Transition | None:
        """Closes manually, with an empty window."""
        return self._manual(CLOSED, now)

    def reset(self, now: float) -> Transition | None:
        """Like new: closed, empty window, initial open time, counters at zero."""
        transition = self._manual(CLOSED, now)
        if transition is None:
            self._start_generation(CLOSED, now)
        self.stale_results = self.expired_probes = self.opened = 0
        return transition

    def retry_after(self, now: float) -> float | None:
        """Seconds until a call may pass: 0 if one may pass now, ``None`` in the forced-open state."""
        if self.state is FORCED_OPEN:
            return None
        if self.state is OPEN:
            return max(0.0, self.open_until - now)
        if self.state is HALF_OPEN and len(self._leases) >= self._config.half_open_max_calls:
            return max(0.0, min(self._leases.values()) - now)
        return 0.0

    def count_failure(self, now: float) -> TransitionReason | None:
        """Counts a failure in the closed state. Returns the rule that it trips; the caller opens the circuit."""
        config = self._config
        window = self.window
        window.fail(now)
        mark = window.seen
        self._run = self._run + 1 if mark == self._run_mark else 1
        self._run_mark = mark
        self._run_last = now
        if self._run == 1:
            self._run_began = now
        if config.failure_threshold is not None and self._reaches(config.failure_threshold, now):
            return TransitionReason.FAILURE_THRESHOLD
        if config.consecutive_failures is not None and self._run >= config.consecutive_failures:
            return TransitionReason.CONSECUTIVE_FAILURES
        if (
            config.failure_rate is not None
            and window.calls >= config.minimum_calls
            and window.failures >= config.failure_rate * window.calls
        ):
            return TransitionReason.FAILURE_RATE
        return None

    def _reaches(self, threshold: int, now: float) -> bool:
        times = self._failure_times
        if times is None:
            return self.window.failures >= threshold
        times.append(now)
        return len(times) == threshold and now - times[0] < self._config.monitoring_period

    def mark_slow(self, now: float) -> Transition | None:
        """A call of the closed state that was already counted was slow."""
        window = self.window
        window.slow_call(now)
        if window.calls >= self._config.minimum_calls and window.slow >= self._config.slow_call_rate * window.calls:
            return self._open(TransitionReason.SLOW_CALL_RATE, now, None, None)
        return None

    def _open(self, reason: TransitionReason, now: float, error_type: str | None, hint: float | None) -> Transition:
        config = self._config
        bound = min(config.open_time_cap, config.reset_timeout * 2.0 ** min(self.openings, 1000))
        open_for = bound / 2 + bound / 2 * self._fraction()
        if hint is not None:
            open_for = max(open_for, min(hint, config.max_retry_after))
        self.extend_open_time(now, open_for)
        return self._enter(OPEN, reason, now, error_type=error_type, open_for=open_for)

    def _enter(
        self,
        target: BreakerState,
        reason: TransitionReason,
        now: float,
        *,
        error_type: str | None = None,
        open_for: float | None = None,
    ) -> Transition:
        self.window.roll(now)
        transition = Transition(
            source=self.state,
            target=target,
            reason=reason,
            at=now,
            error_type=error_type,
            failures=self.window.failures,
            calls=self.window.calls,
            open_for=open_for,
            open_duration=now - self.first_opened_at if target is CLOSED else None,
        )
        if target is OPEN or target is FORCED_OPEN:
            if self.state is CLOSED:
                self.first_opened_at = now
            self.opened += 1
            self.openings += 1
        self._start_generation(target, now)
        self.last_transition = transition
        return transition

    def _start_generation(self, state: BreakerState, now: float) -> None:
        self.state = state
        self.since = now
        self.generation = self._next_serial()
        self._leases.clear()
        self._probe_successes = 0
        if state is CLOSED:
            self.openings = 0
            self.window.reset()
            if self._failure_times is not None:
                self._failure_times.clear()
            self._run = self._run_mark = 0

    def _manual(self, target: BreakerState, now: float) -> Transition | None:
        if self.state is target:
            return None
        return self._enter(target, TransitionReason.MANUAL, now)

    def _end_probe(self, permit: Permit) -> bool:
        """Returns the slot. ``False`` for a stale permit.

        Permits of probes are numbered after the generation that admits them, so expired ones need not be remembered.
        """
        current = self.holds(permit)
        self._leases.pop(permit, None)
        if not current:
            self.stale_results += 1
        return current

    def _drop_expired_leases(self, now: float) -> None:
        expired = [permit for permit, until in list(self._leases.items()) if until <= now]
        for permit in expired:
            del self._leases[permit]
        self.expired_probes += len(expired)

    def _next_serial(self) -> int:
        self._serial += 1
        return self._serial
