"""Injected faults, for tests and game days."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from otel_resilience import AttemptTimeoutError, CircuitOpenError, RetryConfig, disabled
from otel_resilience._internal import interventions
from otel_resilience.testing import FakeClock, RecordedTelemetry, faults
from support.resilience import Driver, Script, make_policy


def refused() -> ConnectionError:
    return ConnectionRefusedError("injected")


def test_nothing_is_injected_unless_asked_for(clock: FakeClock, driver: Driver) -> None:
    with faults.inject(error=refused):
        pass
    assert not interventions.active
    assert driver.execute(make_policy(clock), lambda: "value") == "value"


def test_an_error_takes_the_place_of_the_operation(clock: FakeClock, driver: Driver) -> None:
    script = Script("value")
    with faults.inject(error=refused) as injection, pytest.raises(ConnectionRefusedError, match="injected"):
        driver.execute(make_policy(clock, breaker=None), script)
    assert script.calls == 0
    assert (injection.attempts, injection.injected) == (3, 3)


def test_the_policy_handles_it_as_any_other(clock: FakeClock, driver: Driver) -> None:
    policy = make_policy(clock)
    with faults.inject(error=refused, times=2):
        assert driver.execute(policy, lambda: "value") == "value"
    assert len(clock.sleeps) == 2
    assert policy.breaker is not None
    with faults.inject(error=refused):
        while policy.breaker.state.name == "CLOSED":
            with pytest.raises((ConnectionRefusedError, CircuitOpenError)):
                driver.execute(policy, lambda: "value")
    assert policy.breaker.state.name == "OPEN"


def test_latency_is_waited_by_the_policy(clock: FakeClock, driver: Driver) -> None:
    with faults.inject(latency=0.5):
        assert driver.execute(make_policy(clock, deadline=None), lambda: clock()) == 1000.5
    assert clock.sleeps == [0.5]


def test_latency_comes_before_the_error(clock: FakeClock, driver: Driver) -> None:
    with faults.inject(latency=0.5, error=refused, times=1):
        driver.execute(make_policy(clock, deadline=None), lambda: None)
    assert clock.sleeps[0] == 0.5
    assert len(clock.sleeps) == 2


async def test_latency_meets_the_attempt_timeout() -> None:
    import asyncio

    policy = make_policy(FakeClock(), attempt_timeout=0.01, retry=None, async_sleep=asyncio.sleep)

    async def operation() -> None:
        pytest.fail("is not reached")

    with faults.inject(latency=60), pytest.raises(AttemptTimeoutError):
        await policy.execute(operation)


def test_a_dependency_and_an_operation_are_chosen(clock: FakeClock, driver: Driver) -> None:
    policy = make_policy(clock, retry=RetryConfig(max_attempts=1))
    other = make_policy(clock, dependency="other", retry=RetryConfig(max_attempts=1))
    with faults.inject(dependency="supplier", operation="list bundles", error=refused) as injection:
        assert driver.execute(policy, lambda: 1, name="get bundle") == 1
        assert driver.execute(other, lambda: 1, name="list bundles") == 1
        with pytest.raises(ConnectionRefusedError):
            driver.execute(policy, lambda: 1, name="list bundles")
    assert injection.attempts == 1


def test_the_name_of_a_decorated_function_is_its_operation(clock: FakeClock) -> None:
    @make_policy(clock, retry=None)
    def list_plans() -> None: ...

    with faults.inject(operation="list_plans", error=refused), pytest.raises(ConnectionRefusedError):
        list_plans()
    list_plans()


def hits(**options: Any) -> list[bool]:
    policy = make_policy(FakeClock(), retry=None, breaker=None)
    found: list[bool] = []
    with faults.inject(error=refused, **options):
        for _ in range(200):
            try:
                policy.execute(lambda: None)
            except ConnectionRefusedError:
                found.append(True)
            else:
                found.append(False)
    return found


def test_a_seed_makes_the_rate_repeatable() -> None:
    assert hits(rate=0.2, seed=1) == hits(rate=0.2, seed=1)
    assert hits(rate=0.2, seed=1) != hits(rate=0.2, seed=2)
    assert 20 <= sum(hits(rate=0.2, seed=1)) <= 60
    assert sum(hits(rate=0.0)) == 0
    assert sum(hits(rate=1, times=7)) == 7


def test_blocks_nest(clock: FakeClock) -> None:
    policy = make_policy(clock, retry=None, deadline=None)
    with faults.inject(latency=1), faults.inject(latency=2, times=1):
        policy.execute(lambda: None)
        policy.execute(lambda: None)
    assert sorted(clock.sleeps) == [1, 1, 2]


def test_spans_show_it(clock: FakeClock, driver: Driver) -> None:
    policy = make_policy(clock)
    with RecordedTelemetry().recording() as recorded, faults.inject(error=refused, times=1):
        driver.execute(policy, lambda: None)
    with recorded.recording(), faults.inject(latency=1):
        driver.execute(policy, lambda: None)
    shown = [(span.attributes or {}).get("resilience.fault.injected") for span in recorded.spans]
    assert shown == ["error", None, None, "latency", None]


def test_the_span_of_an_attempt_in_a_thread_shows_it() -> None:
    policy = make_policy(FakeClock(), attempt_timeout=20, breaker=None)
    with RecordedTelemetry().recording() as recorded, faults.inject(error=refused, times=1):
        assert policy.execute(threading.get_ident) != threading.get_ident()
    assert (recorded.spans[0].attributes or {})["resilience.fault.injected"] == "error"


def test_a_log_line_says_that_faults_are_on(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "otel_resilience"), faults.inject(dependency="supplier", latency=1, rate=0.2):
        pass
    assert caplog.messages == ["faults are injected into calls of supplier (rate 0.2)"]


def test_they_are_met_while_the_protection_is_off(clock: FakeClock) -> None:
    with disabled(), faults.inject(error=refused) as injection, pytest.raises(ConnectionRefusedError):
        make_policy(clock).execute(lambda: None)
    assert injection.injected == 1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, "error or latency"),
        ({"error": ConnectionError("an instance")}, "error must be a function"),
        ({"error": refused, "rate": 1.5}, "rate"),
        ({"error": refused, "times": 0}, "times"),
        ({"latency": -1}, "latency"),
        ({"latency": 1, "dependency": ""}, "dependency"),
        ({"latency": 1, "operation": 3}, "operation"),
    ],
)
def test_what_makes_no_sense_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises((TypeError, ValueError), match=named), faults.inject(**options):
        pass
    assert not interventions.active
