"""Defects found in other Python libraries; each test is named after the one that it rules out here."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from otel_resilience import (
    BreakerState,
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitOpenError,
    ConcurrencyLimit,
    ConcurrencyLimiter,
    ConcurrencyLimitError,
    DeadlineExceededError,
    Policy,
    RateLimit,
    RateLimitedError,
    RetryBudgetConfig,
    RetryConfig,
    RetryService,
    classify,
)
from otel_resilience.limits.places import Places
from otel_resilience.testing import FakeClock, RecordedTelemetry
from support.resilience import Driver, PermanentFault, Script, TransientFault, make_policy, run_fake, tokens

ONE = CircuitBreakerConfig(consecutive_failures=1)


def opened(clock: FakeClock, config: CircuitBreakerConfig = ONE) -> CircuitBreaker:
    """A breaker whose open time has just ended."""
    breaker = CircuitBreaker("supplier", config, clock=clock, rng=lambda: 1.0)
    with pytest.raises(TransientFault):
        breaker.execute(Script(TransientFault()).play)
    clock.advance(5)
    return breaker


class TestHalfOpen:
    @pytest.mark.parametrize("callers", [100])
    @pytest.mark.fault("F34")
    def test_half_open_herd(self, clock: FakeClock, callers: int) -> None:
        """aiobreaker, circuitbreaker, purgatory, hyx, pyresilience, resilient-circuit: all 100 reach the dependency."""
        breaker = opened(clock)
        reached: list[int] = []

        async def operation() -> None:
            reached.append(1)
            await asyncio.sleep(1)

        async def main() -> None:
            await asyncio.gather(*(breaker.execute(operation) for _ in range(callers)), return_exceptions=True)

        run_fake(clock, main())
        assert len(reached) == 1

    def test_half_open_herd_of_threads(self, clock: FakeClock) -> None:
        """pybreaker: 50 of 50 threads reach the dependency."""
        breaker = opened(clock)
        start, finish = threading.Barrier(20), threading.Event()
        reached: list[int] = []
        rejected: list[int] = []

        def operation() -> None:
            reached.append(1)
            finish.wait(60)

        def work() -> None:
            start.wait(60)
            try:
                breaker.execute(operation)
            except CircuitOpenError:
                rejected.append(1)
            if len(rejected) == 19:
                finish.set()

        threads = [threading.Thread(target=work) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(reached) == 1

    def test_cancelled_probe_closes_the_circuit(self, clock: FakeClock) -> None:
        """circuitbreaker, hyx, Polly: the dependency is declared well by a call that nobody waited for."""
        breaker = opened(clock)
        self.cancel_a_call(clock, breaker)
        assert breaker.state is BreakerState.HALF_OPEN

    def test_cancelled_probe_opens_the_circuit_again(self, clock: FakeClock) -> None:
        """purgatory, backon: and the open time grows."""
        breaker = opened(clock)
        self.cancel_a_call(clock, breaker)
        assert breaker.execute(lambda: "value") == "value"
        assert breaker.state is BreakerState.CLOSED

    @pytest.mark.fault("F36")
    def test_hung_probe_wedges_the_circuit(self, clock: FakeClock) -> None:
        """Polly, resilience4j, gobreaker: a probe that never returns keeps the circuit half-open for ever."""
        breaker = opened(clock)
        breaker.admit()
        clock.advance(60)
        assert breaker.execute(lambda: "value") == "value"
        assert breaker.state is BreakerState.CLOSED

    def test_old_era_failure_spoils_the_probe(self, clock: FakeClock) -> None:
        """All but interlock and nopanic."""
        breaker = CircuitBreaker("supplier", ONE, clock=clock, rng=lambda: 1.0)
        old = breaker.admit()
        with pytest.raises(TransientFault):
            breaker.execute(Script(TransientFault()).play)
        clock.advance(5)
        probe = breaker.admit()
        fault = TransientFault()
        breaker.record_error(old, classify(fault), clock() - 5, fault)
        assert breaker.state is BreakerState.HALF_OPEN
        breaker.record_success(probe, clock())
        assert breaker.metrics().state is BreakerState.CLOSED

    def test_stale_half_open_success_is_counted_in_the_next_era(self, clock: FakeClock) -> None:
        """nopanic: closes after one new probe of two, since an old one is counted in."""
        breaker = opened(clock, CircuitBreakerConfig(consecutive_failures=1, half_open_max_calls=2))
        stale, failing = breaker.admit(), breaker.admit()
        fault = TransientFault()
        breaker.record_error(failing, classify(fault), clock(), fault)
        clock.advance(10)
        assert breaker.state is BreakerState.HALF_OPEN
        breaker.record_success(stale, clock())
        breaker.record_success(breaker.admit(), clock())
        assert breaker.state is BreakerState.HALF_OPEN
        breaker.record_success(breaker.admit(), clock())
        assert breaker.metrics().state is BreakerState.CLOSED

    def cancel_a_call(self, clock: FakeClock, breaker: CircuitBreaker) -> None:
        async def main() -> None:
            task = asyncio.ensure_future(breaker.execute(functools.partial(asyncio.sleep, 100)))
            await asyncio.sleep(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        run_fake(clock, main())


class TestCounting:
    def test_cancelled_calls_open_the_circuit(self, clock: FakeClock) -> None:
        """purgatory, backon: five cancelled calls with a threshold of three."""
        breaker = CircuitBreaker("supplier", CircuitBreakerConfig(failure_threshold=3), clock=clock)

        async def main() -> None:
            for _ in range(5):
                task = asyncio.ensure_future(breaker.execute(functools.partial(asyncio.sleep, 100)))
                await asyncio.sleep(0.1)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        run_fake(clock, main())
        assert breaker.state is BreakerState.CLOSED
        assert breaker.metrics().calls == 0

    def test_cancellation_between_failures_resets_the_count(self, driver: Driver, clock: FakeClock) -> None:
        """circuitbreaker, hyx."""
        breaker = CircuitBreaker("supplier", CircuitBreakerConfig(consecutive_failures=3), clock=clock)
        for error in (TransientFault(), asyncio.CancelledError(), TransientFault(), asyncio.CancelledError()):
            with pytest.raises(type(error)):
                driver.execute(breaker, Script(error))
        assert breaker.metrics().consecutive_failures == 2
        with pytest.raises(TransientFault):
            driver.execute(breaker, Script(TransientFault()))
        assert breaker.state is BreakerState.OPEN

    @pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
    def test_keyboard_interrupt_is_counted(
        self, driver: Driver, clock: FakeClock, interruption: type[BaseException]
    ) -> None:
        """pybreaker, purgatory, backon."""
        breaker = CircuitBreaker("supplier", ONE, clock=clock)
        with pytest.raises(interruption):
            driver.execute(breaker, Script(interruption))
        assert breaker.state is BreakerState.CLOSED
        assert breaker.metrics().calls == 0

    def test_slow_success_from_before_opening_closes_the_open_circuit(self, clock: FakeClock) -> None:
        """circuitbreaker."""
        breaker = CircuitBreaker("supplier", ONE, clock=clock)
        started, slow = clock(), breaker.admit()
        with pytest.raises(TransientFault):
            breaker.execute(Script(TransientFault()).play)
        breaker.record_success(slow, started)
        assert breaker.state is BreakerState.OPEN

    def test_async_def_never_trips(self, clock: FakeClock) -> None:
        """pybreaker: the coroutine is made without error, and its failure is never seen."""
        driver = Driver(clock, asynchronous=True)
        breaker = CircuitBreaker("supplier", ONE, clock=clock)
        with pytest.raises(TransientFault):
            driver.execute(breaker, Script(TransientFault()))
        assert breaker.state is BreakerState.OPEN


class TestErrors:
    def test_original_error_is_masked_on_trip(self, driver: Driver, clock: FakeClock) -> None:
        """aiobreaker, and pybreaker by default: the call that trips the breaker raises the breaker's error."""
        breaker = CircuitBreaker("supplier", ONE, clock=clock)
        fault = TransientFault()
        with pytest.raises(TransientFault) as caught:
            driver.execute(breaker, Script(fault))
        assert caught.value is fault
        assert breaker.state is BreakerState.OPEN

    def test_traceback_grows_with_every_rejection(self, driver: Driver, clock: FakeClock) -> None:
        """purgatory: one exception object, raised again and again, 6,006 entries after 1000 rejections."""
        policy = make_policy(clock)
        assert policy.breaker is not None
        policy.breaker.force_open()
        lengths = set()
        for _ in range(50):
            with pytest.raises(CircuitOpenError) as caught:
                driver.execute(policy, Script("value"))
            lengths.add(len(traceback.extract_tb(caught.value.__traceback__)))
            assert caught.value.__context__ is None
        assert len(lengths) == 1

    def test_a_context_cycle_spins_for_ever(self, driver: Driver, clock: FakeClock) -> None:
        """tenacity: a cycle of causes is followed without end."""
        first, second = TransientFault("first"), TransientFault("second")
        first.__cause__, second.__cause__ = second, first
        with pytest.raises(TransientFault):
            driver.execute(make_policy(clock), Script(first))

    def test_a_retried_error_stays_as_the_context_of_a_success(self, driver: Driver, clock: FakeClock) -> None:
        """An error that a retry has cured must not turn up below the next one."""

        def play() -> str:
            if script.calls == 0:
                script.play()
            with pytest.raises(KeyError) as caught:
                raise KeyError
            assert caught.value.__context__ is None
            return "value"

        script = Script(TransientFault(), "value")
        driver.execute(make_policy(clock), play)


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Never:
    def __await__(self) -> Generator[None, None, None]:
        yield


