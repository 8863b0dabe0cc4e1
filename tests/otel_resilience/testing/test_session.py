"""What the fixture ``resilience`` provides: no waits, fresh state, recorded telemetry, a clock on demand."""

from __future__ import annotations

import asyncio
import importlib.util
import threading
import time
from collections.abc import Iterator

import pytest

from otel_resilience import (
    AttemptTimeoutError,
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitBreakerRegistry,
    CircuitOpenError,
    ConcurrencyLimit,
    ConcurrencyLimitError,
    DeadlineExceededError,
    Policy,
    PolicyRegistry,
    RateLimit,
    RateLimiter,
    RetryBudget,
    RetryConfig,
    RetryService,
    retry,
)
from otel_resilience.storage import MemoryStorage, SharedState
from otel_resilience.testing import FakeClock, RecordedCall, Resilience, faults
from support.resilience import Script, TransientFault

HOUR = RetryConfig(base_delay=3600, max_delay=3600, jitter=False)


@pytest.fixture
def session() -> Iterator[Resilience]:
    with Resilience().active() as active:
        yield active


def flaky() -> Script:
    return Script(TransientFault(), TransientFault(), "value")


class TestWaits:
    def test_none_are_made_and_all_are_listed(self, session: Resilience) -> None:
        assert Policy("supplier", retry=HOUR).execute(flaky().play) == "value"
        assert session.waits == [3600, 3600]

    def test_by_policies_made_before_too(self) -> None:
        policy, service = Policy("supplier", retry=HOUR), RetryService("supplier")
        decorated = retry(HOUR, on=None, dependency="supplier")(flaky().play)
        with Resilience().active() as session:
            assert policy.execute(flaky().play) == "value"
            assert service.execute_with_retry(flaky().play, HOUR) == "value"
            assert decorated() == "value"
            assert session.waits == [3600] * 6
        assert policy.sleep is time.sleep
        assert policy.async_sleep is asyncio.sleep

    async def test_nor_by_async_def(self, session: Resilience) -> None:
        script = flaky()

        @Policy("supplier", retry=HOUR)
        async def list_plans() -> object:
            return script.play()

        assert await list_plans() == "value"
        assert session.waits == [3600, 3600]

    def test_nor_outside_asyncio(self, session: Resilience) -> None:
        script = flaky()

        async def list_plans() -> object:
            return script.play()

        session.clock.advance(1)
        with pytest.raises(StopIteration) as done:
            Policy("supplier", retry=HOUR).execute(list_plans).send(None)
        assert done.value.value == "value"
        assert session.waits == [3600, 3600]

    def test_nor_for_the_permits_of_a_rate_limit(self) -> None:
        policy = Policy("supplier", rate_limit=RateLimit(1, per=60, margin=0))
        with Resilience().active() as session:
            before = session.clock()
            for _ in range(3):
                policy.execute(lambda: None)
            assert session.waits == [60, 60]
            assert session.clock() == pytest.approx(before + 120)
        with Resilience().active() as session:
            policy.execute(lambda: None)
            assert session.waits == []

    async def test_nor_for_those_of_an_async_def_or_of_a_limiter_alone(self, session: Resilience) -> None:
        limiter = RateLimiter("supplier", RateLimit(1, per=60, margin=0))
        clock = session.clock

        async def operation() -> float:
            return clock()

        policy = Policy("supplier", rate_limit=limiter)
        first, second = [await policy.execute(operation) for _ in range(2)]
        await limiter.acquire_async()
        assert (second - first, clock() - second) == (60, 60)

    def test_a_clock_that_the_test_brought_is_left_alone(self, session: Resilience) -> None:
        clock = FakeClock()
        policy = Policy("supplier", retry=HOUR, clock=clock, sleep=clock.sleep)
        policy.execute(flaky().play)
        assert session.clock is not policy.clock
        assert clock.sleeps == [3600, 3600]


