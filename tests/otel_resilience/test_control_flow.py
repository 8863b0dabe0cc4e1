"""Exceptions that are control flow pass every layer: not retried, not counted, not reported."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import unittest
from typing import Any

import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from celery.exceptions import Ignore, Reject, Retry

from otel_resilience import (
    BreakerEffect,
    CircuitBreakerConfig,
    Classification,
    ErrorClass,
    Policy,
    RetryConfig,
    Severity,
    classify,
    default_classifier,
)
from otel_resilience.testing import FakeClock, RecordedTelemetry
from support.resilience import Driver, Script, TransientFault


class GreenletExit(BaseException):
    """As gevent's; its ``Timeout`` and trio's ``Cancelled`` derive from ``BaseException`` as well."""


class DerivedRetry(Retry):  # type: ignore[misc]  # celery has no types
    """An application's own."""


def foreign(module: str, name: str) -> type[Exception]:
    """A class as a library that is not installed here has it."""
    return type(name, (Exception,), {"__module__": module, "__qualname__": name})


SIGNALS: list[Any] = [
    GreenletExit, StopIteration, StopAsyncIteration, concurrent.futures.CancelledError, asyncio.CancelledError,
    KeyboardInterrupt, SystemExit, GeneratorExit, Retry, Ignore, Reject, DerivedRetry, SoftTimeLimitExceeded,
    unittest.SkipTest, foreign("dramatiq.errors", "Retry"), foreign("huey.exceptions", "CancelExecution"),
    foreign("rq.timeouts", "BaseTimeoutException"), foreign("arq.worker", "Retry"),
    foreign("twisted.internet.defer", "CancelledError"), foreign("grpc", "FutureCancelledError"),
]  # fmt: skip
every_signal = pytest.mark.parametrize("kind", SIGNALS, ids=lambda kind: f"{kind.__module__}.{kind.__qualname__}")


def make(kind: Any) -> BaseException:
    signal: BaseException = kind()
    return signal


@pytest.mark.fault("L7")
@every_signal
def test_it_is_neutral(kind: Any) -> None:
    verdict = classify(make(kind))
    assert (verdict.error_class, verdict.breaker) == (ErrorClass.CANCELLED, BreakerEffect.NEUTRAL)
    assert not verdict.retryable
    assert not verdict.unclassified


@pytest.mark.fault("L7")
@every_signal
def test_no_rule_is_asked_about_it(kind: Any) -> None:
    catch_all = Classification(ErrorClass.TRANSIENT, Severity.HIGH, "503", BreakerEffect.FAILURE)
    assert default_classifier().extended(lambda _: catch_all).classify(make(kind)).error_class is ErrorClass.CANCELLED


@pytest.mark.fault("L7")
@every_signal
def test_a_policy_passes_it_on_at_once(kind: Any, clock: FakeClock, path: str) -> None:
    signal = make(kind)
    script = Script(signal)
    policy = Policy(
        "supplier",
        retry=RetryConfig(max_attempts=5),
        breaker=CircuitBreakerConfig(failure_threshold=1),
        deadline=None if path == "plain" else 30,
        clock=clock,
        sleep=clock.sleep,
    )
    for _ in range(5):
        with pytest.raises(kind) as caught:
            policy.execute(script.play, is_retryable=lambda _: True)
        assert caught.value is signal
    assert script.calls == 5
    assert clock.sleeps == []
    assert policy.breaker is not None
    assert policy.breaker.metrics().calls == 0
    assert not getattr(signal, "__notes__", ())


@pytest.mark.fault("L7")
@pytest.mark.parametrize("kind", [Retry, Reject, GreenletExit, concurrent.futures.CancelledError])
def test_a_circuit_breaker_counts_it_as_nothing(kind: Any, driver: Driver, clock: FakeClock) -> None:
    policy = Policy("supplier", breaker=CircuitBreakerConfig(failure_threshold=1), clock=clock)
    breaker = policy.breaker
    assert breaker is not None
    for _ in range(5):
        with pytest.raises(kind):
            driver.execute(breaker, Script(make(kind)))
    assert (breaker.state.name, breaker.metrics().calls) == ("CLOSED", 0)


@pytest.mark.fault("L7")
def test_a_half_open_probe_that_is_left_by_control_flow_decides_nothing(clock: FakeClock) -> None:
    policy = Policy("supplier", breaker=CircuitBreakerConfig(failure_threshold=1, reset_timeout=5), clock=clock)
    with pytest.raises(TransientFault):
        policy.execute(Script(TransientFault()).play)
    clock.advance(10)
    with pytest.raises(Retry):
        policy.execute(Script(Retry()).play)
    assert policy.execute(lambda: "well") == "well"
    assert policy.breaker is not None
    assert policy.breaker.state.name == "CLOSED"


def test_it_is_not_an_error_in_logs_and_metrics(caplog: pytest.LogCaptureFixture) -> None:
    recorded = RecordedTelemetry()
    with recorded.recording(), caplog.at_level(logging.INFO), pytest.raises(Ignore):
        Policy("supplier", retry=RetryConfig()).execute(Script(Ignore()).play, name="list")
    assert not caplog.records
    assert not recorded.events
    assert not recorded.points("resilience.errors")
    (duration,) = recorded.points("resilience.operation.duration")
    assert duration.attributes["resilience.outcome"] == "cancelled"
    assert all(span.status.is_unset for span in recorded.spans)
    assert [span.name for span in recorded.spans] == ["attempt", "supplier list"]


def step(awaitable: Any) -> None:
    """Runs it as a framework other than asyncio would."""
    awaitable.__await__().send(None)


@pytest.mark.fault("L7")
def test_outside_asyncio_the_user_gets_the_error_where_the_wait_before_a_retry_cannot_be_kept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def failing() -> None:
        raise ConnectionResetError("theirs")

    policy = Policy("supplier", retry=RetryConfig(), breaker=CircuitBreakerConfig())
    for _ in range(2):
        with pytest.raises(ConnectionResetError, match="theirs"):
            step(policy.execute(failing))
    assert policy.budget is not None
    assert policy.budget.metrics().tokens == 100
    (said,) = [record.getMessage() for record in caplog.records if record.name == "otel_resilience"]
    assert "async_sleep" in said


@pytest.mark.fault("L7")
def test_outside_asyncio_a_time_limit_that_cannot_be_kept_is_refused_and_not_counted() -> None:
    async def never() -> None:
        pytest.fail("begun")

    policy = Policy("supplier", attempt_timeout=1.0, breaker=CircuitBreakerConfig(consecutive_failures=1))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no running event loop of asyncio"):
            step(policy.execute(never))
    assert policy.breaker is not None
    assert policy.breaker.state.name == "CLOSED"


async def test_an_async_operation_that_leaks_stop_iteration_is_a_mistake_of_the_program() -> None:
    async def leaking() -> None:
        raise StopIteration

    policy = Policy("supplier", retry=RetryConfig(), breaker=CircuitBreakerConfig(failure_threshold=1))
    with pytest.raises(RuntimeError, match="raised StopIteration"):
        await policy.execute(leaking)
    assert policy.breaker is not None
    assert policy.breaker.state.name == "CLOSED"
