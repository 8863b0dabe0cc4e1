"""The off switch: calls are made once, unprotected, and telemetry says so."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

import otel_resilience
from otel_resilience import (
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitOpenError,
    Classification,
    Hooks,
    RetryService,
    disabled,
    retry,
)
from otel_resilience._internal import interventions
from otel_resilience.storage import MemoryStorage, SharedState
from otel_resilience.testing import FakeClock, RecordedTelemetry
from support.resilience import Driver, Script, TransientFault, make_policy, tokens


@pytest.fixture(autouse=True)
def _on_again() -> Iterator[None]:
    yield
    assert not interventions.active


def test_a_call_is_made_once(clock: FakeClock, driver: Driver) -> None:
    policy = make_policy(clock)
    script = Script(TransientFault(), "value")
    with disabled(), pytest.raises(TransientFault):
        driver.execute(policy, script)
    assert script.calls == 1
    assert clock.sleeps == []
    assert tokens(policy) == 100


def test_afterwards_everything_is_as_before(clock: FakeClock, driver: Driver) -> None:
    policy = make_policy(clock)
    with disabled():
        driver.execute(policy, lambda: None)
    script = Script(TransientFault(), "value")
    assert driver.execute(policy, script) == "value"
    assert script.calls == 2


def test_an_open_circuit_lets_pass_and_stays_open(clock: FakeClock, driver: Driver) -> None:
    policy = make_policy(clock)
    assert policy.breaker is not None
    policy.breaker.force_open()
    with disabled():
        assert driver.execute(policy, lambda: "value") == "value"
    with pytest.raises(CircuitOpenError):
        driver.execute(policy, lambda: "value")


def test_failures_meanwhile_are_not_counted(clock: FakeClock, driver: Driver) -> None:
    policy = make_policy(clock, breaker=CircuitBreakerConfig(failure_threshold=1))
    with disabled(), pytest.raises(TransientFault):
        driver.execute(policy, Script(TransientFault()))
    assert policy.breaker is not None
    assert policy.breaker.state.name == "CLOSED"


@pytest.mark.parametrize("shared", [False, True])
def test_a_breaker_of_its_own_too(clock: FakeClock, driver: Driver, *, shared: bool) -> None:
    config = CircuitBreakerConfig(failure_threshold=1, reset_timeout=5)
    state = SharedState(MemoryStorage())
    breaker = make_policy(clock, breaker=config, shared=state).breaker if shared else CircuitBreaker("supplier", config)
    assert breaker is not None
    with disabled():
        for _ in range(3):
            with pytest.raises(TransientFault):
                driver.execute(breaker, Script(TransientFault()))
    assert breaker.state.name == "CLOSED"
    with pytest.raises(TransientFault):
        driver.execute(breaker, Script(TransientFault()))
    assert breaker.state.name == "OPEN"
    with disabled():
        assert driver.execute(breaker, lambda: "value") == "value"
    with pytest.raises(CircuitOpenError):
        driver.execute(breaker, lambda: "value")


def test_a_probe_that_began_before_gives_its_slot_back(clock: FakeClock) -> None:
    breaker = CircuitBreaker("supplier", CircuitBreakerConfig(failure_threshold=1, reset_timeout=5), clock=clock)
    with pytest.raises(TransientFault):
        breaker.execute(Script(TransientFault()).play)
    clock.advance(5)
    permit = breaker.admit()
    with disabled():
        breaker.record_error(permit, TransientFault.verdict, clock(), TransientFault())
    assert breaker.execute(lambda: "value") == "value"


def test_no_deadline_is_set_and_none_cuts(clock: FakeClock, driver: Driver) -> None:
    policy = make_policy(clock, deadline=10, attempt_timeout=5)
    with disabled():
        assert driver.execute(policy, otel_resilience.remaining) is None
        assert driver.execute(policy, lambda: clock.advance(60), deadline=1) is None


def test_a_def_runs_in_the_thread_of_its_caller(clock: FakeClock) -> None:
    with disabled():
        assert make_policy(clock, attempt_timeout=5).execute(threading.get_ident) == threading.get_ident()


def test_decorated_functions_and_services(clock: FakeClock) -> None:
    script = Script(TransientFault())
    decorated = retry(on=None)(script.play)
    service = RetryService(clock=clock, sleep=clock.sleep)
    with disabled():
        for call in (decorated, lambda: service.execute_with_retry(script.play)):
            with pytest.raises(TransientFault):
                call()
    assert script.calls == 2


def test_the_attempts_of_a_loop(clock: FakeClock) -> None:
    policy = make_policy(clock)
    made: list[float | None] = []

    def loop() -> None:
        for attempt in policy.attempts(deadline=1):
            with attempt:
                made.append(otel_resilience.remaining())
                raise TransientFault

    with disabled(), pytest.raises(TransientFault):
        loop()
    assert made == [None]


def test_a_breaker_as_a_block() -> None:
    breaker = CircuitBreaker("supplier", CircuitBreakerConfig(failure_threshold=1))
    breaker.force_open()
    passed = False
    with disabled(), breaker:
        passed = True
    assert passed
    assert breaker.state.name == "FORCED_OPEN"


def test_neither_a_fallback_nor_a_verdict_on_results(clock: FakeClock, driver: Driver) -> None:
    policy = make_policy(clock, fallback="stale", retry_result=lambda result: result == "bad")
    assert driver.execute(policy, Script(TransientFault())) == "stale"
    with disabled():
        with pytest.raises(TransientFault):
            driver.execute(policy, Script(TransientFault()))
        script = Script("bad", "good")
        assert driver.execute(policy, script) == "bad"
    assert script.calls == 1


def test_hooks_are_notified_all_the_same(clock: FakeClock, driver: Driver) -> None:
    seen: list[str] = []

    class Seen(Hooks):
        def on_error(self, dependency: str, operation: str, verdict: Classification, error: BaseException) -> None:
            seen.append(f"{dependency}: {verdict.error_type}")

        def on_success(self, dependency: str, operation: str) -> None:
            seen.append(f"{dependency}: success")

    policy = make_policy(clock, hooks=Seen())
    with disabled():
        with pytest.raises(TransientFault):
            driver.execute(policy, Script(TransientFault()))
        driver.execute(policy, lambda: None)
    assert seen == ["supplier: 503", "supplier: success"]


def test_blocks_nest_and_overlap(clock: FakeClock) -> None:
    first, second = disabled(), disabled()
    policy = make_policy(clock)
    policy.breaker.force_open()  # type: ignore[union-attr]
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert policy.execute(lambda: "still off") == "still off"
    second.__exit__(None, None, None)
    with pytest.raises(CircuitOpenError):
        policy.execute(lambda: "on")


def test_telemetry_says_so(clock: FakeClock) -> None:
    policy = make_policy(clock)
    with RecordedTelemetry().recording() as recorded:
        with disabled(), disabled(), pytest.raises(TransientFault):
            policy.execute(Script(TransientFault()).play, name="list plans")
        policy.execute(lambda: None, name="list plans")
    assert recorded.event_names()[0] == "resilience.disabled"
    assert recorded.event_names().count("resilience.disabled") == 1
    calls = [span for span in recorded.spans if span.name == "supplier list plans"]
    assert [(span.attributes or {}).get("resilience.disabled") for span in calls] == [True, None]
    assert [(span.attributes or {})["resilience.attempts"] for span in calls] == [1, 1]
    assert [(span.attributes or {})["resilience.outcome"] for span in calls] == ["failed", "ok"]
    assert recorded.points("resilience.errors")[0].value == 1


def test_without_opentelemetry_a_log_line_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "otel_resilience.events"), disabled():
        pass
    assert len(caplog.messages) == 1
    assert "the protection of otel_resilience is switched off" in caplog.text


SCRIPT = """
import logging, sys
logging.basicConfig(level="WARNING", stream=sys.stdout, format="%(message)s")
from otel_resilience import Policy, RetryConfig, disabled
calls = []
def fail():
    calls.append(1)
    raise ConnectionRefusedError
policy = Policy("supplier", retry=RetryConfig(base_delay=0))
for _ in range(2):
    with disabled():
        pass
    try:
        policy.execute(fail)
    except ConnectionRefusedError:
        pass
print("calls", len(calls))
"""


@pytest.mark.parametrize(("value", "calls", "said"), [("true", 2, 1), ("TRUE ", 2, 1), ("false", 6, 2), ("", 6, 2)])
def test_the_variable_switches_a_whole_process_off(value: str, calls: int, said: int) -> None:
    environ = {**os.environ, "OTEL_RESILIENCE_DISABLED": value}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    assert f"calls {calls}" in done.stdout
    assert done.stdout.count("switched off") == said, done.stdout


@pytest.mark.parametrize("value", ["1", "yes", "ture"])
def test_a_value_of_the_variable_that_switches_nothing_off_is_reported(value: str) -> None:
    """As OpenTelemetry has it, only ``true`` counts; in an emergency nobody may believe that another value did."""
    environ = {**os.environ, "OTEL_RESILIENCE_DISABLED": value}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    assert "calls 6" in done.stdout
    assert f"OTEL_RESILIENCE_DISABLED must be true or false, not '{value}': nothing is switched off" in done.stderr