class TestFreshState:
    def test_circuits_and_budgets_are_as_new_before_and_after(self) -> None:
        policy = Policy("supplier", retry=RetryConfig(base_delay=0), breaker=CircuitBreakerConfig(failure_threshold=1))
        breaker = CircuitBreaker("other")
        budget = RetryBudget("other")

        def wear_out() -> None:
            with pytest.raises((TransientFault, CircuitOpenError)):
                policy.execute(Script(TransientFault()).play)
            breaker.force_open()
            while budget.take(10):
                pass

        def as_new() -> bool:
            states = {each.state.name for each in (policy.breaker, breaker) if each is not None}
            return states == {"CLOSED"} and budget.metrics().tokens == 100 and not budget.metrics().granted

        wear_out()
        assert not as_new()
        with Resilience().active():
            assert as_new()
            wear_out()
            assert not as_new()
        assert as_new()

    def test_registries_make_their_policies_again(self) -> None:
        policies = PolicyRegistry(lambda host: Policy(host, breaker=CircuitBreakerConfig()))
        breakers = CircuitBreakerRegistry()
        before = policies["host"]
        breakers.get("host").force_open()
        with Resilience().active():
            inside = policies["host"]
            assert inside is not before
            assert breakers.get("host").state.name == "CLOSED"
        assert policies["host"] is not inside

    def test_what_a_storage_shares_stays_as_it_is_there(self) -> None:
        def protected() -> Policy:
            return Policy("supplier", breaker=CircuitBreakerConfig(), shared=shared)

        shared = SharedState(MemoryStorage())
        policy = protected()
        assert policy.breaker is not None
        policy.breaker.force_open()
        with Resilience().active(), pytest.raises(CircuitOpenError):
            protected().execute(lambda: None)

    def test_it_ends_also_with_an_error(self) -> None:
        def test() -> None:
            with Resilience().active() as session:
                session.clock.advance(30)
                raise KeyError

        with pytest.raises(KeyError):
            test()
        policy = Policy("supplier", breaker=CircuitBreakerConfig())
        assert (policy.clock, policy.sleep) == (time.monotonic, time.sleep)


class TestClock:
    def test_it_moves_open_circuits_to_half_open(self) -> None:
        policy = Policy("supplier", breaker=CircuitBreakerConfig(failure_threshold=1, reset_timeout=20))
        assert policy.breaker is not None
        with Resilience().active() as session:
            with pytest.raises(TransientFault):
                policy.execute(Script(TransientFault()).play)
            assert policy.breaker.state.name == "OPEN"
            session.clock.advance(30)
            assert policy.breaker.state.name == "HALF_OPEN"
            assert policy.execute(lambda: "value") == "value"
            assert policy.breaker.state.name == "CLOSED"
        assert policy.breaker.clock is time.monotonic

    def test_of_breakers_and_budgets_made_later_too(self, session: Resilience) -> None:
        session.clock.advance(1000)
        config = CircuitBreakerConfig(failure_threshold=1, reset_timeout=20)
        breakers = [CircuitBreaker("a", config), CircuitBreakerRegistry(config).get("b")]
        for breaker in breakers:
            with pytest.raises(TransientFault):
                breaker.execute(Script(TransientFault()).play)
            assert breaker.state.name == "OPEN"
        session.clock.advance(30)
        assert {breaker.state.name for breaker in breakers} == {"HALF_OPEN"}
        budget = RetryBudget("a")
        assert budget.take(100)
        session.clock.advance(100)
        assert budget.metrics().tokens == 20

    def test_waits_move_it(self, session: Resilience) -> None:
        before = session.clock()
        Policy("supplier", retry=HOUR).execute(flaky().play)
        assert session.clock() == pytest.approx(before + 7200)
        assert session.clock.sleeps == session.waits == [3600, 3600]

    def test_a_deadline_is_met_on_it(self, session: Resilience) -> None:
        clock = session.clock
        policy = Policy("supplier", retry=HOUR, deadline=4000)

        def operation() -> None:
            clock.sleep(5000)
            raise TransientFault

        with pytest.raises(TransientFault):
            policy.execute(operation, name="slow")
        assert session.call("slow").outcome == "deadline"


