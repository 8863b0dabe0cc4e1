"""Control flow in the shape of exceptions passes every layer: not retried, not counted, not reported."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import tempfile
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from celery.exceptions import Ignore, Reject, Retry
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider

from otel_resilience import (
    BreakerEffect,
    BreakerState,
    CircuitBreakerConfig,
    Classification,
    ConcurrencyLimit,
    ConcurrencyLimiter,
    ErrorClass,
    Hooks,
    Policy,
    RateLimit,
    RateLimiter,
    RetryConfig,
    Severity,
    Transition,
    classify,
    default_classifier,
    remaining,
)
from otel_resilience.alerting import Alert, AlertConfig, AlertService, Notification, Outbox
from otel_resilience.storage import BudgetStep, BudgetView, MemoryStorage, SharedState
from otel_resilience.telemetry import use_providers
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


def test_it_is_no_error_in_logs_and_metrics(caplog: pytest.LogCaptureFixture) -> None:
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


# A job queue raises its time limit from a signal handler: in the middle of whatever runs, code that guards itself
# against errors of others included.


def in_a_predicate(interrupt: Callable[..., Any]) -> None:
    Policy("supplier", retry=RetryConfig()).execute(Script(TransientFault()).play, is_retryable=interrupt)


def in_a_judge_of_results(interrupt: Callable[..., Any]) -> None:
    Policy("supplier", retry=RetryConfig(), retry_result=interrupt).execute(lambda: 1)


def in_a_hook(interrupt: Callable[..., Any]) -> None:
    class Watching(Hooks):
        def on_success(self, dependency: str, operation: str) -> None:
            interrupt()

    Policy("supplier", hooks=Watching()).execute(lambda: 1)


def in_a_span_processor(interrupt: Callable[..., Any]) -> None:
    class Slow(SpanProcessor):
        def on_start(self, span: Span, parent_context: Context | None = None) -> None:
            interrupt()

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Slow())
    with use_providers(tracer_provider=provider):
        Policy("supplier").execute(lambda: 1)


def in_a_log_handler(interrupt: Callable[..., Any]) -> None:
    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            interrupt()

    logger = logging.getLogger("otel_resilience.events")
    handler = Slow()
    logger.addHandler(handler)
    try:
        Policy("supplier", breaker=CircuitBreakerConfig(failure_threshold=1)).execute(Script(TransientFault()).play)
    finally:
        logger.removeHandler(handler)


def in_a_storage(interrupt: Callable[..., Any]) -> None:
    class Slow(MemoryStorage):
        def budget(self, key: str, step: BudgetStep) -> BudgetView:
            return interrupt() if step.cost else super().budget(key, step)

    policy = Policy("supplier", retry=RetryConfig(), shared=SharedState(Slow()))
    policy.execute(Script(TransientFault()).play)


def in_a_report(interrupt: Callable[..., Any]) -> None:
    class Slow(Outbox):
        def put(self, notification: Notification) -> None:
            interrupt()

    with tempfile.TemporaryDirectory() as folder:
        service = AlertService(AlertConfig(), [], outbox=Slow(Path(folder)))
        service.report(Alert(kind="trouble", title="Trouble", severity=Severity.CRITICAL))


PLACES = [
    in_a_predicate, in_a_judge_of_results, in_a_hook, in_a_span_processor, in_a_log_handler, in_a_storage, in_a_report,
]  # fmt: skip
every_place = pytest.mark.parametrize("place", PLACES)


@pytest.mark.fault("L7")
@every_place
@pytest.mark.parametrize("kind", [SoftTimeLimitExceeded, foreign("rq.timeouts", "BaseTimeoutException")])
def test_a_time_limit_that_strikes_in_our_own_work_ends_the_job(place: Callable[..., None], kind: Any) -> None:
    def interrupt(*_: object) -> None:
        raise kind

    with pytest.raises(kind):
        place(interrupt)


@pytest.mark.fault("L7")
@every_place
@pytest.mark.parametrize("kind", [ValueError, Retry, concurrent.futures.CancelledError])
def test_what_code_that_only_observes_raises_itself_does_not(place: Callable[..., None], kind: Any) -> None:
    def broken(*_: object) -> None:
        raise kind

    with contextlib.suppress(TransientFault):  # the operation's own
        place(broken)


@pytest.mark.fault("L7")
def test_a_probe_that_is_interrupted_before_it_begins_gives_its_slot_back(clock: FakeClock) -> None:
    class Slow(SpanProcessor):
        def on_start(self, span: Span, parent_context: Context | None = None) -> None:
            if span.name == "attempt":
                raise SoftTimeLimitExceeded

    policy = Policy("supplier", breaker=CircuitBreakerConfig(failure_threshold=1, reset_timeout=5), clock=clock)
    with pytest.raises(TransientFault):
        policy.execute(Script(TransientFault()).play)
    clock.advance(10)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Slow())
    script = Script("begun")
    with use_providers(tracer_provider=provider), pytest.raises(SoftTimeLimitExceeded):
        policy.execute(script.play)
    assert script.calls == 0
    assert policy.execute(lambda: "well") == "well"
    assert remaining() is None


@pytest.mark.fault("L7")
@pytest.mark.parametrize("kind", [GreenletExit, SoftTimeLimitExceeded])
@pytest.mark.parametrize("is_shared", [False, True])
def test_a_change_of_state_whose_report_is_interrupted_takes_no_slot(
    kind: Any, is_shared: bool, clock: FakeClock
) -> None:
    class Telling(Hooks):
        def on_transition(self, dependency: str, transition: Transition) -> None:
            if transition.target is BreakerState.HALF_OPEN:
                raise kind

    config = CircuitBreakerConfig(failure_threshold=1, reset_timeout=5)
    shared = SharedState(MemoryStorage(clock=clock)) if is_shared else None
    policy = Policy(f"{kind.__name__} {is_shared}", breaker=config, clock=clock, hooks=Telling(), shared=shared)
    with pytest.raises(TransientFault):
        policy.execute(Script(TransientFault()).play)
    clock.advance(10)
    with pytest.raises(kind):
        policy.execute(lambda: "well")
    clock.advance(1)
    assert policy.execute(lambda: "well") == "well"


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
        with pytest.raises(RuntimeError, match="no running asyncio event loop"):
            step(policy.execute(never))
    assert policy.breaker is not None
    assert policy.breaker.state.name == "CLOSED"


@pytest.mark.fault("L7")
@pytest.mark.parametrize("limit", ["rate_limit", "max_concurrency"])
def test_outside_asyncio_a_wait_for_a_limit_that_cannot_be_kept_is_refused_and_not_counted(limit: str) -> None:
    async def never() -> None:
        pytest.fail("begun")

    rate, slots = RateLimiter("supplier", RateLimit(1, per=3600)), ConcurrencyLimiter("supplier", ConcurrencyLimit(1))
    policy = Policy(
        "supplier",
        breaker=CircuitBreakerConfig(consecutive_failures=1),
        **{limit: rate if limit == "rate_limit" else slots},  # type: ignore[arg-type]  # the one that fits
    )
    assert rate.take()
    assert slots.take()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no running asyncio event loop: without one, an async def cannot wait"):
            step(policy.execute(never))
    assert policy.breaker is not None
    assert policy.breaker.state.name == "CLOSED"
    slots.release()
    rate.reset()
    with pytest.raises(pytest.fail.Exception, match="begun"):
        step(policy.execute(never))


async def test_an_async_operation_that_leaks_stop_iteration_is_a_mistake_of_the_program() -> None:
    async def leaking() -> None:
        raise StopIteration

    policy = Policy("supplier", retry=RetryConfig(), breaker=CircuitBreakerConfig(failure_threshold=1))
    with pytest.raises(RuntimeError, match="raised StopIteration"):
        await policy.execute(leaking)
    assert policy.breaker is not None
    assert policy.breaker.state.name == "CLOSED"
