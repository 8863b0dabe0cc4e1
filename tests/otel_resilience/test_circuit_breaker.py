"""The circuit breaker in use; its state machine is compared with a model in test_breaker_model."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from otel_resilience import (
    BreakerState,
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitBreakerRegistry,
    CircuitOpenError,
    Policy,
    RetryConfig,
    TransitionReason,
    classify,
)
from otel_resilience.storage import MemoryStorage, SharedState
from otel_resilience.testing import FakeClock
from support.resilience import (
    Driver,
    NotFoundFault,
    Script,
    ThrottledFault,
    TransientFault,
    run_fake,
)

FIRST_FAILURE = CircuitBreakerConfig(consecutive_failures=1)


def make_breaker(clock: FakeClock, config: CircuitBreakerConfig | None = None) -> CircuitBreaker:
    return CircuitBreaker("supplier", config, clock=clock, rng=lambda: 1.0)


def trip(driver: Driver, breaker: CircuitBreaker, times: int = 5) -> None:
    for _ in range(times):
        with pytest.raises(TransientFault):
            driver.execute(breaker, Script(TransientFault()))
    assert breaker.state is BreakerState.OPEN


class TestTrip:
    def test_the_fifth_failure_in_a_row_opens_it(self, driver: Driver, clock: FakeClock) -> None:
        breaker = make_breaker(clock)
        trip(driver, breaker)
        transition = breaker.metrics().last_transition
        assert transition is not None
        assert (transition.source, transition.target) == (BreakerState.CLOSED, BreakerState.OPEN)
        assert transition.reason is TransitionReason.CONSECUTIVE_FAILURES
        assert (transition.failures, transition.calls, transition.error_type) == (5, 5, "503")
        assert (transition.at, transition.open_for) == (clock(), 5.0)

    def test_a_success_between_restarts_the_count(self, driver: Driver, clock: FakeClock) -> None:
        breaker = make_breaker(clock)
        for outcome in [TransientFault()] * 4 + ["value"] + [TransientFault()] * 4:
            if outcome == "value":
                driver.execute(breaker, Script(outcome))
            else:
                with pytest.raises(TransientFault):
                    driver.execute(breaker, Script(outcome))
        assert breaker.metrics().consecutive_failures == 4
        assert breaker.state is BreakerState.CLOSED

    def test_half_of_ten_calls_open_it(self, driver: Driver, clock: FakeClock) -> None:
        breaker = make_breaker(clock)
        for number in range(10):
            assert breaker.state is BreakerState.CLOSED
            if number % 2:
                with pytest.raises(TransientFault):
                    driver.execute(breaker, Script(TransientFault()))
            else:
                driver.execute(breaker, Script("value"))
        transition = breaker.metrics().last_transition
        assert transition is not None
        assert transition.reason is TransitionReason.FAILURE_RATE

    def test_the_threshold_within_the_monitoring_period_opens_it(self, driver: Driver, clock: FakeClock) -> None:
        breaker = make_breaker(clock, CircuitBreakerConfig(failure_threshold=3, reset_timeout=30, monitoring_period=60))
        for pause in (0, 30, 31, 28):  # the first has left the period when the third comes
            clock.advance(pause)
            assert breaker.state is BreakerState.CLOSED
            driver.execute(breaker, Script("value"))
            with pytest.raises(TransientFault):
                driver.execute(breaker, Script(TransientFault()))
        assert breaker.state is BreakerState.OPEN
        assert breaker.metrics().retry_after == 30

    def test_a_threshold_alone_switches_the_other_rules_off(self) -> None:
        config = CircuitBreakerConfig(failure_threshold=100)
        assert (config.failure_rate, config.consecutive_failures) == (None, None)
        config = CircuitBreakerConfig(failure_threshold=100, consecutive_failures=4)
        assert (config.failure_rate, config.consecutive_failures) == (None, 4)
        assert (CircuitBreakerConfig().failure_rate, CircuitBreakerConfig().consecutive_failures) == (0.5, 5)

    @pytest.mark.fault("F09")
    def test_slow_calls_open_it(self, driver: Driver, clock: FakeClock) -> None:
        config = CircuitBreakerConfig(slow_call_duration=2.0, slow_call_rate=0.5, minimum_calls=4)
        breaker = make_breaker(clock, config)
        for duration in (0.0, 1.9, 2.0, 3.0):
            assert breaker.state is BreakerState.CLOSED
            driver.execute(breaker, Script(lambda duration=duration: clock.advance(duration)))
        transition = breaker.metrics().last_transition
        assert transition is not None
        assert (transition.target, transition.reason) == (BreakerState.OPEN, TransitionReason.SLOW_CALL_RATE)

    def test_a_proper_refusal_counts_as_success(self, driver: Driver, clock: FakeClock) -> None:
        breaker = make_breaker(clock)
        for _ in range(20):
            with pytest.raises(NotFoundFault):
                driver.execute(breaker, Script(NotFoundFault()))
        metrics = breaker.metrics()
        assert (metrics.state, metrics.calls, metrics.failures) == (BreakerState.CLOSED, 20, 0)

    def test_throttling_and_interruptions_count_as_nothing(self, driver: Driver, clock: FakeClock) -> None:
        breaker = make_breaker(clock, FIRST_FAILURE)
        for error in (ThrottledFault(), KeyboardInterrupt(), SystemExit(), asyncio.CancelledError()):
            with pytest.raises(type(error)):
                driver.execute(breaker, Script(error))
        assert breaker.metrics().calls == 0

    def test_a_bug_in_the_operation_says_nothing_about_the_dependency(self, driver: Driver, clock: FakeClock) -> None:
        breaker = make_breaker(clock, FIRST_FAILURE)
        with pytest.raises(ZeroDivisionError):
            driver.execute(breaker, Script(lambda: 1 / 0))
        assert breaker.metrics().calls == 0

    def test_an_error_that_no_rule_knows_counts(self, driver: Driver, clock: FakeClock) -> None:
        breaker = make_breaker(clock, FIRST_FAILURE)
        with pytest.raises(ValueError, match="of any kind"):
            driver.execute(breaker, Script(ValueError("of any kind")))
        assert breaker.state is BreakerState.OPEN


class TestReject:
    def test_an_open_circuit_sends_nothing_and_says_when_to_come_back(self, driver: Driver, clock: FakeClock) -> None:
        breaker = make_breaker(clock)
        trip(driver, breaker)
        clock.advance(1.5)
        script = Script("value")
        with pytest.raises(CircuitOpenError) as caught:
            driver.execute(breaker, script)
        assert script.calls == 0
        assert (caught.value.dependency, caught.value.retry_after) == ("supplier", 3.5)
        assert str(caught.value) == "the circuit of supplier is open; a call may pass in 3.500 s"
        verdict = classify(caught.value)
        assert (verdict.error_type, verdict.retryable, verdict.unsent, verdict.counts) == (
            "circuit_open",
            False,
            True,
            False,
        )

    def test_each_rejection_is_a_fresh_exception(self, driver: Driver, clock: FakeClock) -> None:
        breaker = make_breaker(clock)
        trip(driver, breaker)
        seen = []
        for _ in range(3):
            clock.advance(1)
            with pytest.raises(CircuitOpenError) as caught:
                driver.execute(breaker, Script("value"))
            seen.append(caught.value)
        assert len({id(error) for error in seen}) == 3
        assert [error.retry_after for error in seen] == [4, 3, 2]
        assert breaker.metrics().rejected == 3

    def test_a_forced_one_knows_no_time(self, driver: Driver, clock: FakeClock) -> None:
        breaker = make_breaker(clock)
        breaker.force_open()
        clock.advance(1e6)
        with pytest.raises(CircuitOpenError, match="was forced open") as caught:
            driver.execute(breaker, Script("value"))
        assert caught.value.retry_after is None
        assert breaker.state is BreakerState.FORCED_OPEN


class TestHalfOpen:
    def test_a_good_probe_closes_it(self, driver: Driver, clock: FakeClock) -> None:
        breaker = make_breaker(clock)
        trip(driver, breaker)
        clock.advance(5)
        assert breaker.state is BreakerState.HALF_OPEN
        assert driver.execute(breaker, Script("value")) == "value"
        metrics = breaker.metrics()
        assert (metrics.state, metrics.calls, metrics.consecutive_failures) == (BreakerState.CLOSED, 0, 0)
        assert metrics.last_transition is not None
        assert metrics.last_transition.reason is TransitionReason.PROBE_SUCCEEDED
        assert metrics.last_transition.open_duration == 5

    def test_a_bad_probe_opens_it_for_longer(self, driver: Driver, clock: FakeClock) -> None:
        breaker = make_breaker(clock)
        trip(driver, breaker)
        for expected in (10, 20, 40, 60, 60):
            retry_after = breaker.metrics().retry_after
            assert retry_after is not None
            clock.advance(retry_after)
            with pytest.raises(TransientFault):
                driver.execute(breaker, Script(TransientFault()))
            assert breaker.metrics().retry_after == expected

    def test_the_recovery_is_measured_from_the_first_opening(self, driver: Driver, clock: FakeClock) -> None:
        breaker = make_breaker(clock)
        trip(driver, breaker)
        for pause in (5, 10):
            clock.advance(pause)
            with pytest.raises(TransientFault):
                driver.execute(breaker, Script(TransientFault()))
        clock.advance(20)
        driver.execute(breaker, Script("value"))
        transition = breaker.metrics().last_transition
        assert transition is not None
        assert transition.open_duration == 35

    @pytest.mark.fault("F34")
    def test_a_herd_of_a_thousand_makes_exactly_one_probe(self, clock: FakeClock) -> None:
        breaker = make_breaker(clock)
        trip(Driver(clock, asynchronous=False), breaker)
        clock.advance(5)
        on_the_wire: list[int] = []

        async def operation() -> str:
            on_the_wire.append(1)
            await asyncio.sleep(0.5)
            return "value"

        async def main() -> list[Any]:
            calls = [breaker.execute(operation) for _ in range(1000)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            return list(results)

        results = run_fake(clock, main())
        assert len(on_the_wire) == 1
        assert results.count("value") == 1
        assert sum(isinstance(result, CircuitOpenError) for result in results) == 999
        assert breaker.metrics().rejected == 999
        assert breaker.state is BreakerState.CLOSED

    @pytest.mark.fault("F35")
    def test_a_cancelled_probe_is_neutral_and_gives_its_slot_back(self, clock: FakeClock) -> None:
        breaker = make_breaker(clock)
        driver = Driver(clock, asynchronous=True)
        trip(driver, breaker)
        clock.advance(5)
        before = breaker.metrics().last_transition

        async def hangs() -> None:
            await asyncio.sleep(100)

        async def main() -> None:
            task = asyncio.ensure_future(breaker.execute(hangs))
            await asyncio.sleep(1)
            with pytest.raises(CircuitOpenError):
                await breaker.execute(hangs)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        run_fake(clock, main())
        assert breaker.state is BreakerState.HALF_OPEN
        assert before is not None
        assert breaker.metrics().last_transition is before  # the one to half-open
        assert driver.execute(breaker, Script("value")) == "value"
        assert breaker.metrics().state is BreakerState.CLOSED

    def test_a_throttled_probe_is_neutral_too(self, driver: Driver, clock: FakeClock) -> None:
        breaker = make_breaker(clock)
        trip(driver, breaker)
        clock.advance(5)
        with pytest.raises(ThrottledFault):
            driver.execute(breaker, Script(ThrottledFault()))
        assert breaker.state is BreakerState.HALF_OPEN
        driver.execute(breaker, Script("value"))
        assert breaker.metrics().state is BreakerState.CLOSED

    @pytest.mark.fault("F36")
    def test_a_probe_that_hangs_loses_its_lease(self, clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
        breaker = make_breaker(clock, CircuitBreakerConfig(consecutive_failures=1, probe_lease=11))
        trip(Driver(clock, asynchronous=False), breaker, times=1)
        clock.advance(5)
        silent = breaker.admit()
        with pytest.raises(CircuitOpenError) as caught:
            breaker.admit()
        assert caught.value.retry_after == 11
        clock.advance(10.75)
        with pytest.raises(CircuitOpenError) as caught:
            breaker.admit()
        assert caught.value.retry_after == 0.25
        clock.advance(0.25)
        with caplog.at_level(logging.WARNING, logger="otel_resilience.events"):
            fresh = breaker.admit()
        assert "1 probe(s) did not answer within the lease" in caplog.text
        with pytest.raises(CircuitOpenError):
            breaker.admit()
        breaker.record_success(silent, clock() - 11)
        assert breaker.state is BreakerState.CLOSED  # the lease cost the slot, not the verdict
        breaker.record_success(fresh, clock())
        assert breaker.metrics().stale_results == 1

    @pytest.mark.parametrize("outcome", ["success", "failure"])
    @pytest.mark.fault("F37")
    def test_a_late_result_of_the_closed_era_is_dropped(self, clock: FakeClock, outcome: str) -> None:
        breaker = make_breaker(clock, FIRST_FAILURE)
        started = clock()
        late = breaker.admit()
        trip(Driver(clock, asynchronous=False), breaker, times=1)
        clock.advance(5)
        assert breaker.state is BreakerState.HALF_OPEN
        transition = breaker.metrics().last_transition
        if outcome == "success":
            breaker.record_success(late, started)
        else:
            fault = TransientFault()
            breaker.record_error(late, classify(fault), started, fault)
        metrics = breaker.metrics()
        assert metrics.state is BreakerState.HALF_OPEN
        assert metrics.last_transition is transition
        assert metrics.stale_results == 1

    def test_the_late_caller_still_gets_its_own_result(self, clock: FakeClock) -> None:
        breaker = make_breaker(clock, FIRST_FAILURE)

        async def slow() -> str:
            await asyncio.sleep(3)
            return "late"

        async def fails() -> None:
            raise TransientFault

        async def main() -> str:
            task = asyncio.ensure_future(breaker.execute(slow))
            await asyncio.sleep(1)
            with pytest.raises(TransientFault):
                await breaker.execute(fails)
            return await task

        assert run_fake(clock, main()) == "late"
        assert breaker.state is BreakerState.OPEN

    def test_several_probes_where_configured(self, driver: Driver, clock: FakeClock) -> None:
        breaker = make_breaker(clock, CircuitBreakerConfig(consecutive_failures=1, half_open_max_calls=3))
        trip(driver, breaker, times=1)
        clock.advance(5)
        permits = [breaker.admit() for _ in range(3)]
        with pytest.raises(CircuitOpenError):
            breaker.admit()
        for permit in permits:
            assert breaker.state is BreakerState.HALF_OPEN
            breaker.record_success(permit, clock())
        assert breaker.state is BreakerState.CLOSED


class TestByHand:
    def test_force_open_close_and_reset(self, driver: Driver, clock: FakeClock) -> None:
        breaker = make_breaker(clock)
        breaker.force_open()
        assert breaker.state.name == "FORCED_OPEN"
        assert breaker.metrics().retry_after is None
        breaker.close()
        assert breaker.state.name == "CLOSED"
        assert driver.execute(breaker, Script("value")) == "value"
        trip(driver, breaker)
        breaker.reset()
        metrics = breaker.metrics()
        assert (metrics.state, metrics.opened, metrics.rejected, metrics.calls) == (BreakerState.CLOSED, 0, 0, 0)
        trip(driver, breaker)
        assert breaker.metrics().retry_after == 5  # the open time starts anew

    def test_a_result_from_before_is_dropped(self, clock: FakeClock) -> None:
        breaker = make_breaker(clock, FIRST_FAILURE)
        permit = breaker.admit()
        breaker.reset()
        fault = TransientFault()
        breaker.record_error(permit, classify(fault), clock(), fault)
        assert breaker.state is BreakerState.CLOSED
        assert breaker.metrics().stale_results == 1


class TestShadow:
    def test_everything_passes_and_rejections_are_only_counted(self, driver: Driver, clock: FakeClock) -> None:
        breaker = make_breaker(clock, CircuitBreakerConfig(shadow=True))
        script = Script(TransientFault())
        for _ in range(8):
            with pytest.raises(TransientFault):
                driver.execute(breaker, script)
        assert script.calls == 8
        metrics = breaker.metrics()
        assert (metrics.state, metrics.would_be_state) == (BreakerState.SHADOW, BreakerState.OPEN)
        assert metrics.rejected == 3
        clock.advance(5)
        assert driver.execute(breaker, Script("value")) == "value"
        assert breaker.metrics().would_be_state is BreakerState.CLOSED
        assert breaker.state.name == "SHADOW"


class TestMetrics:
    def test_they_show_counts_rates_state_and_time(self, driver: Driver, clock: FakeClock) -> None:
        breaker = make_breaker(clock, CircuitBreakerConfig(slow_call_duration=1.0, slow_call_rate=1.0))
        driver.execute(breaker, Script("value"))
        driver.execute(breaker, Script(lambda: clock.advance(1)))
        with pytest.raises(TransientFault):
            driver.execute(breaker, Script(TransientFault()))
        driver.execute(breaker, Script("value"))
        metrics = breaker.metrics()
        assert (metrics.dependency, metrics.state) == ("supplier", BreakerState.CLOSED)
        assert (metrics.calls, metrics.failures, metrics.slow_calls) == (4, 1, 1)
        assert (metrics.failure_rate, metrics.slow_call_rate) == (0.25, 0.25)
        assert (metrics.time_in_state, metrics.retry_after, metrics.last_transition) == (1.0, 0.0, None)
        clock.advance(60)
        assert (breaker.metrics().calls, breaker.metrics().failure_rate) == (0, 0.0)

    def test_reading_them_counts_nothing(self, clock: FakeClock) -> None:
        breaker = make_breaker(clock)
        breaker.execute(lambda: 1)
        assert [breaker.metrics().calls for _ in range(3)] == [1, 1, 1]

    def test_they_see_an_open_time_that_has_ended(self, driver: Driver, clock: FakeClock) -> None:
        breaker = make_breaker(clock)
        trip(driver, breaker)
        clock.advance(5)
        metrics = breaker.metrics()
        assert (metrics.state, metrics.retry_after) == (BreakerState.HALF_OPEN, 0.0)


class TestRegistry:
    def test_each_dependency_has_one_breaker(self, clock: FakeClock) -> None:
        registry = CircuitBreakerRegistry(FIRST_FAILURE, clock=clock)
        supplier = registry.get("supplier")
        assert registry.get("supplier") is supplier
        redis = registry.get("redis", CircuitBreakerConfig(failure_threshold=9))
        assert supplier.config is FIRST_FAILURE
        assert redis.config.failure_threshold == 9
        assert len(registry) == 2
        assert {breaker.dependency for breaker in registry} == {"supplier", "redis"}
        supplier.force_open()
        assert {name: metrics.state.name for name, metrics in registry.metrics().items()} == {
            "supplier": "FORCED_OPEN",
            "redis": "CLOSED",
        }

    def test_threads_that_ask_at_once_get_the_same(self) -> None:
        registry = CircuitBreakerRegistry()
        barrier = threading.Barrier(8)
        found: list[CircuitBreaker] = []

        def work() -> None:
            barrier.wait(60)
            found.append(registry.get("supplier"))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(map(id, found))) == 1


class TestConcurrency:
    def test_no_lock_is_held_while_the_operation_runs(self) -> None:
        breaker = CircuitBreaker("supplier")
        together = threading.Barrier(8)

        def operation() -> None:
            together.wait(60)  # breaks unless all eight are inside at once
            breaker.metrics()

        threads = [threading.Thread(target=breaker.execute, args=(operation,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not together.broken
        assert breaker.metrics().calls == 8

    @pytest.mark.fault("F57")
    def test_threads_and_loops_share_one_state(self, clock: FakeClock) -> None:
        breaker = CircuitBreaker("supplier", CircuitBreakerConfig(failure_threshold=10**6), clock=clock)
        wrong: list[BaseException] = []

        async def async_value() -> str:
            await asyncio.sleep(0)
            return "value"

        async def async_failure() -> str:
            raise TransientFault

        async def in_loop() -> None:
            for _ in range(100):
                assert await breaker.execute(async_value) == "value"
                with pytest.raises(TransientFault):
                    await breaker.execute(async_failure)

        def in_thread() -> None:
            for _ in range(100):
                assert breaker.execute(lambda: "value") == "value"
                with pytest.raises(TransientFault):
                    breaker.execute(Script(TransientFault()).play)

        def guarded(work: Any) -> None:
            try:
                work()
            except BaseException as error:
                wrong.append(error)

        works: list[Any] = [in_thread] * 3 + [lambda: asyncio.run(in_loop())] * 3
        threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        metrics = breaker.metrics()
        assert (metrics.calls, metrics.failures) == (1200, 600)

    def test_threads_make_one_probe_between_them(self, clock: FakeClock) -> None:
        breaker = make_breaker(clock, FIRST_FAILURE)
        trip(Driver(clock, asynchronous=False), breaker, times=1)
        clock.advance(5)
        start = threading.Barrier(8)
        finish = threading.Event()
        probes: list[int] = []
        rejected: list[int] = []

        def operation() -> None:
            probes.append(1)
            finish.wait(60)

        def work() -> None:
            start.wait(60)
            try:
                breaker.execute(operation)
            except CircuitOpenError:
                rejected.append(1)
                if len(rejected) == 7:
                    finish.set()

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(probes), len(rejected)) == (1, 7)

    @pytest.mark.skipif(sys.platform == "win32", reason="needs os.fork")
    def test_a_forked_child_makes_a_probe_of_its_own(self) -> None:
        script = textwrap.dedent(
            """
            import os, sys
            from otel_resilience import CircuitBreaker, CircuitBreakerConfig
            from otel_resilience.testing import FakeClock

            clock = FakeClock()
            breaker = CircuitBreaker("supplier", CircuitBreakerConfig(failure_threshold=1), clock=clock)
            try:
                with breaker:
                    raise ConnectionError
            except ConnectionError:
                clock.advance(60)

            probe = breaker.admit()
            child = os.fork()
            if child == 0:
                breaker.execute(lambda: "value")
                os._exit(0 if breaker.state.name == "CLOSED" else 1)
            assert breaker.state.name == "HALF_OPEN"
            breaker.record_success(probe, clock())
            assert breaker.state.name == "CLOSED"
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            """
        )
        result = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=60, check=False
        )
        assert result.returncode == 0, result.stderr

    @pytest.mark.skipif(sys.platform == "win32", reason="needs os.fork")
    @pytest.mark.fault("F57")
    def test_a_forked_child_does_not_inherit_a_held_lock(self) -> None:
        script = textwrap.dedent(
            """
            import os, sys, threading
            from otel_resilience import CircuitBreakerRegistry, Policy, CircuitBreakerConfig, RetryConfig

            registry = CircuitBreakerRegistry()
            breaker = registry.get("supplier")
            policy = Policy("supplier", breaker=breaker, retry=RetryConfig(base_delay=0))
            held, release = threading.Event(), threading.Event()

            def hold():
                with breaker._lock, registry._lock, policy.budget._lock:
                    held.set()
                    release.wait(60)

            thread = threading.Thread(target=hold)
            thread.start()
            held.wait(60)
            child = os.fork()
            if child == 0:
                outcomes = [ConnectionError(), None]

                def operation():
                    error = outcomes.pop(0)
                    if error is not None:
                        raise error
                    return "value"

                ok = policy.execute(operation) == "value" and breaker.metrics().failures == 1
                ok = ok and registry.get("other").state.name == "CLOSED"
                os._exit(0 if ok else 1)
            release.set()
            thread.join()
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            """
        )
        result = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=120, check=False
        )
        assert result.returncode == 0, result.stderr


@pytest.mark.fault("F39")
def test_the_wall_clock_is_never_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def guard(read: Any) -> Any:
        def jumped() -> Any:
            caller = sys._getframe(1).f_globals["__name__"]
            assert caller == "logging", f"{caller} reads the wall clock"  # it stamps its own records
            return read()

        return jumped

    monkeypatch.setattr(time, "time", guard(time.time))
    monkeypatch.setattr(time, "time_ns", guard(time.time_ns))
    policy = Policy(
        "supplier",
        retry=RetryConfig(base_delay=0.0001, max_delay=0.0001),
        breaker=CircuitBreakerConfig(consecutive_failures=2, reset_timeout=60),
        deadline=30,
        attempt_timeout=10,
    )
    assert policy.execute(Script(TransientFault(), "value").play) == "value"
    with pytest.raises(CircuitOpenError):
        policy.execute(Script(TransientFault()).play)
    assert policy.breaker is not None
    assert policy.breaker.state is BreakerState.OPEN


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"failure_threshold": 0}, ValueError, "failure_threshold must be at least 1, not 0"),
        ({"failure_threshold": 2.0}, TypeError, "failure_threshold must be a whole number, not 2.0"),
        ({"failure_threshold": True}, TypeError, "failure_threshold must be a whole number, not True"),
        ({"consecutive_failures": 0}, ValueError, "consecutive_failures must be at least 1, not 0"),
        ({"consecutive_failures": -1}, ValueError, "consecutive_failures must be at least 1, not -1"),
        ({"failure_rate": 0}, ValueError, "failure_rate must be greater than 0 and at most 1, not 0"),
        ({"failure_rate": -1}, ValueError, "failure_rate must be greater than 0 and at most 1, not -1"),
        ({"failure_rate": -1.0}, ValueError, "failure_rate must be greater than 0 and at most 1, not -1.0"),
        ({"failure_rate": 50}, ValueError, "failure_rate must be greater than 0 and at most 1, not 50"),
        ({"failure_rate": float("nan")}, ValueError, "failure_rate"),
        ({"slow_call_rate": "0.5"}, TypeError, "slow_call_rate must be a number, not '0.5'"),
        ({"slow_call_duration": 0}, ValueError, "slow_call_duration must be greater than 0, not 0"),
        ({"monitoring_period": -60}, ValueError, "monitoring_period must be greater than 0, not -60"),
        ({"reset_timeout": float("inf")}, ValueError, "reset_timeout must be finite, not inf"),
        ({"reset_timeout": "30"}, TypeError, "reset_timeout must be a number, not '30'"),
        (
            {"reset_timeout": 30, "max_reset_timeout": 20},
            ValueError,
            r"max_reset_timeout must be at least reset_timeout \(30\), not 20",
        ),
        ({"half_open_max_calls": 0}, ValueError, "half_open_max_calls must be at least 1, not 0"),
        ({"minimum_calls": None}, TypeError, "minimum_calls must be a whole number, not None"),
        ({"probe_lease": 0}, ValueError, "probe_lease must be greater than 0, not 0"),
        ({"max_retry_after": -1}, ValueError, "max_retry_after must be at least 0, not -1"),
    ],
)
def test_a_wrong_configuration_is_refused_by_name(options: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        CircuitBreakerConfig(**options)


def test_a_long_reset_timeout_lifts_the_cap() -> None:
    assert CircuitBreakerConfig(reset_timeout=600).open_time_cap == 600
    assert CircuitBreakerConfig().open_time_cap == 60


async def test_a_coroutine_that_is_rejected_before_it_is_awaited_is_closed() -> None:
    breaker = CircuitBreaker("supplier")

    async def operation() -> int:
        return 1

    pending = breaker.execute(lambda: operation())
    breaker.force_open()
    with pytest.raises(CircuitOpenError):
        await pending


class TestClocksThatBeginBelowZero:
    """Only differences of readings mean anything."""

    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock(start=-1000.0)

    @pytest.mark.parametrize("slow_call_duration", [None, 5.0])
    def test_calls_are_counted(self, clock: FakeClock, slow_call_duration: float | None) -> None:
        breaker = CircuitBreaker("supplier", CircuitBreakerConfig(slow_call_duration=slow_call_duration), clock=clock)
        assert breaker.execute(lambda: "value") == "value"
        with breaker:
            pass
        assert breaker.metrics().calls == 2

    def test_probes_pass(self, clock: FakeClock) -> None:
        breaker = CircuitBreaker("supplier", CircuitBreakerConfig(failure_threshold=1), clock=clock)

        async def value() -> str:
            return "value"

        probes: list[Callable[[], str]] = [
            lambda: breaker.execute(lambda: "value"),
            lambda: run_fake(clock, breaker.execute(value)),
        ]
        for probe in probes:
            with pytest.raises(TransientFault):
                breaker.execute(Script(TransientFault()).play)
            with pytest.raises(CircuitOpenError):
                run_fake(clock, breaker.execute(value))
            clock.advance(10)
            assert probe() == "value"
            assert breaker.state is BreakerState.CLOSED

    def test_probes_of_a_shared_one_pass(self, clock: FakeClock) -> None:
        shared = SharedState(MemoryStorage(clock=clock))
        policy = Policy("supplier", breaker=CircuitBreakerConfig(failure_threshold=1), shared=shared, clock=clock)
        with pytest.raises(TransientFault):
            policy.execute(Script(TransientFault()).play)
        clock.advance(10)
        assert policy.execute(lambda: "value") == "value"


@pytest.mark.parametrize("period", [5e-324, 1e-300, 1e-9, 1e300])
def test_a_period_of_any_length_covers_calls(period: float) -> None:
    breaker = CircuitBreaker("supplier", CircuitBreakerConfig(monitoring_period=period, consecutive_failures=2))
    assert breaker.execute(lambda: "value") == "value"
    for _ in range(2):
        with pytest.raises(TransientFault):
            breaker.execute(Script(TransientFault()).play)
    assert breaker.state is BreakerState.OPEN
