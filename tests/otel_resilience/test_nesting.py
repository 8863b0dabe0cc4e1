"""What a call reports follows from its own attempts, and what an outer call learns of it from the context."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import Callable
from typing import Any

import pytest

from otel_resilience import (
    BreakerEffect,
    CircuitBreakerConfig,
    CircuitOpenError,
    DeadlineExceededError,
    Policy,
    RetryConfig,
    classify,
    correlation_scope,
    current_attempt,
    error_context,
    new_correlation_id,
)
from otel_resilience.testing import FakeClock, RecordedTelemetry
from support.resilience import Driver, Script, TransientFault, make_policy, tokens

AT_ONCE = RetryConfig(base_delay=0)


def enclosed(driver: Driver, inner: Policy, play: Callable[[], Any], **options: Any) -> Callable[[], Any]:
    """An operation that is a call under ``inner``."""
    operation = driver.operation(play)
    if not driver.asynchronous:
        return functools.partial(inner.execute, operation, **options)

    async def call() -> Any:
        return await inner.execute(operation, **options)

    return call


@pytest.mark.fault("L4")
class TestClaims:
    def test_a_circuit_that_opens_between_attempts_does_not_claim_that_nothing_was_sent(
        self, driver: Driver, clock: FakeClock
    ) -> None:
        policy = make_policy(clock, breaker=CircuitBreakerConfig(consecutive_failures=2), retry=RetryConfig(4))
        fault = TransientFault()
        with pytest.raises(CircuitOpenError) as caught:
            driver.execute(policy, Script(fault))
        assert caught.value.__cause__ is fault
        assert caught.value.attempts == 2
        assert not classify(caught.value).unsent
        context = error_context(caught.value)
        assert context is not None
        assert (context.attempts, context.unsent, context.exhausted) == (2, False, False)

    def test_its_outcome_is_that_of_a_call_that_failed(self, clock: FakeClock) -> None:
        recorded = RecordedTelemetry()
        policy = make_policy(clock, breaker=CircuitBreakerConfig(consecutive_failures=2), retry=RetryConfig(4))
        with recorded.recording(), pytest.raises(CircuitOpenError):
            policy.execute(Script(TransientFault()).play)
        (call,) = (span for span in recorded.spans if span.name != "attempt")
        assert dict(call.attributes or {})["resilience.outcome"] == "failed"
        assert dict(call.attributes or {})["resilience.attempts"] == 2

    def test_a_circuit_that_was_open_claims_it(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock)
        assert policy.breaker is not None
        policy.breaker.force_open()
        with pytest.raises(CircuitOpenError) as caught:
            driver.execute(policy, Script("value"))
        assert (caught.value.attempts, classify(caught.value).unsent) == (0, True)

    def test_a_deadline_that_passed_between_attempts_does_not_claim_it(self, clock: FakeClock) -> None:
        policy = make_policy(clock, deadline=5.0, sleep=lambda _: clock.advance(10))
        with pytest.raises(DeadlineExceededError) as caught:
            policy.execute(Script(TransientFault()).play)
        verdict = classify(caught.value)
        assert (caught.value.attempts, verdict.unsent, verdict.breaker) == (1, False, BreakerEffect.NEUTRAL)

    def test_a_rejection_of_an_enclosed_call_that_follows_a_request_does_not_claim_it(
        self, driver: Driver, clock: FakeClock
    ) -> None:
        """The second attempt of the middle call meets an open circuit; its first may have been sent."""
        inner = make_policy(clock, retry=None)
        middle = make_policy(clock, breaker=None)
        assert inner.breaker is not None
        outcomes = iter([TransientFault(), None])

        def play() -> None:
            fault = next(outcomes)
            if fault is not None:
                assert inner.breaker is not None
                inner.breaker.force_open()
                raise fault

        with pytest.raises(CircuitOpenError) as caught:
            driver.run(middle.execute(enclosed(driver, inner, play)))
        assert not classify(caught.value).unsent

    def test_all_attempts_that_were_provably_not_sent_are_unsent(self, driver: Driver, clock: FakeClock) -> None:
        refused = ConnectionRefusedError(111, "refused")
        with pytest.raises(ConnectionRefusedError):
            driver.execute(make_policy(clock, breaker=None), Script(refused))
        context = error_context(refused)
        assert context is not None
        assert (context.attempts, context.unsent, context.exhausted) == (3, True, True)

    def test_one_that_was_sent_before_is_not_forgotten(self, driver: Driver, clock: FakeClock) -> None:
        refused = ConnectionRefusedError(111, "refused")
        with pytest.raises(ConnectionRefusedError):
            driver.execute(make_policy(clock, breaker=None), Script(TransientFault(), refused))
        context = error_context(refused)
        assert context is not None
        assert not context.unsent

    @pytest.mark.fault("L11")
    @pytest.mark.parametrize("attempts", [2, 11, 12, 30, 100])
    def test_max_attempts_is_what_is_tried(self, driver: Driver, clock: FakeClock, attempts: int) -> None:
        fault = TransientFault()
        policy = make_policy(
            clock, breaker=None, budget=None, deadline=None, retry=RetryConfig(attempts, base_delay=0.001)
        )
        script = Script(fault)
        with pytest.raises(TransientFault):
            driver.execute(policy, script)
        context = error_context(fault)
        assert context is not None
        assert (script.calls, context.attempts, context.exhausted) == (attempts, attempts, True)


@pytest.mark.fault("L19")
class TestExhaustedBelow:
    def test_a_layer_without_retries_in_between_passes_it_on(self, driver: Driver, clock: FakeClock) -> None:
        innermost, middle, outer = (make_policy(clock, breaker=None) for _ in range(3))
        between = make_policy(clock, breaker=None, retry=None)
        script = Script(TransientFault())
        call = enclosed(driver, innermost, script.play)
        for policy in (between, middle, outer):
            call = self.one_more(driver, policy, call)
        with pytest.raises(TransientFault):
            driver.run(call())
        assert script.calls == 3

    def test_a_layer_without_retries_at_the_bottom_does_not_hide_it(self, driver: Driver, clock: FakeClock) -> None:
        bottom = make_policy(clock, breaker=None, retry=None)
        middle, outer = make_policy(clock, breaker=None), make_policy(clock, breaker=None)
        fault = TransientFault()
        script = Script(fault)
        call = self.one_more(driver, middle, enclosed(driver, bottom, script.play))
        with pytest.raises(TransientFault):
            driver.run(self.one_more(driver, outer, call)())
        assert script.calls == 3
        context = error_context(fault)
        assert context is not None
        assert (context.attempts, context.exhausted) == (3, True)

    def test_an_error_that_was_raised_from_it_is_left_alone_too(self, driver: Driver, clock: FakeClock) -> None:
        inner, outer = make_policy(clock, breaker=None), make_policy(clock, breaker=None)
        script = Script(TransientFault())
        operation = driver.operation(script.play)

        def play() -> None:
            try:
                inner.execute(script.play)
            except TransientFault as error:
                raise TransientFault("wrapped") from error

        async def play_async() -> None:
            try:
                await inner.execute(operation)
            except TransientFault as error:
                raise TransientFault("wrapped") from error

        with pytest.raises(TransientFault, match="wrapped"):
            driver.run(outer.execute(play_async if driver.asynchronous else play))
        assert script.calls == 3

    async def test_a_group_of_enclosed_calls_is_left_alone(self) -> None:
        inner, outer = Policy("inner", retry=AT_ONCE), Policy("outer", retry=AT_ONCE)
        script = Script(TransientFault())

        async def operation() -> None:
            script.play()

        async def both() -> None:
            results = await asyncio.gather(*(inner.execute(operation) for _ in range(2)), return_exceptions=True)
            raise ExceptionGroup("both", [each for each in results if isinstance(each, Exception)])

        with pytest.raises(ExceptionGroup):
            await outer.execute(both)
        assert script.calls == 6

    def test_an_enclosed_failure_that_was_handled_does_not_count(self, driver: Driver, clock: FakeClock) -> None:
        inner, outer = make_policy(clock, breaker=None), make_policy(clock, breaker=None)
        script = Script(TransientFault())
        operation = driver.operation(script.play)
        calls: list[int] = []

        def fail() -> None:
            calls.append(1)
            raise TransientFault("another")

        def play() -> None:
            with pytest.raises(TransientFault):
                inner.execute(script.play)
            fail()

        async def play_async() -> None:
            with pytest.raises(TransientFault):
                await inner.execute(operation)
            fail()

        with pytest.raises(TransientFault, match="another"):
            driver.run(outer.execute(play_async if driver.asynchronous else play))
        assert len(calls) == 3

    def one_more(self, driver: Driver, policy: Policy, call: Callable[[], Any]) -> Callable[[], Any]:
        if not driver.asynchronous:
            return functools.partial(policy.execute, call)

        async def around() -> Any:
            return await policy.execute(call)

        return around


@pytest.mark.fault("L19")
class TestOneExceptionInTwoCalls:
    async def test_two_tasks_do_not_learn_from_each_other(self) -> None:
        lost = ConnectionError("connection lost")
        sent = {"a": 0, "b": 0}

        async def operation(name: str, wait: float) -> None:
            sent[name] += 1
            await asyncio.sleep(wait)
            raise lost

        async def call(policy: Policy, name: str, wait: float) -> tuple[str, str | None, int, bool]:
            identifier = new_correlation_id()
            with correlation_scope(identifier):
                with pytest.raises(ConnectionError) as caught:
                    await policy.execute(functools.partial(operation, name, wait))
                context = error_context(caught.value)
                assert context is not None
                return name, context.dependency, context.attempts, context.correlation_id == identifier

        first = Policy("a", retry=RetryConfig(2, base_delay=0))
        second = Policy("b", retry=RetryConfig(5, base_delay=0.01, jitter="none"))
        assert list(await asyncio.gather(call(first, "a", 0.001), call(second, "b", 0.005))) == [
            ("a", "a", 2, True),
            ("b", "b", 5, True),
        ]
        assert sent == {"a": 2, "b": 5}

    def test_nor_do_two_threads(self) -> None:
        lost = ConnectionError("connection lost")
        sent = {"a": 0, "b": 0}
        policies = {"a": Policy("a", retry=RetryConfig(2, base_delay=0)), "b": Policy("b", retry=RetryConfig(5, 0.01))}
        first_ended = threading.Event()

        def operation(name: str) -> None:
            sent[name] += 1
            if name == "b" and sent[name] == 2:
                first_ended.wait(60)
            raise lost

        def call(name: str) -> None:
            with pytest.raises(ConnectionError):
                policies[name].execute(lambda: operation(name))
            if name == "a":
                first_ended.set()

        threads = [threading.Thread(target=call, args=(name,)) for name in ("b", "a")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sent == {"a": 2, "b": 5}

    def test_a_call_before_this_one_that_raised_it_does_not_count(self, driver: Driver, clock: FakeClock) -> None:
        """Within one operation, at one moment of the clock, for an error that an earlier attempt exhausted."""
        fault = TransientFault()
        inner = make_policy(clock, dependency="inner", breaker=None, retry=AT_ONCE)
        outer = make_policy(clock, breaker=None, retry=AT_ONCE)
        with pytest.raises(TransientFault):
            driver.execute(inner, Script(fault))
        script = Script(fault)
        with pytest.raises(TransientFault):
            driver.execute(outer, script)
        assert script.calls == 3
        assert tokens(outer) == 80


@pytest.mark.fault("L22")
def test_the_number_of_the_attempt_is_that_of_the_innermost_call(driver: Driver, clock: FakeClock, path: str) -> None:
    inner, outer = make_policy(clock), make_policy(clock)
    seen: list[int] = []
    outcomes = iter([TransientFault(), None])

    def play() -> None:
        seen.append(current_attempt())
        fault = next(outcomes)
        if fault is not None:
            raise fault

    call = enclosed(driver, inner, play, idempotent=False)
    attempts: list[int] = []

    def run() -> Any:
        attempts.append(current_attempt())
        if len(attempts) == 1:
            raise TransientFault
        return call()

    async def run_async() -> Any:
        attempts.append(current_attempt())
        if len(attempts) == 1:
            raise TransientFault
        return await call()

    with pytest.raises(TransientFault):
        driver.run(outer.execute(run_async if driver.asynchronous else run))
    assert (attempts, seen) == ([1, 2], [1])
    assert current_attempt() == 1


async def test_a_coroutine_that_is_closed_in_another_context_raises_nothing() -> None:
    policy = Policy("supplier", retry=AT_ONCE)
    protected = policy.execute(functools.partial(asyncio.sleep, 10))

    def step() -> None:
        protected.send(None)

    contextvars.copy_context().run(step)
    protected.close()
    assert current_attempt() == 1
