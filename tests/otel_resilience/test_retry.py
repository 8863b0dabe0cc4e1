"""Retry: how many times, how long between, for which errors; for ``def`` and ``async def``.

The bench: three attempts, the random number is 1.0, so that delays are exactly 0.05 and 0.10 s (throttling 1 and 2 s);
100 tokens, no trickle.
"""

from __future__ import annotations

import asyncio
import inspect
import time

import pytest

from otel_resilience import (
    CircuitOpenError,
    ErrorClass,
    Policy,
    RateLimit,
    RateLimiter,
    RetryBudget,
    RetryBudgetConfig,
    RetryConfig,
    RetryService,
    current_attempt,
    error_context,
    retry,
)
from otel_resilience.testing import FakeClock, no_waits
from support.resilience import (
    Driver,
    LocalFault,
    PermanentFault,
    Script,
    SlowHealingFault,
    ThrottledFault,
    TransientFault,
    make_policy,
    tokens,
)

IMMEDIATE = RetryConfig(base_delay=0.0)


class TestAttemptsAndDelays:
    def test_success_takes_one_attempt_and_no_wait(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock)
        script = Script("value")
        assert driver.execute(policy, script) == "value"
        assert (script.calls, clock.sleeps, tokens(policy)) == (1, [], 100)

    def test_a_fault_once_recovers(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock)
        script = Script(TransientFault(), "value")
        assert driver.execute(policy, script) == "value"
        assert (script.calls, clock.sleeps) == (2, [0.05])
        assert tokens(policy) == 100  # the retry succeeded: refunded

    def test_a_persistent_fault_ends_after_three_attempts(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock)
        fault = TransientFault()
        script = Script(fault)
        with pytest.raises(TransientFault) as caught:
            driver.execute(policy, script)
        assert caught.value is fault
        assert (script.calls, clock.sleeps, tokens(policy)) == (3, [0.05, 0.1], 80)

    def test_throttling_has_its_own_delays_and_price(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock)
        script = Script(ThrottledFault())
        with pytest.raises(ThrottledFault):
            driver.execute(policy, script)
        assert (script.calls, clock.sleeps, tokens(policy)) == (3, [1.0, 2.0], 92)

    def test_a_slowly_healing_error_waits_longer(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock)
        assert driver.execute(policy, Script(SlowHealingFault(), "value")) == "value"
        assert clock.sleeps == [5.0]

    def test_a_local_shortage_is_retried(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock)
        assert driver.execute(policy, Script(LocalFault(), "value")) == "value"
        assert clock.sleeps == [0.05]

    @pytest.mark.parametrize("fault", [PermanentFault(), ValueError("a bug")], ids=["permanent", "unclassified"])
    def test_what_a_repetition_cannot_cure_is_not_repeated(
        self, driver: Driver, clock: FakeClock, fault: Exception
    ) -> None:
        policy = make_policy(clock)
        script = Script(fault)
        with pytest.raises(type(fault)):
            driver.execute(policy, script)
        assert (script.calls, clock.sleeps, tokens(policy)) == (1, [], 100)

    def test_zero_delay_does_not_sleep(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock, retry=IMMEDIATE)
        assert driver.execute(policy, Script(TransientFault(), TransientFault(), "value")) == "value"
        assert clock.sleeps == []

    def test_zero_jitter_draw_does_not_sleep(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock, rng=lambda: 0.0)
        assert driver.execute(policy, Script(TransientFault(), "value")) == "value"
        assert clock.sleeps == []

    def test_max_delay_caps_every_wait_of_our_own(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock, retry=RetryConfig(max_attempts=6, base_delay=1, max_delay=3), breaker=None)
        with pytest.raises(TransientFault):
            driver.execute(policy, Script(TransientFault()))
        assert clock.sleeps == [1, 2, 3, 3, 3]

    @pytest.mark.parametrize(
        ("jitter", "expected"),
        [("full", [0.025, 0.05]), ("equal", [0.0375, 0.075]), ("none", [0.05, 0.1]), ("decorrelated", [0.1, 0.175])],
    )
    def test_every_jitter(self, driver: Driver, clock: FakeClock, jitter: str, expected: list[float]) -> None:
        policy = make_policy(clock, retry=RetryConfig(jitter=jitter), rng=lambda: 0.5)
        with pytest.raises(TransientFault):
            driver.execute(policy, Script(TransientFault()))
        assert clock.sleeps == pytest.approx(expected)

    def test_errors_with_a_limit_of_their_own_are_confirmed_once(self, driver: Driver, clock: FakeClock) -> None:
        script = Script(PermanentFault(max_retries=1))
        policy = make_policy(clock)
        with pytest.raises(PermanentFault):
            driver.execute(policy, script)
        assert (script.calls, clock.sleeps) == (2, [0.05])

    def test_the_limit_of_an_error_is_counted_per_error_type(self, driver: Driver, clock: FakeClock) -> None:
        script = Script(PermanentFault(max_retries=1), PermanentFault(max_retries=1, error_type="400"), "value")
        assert driver.execute(make_policy(clock), script) == "value"
        assert script.calls == 3

    def test_a_free_repetition_is_made_once_at_once_and_costs_nothing(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock)
        closed = TransientFault(immediate=True)
        with pytest.raises(TransientFault):
            driver.execute(policy, Script(closed))
        assert clock.sleeps == [0.1]
        assert tokens(policy) == 90

    def test_a_free_repetition_that_succeeds_pays_nothing_in(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock)
        with pytest.raises(TransientFault):
            driver.execute(policy, Script(TransientFault()))
        driver.execute(policy, Script(TransientFault(immediate=True), "value"))
        assert tokens(policy) == 80

    def test_the_running_attempt_knows_its_number(self, driver: Driver, clock: FakeClock) -> None:
        seen: list[int] = []

        def play() -> str:
            seen.append(current_attempt())
            if len(seen) < 3:
                raise TransientFault
            return "value"

        assert driver.execute(make_policy(clock), play) == "value"
        assert seen == [1, 2, 3]
        assert current_attempt() == 1


