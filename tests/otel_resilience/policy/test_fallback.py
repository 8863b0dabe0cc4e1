"""``fallback``: what replaces a call that finally failed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace as trace_api

from otel_resilience import (
    CircuitBreakerConfig,
    CircuitOpenError,
    DeadlineExceededError,
    FailedResultError,
    Policy,
    RetryConfig,
    error_context,
    remaining,
)
from otel_resilience.testing import FakeClock, RecordedTelemetry
from support.resilience import (
    Driver,
    NotFoundFault,
    PermanentFault,
    Script,
    ThrottledFault,
    TransientFault,
    make_policy,
    run_fake,
    tokens,
)

LAST_KNOWN = ("last known",)


def test_a_value_takes_the_place_of_the_error(driver: Driver, clock: FakeClock) -> None:
    script = Script(TransientFault())
    assert driver.execute(make_policy(clock, fallback=LAST_KNOWN), script) is LAST_KNOWN
    assert script.calls == 3
    assert driver.execute(make_policy(clock, fallback=LAST_KNOWN), Script("fresh")) == "fresh"


def test_a_function_gets_the_error(driver: Driver, clock: FakeClock) -> None:
    fault = PermanentFault()
    assert driver.execute(make_policy(clock, fallback=lambda error: error), Script(fault)) is fault
    context = error_context(fault)
    assert context is not None
    assert context.attempts == 1


def test_a_rejected_call_has_it_too(driver: Driver, clock: FakeClock) -> None:
    policy = make_policy(clock, fallback=lambda error: error)
    assert policy.breaker is not None
    policy.breaker.force_open()
    script = Script("never")
    assert isinstance(driver.execute(policy, script), CircuitOpenError)
    assert script.calls == 0


def test_a_deadline_that_has_passed_has_it_too(driver: Driver, clock: FakeClock) -> None:
    policy = make_policy(clock, fallback=lambda error: (error, remaining()))
    error, left = driver.execute(policy, Script("never"), deadline=0)
    assert isinstance(error, DeadlineExceededError)
    assert left is None, "the deadline of the call is not that of its fallback"


def test_a_failed_result_has_it_too(driver: Driver, clock: FakeClock) -> None:
    policy = make_policy(clock, retry_result=lambda value: value is None, fallback=lambda error: error)
    error = driver.execute(policy, Script(None))
    assert isinstance(error, FailedResultError)
    policy = make_policy(clock, retry_result=lambda value: value is None, fallback=lambda error: error.result)
    assert driver.execute(policy, Script(None)) is None


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt, SystemExit])
def test_who_gives_up_gets_no_fallback(clock: FakeClock, error: type[BaseException]) -> None:
    script = Script(error())
    with pytest.raises(error):
        make_policy(clock, fallback=LAST_KNOWN, deadline=None).execute(script.play)


def test_its_error_is_raised_with_the_original_as_cause(driver: Driver, clock: FakeClock) -> None:
    def broken(_: Exception) -> None:
        raise LookupError("no snapshot")

    fault = PermanentFault()
    with pytest.raises(LookupError) as caught:
        driver.execute(make_policy(clock, fallback=broken), Script(fault))
    assert caught.value.__cause__ is fault


def test_it_may_raise_the_original_again(driver: Driver, clock: FakeClock) -> None:
    def give_back(error: Exception) -> None:
        raise error

    fault = PermanentFault()
    with pytest.raises(PermanentFault) as caught:
        driver.execute(make_policy(clock, fallback=give_back), Script(fault))
    assert caught.value is fault
    assert fault.__cause__ is None


async def async_fallback(error: Exception) -> Any:
    await asyncio.sleep(0)
    return error


def test_an_async_function_for_an_async_def(clock: FakeClock) -> None:
    fault = PermanentFault()
    driver = Driver(clock, asynchronous=True)
    assert driver.execute(make_policy(clock, fallback=async_fallback), Script(fault)) is fault


def test_an_async_function_cannot_serve_a_def_which_keeps_its_own_error(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    policy = make_policy(clock, fallback=async_fallback)
    for fault in (PermanentFault(), PermanentFault()):
        with pytest.raises(PermanentFault) as caught:
            policy.execute(Script(fault).play)
        assert caught.value is fault
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warned == ["supplier has an async def as fallback, which cannot serve play"]


def test_a_function_that_does_not_take_one_error_is_refused(clock: FakeClock) -> None:
    wrong_ones: tuple[Callable[..., Any], ...] = (lambda: "last known", lambda error, context: context)
    for wrong in wrong_ones:
        with pytest.raises(TypeError, match="fallback must take one exception as its only argument"):
            make_policy(clock, fallback=wrong)


def test_cancellation_of_an_async_fallback_passes(clock: FakeClock) -> None:
    async def hangs(_: Exception) -> None:
        raise asyncio.CancelledError

    driver = Driver(clock, asynchronous=True)
    with pytest.raises(asyncio.CancelledError) as caught:
        driver.execute(make_policy(clock, fallback=hangs), Script(PermanentFault()))
    assert caught.value.__cause__ is None


def test_a_class_is_refused(clock: FakeClock) -> None:
    with pytest.raises(TypeError, match="fallback must be a value or a function of the error, not the class dict"):
        make_policy(clock, fallback=dict)


OUTCOMES = st.sampled_from(
    ["value", None, TransientFault, PermanentFault, ThrottledFault, NotFoundFault, asyncio.CancelledError]
)


@given(calls=st.lists(st.lists(OUTCOMES, min_size=1, max_size=4), min_size=1, max_size=8), asynchronous=st.booleans())
def test_it_changes_what_the_caller_gets_and_nothing_else(calls: list[list[Any]], asynchronous: bool) -> None:
    """Beside a policy without one: the same attempts, budget, circuit and slots, whatever the operations do."""
    clocks = FakeClock(), FakeClock()
    options: dict[str, Any] = {
        "breaker": CircuitBreakerConfig(failure_threshold=4, reset_timeout=1), "max_concurrency": 1,
        "retry_result": lambda value: value is None,
    }  # fmt: skip
    plain, with_fallback = make_policy(clocks[0], **options), make_policy(clocks[1], fallback=LAST_KNOWN, **options)
    drivers = [Driver(each, asynchronous=asynchronous) for each in clocks]
    for outcomes in calls:
        scripts = Script(*outcomes), Script(*outcomes)
        expected = result_of(plain, drivers[0], scripts[0])
        got = result_of(with_fallback, drivers[1], scripts[1])
        replaced = expected is None or isinstance(expected, Exception)  # cancellation is none
        assert got is LAST_KNOWN if replaced else type(got) is type(expected)
        assert scripts[0].calls == scripts[1].calls
        assert tokens(plain) == tokens(with_fallback)
        assert plain.breaker is not None
        assert with_fallback.breaker is not None
        assert plain.breaker.metrics() == with_fallback.breaker.metrics()
        assert with_fallback.concurrency_limiter is not None
        assert with_fallback.concurrency_limiter.in_flight == 0


def result_of(policy: Policy, driver: Driver, script: Script) -> Any:
    try:
        return driver.execute(policy, script)
    except (Exception, asyncio.CancelledError) as error:
        return error


def test_decorated_functions_have_it(clock: FakeClock) -> None:
    policy = make_policy(clock, fallback=LAST_KNOWN)

    @policy
    def fetch() -> Any:
        raise PermanentFault

    @policy
    async def fetch_async() -> Any:
        raise PermanentFault

    functions: tuple[Callable[[], Any], ...] = fetch, fetch_async
    assert functions[0]() is LAST_KNOWN
    assert run_fake(clock, functions[1]()) is LAST_KNOWN


def test_an_outer_call_sees_no_failure(driver: Driver, clock: FakeClock) -> None:
    inner = make_policy(clock, dependency="inner", fallback=LAST_KNOWN)
    outer = make_policy(clock, dependency="outer")
    plays = Script(lambda: inner.execute(Script(PermanentFault()).play))
    assert driver.execute(outer, plays) is LAST_KNOWN
    assert plays.calls == 1


def test_what_an_unsafe_call_with_a_fallback_sent_is_not_sent_again(clock: FakeClock) -> None:
    inner = make_policy(clock, dependency="inner", fallback=LAST_KNOWN, idempotent=False)
    attempts = []

    def order() -> None:
        attempts.append(inner.execute(Script(PermanentFault()).play))
        raise TransientFault

    with pytest.raises(TransientFault):
        make_policy(clock, dependency="outer").execute(order)
    assert len(attempts) == 1


def test_span_and_metric_show_it(clock: FakeClock) -> None:
    seen: list[str] = []

    def fallback(_: Exception) -> Any:
        span: Any = trace_api.get_current_span()
        seen.append(span.name)
        return LAST_KNOWN

    with RecordedTelemetry().recording() as recorded:
        policy = make_policy(clock, fallback=fallback, retry=RetryConfig(max_attempts=1), budget=None)
        policy.execute(Script(TransientFault()).play, name="list")
    attempt, call = recorded.spans
    shown = dict(call.attributes or {})
    assert (shown["resilience.outcome"], shown["error.type"]) == ("fallback", "503")
    assert (call.status.is_unset, attempt.status.is_unset) == (True, False)
    assert seen == ["supplier list"], "client spans of the fallback lie in the span of the call"
    (point,) = recorded.points("resilience.operation.duration")
    assert (point.attributes["resilience.outcome"], point.attributes["error.type"]) == ("fallback", "503")


def test_a_broken_one_is_a_failed_call(clock: FakeClock) -> None:
    with RecordedTelemetry().recording() as recorded:
        policy = make_policy(clock, fallback=lambda _: 1 // 0, retry=RetryConfig(max_attempts=1), budget=None)
        with pytest.raises(ZeroDivisionError):
            policy.execute(Script(TransientFault()).play)
    call = recorded.spans[-1]
    assert dict(call.attributes or {})["resilience.outcome"] == "failed"
    assert not call.status.is_unset