class TestTimeLimits:
    def test_a_def_that_sleeps_on_the_clock_is_cut_at_once(self, session: Resilience) -> None:
        clock = session.clock
        policy = Policy("supplier", attempt_timeout=10)
        with pytest.raises(AttemptTimeoutError):
            policy.execute(lambda: clock.sleep(60))
        assert policy.execute(lambda: clock.sleep(9)) is None

    def test_even_if_it_raised_when_it_was_too_late(self, session: Resilience) -> None:
        clock = session.clock

        def operation() -> None:
            clock.sleep(60)
            raise KeyError

        with pytest.raises(AttemptTimeoutError) as caught:
            Policy("supplier", attempt_timeout=10).execute(operation)
        assert isinstance(caught.value.__cause__, KeyError)

    def test_an_injected_latency_meets_it(self, session: Resilience) -> None:
        before = session.clock()
        policy = Policy("supplier", retry=HOUR, attempt_timeout=10, idempotent=True)
        with faults.inject(latency=60, times=2):
            assert policy.execute(lambda: "value", name="list plans") == "value"
        session.assert_call("list plans", attempts=3, outcome="ok_after_retry")
        assert session.clock() == pytest.approx(before + 2 * (60 + 3600))

    def test_a_def_that_hangs_is_cut_without_the_wait(self, session: Resilience) -> None:
        before = session.clock()
        go_on = threading.Event()
        with pytest.raises(AttemptTimeoutError):
            Policy("supplier", attempt_timeout=3600).execute(go_on.wait)
        go_on.set()
        assert session.clock() == pytest.approx(before + 3600)

    async def test_what_takes_a_moment_of_real_time_is_not_taken_to_hang(self, session: Resilience) -> None:
        before = session.clock()
        policy = Policy("supplier", attempt_timeout=3600)
        moment = threading.Event()
        assert await asyncio.to_thread(policy.execute, lambda: moment.wait(0.2)) is False
        assert await policy.execute(lambda: asyncio.to_thread(moment.wait, 0.2)) is False
        assert session.clock() == before

    def test_results_and_errors_in_time_are_the_callers(self, session: Resilience) -> None:
        policy = Policy("supplier", attempt_timeout=session.clock() and 10)
        assert policy.execute(lambda: "value") == "value"
        with pytest.raises(KeyError):
            policy.execute(Script(KeyError()).play)

    async def test_an_async_def_that_sleeps_on_the_clock_is_cut(self, session: Resilience) -> None:
        clock = session.clock

        async def operation(seconds: float) -> str:
            await clock.async_sleep(seconds)
            return "value"

        policy = Policy("supplier", attempt_timeout=10)
        with pytest.raises(AttemptTimeoutError):
            await policy.execute(lambda: operation(60))
        with pytest.raises(DeadlineExceededError):
            await Policy("supplier", deadline=10).execute(lambda: operation(60))
        assert await policy.execute(lambda: operation(9)) == "value"
        clock.advance(60)
        assert await policy.execute(lambda: operation(0)) == "value"

    async def test_an_async_def_that_hangs_is_cut_without_the_wait(self, session: Resilience) -> None:
        before = session.clock()
        policy = Policy("supplier", attempt_timeout=3600)

        async def hang() -> None:
            await asyncio.Event().wait()

        with pytest.raises(AttemptTimeoutError):
            await policy.execute(hang)
        assert session.clock() >= before + 3600

    async def test_the_clock_may_move_in_another_thread(self, session: Resilience) -> None:
        clock = session.clock

        async def operation() -> None:
            await asyncio.to_thread(clock.advance, 60)
            await asyncio.Event().wait()

        with pytest.raises(AttemptTimeoutError):
            await Policy("supplier", attempt_timeout=10).execute(operation)


