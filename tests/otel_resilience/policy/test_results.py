"""``retry_result``: results that count as failures, and are still returned when attempts end."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import logging
import types
from typing import Any

import httpx
import pytest

from otel_resilience import (
    CircuitBreakerConfig,
    CircuitOpenError,
    Classification,
    ErrorClass,
    FailedResultError,
    RetryConfig,
    RetryService,
    Severity,
    error_context,
    retry,
)
from otel_resilience.testing import FakeClock, RecordedTelemetry
from support.resilience import Driver, Script, TransientFault, make_policy, run_fake, tokens


@dataclasses.dataclass
class Answer:
    """What many clients return: a status under some name, and headers."""

    status_code: int
    headers: dict[str, str] = dataclasses.field(default_factory=dict)


BUSY, FINE = Answer(503), Answer(200)


def failed(answer: Any) -> bool:
    return bool(answer.status_code >= 400)


@pytest.mark.fault("L21")
def test_a_failed_result_is_repeated_and_a_good_one_returned(driver: Driver, clock: FakeClock) -> None:
    policy = make_policy(clock, retry_result=failed)
    script = Script(BUSY, BUSY, FINE)
    assert driver.execute(policy, script) is FINE
    assert (script.calls, clock.sleeps) == (3, [0.05, 0.1])
    assert tokens(policy) == 100 - 10, "the last retry returns what it cost"


@pytest.mark.fault("L21")
def test_the_last_result_is_returned_where_the_attempts_end(driver: Driver, clock: FakeClock) -> None:
    policy = make_policy(clock, retry_result=failed)
    answers = [Answer(503), Answer(502), Answer(500)]
    script = Script(*answers)
    assert driver.execute(policy, script) is answers[2]
    assert script.calls == 3
    assert policy.breaker is not None
    assert policy.breaker.metrics().failures == 3


def test_one_call_may_have_its_own_predicate(driver: Driver, clock: FakeClock) -> None:
    policy = make_policy(clock, retry_result=failed)
    script = Script(BUSY)
    assert driver.execute(policy, script, retry_result=lambda _: False) is BUSY
    assert script.calls == 1
    script = Script(None, "there")
    assert driver.execute(make_policy(clock), script, retry_result=lambda value: value is None) == "there"


def test_without_a_status_it_is_transient(driver: Driver, clock: FakeClock) -> None:
    policy = make_policy(clock, retry_result=lambda value: value is None, fallback=lambda error: error)
    error = driver.execute(policy, Script(None))
    assert isinstance(error, FailedResultError)
    assert (error.result, error.classification.error_class) == (None, ErrorClass.TRANSIENT)
    assert error.classification.error_type == "failed_result"
    assert error.classification.counts


def test_the_wait_is_what_the_answer_asks_for(driver: Driver, clock: FakeClock) -> None:
    policy = make_policy(clock, retry_result=failed)
    assert driver.execute(policy, Script(Answer(503, {"Retry-After": "7"}), FINE)) is FINE
    assert clock.sleeps == [7.0]


def test_a_hint_past_the_deadline_returns_the_answer_at_once(driver: Driver, clock: FakeClock) -> None:
    policy = make_policy(clock, retry_result=failed, deadline=5.0)
    answer = Answer(429, {"retry-after": "60"})
    assert driver.execute(policy, Script(answer)) is answer
    assert clock.sleeps == []


def test_the_status_says_what_the_breaker_counts(driver: Driver, clock: FakeClock) -> None:
    policy = make_policy(clock, retry_result=failed, retry=RetryConfig(max_attempts=1), budget=None)
    for status in (404, 429, 503):
        driver.execute(policy, Script(Answer(status)))
    assert policy.breaker is not None
    metrics = policy.breaker.metrics()
    assert (metrics.calls, metrics.failures) == (2, 1)


def test_what_is_asked_to_be_repeated_is_repeated_whatever_its_status(driver: Driver, clock: FakeClock) -> None:
    script = Script(Answer(404), FINE)
    assert driver.execute(make_policy(clock), script, retry_result=failed) is FINE
    assert script.calls == 2


def test_a_predicate_of_errors_is_not_asked_about_results(driver: Driver, clock: FakeClock) -> None:
    script = Script(BUSY, TransientFault(), FINE)
    assert driver.execute(make_policy(clock, retry_result=failed), script, is_retryable=TransientFault) is FINE
    assert script.calls == 3


def test_a_classification_is_the_verdict_itself(driver: Driver, clock: FakeClock) -> None:
    verdict = Classification(ErrorClass.PERMANENT, Severity.LOW, "404")
    script = Script(BUSY)
    assert driver.execute(make_policy(clock), script, retry_result=lambda _: verdict) is BUSY
    assert script.calls == 1, "a permanent failure is not repeated"


def test_an_error_after_a_failed_result_is_raised(driver: Driver, clock: FakeClock) -> None:
    with pytest.raises(TransientFault):
        driver.execute(make_policy(clock, retry_result=failed), Script(BUSY, BUSY, TransientFault()))


def test_a_circuit_that_opens_in_between_leaves_the_last_result(driver: Driver, clock: FakeClock) -> None:
    policy = make_policy(clock, retry_result=failed, breaker=CircuitBreakerConfig(failure_threshold=2))
    script = Script(BUSY)
    assert driver.execute(policy, script) is BUSY
    assert script.calls == 2
    with pytest.raises(CircuitOpenError):
        driver.execute(policy, script)


def test_one_that_may_not_be_repeated_is_returned(driver: Driver, clock: FakeClock) -> None:
    answer = httpx.Response(503, request=httpx.Request("POST", "https://shop.example/orders"))
    script = Script(answer)
    assert driver.execute(make_policy(clock, retry_result=failed), script) is answer
    assert script.calls == 1
    answer = httpx.Response(503, request=httpx.Request("GET", "https://shop.example/orders"))
    script = Script(answer)
    assert driver.execute(make_policy(clock, retry_result=failed), script) is answer
    assert script.calls == 3


@pytest.mark.parametrize("path", ["plain"], indirect=True)
def test_a_broken_predicate_takes_nothing_away(
    driver: Driver, clock: FakeClock, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    del path
    policy = make_policy(clock)
    with caplog.at_level(logging.WARNING, "otel_resilience"):
        for _ in range(2):
            assert driver.execute(policy, Script(7), name="count", retry_result=failed) == 7
    assert [record.getMessage() for record in caplog.records] == [
        "supplier count: the predicate retry_result failed with builtins.AttributeError; the result counts as a success"
    ]


async def later(_: object) -> bool:
    return True


@pytest.mark.parametrize("wrong", [True, "503", 503, Answer, later, lambda: True, lambda one, two: True])
def test_what_is_not_a_predicate_of_results_is_refused(clock: FakeClock, wrong: Any) -> None:
    with pytest.raises(TypeError, match="retry_result"):
        make_policy(clock, retry_result=wrong)
    with pytest.raises(TypeError, match="retry_result"):
        make_policy(clock).execute(lambda: 1, retry_result=wrong)


def test_the_decorators_judge(clock: FakeClock) -> None:
    policy = make_policy(clock, retry_result=lambda value: value < 3)
    calls: list[int] = []

    @policy
    def fetch(step: int) -> int:
        calls.append(step)
        return len(calls)

    assert fetch(1) == 3

    @policy.decorator(retry_result=lambda value: value < 5)
    async def fetch_async(step: int) -> int:
        calls.append(step)
        return len(calls)

    assert run_fake(clock, fetch_async(1)) == 5

    @retry(RetryConfig(base_delay=0), on=None, retry_result=lambda value: value < 7)
    def fetch_again() -> int:
        calls.append(0)
        return len(calls)

    assert fetch_again() == 7
    assert fetch_again.__name__ == "fetch_again"


def test_the_service_judges(clock: FakeClock) -> None:
    service = RetryService("supplier", clock=clock, sleep=clock.sleep, rng=lambda: 1.0)
    script = Script(BUSY)
    assert service.execute_with_retry(script.play, retry_result=failed) is BUSY
    assert script.calls == 3


def test_what_a_def_returns_to_be_awaited_is_judged(clock: FakeClock) -> None:
    policy = make_policy(clock, retry_result=failed, deadline=None)
    script = Script(BUSY, FINE)

    async def fetch() -> Any:
        return script.play()

    def begin() -> Any:
        policy.clock()  # what does more than to call an async def is not known to be async
        return fetch()

    assert run_fake(clock, policy.execute(begin)) is FINE


def test_an_awaitable_that_is_never_awaited_leaves_nothing(clock: FakeClock) -> None:
    async def fetch() -> Any:
        raise AssertionError("not awaited")

    policy = make_policy(clock, retry_result=failed)

    def begin() -> Any:
        policy.clock()
        return fetch()

    policy.execute(begin).close()
    gc.collect()


def test_cancellation_during_the_wait_passes(clock: FakeClock) -> None:
    async def interrupted(_: float) -> None:
        raise asyncio.CancelledError

    async def fetch() -> Answer:
        return BUSY

    policy = make_policy(clock, retry_result=failed, async_sleep=interrupted)
    with pytest.raises(asyncio.CancelledError):
        run_fake(clock, policy.execute(fetch))


def test_telemetry_shows_the_failure(clock: FakeClock) -> None:
    with RecordedTelemetry().recording() as recorded:
        make_policy(clock, retry_result=failed).execute(lambda: BUSY, name="list")
    *attempts, call = recorded.spans
    assert [dict(span.attributes or {})["error.type"] for span in attempts] == ["503"] * 3
    shown = dict(call.attributes or {})
    assert (shown["resilience.outcome"], shown["error.type"], call.status.is_ok) == ("failed", "503", False)
    assert "resilience.retry.exhausted" in recorded.event_names()


def test_the_text_of_the_error_says_nothing_of_the_result() -> None:
    verdict = Classification(ErrorClass.TRANSIENT, Severity.MEDIUM, "503")
    error = FailedResultError("secret", verdict)
    assert "secret" not in f"{error!r} {error}"
    assert error.request is None


def test_a_request_is_found_where_aiohttp_keeps_it() -> None:
    verdict = Classification(ErrorClass.TRANSIENT, Severity.MEDIUM, "503")
    request = types.SimpleNamespace(method="POST")
    assert FailedResultError(types.SimpleNamespace(request_info=request), verdict).request is request


def test_a_failed_result_of_an_inner_policy_is_not_the_outer_ones(clock: FakeClock) -> None:
    """An inner fallback that raises what it was given: for the outer policy that is an error like any other."""

    def give_back(error: Exception) -> Any:
        raise error

    inner = make_policy(clock, dependency="inner", retry_result=failed, fallback=give_back)
    with pytest.raises(FailedResultError) as caught:
        make_policy(clock).execute(lambda: inner.execute(lambda: BUSY))
    context = error_context(caught.value)
    assert context is not None
    assert context.exhausted


class UncomparableError(Exception):
    __hash__ = None  # type: ignore[assignment]  # on purpose

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("compared")


def test_an_error_of_the_wait_after_a_failed_result_is_not_compared(clock: FakeClock) -> None:
    error = UncomparableError()

    def sleep(_: float) -> None:
        raise error

    policy = make_policy(clock, retry_result=lambda result: result == "pending", sleep=sleep)
    with pytest.raises(UncomparableError) as caught:
        policy.execute(lambda: "pending")
    assert caught.value is error
