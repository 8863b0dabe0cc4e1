"""The limits of a policy: their order among its other parts, what a rejection means, what costs nothing."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from otel_resilience import (
    CircuitBreakerConfig,
    CircuitOpenError,
    ConcurrencyLimit,
    ConcurrencyLimiter,
    ConcurrencyLimitError,
    DeadlineExceededError,
    Policy,
    RateLimit,
    RateLimitedError,
    RateLimiter,
    RetryConfig,
    error_context,
    remaining,
)
from otel_resilience.storage import MemoryStorage, SharedState
from otel_resilience.testing import FakeClock, FakeTimeLoop, RecordedTelemetry, no_waits
from support.resilience import Script, TransientFault, run_fake

LONG = 60.0
ONCE = RetryConfig(max_attempts=1)
RETRY = RetryConfig(max_attempts=3, base_delay=0)
ONE_A_SECOND = RateLimit(1, margin=0)


class World:
    """Policies on a fake clock, called as ``def``, as ``async def`` or in blocks."""

    def __init__(self, clock: FakeClock, kind: str) -> None:
        self.clock = clock
        self.kind = kind

    def policy(self, **options: Any) -> Policy:
        clock = self.clock
        return Policy("supplier", clock=clock, sleep=clock.sleep, async_sleep=clock.async_sleep, **options)

    def call(self, policy: Policy, operation: Callable[[], Any] = lambda: None, **options: Any) -> Any:
        if self.kind == "def":
            return policy.execute(operation, **options)

        async def asynchronous() -> Any:
            return operation()

        if self.kind == "async def":
            return self._run(policy.execute(asynchronous, **options))
        if self.kind == "blocks":
            for attempt in policy.attempts(name="block", **options):
                with attempt:
                    result = operation()
            return result

        async def blocks() -> Any:
            async for attempt in policy.attempts(name="block", **options):
                with attempt:
                    result = operation()
            return result

        return self._run(blocks())

    def _run(self, work: Awaitable[Any]) -> Any:
        async def main() -> Any:
            return await work

        with asyncio.Runner(loop_factory=lambda: FakeTimeLoop(self.clock)) as runner:
            return runner.run(main())


@pytest.fixture(params=["def", "async def", "blocks", "async blocks"])
def world(request: pytest.FixtureRequest, clock: FakeClock) -> World:
    return World(clock, request.param)


def taken(policy: Policy) -> ConcurrencyLimiter:
    assert policy.concurrency_limiter is not None
    return policy.concurrency_limiter


class TestRate:
    def test_every_attempt_needs_a_permit(self, world: World) -> None:
        policy = world.policy(retry=RETRY, rate_limit=ONE_A_SECOND)
        script = Script(TransientFault(), TransientFault(), "done")

        assert world.call(policy, script.play) == "done"
        assert world.clock.now == 1002

    def test_the_wait_is_charged_to_no_attempt(self, world: World) -> None:
        policy = world.policy(rate_limit=RateLimit(1, per=20, margin=0), attempt_timeout=5)
        seen: list[float | None] = []
        for _ in range(2):
            world.call(policy, lambda: seen.append(remaining()))

        assert world.clock.now == 1020
        assert seen[0] == seen[1]

    def test_what_cannot_be_given_before_the_deadline_is_rejected_at_once(self, world: World) -> None:
        policy = world.policy(rate_limit=RateLimit(1, per=60, margin=0), deadline=30, retry=RETRY)
        world.call(policy)
        world.clock.advance(10)
        sent = Script("never")
        with RecordedTelemetry().recording() as telemetry, pytest.raises(RateLimitedError) as caught:
            world.call(policy, sent.play)

        assert (sent.calls, world.clock.now, caught.value.retry_after) == (0, 1010, 50)
        context = error_context(caught.value)
        assert context is not None
        assert (context.unsent, context.attempts, context.retry_after, context.exhausted) == (True, 0, 50, False)
        (span,) = telemetry.spans
        assert span.attributes is not None
        assert span.attributes["resilience.outcome"] == "rejected"
        assert span.attributes["error.type"] == "rate_limited"

    def test_a_retry_without_a_permit_ends_the_call_with_what_failed_before(self, world: World) -> None:
        policy = world.policy(rate_limit=RateLimit(1, per=60), deadline=30, retry=RETRY)
        fault = TransientFault()
        with RecordedTelemetry().recording() as telemetry, pytest.raises(RateLimitedError) as caught:
            world.call(policy, Script(fault).play)

        assert caught.value.__cause__ is fault
        assert (caught.value.attempts, caught.value.classification.unsent) == (1, False)
        (point,) = telemetry.points("resilience.retry.suppressed")
        assert point.attributes["resilience.retry.suppress_reason"] == "rate_limited"

    def test_an_open_circuit_spends_no_permit_and_no_time(self, world: World) -> None:
        breaker = CircuitBreakerConfig(consecutive_failures=1, reset_timeout=5, max_reset_timeout=5)
        policy = world.policy(rate_limit=RateLimit(1, per=60, margin=0), breaker=breaker, retry=ONCE)
        assert policy.breaker is not None
        assert policy.rate_limiter is not None
        with pytest.raises(TransientFault):
            world.call(policy, Script(TransientFault()).play)
        with pytest.raises(CircuitOpenError):
            world.call(policy)
        assert world.clock.now == 1000
        world.clock.advance(60)
        policy.breaker.force_open()
        with RecordedTelemetry().recording(), pytest.raises(CircuitOpenError):
            world.call(policy)

        assert policy.rate_limiter.take()

    def test_the_circuit_is_asked_after_the_wait(self, world: World) -> None:
        policy = world.policy(rate_limit=RateLimit(1, per=60, margin=0), breaker=CircuitBreakerConfig(), fallback="old")
        assert policy.breaker is not None
        assert policy.rate_limiter is not None
        world.call(policy)
        sleep, async_sleep = policy.sleep, policy.async_sleep

        def others_open_the_circuit(seconds: float) -> None:
            policy.breaker.force_open()  # type: ignore[union-attr]  # asserted above
            sleep(seconds)

        async def as_well(seconds: float) -> None:
            policy.breaker.force_open()  # type: ignore[union-attr]  # as above
            await async_sleep(seconds)

        policy.sleep, policy.async_sleep = others_open_the_circuit, as_well
        sent = Script("never")
        if "blocks" in world.kind:
            with pytest.raises(CircuitOpenError):
                world.call(policy, sent.play)
        else:
            assert world.call(policy, sent.play) == "old"

        assert (sent.calls, world.clock.now) == (0, 1060)
        assert policy.rate_limiter.take(), "the permit was not used"

    def test_a_deadline_that_has_passed_is_said_as_such(self, world: World) -> None:
        policy = world.policy(rate_limit=RateLimit(1, per=60))
        world.call(policy)
        outer = Policy("outer", deadline=1, clock=world.clock)

        def late() -> None:
            world.clock.advance(2)
            policy.execute(lambda: None)

        with pytest.raises(DeadlineExceededError):
            outer.execute(late)

    def test_one_limiter_of_several_policies(self, world: World) -> None:
        clock = world.clock
        limiter = RateLimiter("account", ONE_A_SECOND, clock=clock, sleep=clock.sleep, async_sleep=clock.async_sleep)
        for _ in range(3):
            world.call(world.policy(rate_limit=limiter))

        assert clock.now == 1002

    def test_what_is_shared_holds_for_all_policies(self, world: World) -> None:
        shared = SharedState(MemoryStorage(clock=world.clock))
        for _ in range(3):
            world.call(world.policy(rate_limit=ONE_A_SECOND, shared=shared))

        assert world.clock.now == pytest.approx(1002, abs=0.1)

    def test_no_waits(self, world: World) -> None:
        policy = Policy("supplier", rate_limit=RateLimit(1, per=3600))
        with no_waits(policy) as waits:
            for _ in range(3):
                world.call(policy)

        assert len(waits) == 2

    def test_shadow_mode_lets_pass(self, world: World) -> None:
        policy = world.policy(rate_limit=RateLimit(1, per=60, shadow=True))
        with RecordedTelemetry().recording() as telemetry:
            for _ in range(3):
                world.call(policy)

        assert world.clock.now == 1000
        assert telemetry.points("resilience.limit.shadow_exceeded")[0].value == 2


class TestConcurrency:
    def test_a_call_without_a_slot_in_time_is_rejected(self, world: World) -> None:
        policy = world.policy(max_concurrency=1, deadline=0.01)
        sent = Script("never")
        with taken(policy), RecordedTelemetry().recording() as telemetry:
            with pytest.raises(ConcurrencyLimitError) as caught:
                world.call(policy, sent.play)
            assert taken(policy).in_flight == 1

        assert sent.calls == 0
        assert caught.value.retry_after > 0
        (span,) = telemetry.spans
        assert span.attributes is not None
        assert span.attributes["resilience.outcome"] == "rejected"
        assert span.attributes["error.type"] == "concurrency_limited"

    @pytest.mark.parametrize("outcome", ["done", TransientFault(), KeyboardInterrupt(), asyncio.CancelledError()])
    def test_the_slot_is_held_over_all_attempts_and_given_back(self, world: World, outcome: object) -> None:
        policy = world.policy(max_concurrency=2, retry=RETRY)
        held: list[int] = []

        def operation() -> Any:
            held.append(taken(policy).in_flight)
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        if outcome == "done":
            world.call(policy, operation)
        else:
            with pytest.raises(BaseException) as caught:  # noqa: PT011  # the one that was raised
                world.call(policy, operation)

            assert caught.value is outcome

        assert set(held) == {1}
        assert taken(policy).in_flight == 0

    def test_a_call_inside_another_one_is_rejected_where_it_could_wait_for_ever(self, world: World) -> None:
        policy = world.policy(max_concurrency=1)
        with pytest.raises(ConcurrencyLimitError):
            world.call(policy, lambda: policy.execute(lambda: None))

        assert taken(policy).in_flight == 0

    def test_an_open_circuit_needs_no_slot(self, world: World) -> None:
        policy = world.policy(max_concurrency=1, breaker=CircuitBreakerConfig())
        assert policy.breaker is not None
        policy.breaker.force_open()
        with taken(policy), pytest.raises(CircuitOpenError):
            world.call(policy)

    @pytest.mark.parametrize("world", ["def", "async def"], indirect=True)
    def test_a_fallback_takes_the_place_of_a_rejection_and_holds_no_slot(self, world: World) -> None:
        def in_flight(_: Exception) -> int:
            return taken(policy).in_flight

        policy: Policy = world.policy(max_concurrency=ConcurrencyLimit(1, max_wait=0), fallback=in_flight)

        assert world.call(policy, Script(TransientFault()).play) == 0
        with taken(policy):
            assert world.call(policy) == 1

    def test_threads_and_tasks_share_the_slots(self) -> None:
        policy = Policy("supplier", max_concurrency=2)
        most = inside = 0
        lock = threading.Lock()

        def note(change: int) -> None:
            nonlocal most, inside
            with lock:
                inside += change
                most = max(most, inside)

        def operation() -> None:
            note(1)
            threading.Event().wait(0.001)
            note(-1)

        async def asynchronous() -> None:
            note(1)
            await asyncio.sleep(0.001)
            note(-1)

        async def tasks() -> None:
            await asyncio.gather(*(policy.execute(asynchronous) for _ in range(10)))

        threads = [threading.Thread(target=lambda: [policy.execute(operation) for _ in range(10)]) for _ in range(3)]
        threads.append(threading.Thread(target=lambda: asyncio.run(tasks())))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)

        assert most == 2
        assert taken(policy).in_flight == 0

    async def test_a_cancelled_call_leaves_the_queue(self) -> None:
        policy = Policy("supplier", max_concurrency=1)
        with taken(policy):
            calls = [asyncio.ensure_future(policy.execute(asyncio.sleep, 0)) for _ in range(2)]
            await asyncio.sleep(0)
            calls[0].cancel()
            await asyncio.sleep(0)
        async with asyncio.timeout(LONG):
            await calls[1]

        assert calls[0].cancelled()
        assert taken(policy).in_flight == 0

    async def test_a_def_that_returns_an_awaitable_has_its_slot_while_that_is_awaited(self) -> None:
        policy = Policy("supplier", max_concurrency=1)
        held: list[int] = []

        async def work() -> None:
            held.append(taken(policy).in_flight)

        def begin() -> Awaitable[None]:
            held.append(taken(policy).in_flight)
            return work()

        begun: Any = policy.execute(begin)
        assert taken(policy).in_flight == 0
        await begun

        assert held == [1, 1]
        assert taken(policy).in_flight == 0


class TestWithinALoop:
    async def test_a_def_waits_for_its_permit_and_says_once_that_this_blocks(
        self, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        policy = World(clock, "def").policy(rate_limit=ONE_A_SECOND)
        with caplog.at_level(logging.WARNING, "otel_resilience"):
            for _ in range(3):
                policy.execute(lambda: None)

        assert clock.now == 1002
        assert len(caplog.records) == 1
        assert "the waits for the rate limit block the loop" in caplog.text

    async def test_a_def_waits_for_a_slot_only_with_a_limit(self, caplog: pytest.LogCaptureFixture) -> None:
        policy = Policy("supplier", max_concurrency=1)
        with taken(policy), pytest.raises(ConcurrencyLimitError):
            policy.execute(lambda: None)
        slots = taken(policy)
        slots.acquire()
        threading.Timer(0.01, slots.release).start()
        assert policy.execute(lambda: "done", deadline=LONG) == "done"
        assert "the waits for a slot block the loop" in caplog.text


def test_the_deadline_of_a_cut_async_def_ends_its_wait_for_a_slot(clock: FakeClock) -> None:
    policy = Policy("supplier", max_concurrency=1, deadline=5, clock=clock)

    async def main() -> None:
        with taken(policy), pytest.raises(ConcurrencyLimitError):
            await policy.execute(asyncio.sleep, 0)

    run_fake(clock, main())
    assert clock.now == pytest.approx(1005)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"max_concurrency": 0}, "max_concurrency must be at least 1"),
        ({"max_concurrency": 1.5}, "max_concurrency must be a whole number"),
        ({"max_concurrency": True}, "max_concurrency must be a whole number"),
        ({"rate_limit": 10}, "rate_limit must be a RateLimit or RateLimiter"),
    ],
)
def test_what_is_wrong_is_named(options: dict[str, Any], problem: str) -> None:
    with pytest.raises((TypeError, ValueError), match=problem):
        Policy("supplier", **options)


def test_a_wait_for_a_permit_makes_no_call_slow_for_the_circuit(world: World) -> None:
    breaker = CircuitBreakerConfig(slow_call_duration=5, slow_call_rate=0.1, minimum_calls=1)
    policy = world.policy(rate_limit=RateLimit(1, per=60, margin=0), breaker=breaker)
    for _ in range(3):
        world.call(policy)

    assert policy.breaker is not None
    assert policy.breaker.metrics().slow_calls == 0


def test_what_costs_more_takes_more_permits(world: World, clock: FakeClock) -> None:
    """With each attempt; what is not sent gives all of them back."""
    policy = world.policy(retry=RETRY, rate_limit=RateLimit(4, margin=0), breaker=CircuitBreakerConfig())
    began = clock()
    world.call(policy, Script(TransientFault(), None).play, permits=3)
    assert clock() - began == pytest.approx(1)
    world.call(policy)
    assert clock() - began == pytest.approx(1)
    assert policy.breaker is not None
    policy.breaker.force_open()
    with pytest.raises(CircuitOpenError):
        world.call(policy, permits=9)
    policy.breaker.reset()
    world.call(policy, permits=9)
    assert clock() - began == pytest.approx(2)


@pytest.mark.parametrize(("wrong", "error"), [(0, ValueError), (1.5, TypeError)])
def test_permits_are_a_count(world: World, wrong: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="permits"):
        world.call(world.policy(rate_limit=RateLimit(4)), permits=wrong)