class Held:
    """A local variable of a frame that failed."""


@pytest.mark.usefixtures("no_collector")
class TestMemory:
    """retrying, opnieuw, pyresilience, redress: the failed frame lives until the collector runs."""

    def handled(self, driver: Driver, policy: Policy, play: Any, gone: Callable[[], bool]) -> type[BaseException]:
        """Runs a call that fails, and looks as soon as its error was handled; a task would keep the error itself."""
        caught: list[type[BaseException]] = []
        operation = driver.operation(play)

        async def run() -> None:
            try:
                await policy.execute(operation)
            except Exception as error:
                caught.append(type(error))
            assert gone()

        if driver.asynchronous:
            run_fake(driver.clock, run())
        else:
            try:
                policy.execute(operation)
            except Exception as error:
                caught.append(type(error))
            assert gone()
        return caught[0]

    def failing(self, alive: list[weakref.ref[Held]], *errors: BaseException | None) -> Any:
        remaining = list(errors)

        def play() -> str:
            held = Held()
            alive.append(weakref.ref(held))
            error = remaining.pop(0)
            if error is not None:
                try:
                    raise error
                finally:
                    del error
            return "value"

        return play

    def test_failed_frame_is_kept_alive_after_a_cured_failure(self, driver: Driver, clock: FakeClock) -> None:
        alive: list[weakref.ref[Held]] = []
        driver.execute(make_policy(clock), self.failing(alive, TransientFault(), None))
        assert len(alive) == 2
        assert [ref() for ref in alive] == [None, None]

    @pytest.mark.parametrize("kind", ["exhausted", "permanent", "rejected"])
    def test_failed_frame_is_kept_alive_after_the_error_was_handled(
        self, driver: Driver, clock: FakeClock, kind: str
    ) -> None:
        alive: list[weakref.ref[Held]] = []
        errors: dict[str, list[BaseException | None]] = {
            "exhausted": [TransientFault(), TransientFault(), TransientFault()],
            "permanent": [PermanentFault()],
            "rejected": [TransientFault()],
        }
        policy = make_policy(clock, breaker=ONE if kind == "rejected" else None)
        play = self.failing(alive, *errors.pop(kind))
        errors.clear()
        error = self.handled(driver, policy, play, lambda: [ref() for ref in alive] == [None] * len(alive))
        assert issubclass(error, CircuitOpenError if kind == "rejected" else (TransientFault, PermanentFault))
        assert alive

    @pytest.mark.parametrize("kind", ["value", "function", "broken", "judged"])
    def test_failed_frame_is_kept_alive_after_it_was_replaced(
        self, driver: Driver, clock: FakeClock, kind: str
    ) -> None:
        """By what a fallback gives, or by the last result; also where the fallback fails."""

        def broken(error: BaseException) -> str:
            raise PermanentFault

        fallbacks: dict[str, Any] = {"value": "stale", "function": lambda error: "stale", "broken": broken}
        alive: list[weakref.ref[Held]] = []

        def bad() -> Held:
            held = Held()
            alive.append(weakref.ref(held))
            return held

        policy = make_policy(clock, fallback=fallbacks.get(kind), retry_result=lambda result: kind == "judged")
        play = bad if kind == "judged" else self.failing(alive, PermanentFault())
        if kind == "broken":
            self.handled(driver, policy, play, lambda: [ref() for ref in alive] == [None])
        else:
            driver.execute(policy, play)
        assert [ref() for ref in alive] == [None] * len(alive)
        assert alive

    @pytest.mark.parametrize("succeeds", [False, True])
    def test_failed_frame_of_a_hedge_is_kept_alive(self, clock: FakeClock, succeeds: bool) -> None:
        alive: list[weakref.ref[Held]] = []
        play = self.failing(alive, PermanentFault(), None if succeeds else PermanentFault())

        async def operation() -> Any:
            await asyncio.sleep(1 if alive else 2)
            return play()

        async def main() -> None:
            try:
                await make_policy(clock, hedge_after=0.5, idempotent=True).execute(operation)
            except PermanentFault:
                assert not succeeds
            await asyncio.sleep(0)  # callbacks of the tasks
            assert [ref() for ref in alive] == [None, None]

        run_fake(clock, main())

    def test_a_policy_is_kept_alive_by_its_blocks(self, clock: FakeClock) -> None:
        policy = make_policy(clock)
        for attempt in policy.attempts():
            with attempt:
                pass
        del attempt
        alive = weakref.ref(policy)
        del policy
        assert alive() is None

    def abandon(self, policy: Policy) -> None:
        """A call that waits for ever, and that nothing but itself refers to."""

        async def never() -> None:
            await Never()

        call = policy.execute(never)
        call.send(None)
        circle: list[Any] = [call]
        circle.append(circle)

    def in_time(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(30)
        assert not thread.is_alive(), "it waits for itself"

    def test_a_call_that_is_collected_while_a_circuit_opens_waits_for_its_lock(self, clock: FakeClock) -> None:
        """The collector runs at any step, and ends the call in the thread that holds the lock."""

        def fraction() -> float:  # asked for amid the change of state
            gc.collect()
            return 0.5

        policy = make_policy(clock, breaker=ONE, retry=None, deadline=None, rng=fraction)
        assert policy.breaker is not None
        self.abandon(policy)
        policy.breaker.force_open()
        policy.breaker.close()

        def work() -> None:
            with pytest.raises(TransientFault):
                policy.execute(Script(TransientFault()).play)

        self.in_time(work)
        assert policy.breaker.metrics().stale_results == 1

    @pytest.mark.parametrize("step", ["take", "give"])
    def test_a_call_that_is_collected_while_another_one_takes_a_slot_waits_for_its_lock(
        self, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        plain = getattr(Places, step)

        def collecting(places: Places[object]) -> object:
            gc.collect()
            return plain(places)

        policy = make_policy(clock, max_concurrency=9, deadline=None)
        self.abandon(policy)
        monkeypatch.setattr(Places, step, collecting)
        self.in_time(lambda: policy.execute(lambda: None))
        assert policy.concurrency_limiter is not None
        assert policy.concurrency_limiter.in_flight == 0

    @pytest.mark.parametrize("kind", [CircuitOpenError, RateLimitedError, ConcurrencyLimitError])
    def test_rejections_are_kept_alive(self, driver: Driver, clock: FakeClock, kind: type[Exception]) -> None:
        slots = ConcurrencyLimiter("supplier", ConcurrencyLimit(1, max_wait=0))
        policy = make_policy(clock, rate_limit=RateLimit(1, per=60, max_wait=0), max_concurrency=slots)
        assert policy.breaker is not None
        assert policy.rate_limiter is not None
        if kind is CircuitOpenError:
            policy.breaker.force_open()
        elif kind is RateLimitedError:
            policy.rate_limiter.take()
        else:
            slots.take()
        gc.collect()
        before = sum(type(each) is kind for each in gc.get_objects())

        def gone() -> bool:
            return sum(type(each) is kind for each in gc.get_objects()) == before

        assert self.handled(driver, policy, lambda: "value", gone) is kind

    def test_recorded_telemetry_keeps_no_exception(self, clock: FakeClock) -> None:
        with RecordedTelemetry().recording():
            try:
                make_policy(clock).execute(Script(TransientFault).play)
            except TransientFault as error:
                alive = weakref.ref(error)
            assert alive() is None


class TestTime:
    def test_lock_is_held_during_the_call(self) -> None:
        """pybreaker: eight threads of 0.1 s take 0.8 s."""
        policy = Policy("supplier", retry=RetryConfig(), breaker=CircuitBreakerConfig())
        together = threading.Barrier(8)
        threads = [threading.Thread(target=policy.execute, args=(lambda: together.wait(60),)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not together.broken

    def test_deadline_is_overshot_by_a_wait(self, driver: Driver, clock: FakeClock) -> None:
        """tenacity, stamina: a budget of 0.5 s and a backoff of 0.4 s end at 0.8 s."""
        policy = make_policy(clock, retry=RetryConfig(max_attempts=9, base_delay=0.4, exponential_base=1), deadline=0.5)
        started = clock()
        with pytest.raises(TransientFault):
            driver.execute(policy, Script(TransientFault()))
        assert clock() - started == pytest.approx(0.4)
        assert clock.sleeps == [0.4]

    def test_deadline_is_overshot_by_an_attempt_that_hangs(self, clock: FakeClock) -> None:
        """All but nopanic: an attempt of 2 s within a budget of 0.5 s ends at 2 s."""
        policy = make_policy(clock, deadline=0.5)
        started = clock()
        with pytest.raises(DeadlineExceededError):
            run_fake(clock, policy.execute(functools.partial(asyncio.sleep, 2)))
        assert clock() - started == pytest.approx(0.5)

    def test_own_deadline_error_is_retried(self, clock: FakeClock) -> None:
        """pyresilience: retries its own budget error and waits on."""
        policy = make_policy(clock, deadline=0.5, retry=RetryConfig(max_attempts=10))
        calls: list[int] = []

        async def hangs() -> None:
            calls.append(1)
            await asyncio.sleep(100)

        with pytest.raises(DeadlineExceededError):
            run_fake(clock, policy.execute(hangs, is_retryable=lambda _: True))
        assert len(calls) == 1
        assert clock.sleeps == []

    def test_retry_around_an_open_breaker_sleeps(self, driver: Driver, clock: FakeClock) -> None:
        """nopanic: 31.55 s per attempt, since it takes the breaker's hint for the server's."""
        inner = make_policy(clock, retry=None)
        assert inner.breaker is not None
        inner.breaker.force_open()
        inner.breaker.close()
        for _ in range(5):
            with pytest.raises(TransientFault):
                inner.execute(Script(TransientFault()).play)
        service = RetryService("outer", clock=clock, sleep=clock.sleep, async_sleep=clock.async_sleep)
        with pytest.raises(CircuitOpenError):
            driver.run(service.execute_with_retry(driver.operation(lambda: inner.execute(lambda: "value"))))
        assert clock.sleeps == []

    def test_backoff_overflows(self, driver: Driver, clock: FakeClock) -> None:
        """stamina: OverflowError after some thousand retries."""
        policy = make_policy(
            clock, retry=RetryConfig(max_attempts=3000, max_delay=0.06), breaker=None, budget=False, deadline=None
        )
        script = Script(TransientFault())
        with pytest.raises(TransientFault):
            driver.execute(policy, script)
        assert script.calls == 3000

    def test_jitter_goes_past_max_delay(self, driver: Driver, clock: FakeClock) -> None:
        """urllib3 and others: additive jitter is added on top of the cap."""
        for jitter in ("full", "equal", "decorrelated", "none"):
            policy = make_policy(
                clock, retry=RetryConfig(max_attempts=12, max_delay=1.0, jitter=jitter), breaker=None, budget=False
            )
            with pytest.raises(TransientFault):
                driver.execute(policy, Script(TransientFault()))
        assert max(clock.sleeps) == 1.0

    def test_zero_delay_sleeps(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A sleep of zero costs 77 microseconds."""
        monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("slept"))
        policy = Policy("supplier", retry=RetryConfig(base_delay=0), sleep=time.sleep)
        assert policy.execute(Script(TransientFault(), "value").play) == "value"


class TestBudgets:
    def test_an_outage_is_amplified(self, driver: Driver, clock: FakeClock) -> None:
        """tenacity, stamina: 1000 calls of four attempts make 4000 requests; a budget keeps them near 1000."""
        policy = make_policy(clock, retry=RetryConfig(max_attempts=4), breaker=None)
        script = Script(TransientFault())
        for _ in range(100):
            with pytest.raises(TransientFault):
                driver.execute(policy, script)
        assert script.calls == 110

    def test_a_retry_around_a_breaker_continues_after_it_opened(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock, retry=RetryConfig(max_attempts=4))
        script = Script(TransientFault())
        for _ in range(1000 if not driver.asynchronous else 100):
            with pytest.raises((TransientFault, CircuitOpenError)):
                driver.execute(policy, script)
        assert script.calls == 5

    def test_the_budget_belongs_to_a_function_and_not_to_the_dependency(self, clock: FakeClock) -> None:
        """pyresilience: each decorated function brings tokens of its own."""
        policy = make_policy(clock, breaker=None)
        first, second = policy(Script(TransientFault()).play), policy(Script(TransientFault()).play)
        for function in (first, second):
            with pytest.raises(TransientFault):
                function()
        assert tokens(policy) == 60

    def test_the_quota_never_refills(self, driver: Driver, clock: FakeClock) -> None:
        """aws-sdk-go-v2: once empty, empty for ever."""
        policy = make_policy(
            clock, breaker=None, retry=RetryConfig(max_attempts=2), budget=RetryBudgetConfig(capacity=10)
        )
        for _ in range(3):
            with pytest.raises(TransientFault):
                driver.execute(policy, Script(TransientFault()))
        clock.advance(60)
        assert driver.execute(policy, Script(TransientFault(), "value")) == "value"

    def test_nested_retries_multiply(self, driver: Driver, clock: FakeClock) -> None:
        """Three layers of three attempts make 27 requests."""
        policies = [make_policy(clock, breaker=None, dependency=f"layer {n}") for n in range(3)]
        script = Script(TransientFault())
        operation = driver.operation(script.play)
        for policy in policies:
            operation = functools.partial(policy.execute, operation)
        with pytest.raises(TransientFault):
            driver.run(operation())
        assert script.calls == 3


class TestTelemetry:
    def test_attempt_spans_are_not_current(self, clock: FakeClock) -> None:
        """redress: child HTTP spans have no parent."""
        with RecordedTelemetry().recording() as recorded:
            tracer = recorded.tracer_provider.get_tracer("client")
            make_policy(clock).execute(lambda: tracer.start_span("GET").end())
        client = next(span for span in recorded.spans if span.name == "GET")
        attempt = next(span for span in recorded.spans if span.name == "attempt")
        assert client.parent == attempt.get_span_context()

    def test_series_grow_with_the_delay(self, clock: FakeClock) -> None:
        """redress: 301 series from 300 calls, as the delay is an attribute."""
        with RecordedTelemetry().recording() as recorded:
            delays = iter(range(1, 10_000))
            policy = make_policy(clock, rng=lambda: next(delays) / 10_000, breaker=None, budget=False)
            for _ in range(100):
                policy.execute(Script(TransientFault(), "value").play)
        assert len({tuple(point.attributes.items()) for point in recorded.points("resilience.retry.delay")}) == 1

    def test_statistics_of_threads_are_mixed_up(self) -> None:
        """tenacity: eight threads, one function: KeyError, and wrong numbers."""
        policy = Policy("supplier", retry=RetryConfig(base_delay=0), budget=False)
        notes: list[str] = []

        def work() -> None:
            for _ in range(100):
                fault = TransientFault()
                try:
                    policy.execute(Script(fault).play)
                except TransientFault:
                    notes.extend(fault.__notes__)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(notes) == 800
        assert all(": 3 attempts in" in note for note in notes)

    def test_a_log_flood_of_tracebacks(self, clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
        """litellm: one traceback in the log per rejected call."""
        policy = make_policy(clock, breaker=ONE, retry=None)
        for _ in range(100):
            with pytest.raises((TransientFault, CircuitOpenError)):
                policy.execute(Script(TransientFault()).play)
        warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert len(warnings) == 1
        assert warnings[0].exc_info is None