class TestSlots:
    def test_a_useless_wait_ends_on_the_clock(self, session: Resilience) -> None:
        before = session.clock()
        policy = Policy("supplier", max_concurrency=ConcurrencyLimit(1, max_wait=600))
        with pytest.raises(ConcurrencyLimitError):
            policy.execute(lambda: policy.execute(lambda: None))
        assert session.clock() == pytest.approx(before + 600)

    async def test_in_async_def_too_and_a_slot_that_becomes_free_is_taken(self, session: Resilience) -> None:
        clock = session.clock
        policy = Policy("supplier", max_concurrency=ConcurrencyLimit(1, max_wait=600))

        async def operation() -> str:
            await clock.async_sleep(5)
            return "value"

        async def nested() -> str:
            return await policy.execute(operation)

        assert await asyncio.gather(*(policy.execute(operation) for _ in range(2))) == ["value"] * 2
        with pytest.raises(ConcurrencyLimitError):
            await policy.execute(nested)


class TestCalls:
    def test_a_call_by_its_name(self, session: Resilience) -> None:
        Policy("supplier", retry=HOUR).execute(flaky().play, name="list plans")
        expected = RecordedCall("supplier", "list plans", 3, "ok_after_retry", None, ("503", "503"))
        assert session.call("list plans") == expected
        assert session.calls() == [expected]
        session.assert_call("list plans", attempts=3, outcome="ok_after_retry")
        session.assert_call("list plans", dependency="supplier", times=1)

    def test_the_last_of_several(self, session: Resilience) -> None:
        policy = Policy("supplier")
        policy.execute(lambda: None, name="list plans")
        with pytest.raises(TransientFault):
            policy.execute(Script(TransientFault()).play, name="list plans")
        Policy("other").execute(lambda: None, name="list plans")
        assert session.call("list plans", dependency="supplier").error_type == "503"
        assert session.call("list plans").dependency == "other"
        assert [call.outcome for call in session.calls("list plans")] == ["ok", "failed", "ok"]
        assert len(session.calls(dependency="supplier")) == 2

    def test_a_rejected_call(self, session: Resilience) -> None:
        policy = Policy("supplier", breaker=CircuitBreakerConfig())
        assert policy.breaker is not None
        policy.breaker.force_open()
        with pytest.raises(CircuitOpenError):
            policy.execute(lambda: None, name="list plans")
        session.assert_call("list plans", attempts=0, outcome="rejected", error_type="circuit_open")

    def test_a_failed_assertion_lists_the_calls_that_were_made(self, session: Resilience) -> None:
        with pytest.raises(AssertionError, match=r"^no call 'list plans'; the calls that were made: none$"):
            session.call("list plans")
        Policy("supplier", retry=HOUR).execute(flaky().play, name="list plans")
        with pytest.raises(TransientFault):
            Policy("other").execute(Script(TransientFault()).play, name="ask")
        with pytest.raises(AssertionError) as caught:
            session.assert_call("list plans", attempts=2, outcome="ok_after_retry", dependency="supplier")
        assert str(caught.value).splitlines() == [
            "no call 'list plans' of supplier with attempts=2, outcome='ok_after_retry'; the calls that were made:",
            "  supplier 'list plans': attempts=3, outcome='ok_after_retry' (attempts failed with 503, 503)",
            "  other 'ask': attempts=1, outcome='failed', error_type='503' (attempts failed with 503)",
        ]
        with pytest.raises(AssertionError, match=r"^1 of 2: no call 'ask'; the calls"):
            session.assert_call("ask", times=2)
        session.assert_call("ask", times=0, outcome="ok")

    def test_telemetry_is_what_this_test_has_emitted(self, session: Resilience) -> None:
        Policy("supplier").execute(lambda: None)
        assert [span.name for span in session.telemetry.spans] == ["attempt", "supplier call"]


def test_without_the_sdk_everything_but_telemetry_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with Resilience().active() as session:
        assert Policy("supplier", retry=HOUR).execute(flaky().play) == "value"
        assert session.waits == [3600, 3600]
        with pytest.raises(RuntimeError, match="needs opentelemetry-sdk"):
            session.call("play")