def test_what_takes_the_place_of_time_sleep_later_is_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """gevent patches it after this library was imported where Gunicorn loads the application before it forks; waits of
    the original would hold up all greenlets. A test may replace it too."""
    clock = FakeClock()
    policy = Policy("supplier", retry=RetryConfig(max_attempts=2, base_delay=20, jitter=False))
    service, limiter = RetryService(), RateLimiter("supplier", RateLimit(1, per=60, margin=0), clock=clock)
    monkeypatch.setattr(time, "sleep", clock.sleep)
    assert policy.execute(Script(TransientFault(), "value").play) == "value"
    assert service.execute_with_retry(Script(TransientFault(), "value").play, policy.retry) == "value"
    for _ in range(2):
        limiter.acquire()
    assert clock.sleeps == [20, 20, 60]


class TestRetryAfter:
    def test_a_hint_is_a_lower_bound(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock)
        assert driver.execute(policy, Script(ThrottledFault(retry_after=2.0), "value")) == "value"
        assert (clock.sleeps, tokens(policy)) == ([2.0], 100)

    def test_a_short_hint_does_not_shorten_our_own_wait(self, driver: Driver, clock: FakeClock) -> None:
        assert driver.execute(make_policy(clock), Script(ThrottledFault(retry_after=0.2), "value")) == "value"
        assert clock.sleeps == [1.0]

    def test_a_hint_counts_for_transient_errors_too(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock, retry=IMMEDIATE)
        assert driver.execute(policy, Script(TransientFault(retry_after=7.0), "value")) == "value"
        assert clock.sleeps == [7.0]

    @pytest.mark.parametrize("hint", [30.0, 86_400.0, 1e12, float("inf")])
    def test_a_hint_past_the_deadline_stops_at_once_and_is_handed_over(
        self, driver: Driver, clock: FakeClock, hint: float
    ) -> None:
        policy = make_policy(clock, deadline=30)
        script = Script(ThrottledFault(retry_after=hint))
        with pytest.raises(ThrottledFault) as caught:
            driver.execute(policy, script)
        assert (script.calls, clock.sleeps, tokens(policy)) == (1, [], 100)
        context = error_context(caught.value)
        assert context is not None
        assert context.retry_after == hint

    def test_a_hint_past_its_cap_stops_also_without_a_deadline(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock, deadline=None)
        with pytest.raises(ThrottledFault):
            driver.execute(policy, Script(ThrottledFault(retry_after=300.5)))
        assert clock.sleeps == []

    def test_a_hint_past_its_cap_stops_even_where_our_own_wait_would_be_longer(
        self, driver: Driver, clock: FakeClock
    ) -> None:
        config = RetryConfig(base_delay=500, max_delay=500, max_retry_after=300)
        policy = make_policy(clock, deadline=None, retry=config)
        with pytest.raises(TransientFault):
            driver.execute(policy, Script(TransientFault(retry_after=400.0)))
        assert clock.sleeps == []


