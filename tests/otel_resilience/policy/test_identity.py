"""Policies, breakers and budgets are unique in a process: representation, copies, pickling, too many of them."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable

import pytest

from otel_resilience import CircuitBreaker, CircuitBreakerConfig, Policy, RetryBudget, RetryConfig
from otel_resilience.circuitbreaker import breaker as breakers
from otel_resilience.testing import FakeClock
from support.resilience import Driver, Script, TransientFault, make_policy

MAKE: dict[str, Callable[[], object]] = {
    "policy": lambda: Policy("supplier", retry=RetryConfig(), breaker=CircuitBreakerConfig()),
    "breaker": lambda: CircuitBreaker("supplier"),
    "budget": lambda: RetryBudget("supplier"),
}


def test_what_they_show() -> None:
    assert repr(Policy("supplier")) == "Policy('supplier')"
    shown = repr(Policy("supplier", retry=RetryConfig(), breaker=CircuitBreakerConfig(), deadline=30, idempotent=False))
    assert shown.startswith("Policy('supplier', retry=RetryConfig(max_attempts=3, base_delay=0.05,")
    assert "breaker=<CircuitBreaker supplier CLOSED>, budget=<RetryBudget supplier 100 of 100 tokens>" in shown
    assert shown.endswith("deadline=30.0, idempotent=False)")
    shadow = CircuitBreaker("supplier", CircuitBreakerConfig(shadow=True))
    shadow.force_open()
    assert repr(shadow) == "<CircuitBreaker supplier FORCED_OPEN SHADOW>"


@pytest.mark.fault("L22")
@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_a_copy_is_the_object_itself(make: Callable[[], object]) -> None:
    made = make()
    assert copy.copy(made) is made
    assert copy.deepcopy([made])[0] is made


@pytest.mark.fault("L22")
@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_pickling_is_refused_with_the_way_out(make: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match=r"holds the state of this process and cannot be pickled; make it in each"):
        pickle.dumps(make())


@pytest.mark.fault("L22")
def test_breakers_that_are_made_for_each_call_are_said_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    monkeypatch.setattr(breakers, "MANY", 3)
    with caplog.at_level(logging.WARNING, "otel_resilience"):
        for _ in range(2):
            CircuitBreaker("made per request")
        for _ in range(9):
            CircuitBreaker("made per test", clock=clock)
        assert caplog.records == []
        for _ in range(9):
            CircuitBreaker("made per request")
    (record,) = caplog.records
    assert "3 circuit breakers were made for 'made per request'" in record.getMessage()


@pytest.mark.fault("L22")
def test_a_wait_beyond_what_the_platform_can_sleep_is_cut(driver: Driver, clock: FakeClock) -> None:
    endless = RetryConfig(base_delay=1e300, max_delay=1e300, jitter=False, max_attempts=2)
    with pytest.raises(TransientFault):
        driver.execute(make_policy(clock, retry=endless, deadline=None), Script(TransientFault()))
    assert clock.sleeps == [2.0**31]
    clock.sleeps.clear()
    patient = RetryConfig(base_delay=0, max_retry_after=1e300, max_attempts=2)
    with pytest.raises(TransientFault):
        driver.execute(make_policy(clock, retry=patient, deadline=None), Script(TransientFault(retry_after=1e200)))
    assert clock.sleeps == [2.0**31]
