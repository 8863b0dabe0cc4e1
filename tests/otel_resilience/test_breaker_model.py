"""The circuit breaker against an independent model: plain lists of what happened.

The window forgets by the documented rule only: it is cut into ten buckets, and a bucket expires when its start is a
whole period in the past. Times are multiples of a quarter of a second, so that both sides compute exactly.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from otel_resilience import (
    BreakerState,
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitOpenError,
    TransitionReason,
)
from otel_resilience.circuitbreaker.machine import BreakerMachine
from otel_resilience.testing import FakeClock
from support.resilience import NotFoundFault, ThrottledFault, TransientFault

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
FORCED_OPEN, SHADOW = BreakerState.FORCED_OPEN, BreakerState.SHADOW

CONFIGS = [
    CircuitBreakerConfig(monitoring_period=10),
    CircuitBreakerConfig(failure_threshold=3, monitoring_period=10, reset_timeout=8),
    CircuitBreakerConfig(consecutive_failures=3, failure_rate=None, monitoring_period=10, reset_timeout=4),
    CircuitBreakerConfig(
        consecutive_failures=None, failure_rate=0.5, minimum_calls=4, monitoring_period=10, max_reset_timeout=16
    ),
    CircuitBreakerConfig(
        consecutive_failures=4, minimum_calls=4, monitoring_period=10, slow_call_duration=2, slow_call_rate=0.5
    ),
    CircuitBreakerConfig(consecutive_failures=2, monitoring_period=10, half_open_max_calls=2, probe_lease=3),
    CircuitBreakerConfig(
        failure_threshold=2, failure_rate=0.75, minimum_calls=3, monitoring_period=10, half_open_max_calls=3,
        probe_lease=6, reset_timeout=2, max_reset_timeout=64, slow_call_duration=5, slow_call_rate=1.0,
        max_retry_after=20,
    ),
]  # fmt: skip


@dataclasses.dataclass(eq=False)
class Probe:
    until: float
    era: object
    """The half-open state that admitted it: its result counts as long as that lasts, with or without the lease."""


class Model:
    """What the documentation promises, written down as slowly as possible."""

    def __init__(self, config: CircuitBreakerConfig, now: float) -> None:
        self.config = config
        self.state = CLOSED
        self.since = now
        self.era = object()
        self.results: list[tuple[float, str]] = []
        self.slow_marks: list[float] = []
        self.probes: list[Probe] = []
        self.good_probes = 0
        self.open_until = 0.0
        self.openings = 0
        self.opened = 0
        self.stale = 0
        self.expired = 0
        self.reason: TransitionReason | None = None

    # what the window holds

    def _alive(self, at: float, now: float) -> bool:
        width = self.config.monitoring_period / 10
        return now - at // width * width < self.config.monitoring_period

    def calls(self, now: float) -> int:
        return sum(self._alive(at, now) for at, _ in self.results)

    def failures(self, now: float) -> int:
        return sum(self._alive(at, now) for at, kind in self.results if kind == "failure")

    def slow(self, now: float) -> int:
        return sum(self._alive(at, now) for at in self.slow_marks)

    def run(self) -> int:
        length = 0
        for _, kind in reversed(self.results):
            if kind == "success":
                break
            length += 1
        return length

    # what callers do

    def tick(self, now: float) -> None:
        if self.state is OPEN and now >= self.open_until:
            self._enter(HALF_OPEN, now, TransitionReason.OPEN_TIME_ENDED)

    def admit(self, now: float) -> object | None:
        self.tick(now)
        if self.state is CLOSED:
            return self.era
        if self.state is not HALF_OPEN:
            return None
        if len(self.probes) >= self.config.half_open_max_calls:
            # a lease that has run out is taken away when somebody else needs the slot
            silent = [probe for probe in self.probes if probe.until <= now]
            self.expired += len(silent)
            self.probes = [probe for probe in self.probes if probe.until > now]
        if len(self.probes) >= self.config.half_open_max_calls:
            return None
        lease = 60.0 if self.config.probe_lease is None else self.config.probe_lease
        self.probes.append(Probe(now + lease, self.era))
        return self.probes[-1]

    def succeed(self, permit: object, now: float, fraction: float, *, slow: bool) -> None:
        if permit is self.era and self.state is CLOSED:
            self.results.append((now, "success"))
            if slow:
                self._mark_slow(now, fraction)
        elif self._give_back(permit):
            self.good_probes += 1
            if slow:
                self._open(TransitionReason.SLOW_CALL_RATE, now, fraction, None)
            elif self.good_probes >= self.config.half_open_max_calls:
                self._enter(CLOSED, now, TransitionReason.PROBE_SUCCEEDED)

    def fail(self, permit: object, now: float, fraction: float, *, slow: bool, hint: float | None) -> None:
        if permit is self.era and self.state is CLOSED:
            self.results.append((now, "failure"))
            reason = self._tripped_by_failures(now)
            if reason is not None:
                self._open(reason, now, fraction, hint)
            elif slow:
                self._mark_slow(now, fraction)
        elif self._give_back(permit):
            self._open(TransitionReason.PROBE_FAILED, now, fraction, hint)

    def release(self, permit: object) -> None:
        if permit is self.era and self.state is CLOSED:
            return
        self._give_back(permit)

    def by_hand(self, target: BreakerState, now: float) -> None:
        if self.state is not target:
            self._enter(target, now, TransitionReason.MANUAL)

    def reset(self, now: float) -> None:
        if self.state is CLOSED:
            self._clear(CLOSED, now)
        else:
            self._enter(CLOSED, now, TransitionReason.MANUAL)
        self.stale = self.expired = self.opened = 0

    def retry_after(self, now: float) -> float | None:
        if self.state is FORCED_OPEN:
            return None
        if self.state is OPEN:
            return self.open_until - now
        if self.state is HALF_OPEN and len(self.probes) == self.config.half_open_max_calls:
            return max(0.0, min(probe.until for probe in self.probes) - now)
        return 0.0

    # the rules

    def _tripped_by_failures(self, now: float) -> TransitionReason | None:
        config = self.config
        if config.failure_threshold is not None:
            times = [at for at, kind in self.results if kind == "failure" and now - at < config.monitoring_period]
            if len(times) >= config.failure_threshold:
                return TransitionReason.FAILURE_THRESHOLD
        if config.consecutive_failures is not None and self.run() >= config.consecutive_failures:
            return TransitionReason.CONSECUTIVE_FAILURES
        calls = self.calls(now)
        if (
            config.failure_rate is not None
            and calls >= config.minimum_calls
            and self.failures(now) / calls >= config.failure_rate
        ):
            return TransitionReason.FAILURE_RATE
        return None

    def _mark_slow(self, now: float, fraction: float) -> None:
        self.slow_marks.append(now)
        calls = self.calls(now)
        if calls >= self.config.minimum_calls and self.slow(now) / calls >= self.config.slow_call_rate:
            self._open(TransitionReason.SLOW_CALL_RATE, now, fraction, None)

    def _open(self, reason: TransitionReason, now: float, fraction: float, hint: float | None) -> None:
        bound = self.config.reset_timeout
        for _ in range(self.openings):
            bound = min(bound * 2, self.config.open_time_cap)
        open_for = bound * (1 + fraction) / 2
        if hint is not None:
            open_for = max(open_for, min(hint, self.config.max_retry_after))
        self.open_until = now + open_for
        self._enter(OPEN, now, reason)

    def _enter(self, target: BreakerState, now: float, reason: TransitionReason) -> None:
        self.reason = reason
        if target in (OPEN, FORCED_OPEN):
            self.opened += 1
            self.openings += 1
        self._clear(target, now)

    def _clear(self, target: BreakerState, now: float) -> None:
        self.state, self.since, self.era = target, now, object()
        self.probes = []
        self.good_probes = 0
        if target is CLOSED:
            self.openings = 0
            self.results, self.slow_marks = [], []

    def _give_back(self, permit: object) -> bool:
        if isinstance(permit, Probe) and permit.era is self.era:
            self.probes = [probe for probe in self.probes if probe is not permit]
            return True
        self.stale += 1
        return False


class MachineModel(RuleBasedStateMachine):
    """The pure machine, with calls that overlap in every way: started in one state, answered in another."""

    @initialize(config=st.sampled_from(CONFIGS))
    def begin(self, config: CircuitBreakerConfig) -> None:
        self.now = 1000.0
        self.fraction = 0.0
        self.config = config
        self.machine = BreakerMachine(config, self.now, lambda: self.fraction)
        self.model = Model(config, self.now)
        self.running: list[tuple[int, object, float]] = []

    @rule(quarters=st.one_of(st.integers(1, 12), st.integers(1, 400)))
    def time_passes(self, quarters: int) -> None:
        self.now += quarters / 4

    @rule(fraction=st.sampled_from([0.0, 0.25, 0.5, 0.75]))
    def chance_changes(self, fraction: float) -> None:
        self.fraction = fraction

    @precondition(lambda self: self.model.state is OPEN)
    @rule(asking=st.integers(1, 3))
    def the_open_time_ends_and_callers_come(self, asking: int) -> None:
        self.now = self.model.open_until
        for _ in range(asking):
            self.a_call_asks()

    @rule()
    def a_call_asks(self) -> None:
        self.machine.tick(self.now)
        permit = self.machine.admit(self.now)
        expected = self.model.admit(self.now)
        assert (permit is None) == (expected is None)
        if permit is not None:
            self.running.append((permit, expected, self.now))

    def _take(self, data: Any) -> tuple[int, object, bool]:
        index = data.draw(st.integers(0, len(self.running) - 1))
        permit, expected, started = self.running.pop(index)
        limit = self.config.slow_call_duration
        return permit, expected, limit is not None and self.now - started >= limit

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def a_call_succeeds(self, data: Any) -> None:
        permit, expected, slow = self._take(data)
        self.machine.succeed(permit, self.now, slow=slow)
        self.model.succeed(expected, self.now, self.fraction, slow=slow)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), hint=st.sampled_from([None, None, 1.0, 30.0, 1e6]))
    def a_call_fails(self, data: Any, hint: float | None) -> None:
        permit, expected, slow = self._take(data)
        self.machine.fail(permit, self.now, slow=slow, hint=hint)
        self.model.fail(expected, self.now, self.fraction, slow=slow, hint=hint)

    @rule(number=st.integers(1, 6))
    def a_burst_fails(self, number: int) -> None:
        for _ in range(number):
            self.machine.tick(self.now)
            permit, expected = self.machine.admit(self.now), self.model.admit(self.now)
            if permit is not None:
                self.machine.fail(permit, self.now)
                self.model.fail(expected, self.now, self.fraction, slow=False, hint=None)

    @rule(number=st.integers(1, 6))
    def a_burst_succeeds(self, number: int) -> None:
        for _ in range(number):
            self.machine.tick(self.now)
            permit, expected = self.machine.admit(self.now), self.model.admit(self.now)
            if permit is not None:
                self.machine.succeed(permit, self.now)
                self.model.succeed(expected, self.now, self.fraction, slow=False)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def a_call_is_cancelled(self, data: Any) -> None:
        permit, expected, _ = self._take(data)
        self.machine.release(permit)
        self.model.release(expected)

    @rule()
    def somebody_forces_it_open(self) -> None:
        self.machine.force_open(self.now)
        self.model.by_hand(FORCED_OPEN, self.now)

    @rule()
    def somebody_closes_it(self) -> None:
        self.machine.close(self.now)
        self.model.by_hand(CLOSED, self.now)

    @rule()
    def somebody_resets_it(self) -> None:
        self.machine.reset(self.now)
        self.model.reset(self.now)

    @invariant()
    def they_agree(self) -> None:
        if not hasattr(self, "model"):
            return
        machine, model = self.machine, self.model
        machine.window.roll(self.now)
        assert machine.state is model.state
        assert machine.since == model.since
        assert (machine.opened, machine.stale_results, machine.expired_probes) == (
            model.opened,
            model.stale,
            model.expired,
        )
        if model.state is CLOSED:
            assert machine.window.calls == model.calls(self.now)
            assert machine.window.failures == model.failures(self.now)
            assert machine.window.slow == model.slow(self.now)
            assert machine.consecutive_failures == model.run()
        expected = model.retry_after(self.now)
        assert machine.retry_after(self.now) == (None if expected is None else max(0.0, expected))
        reason = None if machine.last_transition is None else machine.last_transition.reason
        assert reason is model.reason


MachineModel.TestCase.settings = settings(max_examples=120, stateful_step_count=50, deadline=None)
TestMachineModel = MachineModel.TestCase


class BreakerModel(RuleBasedStateMachine):
    """The breaker around the machine: whole calls through :meth:`execute`, with a clock, also in shadow mode."""

    @initialize(config=st.sampled_from(CONFIGS), shadow=st.booleans())
    def begin(self, config: CircuitBreakerConfig, shadow: bool) -> None:  # drawn
        self.clock = FakeClock()
        self.config = dataclasses.replace(config, shadow=shadow)
        self.fraction = 0.5
        self.breaker = CircuitBreaker("supplier", self.config, clock=self.clock, rng=lambda: self.fraction)
        self.model = Model(self.config, self.clock())
        self.rejected = 0

    @rule(quarters=st.one_of(st.integers(1, 12), st.integers(1, 400)))
    def time_passes(self, quarters: int) -> None:
        self.clock.advance(quarters / 4)

    @rule(fraction=st.sampled_from([0.0, 0.25, 0.5, 0.75]))
    def chance_changes(self, fraction: float) -> None:
        self.fraction = fraction

    @rule(
        outcome=st.sampled_from(["success", "failure", "hinted failure", "throttled", "not found", "interrupted"]),
        quarters=st.sampled_from([0, 0, 0, 8, 20]),
        times=st.integers(1, 5),
    )
    def calls_are_made(self, outcome: str, quarters: int, times: int) -> None:
        for _ in range(times):
            self._call(outcome, quarters)

    def _call(self, outcome: str, quarters: int) -> None:
        limit = self.config.slow_call_duration
        duration = quarters / 4 if limit is not None else 0.0
        errors: dict[str, BaseException] = {
            "failure": TransientFault(),
            "hinted failure": TransientFault(retry_after=30.0),
            "throttled": ThrottledFault(retry_after=30.0),
            "not found": NotFoundFault(),
            "interrupted": KeyboardInterrupt(),
        }
        error = errors.get(outcome)

        def operation() -> str:
            self.clock.advance(duration)
            if error is not None:
                raise error
            return "value"

        started = self.clock()
        permit = self.model.admit(started)
        raised: BaseException | None = None
        try:
            assert self.breaker.execute(operation) == "value"
        except BaseException as exc:
            raised = exc
        if permit is None:
            self.rejected += 1
            if not self.config.shadow:
                assert isinstance(raised, CircuitOpenError)
                assert raised.retry_after == self.model.retry_after(started)
                return
        assert raised is error
        slow = limit is not None and duration >= limit
        if permit is None:
            return
        now = self.clock()
        if outcome in ("success", "not found"):
            self.model.succeed(permit, now, self.fraction, slow=slow)
        elif outcome in ("failure", "hinted failure"):
            hint = 30.0 if outcome == "hinted failure" else None
            self.model.fail(permit, now, self.fraction, slow=slow, hint=hint)
        else:
            self.model.release(permit)

    @rule()
    def somebody_forces_it_open(self) -> None:
        self.breaker.force_open()
        self.model.by_hand(FORCED_OPEN, self.clock())

    @rule()
    def somebody_closes_it(self) -> None:
        self.breaker.close()
        self.model.by_hand(CLOSED, self.clock())

    @rule()
    def somebody_resets_it(self) -> None:
        self.breaker.reset()
        self.model.reset(self.clock())
        self.rejected = 0

    @invariant()
    def they_agree(self) -> None:
        if not hasattr(self, "model"):
            return
        now = self.clock()
        self.model.tick(now)
        metrics = self.breaker.metrics()
        assert metrics.would_be_state is self.model.state
        assert metrics.state is (SHADOW if self.config.shadow else self.model.state)
        assert self.breaker.state is metrics.state
        assert metrics.time_in_state == now - self.model.since
        assert (metrics.opened, metrics.rejected) == (self.model.opened, self.rejected)
        assert metrics.stale_results == self.model.stale
        if self.model.state is CLOSED:
            calls, failures, slow = self.model.calls(now), self.model.failures(now), self.model.slow(now)
            assert (metrics.calls, metrics.failures, metrics.slow_calls) == (calls, failures, slow)
            assert metrics.failure_rate == (failures / calls if calls else 0.0)
            assert metrics.slow_call_rate == (slow / calls if calls else 0.0)
            assert metrics.consecutive_failures == self.model.run()


BreakerModel.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestBreakerModel = BreakerModel.TestCase


def test_a_slow_probe_opens_it_again() -> None:
    config = CircuitBreakerConfig(consecutive_failures=1, slow_call_duration=2)
    machine = BreakerMachine(config, 0.0, lambda: 1.0)
    machine.fail(machine.generation, 0.0)
    machine.tick(5.0)
    permit = machine.admit(5.0)
    assert permit is not None
    transition = machine.succeed(permit, 8.0, slow=True)
    assert transition is not None
    assert (transition.target, transition.reason) == (OPEN, TransitionReason.SLOW_CALL_RATE)


def half_open_with_an_expired_probe(*, slots: int = 1) -> tuple[BreakerMachine, int]:
    """A machine and the permit of a probe whose lease, of 60 s, expired; another probe has its slot."""
    config = CircuitBreakerConfig(consecutive_failures=1, half_open_max_calls=slots)
    machine = BreakerMachine(config, 0.0, lambda: 1.0)
    machine.fail(machine.generation, 0.0)
    machine.tick(5.0)
    late = machine.admit(5.0)
    assert late is not None
    for _ in range(slots):
        assert machine.admit(65.0) is not None
    return machine, late


@pytest.mark.fault("L3")
def test_a_good_probe_closes_the_circuit_also_after_its_lease_expired() -> None:
    machine, late = half_open_with_an_expired_probe()
    transition = machine.succeed(late, 80.0)
    assert transition is not None
    assert (transition.target, transition.reason) == (CLOSED, TransitionReason.PROBE_SUCCEEDED)
    assert (machine.expired_probes, machine.stale_results) == (1, 0)


@pytest.mark.fault("L3")
def test_a_failed_probe_opens_the_circuit_also_after_its_lease_expired() -> None:
    machine, late = half_open_with_an_expired_probe()
    transition = machine.fail(late, 80.0, hint=30.0)
    assert transition is not None
    assert (transition.target, transition.reason) == (OPEN, TransitionReason.PROBE_FAILED)
    assert transition.open_for == 30.0


@pytest.mark.parametrize("slots", [1, 3])
def test_an_expired_probe_that_is_cancelled_gives_back_no_slot_of_another(slots: int) -> None:
    machine, late = half_open_with_an_expired_probe(slots=slots)
    machine.release(late)
    assert machine.admit(66.0) is None
    assert (machine.state, machine.stale_results) == (HALF_OPEN, 0)


@pytest.mark.fault("L3")
def test_with_several_slots_expired_probes_count_towards_the_successes_that_close() -> None:
    machine, late = half_open_with_an_expired_probe(slots=2)
    other = machine.admit(125.0)
    assert other is not None
    assert machine.succeed(late, 126.0) is None
    assert machine.succeed(other, 127.0) is not None
    assert machine.state is CLOSED


def test_nothing_is_remembered_of_probes_whose_lease_expired() -> None:
    machine, _ = half_open_with_an_expired_probe()
    for number in range(1000):
        assert machine.admit(1000.0 + 60 * number) is not None
    assert len(machine._leases) == 1
    assert machine.expired_probes == 1001


def test_a_probe_of_an_earlier_half_open_state_decides_nothing() -> None:
    config = CircuitBreakerConfig(consecutive_failures=1, half_open_max_calls=2)
    machine = BreakerMachine(config, 0.0, lambda: 1.0)
    machine.fail(machine.generation, 0.0)
    machine.tick(5.0)
    late, failing = machine.admit(5.0), machine.admit(5.0)
    assert late is not None
    assert failing is not None
    machine.fail(failing, 6.0)
    assert machine.succeed(late, 7.0) is None
    assert (machine.state, machine.stale_results) == (OPEN, 1)


@given(
    st.floats(0.1, 100),
    st.floats(1, 50),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=80),
)
def test_open_time_has_equal_jitter_grows_and_is_capped(base: float, factor: float, fractions: list[float]) -> None:
    config = CircuitBreakerConfig(reset_timeout=base, max_reset_timeout=base * factor, consecutive_failures=1)
    drawn = iter(fractions)
    machine = BreakerMachine(config, 0.0, lambda: next(drawn))
    now = 0.0
    for opening in range(len(fractions)):
        machine.tick(now)
        permit = machine.admit(now)
        assert permit is not None
        transition = machine.fail(permit, now)
        assert transition is not None
        assert transition.open_for is not None
        bound = min(base * factor, base * 2**opening)
        assert bound / 2 * (1 - 1e-9) <= transition.open_for <= bound * (1 + 1e-9)
        now = machine.open_until


@given(st.floats(0, 1e12), st.floats(0, 600))
def test_a_hint_extends_the_open_time_up_to_its_own_cap(hint: float, cap: float) -> None:
    config = CircuitBreakerConfig(consecutive_failures=1, max_retry_after=cap)
    machine = BreakerMachine(config, 0.0, lambda: 0.0)
    transition = machine.fail(machine.generation, 0.0, hint=hint)
    assert transition is not None
    assert transition.open_for == max(2.5, min(hint, cap))


@given(st.integers(4, 5000))
def test_the_open_time_never_overflows(openings: int) -> None:
    machine = BreakerMachine(CircuitBreakerConfig(), 0.0, lambda: 0.5)
    machine.openings = openings
    machine.state = HALF_OPEN
    permit = machine.admit(1.0)
    assert permit is not None
    transition = machine.fail(permit, 1.0)
    assert transition is not None
    assert transition.open_for == 45.0


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30), st.integers(1, 6))
def test_the_threshold_counts_failures_within_the_exact_period(pauses: list[int], threshold: int) -> None:
    machine = BreakerMachine(CircuitBreakerConfig(failure_threshold=threshold, monitoring_period=10), 0.0, lambda: 0.5)
    now, times = 0.0, []
    for pause in pauses:
        now += pause / 4
        times.append(now)
        machine.fail(machine.generation, now)
        expected = sum(now - at < 10 for at in times) >= threshold
        assert (machine.state is OPEN) is expected
        assume(not expected)


@pytest.mark.parametrize("state", [OPEN, FORCED_OPEN])
def test_permits_are_never_used_twice(state: BreakerState) -> None:
    machine = BreakerMachine(CircuitBreakerConfig(consecutive_failures=1), 0.0, lambda: 0.0)
    seen: set[int] = set()
    now = 0.0
    for _ in range(50):
        machine.tick(now)
        permit = machine.admit(now)
        assert permit is not None
        assert permit not in seen
        seen.add(permit)
        if state is OPEN:
            machine.fail(permit, now)
            now = machine.open_until
        else:
            machine.force_open(now)
            machine.close(now)