class TestBudget:
    @pytest.mark.fault("F20")
    def test_an_outage_of_throttling_drains_it_as_computed(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock, deadline=None)
        attempts = []
        for _ in range(15):
            script = Script(ThrottledFault())
            with pytest.raises(ThrottledFault):
                driver.execute(policy, script)
            attempts.append(script.calls)
        assert attempts == [3] * 12 + [2, 1, 1]  # 12 calls of 8 tokens, one retry of 4, then none

    def test_first_attempts_are_never_blocked(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(
            clock,
            breaker=None,
            retry=RetryConfig(max_attempts=2),
            budget=RetryBudgetConfig(capacity=10, refill_rate=0),
        )
        with pytest.raises(TransientFault):
            driver.execute(policy, Script(TransientFault()))
        assert tokens(policy) == 0
        script = Script("value")
        for _ in range(5):
            assert driver.execute(policy, script) == "value"
        assert script.calls == 5

    def test_a_first_try_success_pays_in_a_recovered_one_does_not(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock)
        with pytest.raises(TransientFault):
            driver.execute(policy, Script(TransientFault()))
        driver.execute(policy, Script("value"))
        assert tokens(policy) == 81
        driver.execute(policy, Script(TransientFault(), "value"))
        assert tokens(policy) == 81

    def test_only_the_last_price_is_refunded(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock)
        driver.execute(policy, Script(TransientFault(), TransientFault(), "value"))
        assert tokens(policy) == 90

    def test_an_outage_amplifies_a_thousand_calls_by_one_percent(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock, retry=RetryConfig(max_attempts=4), breaker=None, deadline=None)
        script = Script(TransientFault())
        for _ in range(1000 if not driver.asynchronous else 100):
            with pytest.raises(TransientFault):
                driver.execute(policy, script)
        assert script.calls == (1010 if not driver.asynchronous else 110)

    def test_it_can_be_shared_or_left_out(self, driver: Driver, clock: FakeClock) -> None:
        shared = RetryBudget("supplier", RetryBudgetConfig(refill_rate=0), clock=clock)
        policies = [make_policy(clock, budget=shared) for _ in range(2)]
        for policy in policies:
            with pytest.raises(TransientFault):
                driver.execute(policy, Script(TransientFault()))
        assert shared.metrics().tokens == 60
        assert make_policy(clock, budget=False).budget is None
        assert make_policy(clock, retry=None).budget is None


class TestIdempotency:
    def test_a_call_that_may_have_been_sent_is_not_repeated(self, driver: Driver, clock: FakeClock) -> None:
        script = Script(TransientFault())
        with pytest.raises(TransientFault):
            driver.execute(make_policy(clock), script, idempotent=False)
        assert script.calls == 1

    def test_a_call_that_was_provably_not_sent_is(self, driver: Driver, clock: FakeClock) -> None:
        script = Script(TransientFault(unsent=True), "value")
        assert driver.execute(make_policy(clock), script, idempotent=False) == "value"
        assert script.calls == 2

    def test_the_request_itself_may_decide(self, driver: Driver, clock: FakeClock) -> None:
        script = Script(TransientFault(idempotent=False))
        with pytest.raises(TransientFault):
            driver.execute(make_policy(clock), script)
        assert script.calls == 1

    def test_a_call_marked_as_safe_is_repeated_all_the_same(self, driver: Driver, clock: FakeClock) -> None:
        script = Script(TransientFault(idempotent=False), "value")
        assert driver.execute(make_policy(clock), script, idempotent=True) == "value"

    def test_throttling_too(self, driver: Driver, clock: FakeClock) -> None:
        script = Script(ThrottledFault(idempotent=False))
        with pytest.raises(ThrottledFault):
            driver.execute(make_policy(clock), script)
        assert script.calls == 1


class TestIsRetryable:
    def test_the_callers_predicate_replaces_the_classifier(self, driver: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock)
        script = Script(KeyError("x"), "value")
        assert driver.execute(policy, script, is_retryable=lambda error: isinstance(error, KeyError)) == "value"
        script = Script(TransientFault())
        with pytest.raises(TransientFault):
            driver.execute(policy, script, is_retryable=lambda _: False)
        assert script.calls == 1

    def test_it_is_not_asked_about_an_open_circuit(self, driver: Driver, clock: FakeClock) -> None:
        inner = make_policy(clock, retry=None)
        assert inner.breaker is not None
        inner.breaker.force_open()
        outer = make_policy(clock, breaker=None)
        with pytest.raises(CircuitOpenError):
            driver.execute(outer, lambda: inner.execute(lambda: "value"), is_retryable=lambda _: True)
        assert clock.sleeps == []

    def test_it_is_not_asked_about_cancellation(self, driver: Driver, clock: FakeClock) -> None:
        asked: list[BaseException] = []

        def predicate(error: BaseException) -> bool:
            asked.append(error)
            return True

        with pytest.raises(KeyboardInterrupt):
            driver.execute(make_policy(clock), Script(KeyboardInterrupt()), is_retryable=predicate)
        assert asked == []


class TestRetryService:
    def service(self, clock: FakeClock) -> RetryService:
        return RetryService(
            "supplier",
            budget=RetryBudgetConfig(refill_rate=0),
            clock=clock,
            sleep=clock.sleep,
            async_sleep=clock.async_sleep,
            rng=lambda: 1.0,
        )

    def test_it_takes_operation_config_and_predicate(self, driver: Driver, clock: FakeClock) -> None:
        service = self.service(clock)
        script = Script(KeyError("x"), KeyError("x"), KeyError("x"), "value")
        result = service.execute_with_retry(
            driver.operation(script.play),
            RetryConfig(max_attempts=4, base_delay=0.1),
            lambda error: isinstance(error, KeyError),
        )
        assert inspect.isawaitable(result) is driver.asynchronous
        assert driver.run(result) == "value"
        assert clock.sleeps == [0.1, 0.2, 0.4]

    def test_without_a_predicate_the_classifier_decides(self, driver: Driver, clock: FakeClock) -> None:
        service = self.service(clock)
        assert driver.run(service.execute_with_retry(driver.operation(Script(TransientFault(), 1).play))) == 1
        script = Script(PermanentFault())
        with pytest.raises(PermanentFault):
            driver.run(service.execute_with_retry(driver.operation(script.play), RetryConfig()))
        assert script.calls == 1

    def test_its_calls_share_one_budget_whatever_their_configuration(self, driver: Driver, clock: FakeClock) -> None:
        service = self.service(clock)
        for attempts in (2, 3):
            with pytest.raises(TransientFault):
                driver.run(
                    service.execute_with_retry(
                        driver.operation(Script(TransientFault()).play), RetryConfig(max_attempts=attempts)
                    )
                )
        assert service.budget.metrics().tokens == 70

    @pytest.mark.fault("L11")
    @pytest.mark.parametrize("dependency", [None, "supplier"])
    def test_its_own_budget_pays_for_all_attempts(self, clock: FakeClock, dependency: str | None) -> None:
        service = RetryService(dependency, clock=clock, sleep=clock.sleep)
        for attempts in (30, 2, 101):
            script = Script(TransientFault())
            with pytest.raises(TransientFault) as caught:
                service.execute_with_retry(script.play, RetryConfig(max_attempts=attempts, base_delay=0))
            assert script.calls == attempts
            context = error_context(caught.value)
            assert context is not None
            assert (context.attempts, context.exhausted) == (attempts, True)
            clock.advance(10_000)  # the bucket fills up again

    @pytest.mark.fault("L11")
    def test_one_that_was_given_and_cannot_pay_is_refused(self) -> None:
        service = RetryService(budget=RetryBudgetConfig(capacity=100))
        script = Script("never")
        with pytest.raises(ValueError, match=r"max_attempts \(12\) needs a budget with a capacity of at least 110"):
            service.execute_with_retry(script.play, RetryConfig(max_attempts=12))
        assert script.calls == 0

    def test_deadline_and_idempotency_can_be_given(self, driver: Driver, clock: FakeClock) -> None:
        service = self.service(clock)
        script = Script(ThrottledFault())
        with pytest.raises(ThrottledFault):
            driver.run(service.execute_with_retry(driver.operation(script.play), deadline=2.5))
        assert (script.calls, clock.sleeps) == (2, [1.0])
        script = Script(TransientFault())
        with pytest.raises(TransientFault):
            driver.run(service.execute_with_retry(driver.operation(script.play), idempotent=False))
        assert script.calls == 1


class TestDecorator:
    def test_it_retries_what_was_named(self) -> None:
        calls: list[int] = []

        @retry(IMMEDIATE, on=KeyError)
        def lookup(key: str, *, default: int = 0) -> str:
            """Looks something up."""
            calls.append(default)
            if len(calls) < 3:
                raise KeyError(key)
            return key

        assert lookup("a", default=5) == "a"
        assert calls == [5, 5, 5]
        assert lookup.__name__ == "lookup"
        assert lookup.__doc__ == "Looks something up."
        assert str(inspect.signature(lookup)) == "(key: 'str', *, default: 'int' = 0) -> 'str'"

    async def test_it_keeps_a_coroutine_function_one(self) -> None:
        calls: list[str] = []

        @retry(IMMEDIATE, on=(KeyError, ValueError))
        async def lookup(key: str) -> str:
            calls.append(key)
            if len(calls) == 1:
                raise ValueError(key)
            return key

        assert inspect.iscoroutinefunction(lookup)
        assert await lookup("a") == "a"
        assert calls == ["a", "a"]

    def test_what_was_not_named_is_not_retried(self) -> None:
        calls: list[int] = []

        @retry(IMMEDIATE, on=lambda error: isinstance(error, KeyError))
        def lookup() -> None:
            calls.append(1)
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            lookup()
        assert calls == [1]

    def test_on_none_means_the_classifier(self) -> None:
        script = Script(TransientFault(), "value")
        assert retry(IMMEDIATE, on=None)(script.play)() == "value"

    def test_what_is_retryable_has_no_default(self) -> None:
        with pytest.raises(TypeError, match="on"):
            retry(IMMEDIATE)  # type: ignore[call-arg]

    def test_it_decorates_methods(self) -> None:
        class Client:
            calls = 0

            @retry(IMMEDIATE, on=KeyError)
            def fetch(self, key: str) -> str:
                self.calls += 1
                if self.calls == 1:
                    raise KeyError(key)
                return key

        client = Client()
        assert client.fetch("x") == "x"
        assert client.calls == 2


class TestCancellation:
    @pytest.mark.fault("F38")
    def test_in_the_sleep_it_passes_and_gives_the_token_back(self, clock: FakeClock) -> None:
        policy = make_policy(clock, async_sleep=asyncio.sleep, retry=RetryConfig(base_delay=5.0))

        async def main() -> None:
            task = asyncio.ensure_future(policy.execute(Driver(clock, asynchronous=True).operation(script.play)))
            await asyncio.sleep(1)
            assert tokens(policy) == 90
            task.cancel("stop")
            with pytest.raises(asyncio.CancelledError, match="stop"):
                await task
            assert asyncio.all_tasks() == {asyncio.current_task()}

        script = Script(TransientFault())
        Driver(clock, asynchronous=True).run(main())
        assert (script.calls, tokens(policy)) == (1, 100)

    @pytest.mark.parametrize("failures", [0, 1], ids=["first attempt", "retry"])
    @pytest.mark.fault("F38")
    def test_in_the_request_it_passes_and_gives_the_token_back(self, clock: FakeClock, failures: int) -> None:
        policy = make_policy(clock)
        started: list[int] = []

        async def operation() -> None:
            started.append(1)
            if len(started) <= failures:
                raise TransientFault
            await asyncio.sleep(100)

        async def main() -> None:
            task = asyncio.ensure_future(policy.execute(operation))
            await asyncio.sleep(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        Driver(clock, asynchronous=True).run(main())
        assert len(started) == failures + 1
        assert tokens(policy) == 100
        assert policy.breaker is not None
        assert policy.breaker.metrics().failures == failures

    @pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
    def test_interruptions_pass_uncounted(
        self, driver: Driver, clock: FakeClock, interruption: type[BaseException]
    ) -> None:
        policy = make_policy(clock)
        script = Script(TransientFault(), interruption)
        with pytest.raises(interruption):
            driver.execute(policy, script)
        assert (script.calls, tokens(policy)) == (2, 100)
        assert policy.breaker is not None
        assert policy.breaker.metrics().failures == 1

    def test_an_interruption_of_the_sleep_gives_the_token_back(self, clock: FakeClock) -> None:
        def interrupted(_: float) -> None:
            raise KeyboardInterrupt

        policy = make_policy(clock, sleep=interrupted)
        script = Script(TransientFault())
        with pytest.raises(KeyboardInterrupt):
            policy.execute(script.play)
        assert (script.calls, tokens(policy)) == (1, 100)

    def test_a_coroutine_that_is_closed_in_its_sleep_gives_the_token_back(self, clock: FakeClock) -> None:
        policy = make_policy(clock, deadline=None)
        protected = policy.execute(Driver(clock, asynchronous=True).operation(Script(TransientFault()).play))
        protected.send(None)  # runs up to the sleep
        assert tokens(policy) == 90
        protected.close()
        assert tokens(policy) == 100


class TestConfiguration:
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"max_attempts": 0}, ValueError, "max_attempts must be at least 1, not 0"),
            ({"max_attempts": 2.5}, TypeError, "max_attempts must be a whole number, not 2.5"),
            ({"max_attempts": True}, TypeError, "max_attempts must be a whole number, not True"),
            ({"max_attempts": "3"}, TypeError, "max_attempts must be a whole number, not '3'"),
            ({"base_delay": -0.1}, ValueError, "base_delay must be at least 0, not -0.1"),
            ({"base_delay": float("nan")}, ValueError, "base_delay must be at least 0, not nan"),
            ({"base_delay": float("inf")}, ValueError, "base_delay must be finite"),
            ({"base_delay": "50"}, TypeError, "base_delay must be a number, not '50'"),
            ({"base_delay": True}, TypeError, "base_delay must be a number, not True"),
            ({"base_delay": 30.0}, ValueError, r"base_delay must be at most max_delay \(20\), not 30.0"),
            ({"max_delay": -1}, ValueError, "max_delay"),
            ({"exponential_base": 0.5}, ValueError, "exponential_base must be at least 1, not 0.5"),
            ({"exponential_base": float("nan")}, ValueError, "exponential_base"),
            ({"jitter": "some"}, ValueError, "jitter must be one of"),
            ({"throttle_base_delay": None}, TypeError, "throttle_base_delay must be a number, not None"),
            ({"slow_base_delay": -5}, ValueError, "slow_base_delay"),
            ({"max_retry_after": float("nan")}, ValueError, "max_retry_after"),
        ],
    )
    def test_a_wrong_value_is_refused_by_name(self, options: dict[str, object], error: type, message: str) -> None:
        with pytest.raises(error, match=message):
            RetryConfig(**options)  # type: ignore[arg-type]

    def test_the_defaults_are_those_of_the_reference(self) -> None:
        config = RetryConfig()
        assert (config.max_attempts, config.base_delay, config.throttle_base_delay, config.max_delay) == (
            3,
            0.05,
            1,
            20,
        )
        assert config.jitter == "full"

    def test_jitter_may_be_a_bool(self) -> None:
        assert RetryConfig(jitter=True).jitter == "full"
        assert RetryConfig(jitter=False).jitter == "none"


def test_no_waits_skips_every_sleep(driver: Driver) -> None:
    clock = FakeClock()
    policy = make_policy(clock)
    with no_waits(policy) as waits, pytest.raises(TransientFault):
        driver.execute(policy, Script(TransientFault()))
    assert waits == [0.05, 0.1]
    assert clock.sleeps == []


def test_every_retried_class_is_retried_and_no_other(driver: Driver, clock: FakeClock) -> None:
    retried = set()
    for error_class in ErrorClass:
        if error_class is ErrorClass.CANCELLED:
            continue
        script = Script(TransientFault(error_class=error_class))
        with pytest.raises(TransientFault):
            driver.execute(make_policy(clock, breaker=None), script)
        if script.calls > 1:
            retried.add(error_class)
    assert retried == {
        ErrorClass.TRANSIENT,
        ErrorClass.TRANSIENT_SLOW,
        ErrorClass.THROTTLED,
        ErrorClass.LOCAL,
    }
