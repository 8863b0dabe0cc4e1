"""``hedge_after``: a second attempt alongside a slow one."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from opentelemetry import trace as trace_api

from otel_resilience import (
    AttemptTimeoutError,
    CircuitBreakerConfig,
    Policy,
    RateLimit,
    RetryConfig,
    current_attempt,
)
from otel_resilience._internal.nesting import enclosing
from otel_resilience.policy.latencies import MINIMUM, WINDOW, HedgeDelay
from otel_resilience.testing import FakeClock, RecordedTelemetry
from support.resilience import PermanentFault, TransientFault, make_policy, run_fake, tokens


class Attempts:
    """Plays one outcome for each attempt, in order of their begin: seconds, then an error or a value."""

    def __init__(self, clock: FakeClock, *outcomes: tuple[float, Any]) -> None:
        self.clock = clock
        self.outcomes = outcomes
        self.began: list[float] = []
        self.numbers: list[int] = []
        self.cancelled: list[int] = []

    async def __call__(self) -> Any:
        number = len(self.began)
        self.began.append(self.clock() - 1000)
        self.numbers.append(current_attempt())
        seconds, outcome = self.outcomes[min(number, len(self.outcomes) - 1)]
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def hedging(clock: FakeClock, **options: Any) -> Policy:
    return make_policy(clock, **{"hedge_after": 1.0, "idempotent": True, **options})


def test_a_fast_one_is_alone(clock: FakeClock) -> None:
    attempts = Attempts(clock, (0.5, "value"))
    policy = hedging(clock)
    assert run_fake(clock, policy.execute(attempts)) == "value"
    assert attempts.began == [0]
    assert tokens(policy) == 100


@pytest.mark.parametrize(("permits", "began"), [(1, [0]), (2, [0, 1.0])])
def test_a_hedge_takes_a_permit_of_the_rate_limit_and_never_waits_for_one(
    clock: FakeClock, permits: int, began: list[float]
) -> None:
    attempts = Attempts(clock, (3.0, "value"), (3.0, "other"))
    policy = hedging(clock, rate_limit=RateLimit(permits, per=60))
    assert run_fake(clock, policy.execute(attempts)) == "value"
    assert attempts.began == began
    assert policy.rate_limiter is not None
    assert not policy.rate_limiter.take()


def test_a_hedge_that_the_budget_refuses_gives_its_permit_back(clock: FakeClock) -> None:
    attempts = Attempts(clock, (3.0, "value"))
    policy = hedging(clock, rate_limit=RateLimit(2, per=60))
    assert policy.budget is not None
    policy.budget.take(tokens(policy))
    assert run_fake(clock, policy.execute(attempts)) == "value"
    assert attempts.began == [0]
    assert policy.rate_limiter is not None
    assert policy.rate_limiter.take()


def test_the_permits_of_both_count_from_when_their_requests_went_out(clock: FakeClock) -> None:
    """As a server counts them: a hedge is made just where the first one waits long, such as for its connection."""
    policy = hedging(clock, rate_limit=RateLimit(2, per=10, margin=0))

    async def operation() -> str:
        await asyncio.sleep(3 if current_attempt() == 1 else 4)
        attempt = enclosing.get()
        assert attempt is not None
        attempt.note_on_wire()
        await asyncio.sleep(10)
        return "value"

    assert run_fake(clock, policy.execute(operation)) == "value"
    assert clock() == 1013
    assert policy.rate_limiter is not None
    assert [policy.rate_limiter.take() for _ in range(2)] == [True, False], "the one of 1003 is free, that of 1005 not"


def test_the_second_wins_where_the_first_hangs(clock: FakeClock) -> None:
    attempts = Attempts(clock, (3600, "late"), (0.5, "value"))
    policy = hedging(clock)
    assert run_fake(clock, policy.execute(attempts)) == "value"
    assert (attempts.began, attempts.numbers, attempts.cancelled) == ([0, 1.0], [1, 2], [0])
    assert clock() == 1001.5
    assert tokens(policy) == 90, "a hedge is not refunded, so that slow dependencies get few of them"
    assert policy.breaker is not None
    assert (policy.breaker.metrics().calls, policy.breaker.metrics().failures) == (1, 0)


def test_the_first_may_still_win(clock: FakeClock) -> None:
    attempts = Attempts(clock, (1.5, "value"), (3600, "late"))
    assert run_fake(clock, hedging(clock).execute(attempts)) == "value"
    assert (attempts.began, attempts.cancelled) == ([0, 1.0], [1])


@pytest.mark.parametrize("outcomes", [[(1.5, PermanentFault()), (3, "value")], [(3, "value"), (0.5, PermanentFault())]])
def test_a_failure_leaves_the_decision_to_the_other(clock: FakeClock, outcomes: Any) -> None:
    attempts = Attempts(clock, *outcomes)
    policy = hedging(clock)
    assert run_fake(clock, policy.execute(attempts)) == "value"
    assert attempts.cancelled == []
    assert policy.breaker is not None
    assert (policy.breaker.metrics().calls, policy.breaker.metrics().failures) == (2, 1)


def test_both_failures_are_one_failed_attempt_of_two(clock: FakeClock) -> None:
    first, second = TransientFault(), TransientFault()
    attempts = Attempts(clock, (1.5, first), (3, second), (0, "value"))
    policy = hedging(clock)
    assert run_fake(clock, policy.execute(attempts)) == "value"
    assert attempts.numbers == [1, 2, 3]
    attempts = Attempts(clock, (1.5, first), (3, second), (3600, "never"))
    with pytest.raises(TransientFault) as caught:
        run_fake(clock, hedging(clock, retry=RetryConfig(max_attempts=2)).execute(attempts))
    assert caught.value is second


def test_at_most_one_per_call(clock: FakeClock) -> None:
    attempts = Attempts(clock, (2, TransientFault()), (2, TransientFault()), (2, "value"))
    assert run_fake(clock, hedging(clock).execute(attempts)) == "value"
    assert len(attempts.began) == 3


def test_a_policy_without_retries_can_hedge(clock: FakeClock) -> None:
    policy = make_policy(clock, retry=None, hedge_after=1, idempotent=True)
    attempts = Attempts(clock, (3600, "late"), (0, "value"))
    assert run_fake(clock, policy.execute(attempts)) == "value"
    assert tokens(policy) == 90


def test_what_is_not_declared_idempotent_is_not_hedged(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    policy = hedging(clock, idempotent=None)
    for _ in range(2):
        attempts = Attempts(clock, (5, "value"))
        assert run_fake(clock, policy.execute(attempts, name="order")) == "value"
        assert len(attempts.began) == 1
    (record,) = caplog.records
    assert "supplier order: hedge_after has no effect on an operation" in record.getMessage()
    assert run_fake(clock, policy.execute(Attempts(clock, (5, "late"), (0, "value")), idempotent=True)) == "value"


def test_an_empty_budget_pays_for_none(clock: FakeClock) -> None:
    policy = hedging(clock)
    assert policy.budget is not None
    policy.budget.take(95)
    attempts = Attempts(clock, (5, "value"))
    with RecordedTelemetry().recording() as recorded:
        assert run_fake(clock, policy.execute(attempts)) == "value"
    assert len(attempts.began) == 1
    (point,) = recorded.points("resilience.retry.suppressed")
    assert point.attributes["resilience.retry.suppress_reason"] == "budget"
    assert "resilience.retry.budget_exhausted" in recorded.event_names()


def test_a_half_open_circuit_gives_no_second_probe(clock: FakeClock) -> None:
    policy = hedging(clock, breaker=CircuitBreakerConfig(failure_threshold=1))
    with pytest.raises(PermanentFault):
        run_fake(clock, policy.execute(Attempts(clock, (0, PermanentFault()))))
    clock.advance(60)
    attempts = Attempts(clock, (5, "value"))
    assert run_fake(clock, policy.execute(attempts)) == "value"
    assert len(attempts.began) == 1
    assert policy.breaker is not None
    assert policy.breaker.state.name == "CLOSED"


def test_a_time_limit_cuts_both(clock: FakeClock) -> None:
    attempts = Attempts(clock, (3600, "late"))
    policy = hedging(clock, attempt_timeout=3.0, retry=RetryConfig(max_attempts=2))
    with pytest.raises(AttemptTimeoutError):
        run_fake(clock, policy.execute(attempts))
    assert attempts.cancelled == [0, 1]


def test_cancellation_ends_both_before_it_passes(clock: FakeClock) -> None:
    attempts = Attempts(clock, (3600, "late"))

    async def main() -> None:
        task = asyncio.create_task(hedging(clock).execute(attempts))
        await asyncio.sleep(2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sorted(attempts.cancelled) == [0, 1]

    run_fake(clock, main())


@pytest.mark.parametrize("limit", [None, 3.0])
def test_where_both_are_cut_both_probes_and_spans_end(clock: FakeClock, limit: float | None) -> None:
    breaker = CircuitBreakerConfig(failure_threshold=1, half_open_max_calls=2)
    policy = hedging(clock, breaker=breaker, attempt_timeout=limit, retry=None)
    with pytest.raises(PermanentFault):
        run_fake(clock, policy.execute(Attempts(clock, (0, PermanentFault()))))
    clock.advance(60)

    async def main() -> None:
        task = asyncio.create_task(policy.execute(Attempts(clock, (3600, "late"))))
        if limit is None:
            asyncio.get_running_loop().call_later(2, task.cancel)
        with pytest.raises((asyncio.CancelledError, AttemptTimeoutError)):
            await task

    with RecordedTelemetry().recording() as recorded:
        run_fake(clock, main())
    assert [span.name for span in recorded.spans] == ["attempt", "attempt", "supplier Attempts"]
    assert policy.breaker is not None
    if limit is None:
        assert [policy.breaker.admit() for _ in range(2)]
    else:
        assert policy.breaker.state.name == "OPEN"


def test_who_loses_may_fail_on_its_way_out(clock: FakeClock) -> None:
    async def stubborn() -> str:
        if current_attempt() == 2:
            return "value"
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError as error:
            raise ValueError("could not clean up") from error
        return "late"

    assert run_fake(clock, hedging(clock).execute(stubborn)) == "value"
    gc.collect()


def test_calls_of_who_loses_are_not_those_of_the_call(clock: FakeClock) -> None:
    """The one that was cancelled begins no protected call any more."""
    inner = make_policy(clock, dependency="inner", deadline=None)
    seen: list[str] = []

    async def operation() -> str:
        if current_attempt() == 2:
            return "value"
        try:
            await asyncio.sleep(3600)
        finally:
            try:
                inner.execute(lambda: seen.append("sent"))
            except TimeoutError:
                seen.append("refused")
        return "late"

    assert run_fake(clock, hedging(clock).execute(operation)) == "value"
    assert seen == ["refused"]


def test_results_are_judged(clock: FakeClock) -> None:
    policy = hedging(clock, retry_result=lambda value: value == "bad")
    assert run_fake(clock, policy.execute(Attempts(clock, (1.5, "bad"), (3, "value")))) == "value"


def test_a_def_is_refused(clock: FakeClock) -> None:
    policy = hedging(clock)
    with pytest.raises(TypeError, match="hedge_after needs an async def"):
        policy.execute(lambda: 1)
    with pytest.raises(TypeError, match="hedge_after needs an async def"):
        policy(gc.collect)()


def test_outside_asyncio_it_is_refused(clock: FakeClock) -> None:
    with pytest.raises(RuntimeError, match="no running asyncio event loop"):
        hedging(clock, deadline=None).execute(Attempts(clock, (0, 1))).send(None)


@pytest.mark.parametrize("wrong", ["", "95", "p0", "p100", "P95", "p9.5", -1, float("nan"), float("inf")])
def test_a_wrong_delay_is_refused(clock: FakeClock, wrong: Any) -> None:
    with pytest.raises(ValueError, match="hedge_after must be"):
        hedging(clock, hedge_after=wrong)
    with pytest.raises(TypeError, match="hedge_after must be"):
        hedging(clock, hedge_after=[1])


def test_spans_show_both(clock: FakeClock) -> None:
    current: list[Any] = []

    async def operation() -> str:
        span: Any = trace_api.get_current_span()
        current.append(span.get_span_context().span_id)
        await asyncio.sleep(3600 if current_attempt() == 1 else 1)
        return "value"

    with RecordedTelemetry().recording() as recorded:
        run_fake(clock, hedging(clock).execute(operation, name="list"))
    first, second, call = recorded.spans
    shown = [dict(span.attributes or {}) for span in (first, second, call)]
    assert [each.get("resilience.attempt.number") for each in shown] == [1, 2, None]
    assert [each.get("resilience.attempt.hedged") for each in shown] == [None, True, None]
    assert [span.status.is_unset for span in (first, second, call)] == [True] * 3
    assert (shown[2]["resilience.attempts"], shown[2]["resilience.outcome"]) == (2, "ok")
    contexts = [span.get_span_context() for span in (first, second)]
    assert current == [context.span_id for context in contexts if context is not None]
    assert first.parent == second.parent == call.get_span_context()


def test_telemetry_of_a_failure_beside_a_success(clock: FakeClock) -> None:
    with RecordedTelemetry().recording() as recorded:
        attempts = Attempts(clock, (3, "value"), (1, TransientFault()))
        run_fake(clock, hedging(clock).execute(attempts, name="list"))
    second, first, call = recorded.spans
    assert dict(second.attributes or {})["error.type"] == "503"
    assert first.status.is_unset
    assert dict(call.attributes or {})["resilience.outcome"] == "ok_after_retry"
    (failed,) = (
        each.log_record for each in recorded.events if each.log_record.event_name == "resilience.attempt.failed"
    )
    assert dict(failed.attributes or {})["resilience.attempt.number"] == 2
    (point,) = recorded.points("resilience.errors")
    assert point.value == 1


class TestPercentiles:
    def test_the_latest_latencies_decide(self) -> None:
        delay = HedgeDelay("p95")
        for latency in range(MINIMUM - 1):
            delay.add(latency)
        assert delay.seconds() is None, "too few are known"
        for latency in range(1, WINDOW + 1):
            delay.add(latency)
        assert delay.seconds() == 95
        for _ in range(WINDOW):
            delay.add(0.25)
        assert delay.seconds() == 0.25

    def test_fixed_seconds_stay(self) -> None:
        delay = HedgeDelay(2)
        for _ in range(WINDOW):
            delay.add(0.25)
        assert delay.seconds() == 2.0

    def test_a_policy_learns_them(self, clock: FakeClock) -> None:
        policy = hedging(clock, hedge_after="p50", retry=RetryConfig(max_attempts=1))
        for _ in range(MINIMUM):
            run_fake(clock, policy.execute(Attempts(clock, (2, "value"))))
        attempts = Attempts(clock, (3600, "late"), (0, "value"))
        clock.now = 1000.0
        assert run_fake(clock, policy.execute(attempts)) == "value"
        assert attempts.began == [0, pytest.approx(2)]


def test_a_coroutine_that_is_closed_in_the_middle_leaves_nothing_taken(clock: FakeClock) -> None:
    """As where a loop is closed with what still runs in it: nothing can be waited for then."""
    policy = hedging(clock, max_concurrency=1)

    async def main() -> None:
        attempts = Attempts(clock, (60.0, "value"))
        protected = policy.execute(attempts)
        waits_for = protected.send(None)
        await asyncio.sleep(0)
        protected.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert waits_for is not None
        assert attempts.cancelled == [0]

    run_fake(clock, main())
    assert policy.concurrency_limiter is not None
    assert policy.concurrency_limiter.in_flight == 0


class TestBeforeTheFirstStep:
    """A task that is cancelled then never runs: nothing was sent, so that what was taken for it is given back."""

    def test_of_the_only_attempt_the_permit(self, clock: FakeClock) -> None:
        attempts = Attempts(clock, (0, "value"))
        policy = hedging(clock, hedge_after="p95", rate_limit=RateLimit(1, per=60))

        async def main() -> None:
            task = asyncio.create_task(policy.execute(attempts))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        run_fake(clock, main())
        assert attempts.began == []
        assert policy.rate_limiter is not None
        assert policy.rate_limiter.take()

    @pytest.mark.parametrize("steps", [1, 2])
    def test_of_the_first_attempt_the_permit_and_of_a_hedge_what_paid_for_it(
        self, clock: FakeClock, steps: int
    ) -> None:
        attempts = Attempts(clock, (3600, "late"))
        policy = hedging(clock, rate_limit=RateLimit(2, per=60), max_concurrency=1)

        async def main() -> None:
            protected = policy.execute(attempts)
            for step in range(steps):
                if step:
                    await asyncio.sleep(1.5)
                protected.send(None)
            protected.close()
            await asyncio.sleep(0)

        run_fake(clock, main())
        assert attempts.began == [0] * (steps - 1)
        assert policy.rate_limiter is not None
        assert [policy.rate_limiter.take() for _ in range(3)] == [True, steps == 1, False]
        assert tokens(policy) == 100
