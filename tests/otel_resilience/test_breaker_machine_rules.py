"""The rules of the circuit breaker's machine at their boundaries, and what a transition reports."""

from __future__ import annotations

from otel_resilience import BreakerState, CircuitBreakerConfig, TransitionReason
from otel_resilience.circuitbreaker.machine import BreakerMachine


def machine(config: CircuitBreakerConfig, now: float = 0.0) -> BreakerMachine:
    return BreakerMachine(config, now, lambda: 1.0)


def fail(breaker: BreakerMachine, now: float, error_type: str | None = None) -> None:
    breaker.tick(now)
    permit = breaker.admit(now)
    assert permit is not None
    breaker.fail(permit, now, error_type=error_type)


def test_a_failure_a_whole_period_ago_no_longer_counts_towards_the_threshold() -> None:
    breaker = machine(CircuitBreakerConfig(failure_threshold=3, monitoring_period=10))
    for now in (0.0, 5.0, 10.0):
        fail(breaker, now)
    assert breaker.last_transition is None
    fail(breaker, 14.9)
    assert breaker.state is BreakerState.OPEN


def test_one_slow_call_in_four_does_not_reach_a_rate_of_one_half() -> None:
    config = CircuitBreakerConfig(minimum_calls=4, slow_call_duration=1, slow_call_rate=0.5)
    breaker = machine(config)
    for slow in (False, False, False, True):
        permit = breaker.admit(1.0)
        assert permit is not None
        breaker.succeed(permit, 1.0, slow=slow)
    assert breaker.state is BreakerState.CLOSED


def test_slow_calls_are_not_judged_before_there_are_enough_calls() -> None:
    breaker = machine(CircuitBreakerConfig(minimum_calls=4, slow_call_duration=1, slow_call_rate=0.5))
    for _ in range(3):
        permit = breaker.admit(1.0)
        assert permit is not None
        assert breaker.succeed(permit, 1.0, slow=True) is None
    permit = breaker.admit(1.0)
    assert permit is not None
    transition = breaker.succeed(permit, 1.0, slow=True)
    assert transition is not None
    assert transition.reason is TransitionReason.SLOW_CALL_RATE


def test_the_error_of_a_failed_probe_is_named_in_its_transition() -> None:
    breaker = machine(CircuitBreakerConfig(consecutive_failures=1, reset_timeout=4))
    fail(breaker, 0.0, "connection_refused")
    fail(breaker, 4.0, "timeout")
    assert breaker.last_transition is not None
    assert breaker.last_transition.reason is TransitionReason.PROBE_FAILED
    assert breaker.last_transition.error_type == "timeout"


def test_only_the_transition_that_closes_says_how_long_the_breaker_was_open() -> None:
    breaker = machine(CircuitBreakerConfig(consecutive_failures=1, reset_timeout=4))
    fail(breaker, 1.0)
    assert breaker.last_transition is not None
    assert breaker.last_transition.open_duration is None
    half_open = breaker.tick(5.0)
    assert half_open is not None
    assert half_open.open_duration is None
    permit = breaker.admit(6.0)
    assert permit is not None
    closed = breaker.succeed(permit, 6.0)
    assert closed is not None
    assert closed.open_duration == 5.0


def test_a_document_names_the_reason_and_the_error_of_the_last_change() -> None:
    breaker = machine(CircuitBreakerConfig(consecutive_failures=1, reset_timeout=4))
    assert not {"reason", "error_type", "run_began", "run_last"} & breaker.dump().keys()
    fail(breaker, 0.0, "503")
    assert (breaker.dump()["reason"], breaker.dump()["error_type"]) == ("consecutive_failures", "503")
    breaker.close(1.0)
    assert (breaker.dump()["reason"], breaker.dump()["error_type"]) == ("manual", "")


def test_a_probe_is_admitted_in_the_half_open_state_alone() -> None:
    breaker = machine(CircuitBreakerConfig(consecutive_failures=1, reset_timeout=4))
    assert not breaker.admit_probe("one", 0.0)
    fail(breaker, 0.0)
    assert not breaker.admit_probe("one", 0.0)
    breaker.tick(4.0)
    assert breaker.admit_probe("one", 4.0)
    assert not breaker.admit_probe("two", 4.0)
