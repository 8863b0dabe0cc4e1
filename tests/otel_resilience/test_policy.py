"""The policy: deadline, retry with budget, breaker per attempt, attempt timeout; for ``def`` and ``async def``."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import functools
import gc
import inspect
import threading
import time
import traceback
from typing import Any

import pytest

from otel_resilience import (
    AttemptTimeoutError,
    BreakerState,
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitOpenError,
    DeadlineExceededError,
    Policy,
    RetryConfig,
    correlation_scope,
    error_context,
)
from otel_resilience.testing import FakeClock, RecordedTelemetry
from support.resilience import (
    Driver,
    Fault,
    PermanentFault,
    Script,
    ThrottledFault,
    TransientFault,
    make_policy,
    run_fake,
    tokens,
)

SHORT = 0.05


def breaker_of(policy: Policy) -> CircuitBreaker:
    assert policy.breaker is not None
    return policy.breaker


class TestDeadline:
    @pytest.mark.fault("F32")
    def test_a_wait_that_would_end_past_it_is_not_started(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock, deadline=1.0)
        fault = ThrottledFault()
        with pytest.raises(ThrottledFault) as caught:
            driver.execute(policy, Script(fault))
        assert caught.value is fault
        assert clock.sleeps == []
        assert tokens(policy) == 100

    def test_the_call_may_have_a_shorter_one_of_its_own(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock, deadline=30.0)
        script = Script(ThrottledFault())
        with pytest.raises(ThrottledFault):
            driver.execute(policy, script, deadline=2.5)
        assert (script.calls, clock.sleeps) == (2, [1.0])

    def test_a_longer_one_of_the_call_does_not_extend_it(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock, deadline=0.5)
        with pytest.raises(ThrottledFault):
            driver.execute(policy, Script(ThrottledFault()), deadline=60)
        assert clock.sleeps == []

    @pytest.mark.parametrize("deadline", [0, -1.0])
    def test_one_that_has_passed_sends_nothing(self, driver: Driver, clock: FakeClock, deadline: float) -> None:
        script = Script("value")
        with pytest.raises(DeadlineExceededError):
            driver.execute(make_policy(clock), script, deadline=deadline)
        assert script.calls == 0

    @pytest.mark.parametrize(
        ("deadline", "error"), [(float("nan"), ValueError), ("3", TypeError), (True, TypeError)], ids=str
    )
    def test_one_that_is_not_a_duration_is_refused_by_name(
        self, driver: Driver, clock: FakeClock, deadline: Any, error: type
    ) -> None:
        script = Script("value")
        with pytest.raises(error, match="deadline must be"):
            driver.execute(make_policy(clock), script, deadline=deadline)
        assert script.calls == 0

    def test_it_cuts_an_async_attempt_short(self, clock: FakeClock) -> None:
        policy = make_policy(clock, deadline=0.5)

        async def hangs() -> None:
            await asyncio.sleep(100)

        started = clock()
        with pytest.raises(DeadlineExceededError) as caught:
            run_fake(clock, policy.execute(hangs))
        assert clock() - started == pytest.approx(0.5, abs=0.001)
        assert caught.value.deadline == 0.5
        assert isinstance(caught.value, TimeoutError)

    def test_it_cuts_the_retry_short_as_well(self, clock: FakeClock) -> None:
        policy = make_policy(clock, deadline=1.0, attempt_timeout=0.7, idempotent=True)

        async def hangs() -> None:
            await asyncio.sleep(100)

        started = clock()
        with pytest.raises(DeadlineExceededError):
            run_fake(clock, policy.execute(hangs))
        assert clock() - started == pytest.approx(1.0, abs=0.001)

    def test_a_sleep_that_overshoots_ends_the_call_and_gives_the_token_back(
        self, driver: Driver, clock: FakeClock
    ) -> None:
        fault = TransientFault()

        def overshoot(_: float) -> None:
            clock.advance(10.0)

        async def overshoot_async(_: float) -> None:
            clock.advance(10.0)

        policy = make_policy(clock, deadline=5.0, sleep=overshoot, async_sleep=overshoot_async)
        script = Script(fault)
        with pytest.raises(DeadlineExceededError) as caught:
            driver.execute(policy, script)
        assert caught.value.__cause__ is fault
        assert script.calls == 1
        assert tokens(policy) == 100


class TestAttemptTimeout:
    @pytest.mark.fault("F08")
    def test_an_async_attempt_that_hangs_is_cut_and_repeated(self, clock: FakeClock) -> None:
        policy = make_policy(clock, attempt_timeout=2.0, deadline=30.0, idempotent=True)
        cancelled: list[int] = []

        async def operation() -> str:
            if len(cancelled) < 2:
                try:
                    await asyncio.sleep(1000)
                except asyncio.CancelledError:
                    cancelled.append(1)
                    raise
            return "value"

        started = clock()
        assert run_fake(clock, policy.execute(operation)) == "value"
        assert clock() - started == pytest.approx(2 * 2.0 + 0.15)
        assert breaker_of(policy).metrics().failures == 2

    def test_when_attempts_end_the_timeout_is_raised(self, clock: FakeClock) -> None:
        policy = make_policy(clock, attempt_timeout=2.0, deadline=None, idempotent=True)

        async def hangs() -> None:
            await asyncio.sleep(1000)

        with pytest.raises(AttemptTimeoutError, match="no result within the attempt timeout of 2 s") as caught:
            run_fake(clock, policy.execute(hangs))
        assert caught.value.timeout == 2.0
        context = error_context(caught.value)
        assert context is not None
        assert context.attempts == 3
        assert context.elapsed == pytest.approx(6.15)

    def test_a_def_attempt_that_hangs_is_left_behind_in_its_thread(self) -> None:
        policy = Policy(
            "supplier", retry=RetryConfig(max_attempts=2, base_delay=0), attempt_timeout=SHORT, idempotent=True
        )
        release = threading.Event()
        calls: list[int] = []

        def operation() -> str:
            calls.append(1)
            if len(calls) == 1:
                release.wait()
            return "value"

        assert policy.execute(operation) == "value"
        assert len(calls) == 2
        release.set()

    def test_a_def_attempt_in_a_thread_sees_its_callers_context(self) -> None:
        variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
        variable.set("mine")
        assert Policy("supplier", attempt_timeout=5.0).execute(variable.get) == "mine"

    def test_its_errors_come_back_as_they_are(self) -> None:
        fault = PermanentFault()
        with pytest.raises(PermanentFault) as caught:
            Policy("supplier", attempt_timeout=5.0).execute(Script(fault).play)
        assert caught.value is fault

    def test_a_huge_limit_is_not_an_overflow(self) -> None:
        def operation() -> int:
            time.sleep(0.02)  # long enough for the caller to wait
            return 1

        assert Policy("supplier", attempt_timeout=1e12).execute(operation) == 1
        assert Policy("supplier", deadline=1e300).execute(operation) == 1

    async def test_a_huge_limit_is_not_an_overflow_for_async_either(self) -> None:
        async def operation() -> int:
            await asyncio.sleep(0)
            return 1

        assert await Policy("supplier", attempt_timeout=1e12).execute(operation) == 1

    def test_a_timeout_error_of_the_operation_stays_its_own(self, driver: Driver, clock: FakeClock) -> None:
        own = TimeoutError("my own")
        policy = make_policy(clock, attempt_timeout=5.0, retry=None)
        with pytest.raises(TimeoutError) as caught:
            driver.execute(policy, Script(own))
        assert caught.value is own

    def test_cancellation_from_outside_is_not_a_timeout(self, clock: FakeClock) -> None:
        policy = make_policy(clock, attempt_timeout=5.0)

        async def main() -> None:
            task = asyncio.ensure_future(policy.execute(functools.partial(asyncio.sleep, 100)))
            await asyncio.sleep(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        run_fake(clock, main())
        assert breaker_of(policy).metrics().calls == 0
        assert tokens(policy) == 100


class TestBreakerPerAttempt:
    def test_it_counts_every_attempt(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock)
        with pytest.raises(TransientFault):
            driver.execute(policy, Script(TransientFault()))
        assert breaker_of(policy).metrics().failures == 3
        driver.execute(policy, Script(TransientFault(), "value"))
        metrics = breaker_of(policy).metrics()
        assert (metrics.failures, metrics.calls) == (4, 5)

    def test_it_trips_in_the_middle_of_a_call(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock)
        with pytest.raises(TransientFault):
            driver.execute(policy, Script(TransientFault()))
        fault = TransientFault()
        script = Script(fault)
        with pytest.raises(CircuitOpenError) as caught:
            driver.execute(policy, script)
        assert script.calls == 2  # the fifth consecutive failure opened it; the third attempt was not sent
        assert caught.value.__cause__ is fault
        assert tokens(policy) == 100 - 20 - 10  # the retry that was not sent was not paid for
        script = Script("value")
        with pytest.raises(CircuitOpenError) as rejection:
            driver.execute(policy, script)
        assert script.calls == 0
        assert rejection.value.dependency == "supplier"
        assert rejection.value.retry_after == pytest.approx(5.0, abs=0.2)

    def test_after_the_open_time_one_probe_decides(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock, retry=None)
        for _ in range(5):
            with pytest.raises(TransientFault):
                driver.execute(policy, Script(TransientFault()))
        for expected in (5.0, 10.0, 20.0, 40.0, 60.0, 60.0):
            assert breaker_of(policy).metrics().retry_after == pytest.approx(expected)
            clock.advance(expected)
            script = Script(TransientFault())
            with pytest.raises(TransientFault):
                driver.execute(policy, script)
            assert script.calls == 1
        clock.advance(60.0)
        assert driver.execute(policy, Script("value")) == "value"
        assert breaker_of(policy).state is BreakerState.CLOSED

    def test_an_open_circuit_is_not_retried(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock)
        breaker_of(policy).force_open()
        script = Script("value")
        with pytest.raises(CircuitOpenError) as caught:
            driver.execute(policy, script)
        assert (script.calls, clock.sleeps, tokens(policy)) == (0, [], 100)
        assert caught.value.retry_after is None

    def test_nor_by_an_outer_policy(self, driver: Driver, clock: FakeClock) -> None:
        inner = make_policy(clock)
        breaker_of(inner).force_open()
        outer = make_policy(clock, dependency="outer")
        operation = driver.operation(lambda: "value")
        with pytest.raises(CircuitOpenError):
            driver.run(outer.execute(lambda: inner.execute(operation)))
        assert clock.sleeps == []
        assert breaker_of(outer).metrics().calls == 0  # neutral: it says nothing about the outer dependency
        assert tokens(outer) == 100

    @pytest.mark.fault("F21")
    def test_a_hint_of_the_server_extends_the_open_time(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock, retry=None)
        for _ in range(5):
            with pytest.raises(TransientFault):
                driver.execute(policy, Script(TransientFault(retry_after=42.0)))
        assert breaker_of(policy).metrics().retry_after == 42.0

    def test_throttling_says_nothing_about_the_dependency(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock, retry=None)
        for _ in range(20):
            with pytest.raises(ThrottledFault):
                driver.execute(policy, Script(ThrottledFault()))
        assert breaker_of(policy).metrics().calls == 0

    @pytest.mark.fault("F33")
    def test_breakers_opened_by_others_during_the_sleep_end_the_call(self, driver: Driver, clock: FakeClock) -> None:
        breaker = CircuitBreaker("supplier", clock=clock)
        fault = TransientFault()

        def opened_meanwhile(_: float) -> None:
            breaker.force_open()

        async def opened_meanwhile_async(_: float) -> None:
            breaker.force_open()

        policy = make_policy(clock, breaker=breaker, sleep=opened_meanwhile, async_sleep=opened_meanwhile_async)
        script = Script(fault)
        with pytest.raises(CircuitOpenError) as caught:
            driver.execute(policy, script)
        assert caught.value.__cause__ is fault
        assert (script.calls, tokens(policy)) == (1, 100)
        assert breaker.metrics().failures == 1

    def test_a_cancelled_probe_gives_its_slot_back(self, clock: FakeClock) -> None:
        policy = make_policy(clock, retry=None, breaker=CircuitBreakerConfig(consecutive_failures=1))
        driver = Driver(clock, asynchronous=True)
        with pytest.raises(TransientFault):
            driver.execute(policy, Script(TransientFault()))
        clock.advance(60)

        async def main() -> None:
            task = asyncio.ensure_future(policy.execute(functools.partial(asyncio.sleep, 100)))
            await asyncio.sleep(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        driver.run(main())
        assert breaker_of(policy).state is BreakerState.HALF_OPEN
        assert driver.execute(policy, Script("value")) == "value"
        assert breaker_of(policy).state is BreakerState.CLOSED


class TestTheErrorThatIsRaised:
    def test_it_is_the_original_with_a_note(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock)
        fault = TransientFault("the dependency is down")
        with correlation_scope("0123456789abcdef" * 2), pytest.raises(TransientFault) as caught:
            driver.execute(policy, Script(fault), name="list bundles")
        assert caught.value is fault
        context = error_context(fault)
        assert context is not None
        (note,) = fault.__notes__
        assert note.startswith("supplier list bundles: 3 attempts in 0.150 s, correlation ID ")
        assert note.endswith(context.correlation_id)
        assert note in "".join(traceback.format_exception(fault))
        assert (context.dependency, context.operation, context.attempts) == ("supplier", "list bundles", 3)
        assert context.elapsed == pytest.approx(0.15)
        assert context.exhausted

    def test_one_attempt_reads_as_one(self, driver: Driver, clock: FakeClock) -> None:
        fault = PermanentFault()
        with pytest.raises(PermanentFault):
            driver.execute(make_policy(clock), Script(fault))
        assert ": 1 attempt in 0.000 s" in fault.__notes__[0]
        context = error_context(fault)
        assert context is not None
        assert not context.exhausted

    def test_notes_do_not_pile_up_on_a_reused_exception_object(self, driver: Driver, clock: FakeClock) -> None:
        fault = TransientFault()
        fault.add_note("the user's own")
        for attempts in (1, 2, 3, 2, 1):
            policy = make_policy(clock, breaker=None, retry=RetryConfig(max_attempts=attempts))
            for _ in range(3):
                with pytest.raises(TransientFault):
                    driver.execute(policy, Script(fault))
                assert len(fault.__notes__) == 2
            assert fault.__notes__[0] == "the user's own"

    def test_a_reused_exception_object_describes_its_last_call(self, driver: Driver, clock: FakeClock) -> None:
        fault = TransientFault()
        policy = make_policy(clock, breaker=None)
        with pytest.raises(TransientFault):
            driver.execute(policy, Script(fault))
        with pytest.raises(TransientFault):  # at the very same moment of the fake clock
            driver.execute(policy, Script(fault), idempotent=False)
        context = error_context(fault)
        assert context is not None
        assert context.attempts == 1
        assert ": 1 attempt in" in fault.__notes__[0]

    def test_a_reused_exception_object_is_retried_in_every_call(self, driver: Driver, clock: FakeClock) -> None:
        fault = TransientFault()
        policy = make_policy(clock, breaker=None, retry=RetryConfig(base_delay=0))
        for _ in range(2):
            script = Script(fault)
            with pytest.raises(TransientFault):
                driver.execute(policy, script)
            assert script.calls == 3

    def test_the_innermost_call_knows_best(self, driver: Driver, clock: FakeClock) -> None:
        inner = make_policy(clock, breaker=None, dependency="inner")
        outer = make_policy(clock, breaker=None, dependency="outer")
        fault = TransientFault()
        operation = driver.operation(Script(fault).play)
        with pytest.raises(TransientFault):
            driver.run(outer.execute(lambda: inner.execute(operation)))
        context = error_context(fault)
        assert context is not None
        assert (context.dependency, context.attempts) == ("inner", 3)
        assert len(fault.__notes__) == 1

    def test_exhausted_retries_are_not_multiplied_by_an_outer_policy(self, driver: Driver, clock: FakeClock) -> None:
        inner = make_policy(clock, breaker=None, dependency="inner")
        outer = make_policy(clock, breaker=None, dependency="outer")
        script = Script(TransientFault())
        operation = driver.operation(script.play)

        async def async_call() -> Any:
            return await inner.execute(operation)

        call = async_call if driver.asynchronous else functools.partial(inner.execute, operation)
        with pytest.raises(TransientFault):
            driver.run(outer.execute(call))
        assert script.calls == 3
        assert tokens(outer) == 100

    def test_a_cured_call_attaches_nothing(self, driver: Driver, clock: FakeClock) -> None:
        fault = TransientFault()
        driver.execute(make_policy(clock), Script(fault, "value"))
        assert error_context(fault) is None
        assert not hasattr(fault, "__notes__")

    def test_an_exception_that_cannot_be_written_to_is_raised_all_the_same(
        self, driver: Driver, clock: FakeClock
    ) -> None:
        @dataclasses.dataclass(frozen=True)
        class FrozenError(Exception):
            code: int

        with pytest.raises(FrozenError) as caught:
            driver.execute(make_policy(clock), Script(FrozenError(7)))
        assert caught.value.code == 7

    def test_an_exception_whose_text_fails_is_raised_all_the_same(self, driver: Driver, clock: FakeClock) -> None:
        class SilentError(Fault):
            verdict = PermanentFault.verdict

            def __str__(self) -> str:
                raise RuntimeError("no text")

        with pytest.raises(SilentError):
            driver.execute(make_policy(clock), Script(SilentError()))

    def test_tracebacks_do_not_grow_with_the_attempts(self, clock: FakeClock) -> None:
        fault = TransientFault()
        with pytest.raises(TransientFault):
            make_policy(clock, breaker=None, retry=RetryConfig(max_attempts=2), budget=False).execute(
                Script(fault).play
            )
        short = len(traceback.extract_tb(fault.__traceback__))
        other = [TransientFault() for _ in range(50)]
        with pytest.raises(TransientFault) as caught:
            make_policy(clock, breaker=None, retry=RetryConfig(max_attempts=50, max_delay=0.05), budget=False).execute(
                Script(*other).play
            )
        assert len(traceback.extract_tb(caught.value.__traceback__)) <= short


class TestOperations:
    def test_a_lambda_that_returns_a_coroutine(self, clock: FakeClock, path: str) -> None:
        driver = Driver(clock, asynchronous=True)
        script = Script(TransientFault(), TransientFault(), "value")
        operation = driver.operation(script.play)
        policy = make_policy(clock)
        assert driver.run(policy.execute(lambda: operation())) == "value"
        assert (script.calls, clock.sleeps) == (3, [0.05, 0.1])
        metrics = breaker_of(policy).metrics()
        assert (metrics.calls, metrics.failures) == (3, 2)
        assert tokens(policy) == 90

    def test_a_lambda_that_returns_a_coroutine_meets_the_attempt_timeout(self, clock: FakeClock) -> None:
        policy = make_policy(clock, attempt_timeout=1.0, retry=None)
        with pytest.raises(AttemptTimeoutError):
            run_fake(clock, policy.execute(lambda: asyncio.sleep(100)))

    def test_a_lambda_whose_coroutine_is_rejected_later_leaves_none_behind(
        self, clock: FakeClock, path: str
    ) -> None:  # fmt: skip
        policy = make_policy(clock, retry=None, breaker=CircuitBreakerConfig(consecutive_failures=1))
        driver = Driver(clock, asynchronous=True)
        operation = driver.operation(lambda: "value")
        protected = policy.execute(lambda: operation())
        breaker_of(policy).force_open()
        with contextlib.suppress(CircuitOpenError):  # an observed call was admitted already
            driver.run(protected)
        del protected
        gc.collect()  # a coroutine that was never awaited would warn, and warnings are errors here

    @pytest.mark.parametrize("kind", ["partial", "method", "object"])
    def test_partials_methods_and_callable_objects(self, driver: Driver, clock: FakeClock, kind: str) -> None:
        class Client:
            def fetch(self, value: str) -> str:
                return value

            async def fetch_async(self, value: str) -> str:
                return value

            def bound(self) -> str:
                return "value"

            async def bound_async(self) -> str:
                return "value"

        class Callable:
            def __call__(self) -> str:
                return "value"

        class AsyncCallable:
            async def __call__(self) -> str:
                return "value"

        client = Client()
        operations: dict[str, Any] = {
            "partial": functools.partial(client.fetch_async if driver.asynchronous else client.fetch, "value"),
            "method": client.bound_async if driver.asynchronous else client.bound,
            "object": AsyncCallable() if driver.asynchronous else Callable(),
        }
        result = make_policy(clock).execute(operations[kind])
        assert inspect.isawaitable(result) is driver.asynchronous
        assert driver.run(result) == "value"

    @pytest.mark.parametrize("limit", [None, 5.0])
    async def test_a_def_operation_inside_a_running_loop_is_called_as_it_is(self, limit: float | None) -> None:
        clock = FakeClock()
        policy = make_policy(clock, attempt_timeout=limit)
        threads: list[int] = []

        def operation() -> str:
            threads.append(threading.get_ident())
            if len(threads) == 1:
                raise TransientFault
            return "value"

        assert policy.execute(operation) == "value"
        assert threads == [threading.get_ident()] * 2
        assert clock.sleeps == [0.05]

    def test_falsy_values_are_values(self, driver: Driver, clock: FakeClock) -> None:
        falsy: tuple[object, ...] = (None, 0, "", [], False)
        for value in falsy:
            assert driver.execute(make_policy(clock), Script(value)) == value


class TestDecorator:
    def test_a_function_keeps_its_signature(self, clock: FakeClock) -> None:
        policy = make_policy(clock)
        calls: list[tuple[int, str]] = []

        @policy
        def fetch(page: int, *, size: str = "s") -> str:
            """Fetches."""
            calls.append((page, size))
            if len(calls) == 1:
                raise TransientFault
            return f"{page}{size}"

        assert fetch(1, size="x") == "1x"
        assert calls == [(1, "x"), (1, "x")]
        assert (fetch.__name__, fetch.__doc__) == ("fetch", "Fetches.")
        assert list(inspect.signature(fetch).parameters) == ["page", "size"]
        assert not inspect.iscoroutinefunction(fetch)

    def test_a_coroutine_function_stays_one(self, clock: FakeClock) -> None:
        policy = make_policy(clock)
        script = Script(TransientFault(), "value")

        @policy
        async def fetch() -> Any:
            return script.play()

        assert inspect.iscoroutinefunction(fetch)
        assert run_fake(clock, fetch()) == "value"

    def test_it_takes_options(self, clock: FakeClock) -> None:
        policy = make_policy(clock)
        fault = TransientFault()

        @policy.decorator(name="list bundles", idempotent=False)
        def fetch() -> None:
            raise fault

        with pytest.raises(TransientFault):
            fetch()
        context = error_context(fault)
        assert context is not None
        assert (context.operation, context.attempts) == ("list bundles", 1)


class TestConfiguration:
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"deadline": 0}, ValueError, "deadline must be greater than 0, not 0"),
            ({"deadline": float("nan")}, ValueError, "deadline must be greater than 0, not nan"),
            ({"deadline": float("inf")}, ValueError, "deadline must be finite"),
            ({"deadline": "30"}, TypeError, "deadline must be a number, not '30'"),
            ({"deadline": True}, TypeError, "deadline must be a number, not True"),
            ({"attempt_timeout": -1}, ValueError, "attempt_timeout must be greater than 0, not -1"),
            (
                {"attempt_timeout": 11, "deadline": 10},
                ValueError,
                r"attempt_timeout \(11\) must be at most deadline \(10\)",
            ),
            (
                {"attempt_timeout": 31, "breaker": CircuitBreakerConfig()},
                ValueError,
                r"monitoring_period \(60\) must be at least twice attempt_timeout \(31\)",
            ),
            (
                {"attempt_timeout": 10, "breaker": CircuitBreakerConfig(probe_lease=10)},
                ValueError,
                r"probe_lease \(10\) must be longer than attempt_timeout \(10\)",
            ),
            (
                {
                    "attempt_timeout": 90,
                    "breaker": CircuitBreaker("supplier", CircuitBreakerConfig(monitoring_period=300)),
                },
                ValueError,
                r"probe_lease \(60\) must be longer than attempt_timeout \(90\)",
            ),
        ],
    )
    def test_parts_that_do_not_fit_are_refused_by_name(self, options: Any, error: type, message: str) -> None:
        with pytest.raises(error, match=message):
            Policy("supplier", **options)

    @pytest.mark.parametrize("dependency", ["", "  ", None, 5])
    def test_a_dependency_needs_a_name(self, dependency: Any) -> None:
        with pytest.raises(ValueError, match="dependency must be a non-empty string"):
            Policy(dependency)

    def test_the_probe_lease_follows_the_attempt_timeout(self) -> None:
        policy = Policy("supplier", breaker=CircuitBreakerConfig(), attempt_timeout=10)
        assert breaker_of(policy).config.probe_lease == 11

    def test_without_parts_it_only_calls(self, driver: Driver, clock: FakeClock) -> None:
        policy = Policy("supplier", clock=clock)
        assert (policy.breaker, policy.budget) == (None, None)
        script = Script(TransientFault())
        with pytest.raises(TransientFault):
            driver.execute(policy, script)
        assert script.calls == 1


@pytest.mark.fault("F57")
def test_one_policy_serves_threads_and_loops_at_once() -> None:
    policy = Policy("supplier", retry=RetryConfig(base_delay=0), breaker=CircuitBreakerConfig(failure_threshold=10**6))
    failures: list[BaseException] = []

    def in_thread() -> None:
        for _ in range(50):
            policy.execute(Script(TransientFault(), "value").play)

    async def in_loop() -> None:
        async def one() -> None:
            assert await policy.execute(Driver(clock, asynchronous=True).operation(lambda: "value")) == "value"

        await asyncio.gather(*(one() for _ in range(50)))

    def guarded(work: Any) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    clock = FakeClock()
    threads = [threading.Thread(target=guarded, args=(in_thread,)) for _ in range(3)]
    threads += [threading.Thread(target=guarded, args=(lambda: asyncio.run(in_loop()),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    metrics = breaker_of(policy).metrics()
    assert (metrics.calls, metrics.failures) == (3 * 100 + 3 * 50, 150)


def test_nothing_is_recorded_for_a_call_outside_the_recording(clock: FakeClock) -> None:
    recorded = RecordedTelemetry()
    with recorded.recording():
        pass
    make_policy(clock).execute(lambda: "value")
    assert recorded.spans == ()
