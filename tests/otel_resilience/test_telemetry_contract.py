"""The library's telemetry, compared with its own list of names and with the design's tables."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import re
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace as trace_api
from opentelemetry.metrics import NoOpMeter, NoOpMeterProvider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Gauge, Histogram, InMemoryMetricReader, Sum
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags
from tools.telemetry import signals

from otel_resilience import (
    AttemptTimeoutError,
    BreakerEffect,
    BreakerState,
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitOpenError,
    Classification,
    ConcurrencyLimit,
    LimitError,
    Policy,
    RateLimit,
    RetryBudget,
    RetryBudgetConfig,
    RetryConfig,
    classify,
    disabled,
    error_context,
    telemetry,
)
from otel_resilience.classification import error_types
from otel_resilience.storage import DiskStorage, SharedCircuitBreaker, SharedState
from otel_resilience.telemetry import cardinality, contract, listener
from otel_resilience.testing import FakeClock, Point, RecordedTelemetry, faults
from support.conventions import findings, sink_of
from support.frail_storage import FrailStorage
from support.resilience import (
    Driver,
    Fault,
    PermanentFault,
    Script,
    ThrottledFault,
    TransientFault,
    context_of,
    make_policy,
    run_fake,
)

DEPENDENCY, OPERATION, OUTCOME = "resilience.dependency", "resilience.operation", "resilience.outcome"
CLASS, SEVERITY = "resilience.error.class", "resilience.error.severity"
OUTCOMES = {"ok", "ok_after_retry", "fallback", "failed", "rejected", "deadline", "cancelled"}
STATES = {"closed", "open", "half_open", "forced_open", "shadow"}

DESIGN_METRICS = {
    "resilience.operation.duration": ("histogram", "s", {DEPENDENCY, OPERATION, OUTCOME, "error.type"}),
    "resilience.operation.attempts": ("histogram", "{attempt}", {DEPENDENCY, OPERATION, OUTCOME}),
    "resilience.errors": ("counter", "{error}", {DEPENDENCY, OPERATION, "error.type", CLASS, SEVERITY}),
    "resilience.retry.delay": ("histogram", "s", {DEPENDENCY, "resilience.retry.source"}),
    "resilience.retry.suppressed": ("counter", "{retry}", {DEPENDENCY, "resilience.retry.suppress_reason"}),
    "resilience.retry.budget.utilization": ("gauge", "1", {DEPENDENCY}),
    "resilience.limit.wait.duration": ("histogram", "s", {DEPENDENCY, "resilience.limit"}),
    "resilience.limit.rejections": ("counter", "{call}", {DEPENDENCY, "resilience.limit"}),
    "resilience.limit.shadow_exceeded": ("counter", "{call}", {DEPENDENCY, "resilience.limit"}),
    "resilience.concurrency.in_flight": ("updowncounter", "{call}", {DEPENDENCY}),
    "resilience.timeout.abandoned": ("updowncounter", "{thread}", {DEPENDENCY}),
    "resilience.circuit_breaker.status": ("updowncounter", "1", {DEPENDENCY, "resilience.circuit_breaker.state"}),
    "resilience.circuit_breaker.transitions": (
        "counter",
        "{transition}",
        {DEPENDENCY, "resilience.from", "resilience.to", "resilience.reason"},
    ),
    "resilience.circuit_breaker.rejections": ("counter", "{call}", {DEPENDENCY}),
    "resilience.circuit_breaker.shadow_rejections": ("counter", "{call}", {DEPENDENCY}),
    "resilience.circuit_breaker.stale_results": ("counter", "{call}", {DEPENDENCY}),
    "resilience.circuit_breaker.recovery.duration": ("histogram", "s", {DEPENDENCY}),
    "resilience.storage.degraded": ("updowncounter", "1", {"resilience.storage"}),
    "resilience.storage.step.duration": ("histogram", "s", {"resilience.storage", "error.type"}),
}
DESIGN_EVENTS = {
    "resilience.attempt.failed",
    "resilience.retry.scheduled",
    "resilience.retry.shadowed",
    "resilience.retry.exhausted",
    "resilience.retry.budget_exhausted",
    "resilience.circuit_breaker.state_changed",
    "resilience.circuit_breaker.probe_expired",
    "resilience.error.classified",
    "resilience.storage.degraded",
    "resilience.storage.restored",
    "resilience.storage.damaged",
    "resilience.disabled",
}
ALERT_PREFIX = "resilience.alert."
"""What the alert service emits is held against the contract in ``alerting/test_alert_telemetry.py``."""
OPERATION_SPAN = {DEPENDENCY, OPERATION, "resilience.attempts", OUTCOME, "error.type", "resilience.disabled"}
ATTEMPT_SPAN = {
    DEPENDENCY, "resilience.attempt.number", "resilience.attempt.hedged", "resilience.retry.delay", "error.type", CLASS,
    SEVERITY, "resilience.fault.injected",
}  # fmt: skip
CLOSED_SETS = {
    OUTCOME: OUTCOMES,
    "resilience.retry.source": {"backoff", "retry_after"},
    "resilience.retry.suppress_reason": {
        "budget", "deadline", "not_idempotent", "not_retryable", "retry_after_too_long", "breaker_open",
        "exhausted_below", "idempotency_unknown", "rate_limited", "shadow",
    },
    "resilience.limit": {"rate", "concurrency"},
    "resilience.circuit_breaker.state": STATES,
    "resilience.from": STATES,
    "resilience.to": STATES,
    "resilience.reason": {
        "failure_threshold", "consecutive_failures", "failure_rate", "slow_call_rate", "open_time_ended",
        "probe_succeeded", "probe_failed", "manual", "shared",
    },
    "resilience.storage": {"memory", "disk", "redis", "other"},
    SEVERITY: {"LOW", "MEDIUM", "HIGH", "CRITICAL"},
    CLASS: {
        "transient", "transient_slow", "throttled", "permanent", "local", "self_heal", "control", "quarantine",
    },
}  # fmt: skip


@pytest.fixture
def recorded() -> Iterator[RecordedTelemetry]:
    with RecordedTelemetry().recording() as recording:
        yield recording


@pytest.fixture(params=[False, True], ids=["def", "async_def"])
def observed(request: pytest.FixtureRequest, clock: FakeClock) -> Driver:
    return Driver(clock, asynchronous=request.param)


def operation_spans(recorded: RecordedTelemetry) -> list[ReadableSpan]:
    return [span for span in recorded.spans if span.name != "attempt"]


def attempt_spans(recorded: RecordedTelemetry) -> list[ReadableSpan]:
    return [span for span in recorded.spans if span.name == "attempt"]


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def value(recorded: RecordedTelemetry, metric: str, **wanted: Any) -> float:
    keys = {key.replace("__", "."): wish for key, wish in wanted.items()}
    return sum(
        point.value
        for point in recorded.points(metric)
        if all(point.attributes.get(key) == wish for key, wish in keys.items())
    )


def everything(driver: Driver, clock: FakeClock) -> None:
    """Calls that end in every possible way."""

    def attempt(policy: Policy, *outcomes: Any, **options: Any) -> None:
        with contextlib.suppress(Fault, CircuitOpenError, LimitError, KeyboardInterrupt, TimeoutError, ValueError):
            driver.execute(policy, Script(*outcomes), **options)

    policy = make_policy(clock, breaker=None)
    attempt(policy, "value")
    with faults.inject(error=TransientFault, times=1), disabled():
        attempt(policy, "value")
    attempt(policy, TransientFault(), "value")
    attempt(policy, TransientFault())
    attempt(policy, ThrottledFault(retry_after=2.0), "value")
    attempt(policy, ThrottledFault(retry_after=1e6))
    attempt(policy, ThrottledFault(), deadline=0.5)
    attempt(policy, PermanentFault())
    attempt(policy, ValueError("unknown"))
    attempt(policy, TransientFault(), idempotent=False)
    attempt(policy, KeyboardInterrupt())
    attempt(policy, "value", deadline=0)
    attempt(policy, AttemptTimeoutError(1.0))
    poor = make_policy(
        clock,
        breaker=None,
        retry=RetryConfig(max_attempts=2),
        budget=RetryBudgetConfig(capacity=10, refill_rate=0),
    )
    attempt(poor, TransientFault())
    attempt(poor, TransientFault())
    attempt(make_policy(clock, fallback="last known", retry_result=lambda value: value == "bad"), "bad")
    operation = driver.operation(Script(TransientFault()).play)
    attempt(make_policy(clock, breaker=None), lambda: run_inner(make_policy(clock, breaker=None), operation))

    tripping = make_policy(clock, breaker=CircuitBreakerConfig(consecutive_failures=2, probe_lease=5))
    attempt(tripping, TransientFault())
    attempt(tripping, "value")
    breaker = tripping.breaker
    assert breaker is not None
    clock.advance(60)
    attempt(tripping, TransientFault())
    clock.advance(60)
    late = breaker.admit()
    clock.advance(5)
    attempt(tripping, "value")
    breaker.record_success(late, clock())
    breaker.force_open()
    breaker.close()
    breaker.reset()
    for config in (
        CircuitBreakerConfig(failure_threshold=1),
        CircuitBreakerConfig(minimum_calls=1, consecutive_failures=9),
    ):
        attempt(make_policy(clock, retry=None, breaker=config), TransientFault())
    slow = make_policy(
        clock, breaker=CircuitBreakerConfig(slow_call_duration=1, slow_call_rate=1.0, minimum_calls=1), retry=None
    )
    attempt(slow, lambda: clock.advance(2))
    shadow = make_policy(clock, breaker=CircuitBreakerConfig(consecutive_failures=1, shadow=True), retry=None)
    attempt(shadow, TransientFault())
    attempt(shadow, "value")
    attempt(make_policy(clock, retry=RetryConfig(shadow=True)), TransientFault())
    run_fake(clock, make_policy(clock, hedge_after=1, idempotent=True).execute(asyncio.sleep, 2))
    for shadowing in (False, True):
        rate = RateLimit(1, per=20, max_wait=30, shadow=shadowing)
        slots = ConcurrencyLimit(1, max_wait=0, shadow=shadowing)
        limited = make_policy(clock, breaker=None, rate_limit=rate, max_concurrency=slots, deadline=100)
        assert limited.concurrency_limiter is not None
        with limited.concurrency_limiter:
            attempt(limited, "value")
        attempt(limited, "value")
        attempt(limited, "value")
        attempt(limited, TransientFault(), deadline=25)
        watched.append(limited)
    share_state(clock)
    cutting = make_policy(clock, attempt_timeout=10)
    cutting.execute(lambda: "value")
    watched.append(cutting)


watched: list[object] = []


def share_state(clock: FakeClock) -> None:
    """Breakers that share their state through an unreliable storage, and a damaged file."""
    storage = FrailStorage(clock)
    shares = [SharedState(storage) for _ in range(2)]
    one, other = (SharedCircuitBreaker("supplier", shared=shared, clock=clock) for shared in shares)
    watched.extend(shares)  # a metric shows them as long as somebody uses them
    one.force_open()
    other.refresh(other._shared.links[0])
    storage.gone = True
    one.close()
    storage.gone = False
    one.force_open()
    with tempfile.TemporaryDirectory() as folder:
        disk = DiskStorage(folder)
        disk.path("supplier").write_text("not ours")
        assert SharedState(disk).pause("supplier") == 0


def run_inner(policy: Policy, operation: Any) -> Any:
    """A protected call within a protected call; inside a loop it blocks, which a fake clock forgives."""
    result = policy.execute(operation)
    if asyncio.iscoroutine(result):
        with contextlib.suppress(StopIteration):
            while True:
                result.send(None)
    return result


class TestEveryName:
    def test_metrics(self, recorded: RecordedTelemetry, observed: Driver, clock: FakeClock) -> None:
        everything(observed, clock)
        seen = {}
        data = recorded._reader.get_metrics_data()
        assert data is not None
        for scope in (scope for resource in data.resource_metrics for scope in resource.scope_metrics):
            assert scope.scope.name == contract.SCOPE
            assert scope.schema_url == contract.SCHEMA_URL
            for metric in scope.metrics:
                if metric.name.startswith(ALERT_PREFIX):
                    continue  # of alert services that other tests left behind
                match metric.data:
                    case Histogram():
                        kind = "histogram"
                    case Gauge():
                        kind = "gauge"
                    case Sum(is_monotonic=True):
                        kind = "counter"
                    case Sum():
                        kind = "updowncounter"
                keys = [set(point.attributes or {}) for point in metric.data.data_points]
                seen[metric.name] = (kind, metric.unit, set().union(*keys))
                for present in keys:
                    assert DESIGN_METRICS[metric.name][2] - present <= {"error.type"}
        seen_kinds = {name: described for name, described in seen.items() if name != "resilience.operation.duration"}
        assert seen == DESIGN_METRICS, seen_kinds
        assert seen == {
            metric.name: (metric.kind, metric.unit, set(metric.attributes))
            for metric in contract.METRICS
            if not metric.name.startswith(ALERT_PREFIX)
        }

    def test_attribute_values_come_from_closed_sets(
        self, recorded: RecordedTelemetry, observed: Driver, clock: FakeClock
    ) -> None:
        everything(observed, clock)
        seen: dict[str, set[str]] = {}
        for point in recorded.points():
            for key, found in point.attributes.items():
                seen.setdefault(key, set()).add(found)
        for key, allowed in CLOSED_SETS.items():
            assert seen[key] <= allowed
        assert seen[OUTCOME] == OUTCOMES
        for key in ("resilience.retry.source", "resilience.retry.suppress_reason", "resilience.reason"):
            assert seen[key] == CLOSED_SETS[key]
        for kind in seen["error.type"]:
            assert kind in error_types.NAMES or re.fullmatch(r"\d{3}|redis_[a-z]+", kind)

    def test_all_of_it_is_defined_in_the_registry(
        self, recorded: RecordedTelemetry, observed: Driver, clock: FakeClock
    ) -> None:
        everything(observed, clock)
        assert findings(sink_of(recorded)) == []

    def test_the_lists_of_the_contract_module_are_the_same(self) -> None:
        assert set(contract.OUTCOMES) == OUTCOMES
        assert set(contract.RETRY_SOURCES) == CLOSED_SETS["resilience.retry.source"]
        assert set(contract.SUPPRESS_REASONS) == CLOSED_SETS["resilience.retry.suppress_reason"]
        assert {state.value for state in BreakerState} == STATES
        ours = {event.name for event in signals.events("resilience") if not event.name.startswith(ALERT_PREFIX)}
        assert ours == DESIGN_EVENTS
        assert [set(span.attributes) for span in signals.spans("resilience")[:2]] == [OPERATION_SPAN, ATTEMPT_SPAN]

    def test_spans(self, recorded: RecordedTelemetry, observed: Driver, clock: FakeClock) -> None:
        everything(observed, clock)
        for span in recorded.spans:
            assert span.kind is SpanKind.INTERNAL
            assert span.instrumentation_scope is not None
            assert span.instrumentation_scope.name == "otel_resilience"
            found = set(attributes(span))
            if span.name == "attempt":
                assert {DEPENDENCY, "resilience.attempt.number"} <= found <= ATTEMPT_SPAN
            else:
                assert re.fullmatch(r"supplier \w+", span.name)
                assert OPERATION_SPAN - {"error.type", "resilience.disabled"} <= found <= OPERATION_SPAN
        assert set().union(*map(set, map(attributes, attempt_spans(recorded)))) == ATTEMPT_SPAN

    def test_events(self, recorded: RecordedTelemetry, observed: Driver, clock: FakeClock) -> None:
        everything(observed, clock)
        assert set(recorded.event_names()) == DESIGN_EVENTS
        allowed = {
            event.name: set(event.attributes) for event in signals.events("resilience") if event.name in DESIGN_EVENTS
        }
        seen: dict[str, set[str]] = {}
        for event in recorded.events:
            record = event.log_record
            assert record.event_name is not None
            seen.setdefault(record.event_name, set()).update(record.attributes or {})
            assert record.body
            assert record.severity_number is not None
        assert seen == allowed


class TestSpans:
    def test_ok(self, recorded: RecordedTelemetry, observed: Driver, clock: FakeClock) -> None:
        observed.execute(make_policy(clock), Script("value"), name="list bundles")
        attempt, operation = recorded.spans
        assert (operation.name, attempt.name) == ("supplier list bundles", "attempt")
        assert attributes(operation) == {
            DEPENDENCY: "supplier",
            OPERATION: "list bundles",
            "resilience.attempts": 1,
            OUTCOME: "ok",
        }
        assert attributes(attempt) == {DEPENDENCY: "supplier", "resilience.attempt.number": 1}
        assert {operation.status.status_code, attempt.status.status_code} == {StatusCode.UNSET}
        assert recorded.events == ()

    def test_a_cured_failure_does_not_mark_the_operation(
        self, recorded: RecordedTelemetry, observed: Driver, clock: FakeClock
    ) -> None:
        observed.execute(make_policy(clock), Script(TransientFault("down"), "value"))
        first, second, operation = recorded.spans
        assert operation.status.status_code is StatusCode.UNSET
        assert attributes(operation)[OUTCOME] == "ok_after_retry"
        assert attributes(operation)["resilience.attempts"] == 2
        assert "error.type" not in attributes(operation)
        assert first.status.status_code is StatusCode.ERROR
        assert first.status.description == "down"
        assert attributes(first) == {
            DEPENDENCY: "supplier",
            "resilience.attempt.number": 1,
            "error.type": "503",
            CLASS: "transient",
            SEVERITY: "MEDIUM",
        }
        assert second.status.status_code is StatusCode.UNSET
        assert attributes(second) == {
            DEPENDENCY: "supplier",
            "resilience.attempt.number": 2,
            "resilience.retry.delay": 0.05,
        }

    def test_a_final_failure_marks_it(self, recorded: RecordedTelemetry, observed: Driver, clock: FakeClock) -> None:
        with pytest.raises(TransientFault):
            observed.execute(make_policy(clock), Script(TransientFault("down")))
        operation = recorded.spans[-1]
        assert operation.status.status_code is StatusCode.ERROR
        assert operation.status.description == "down"
        assert attributes(operation)["error.type"] == "503"
        assert attributes(operation)[OUTCOME] == "failed"
        assert [attributes(span).get("resilience.retry.delay") for span in attempt_spans(recorded)] == [None, 0.05, 0.1]

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), asyncio.CancelledError(), SystemExit()])
    def test_cancellation_is_not_an_error(
        self, recorded: RecordedTelemetry, observed: Driver, clock: FakeClock, error: BaseException
    ) -> None:
        with pytest.raises(type(error)):
            observed.execute(make_policy(clock), Script(error))
        attempt, operation = recorded.spans
        assert attributes(operation)[OUTCOME] == "cancelled"
        for span in (attempt, operation):
            assert span.status.status_code is StatusCode.UNSET
            assert "error.type" not in attributes(span)
            assert span.events == ()
        assert recorded.events == ()
        assert value(recorded, "resilience.errors") == 0

    def test_a_rejected_call_makes_no_attempt_span(
        self, recorded: RecordedTelemetry, observed: Driver, clock: FakeClock
    ) -> None:
        policy = make_policy(clock)
        assert policy.breaker is not None
        policy.breaker.force_open()
        with pytest.raises(CircuitOpenError):
            observed.execute(policy, Script("value"))
        (operation,) = recorded.spans
        assert operation.status.status_code is StatusCode.ERROR
        assert attributes(operation)[OUTCOME] == "rejected"
        assert attributes(operation)["error.type"] == "circuit_open"
        assert attributes(operation)["resilience.attempts"] == 0
        assert value(recorded, "resilience.circuit_breaker.rejections") == 1
        assert value(recorded, "resilience.errors") == 0

    def test_a_breaker_that_opens_between_attempts(
        self, recorded: RecordedTelemetry, observed: Driver, clock: FakeClock
    ) -> None:
        policy = make_policy(clock, breaker=CircuitBreakerConfig(consecutive_failures=1))
        with pytest.raises(CircuitOpenError):
            observed.execute(policy, Script(TransientFault()))
        assert len(attempt_spans(recorded)) == 1
        assert attributes(recorded.spans[-1])[OUTCOME] == "failed"
        assert attributes(recorded.spans[-1])["resilience.attempts"] == 1
        assert value(recorded, "resilience.retry.suppressed", resilience__retry__suppress_reason="breaker_open") == 1

    def test_a_deadline(self, recorded: RecordedTelemetry, observed: Driver, clock: FakeClock) -> None:
        with pytest.raises(ThrottledFault):
            observed.execute(make_policy(clock, deadline=0.5), Script(ThrottledFault()))
        operation = recorded.spans[-1]
        assert attributes(operation)[OUTCOME] == "deadline"
        assert attributes(operation)["error.type"] == "deadline_exceeded"
        assert value(recorded, "resilience.retry.suppressed", resilience__retry__suppress_reason="deadline") == 1

    def test_attempts_are_children_and_current_while_they_run(
        self, recorded: RecordedTelemetry, observed: Driver, clock: FakeClock
    ) -> None:
        tracer = recorded.tracer_provider.get_tracer("client")
        faults = [TransientFault(), None]

        def send() -> str:
            with tracer.start_as_current_span("GET", kind=SpanKind.CLIENT):
                fault = faults.pop(0)
                if fault is not None:
                    raise fault
                return "value"

        with tracer.start_as_current_span("request") as request:
            observed.execute(make_policy(clock), send)
            assert trace_api.get_current_span() is request
        by_name: dict[str, list[ReadableSpan]] = {}
        for span in recorded.spans:
            by_name.setdefault(span.name, []).append(span)
        (operation,) = next(spans for name, spans in by_name.items() if name.startswith("supplier"))
        assert operation.parent is not None
        assert operation.parent.span_id == request.get_span_context().span_id
        assert [span.parent.span_id for span in by_name["attempt"] if span.parent] == [
            context_of(operation).span_id
        ] * 2
        assert [span.parent.span_id for span in by_name["GET"] if span.parent] == [
            context_of(span).span_id for span in by_name["attempt"]
        ]

    def test_an_attempt_in_a_thread_of_its_own_is_current_there(
        self, recorded: RecordedTelemetry, clock: FakeClock
    ) -> None:
        seen: list[int] = []
        policy = make_policy(clock, attempt_timeout=5.0)
        policy.execute(lambda: seen.append(trace_api.get_current_span().get_span_context().span_id))
        assert seen == [context_of(attempt_spans(recorded)[0]).span_id]

    def test_the_wait_between_is_not_inside_an_attempt(
        self, recorded: RecordedTelemetry, observed: Driver, clock: FakeClock
    ) -> None:
        during: list[int] = []

        def sleep(_: float) -> None:
            during.append(trace_api.get_current_span().get_span_context().span_id)

        async def async_sleep(seconds: float) -> None:
            sleep(seconds)

        policy = make_policy(clock, sleep=sleep, async_sleep=async_sleep)
        observed.execute(policy, Script(TransientFault(), "value"))
        assert not {context_of(span).span_id for span in attempt_spans(recorded)} & set(during)

    def test_concurrent_calls_do_not_mix_their_attempts(self, recorded: RecordedTelemetry, clock: FakeClock) -> None:
        policy = make_policy(clock, breaker=None, budget=RetryBudgetConfig(capacity=1000, refill_rate=0))
        tracer = recorded.tracer_provider.get_tracer("client")

        async def operation(number: int, tries: list[int]) -> None:
            tries.append(1)
            with tracer.start_as_current_span(f"client {number}"):
                await asyncio.sleep(0.01 * (number % 3))
                if len(tries) == 1:
                    raise TransientFault

        async def main() -> None:
            await asyncio.gather(
                *(policy.execute(functools.partial(operation, n, []), name=f"call{n}") for n in range(20))
            )

        run_fake(clock, main())
        spans = {context_of(span).span_id: span for span in recorded.spans}
        for span in recorded.spans:
            if span.name.startswith("client"):
                assert span.parent is not None
                attempt = spans[span.parent.span_id]
                assert attempt.parent is not None
                assert spans[attempt.parent.span_id].name == f"supplier call{span.name.split()[1]}"

    def test_a_herd_at_half_open_makes_one_attempt_span(self, recorded: RecordedTelemetry, clock: FakeClock) -> None:
        policy = make_policy(clock, retry=None, breaker=CircuitBreakerConfig(consecutive_failures=1))
        with pytest.raises(TransientFault):
            policy.execute(Script(TransientFault()).play)
        clock.advance(5)

        async def operation() -> None:
            await asyncio.sleep(1)

        async def main() -> None:
            await asyncio.gather(*(policy.execute(operation) for _ in range(1000)), return_exceptions=True)

        run_fake(clock, main())
        assert len(operation_spans(recorded)) == 1001
        assert len(attempt_spans(recorded)) == 2
        assert value(recorded, "resilience.circuit_breaker.rejections") == 999

    def test_an_exception_whose_text_fails_leaves_no_span_open(
        self, recorded: RecordedTelemetry, observed: Driver, clock: FakeClock
    ) -> None:
        class SilentError(Fault):
            verdict = PermanentFault.verdict

            def __str__(self) -> str:
                raise RuntimeError("no text")

        with pytest.raises(SilentError):
            observed.execute(make_policy(clock), Script(SilentError()))
        attempt, operation = recorded.spans
        assert attributes(attempt)["error.type"] == attributes(operation)["error.type"] == "payload_too_large"
        assert value(recorded, "resilience.errors") == 1
        assert "resilience.attempt.failed" in recorded.event_names()


class TestSampling:
    def unsampled(self) -> SpanContext:
        return SpanContext(trace_id=0xABC, span_id=0xDEF, is_remote=True, trace_flags=TraceFlags(0))

    def test_no_spans_where_the_parent_is_not_sampled(
        self, recorded: RecordedTelemetry, observed: Driver, clock: FakeClock
    ) -> None:
        seen: list[int] = []
        with trace_api.use_span(NonRecordingSpan(self.unsampled())), pytest.raises(TransientFault) as caught:
            observed.execute(
                make_policy(clock),
                Script(
                    lambda: seen.append(trace_api.get_current_span().get_span_context().trace_id) or _fail(),  # type: ignore[func-returns-value]
                ),
            )
        assert recorded.spans == ()
        assert seen == [0xABC] * 3
        assert value(recorded, "resilience.errors") == 3
        context = error_context(caught.value)
        assert context is not None
        assert context.correlation_id == f"{0xABC:032x}"

    def test_no_spans_where_sampling_is_off(self, observed: Driver, clock: FakeClock) -> None:
        ended: list[ReadableSpan] = []

        class Collect(SpanProcessor):
            def on_end(self, span: ReadableSpan) -> None:
                ended.append(span)

        provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
        provider.add_span_processor(Collect())
        inside: list[SpanContext] = []
        with telemetry.use_providers(tracer_provider=provider, meter_provider=NoOpMeterProvider()):
            observed.execute(make_policy(clock), lambda: inside.append(trace_api.get_current_span().get_span_context()))
        assert ended == []
        assert not inside[0].trace_flags.sampled  # what a client sends on says so too
        assert inside[0].is_valid


class TestMetrics:
    def test_ok_and_recovered(self, recorded: RecordedTelemetry, observed: Driver, clock: FakeClock) -> None:
        policy = make_policy(clock)
        observed.execute(policy, Script("value"), name="list")
        observed.execute(policy, Script(TransientFault(), "value"), name="list")
        durations = {point.attributes[OUTCOME]: point for point in recorded.points("resilience.operation.duration")}
        assert durations["ok"] == Point(
            "resilience.operation.duration", {DEPENDENCY: "supplier", OPERATION: "list", OUTCOME: "ok"}, 0.0, 1
        )
        assert durations["ok_after_retry"].value == pytest.approx(0.05)
        attempts = {p.attributes[OUTCOME]: p.value for p in recorded.points("resilience.operation.attempts")}
        assert attempts == {"ok": 1, "ok_after_retry": 2}
        assert [(p.value, p.attributes) for p in recorded.points("resilience.retry.delay")] == [
            (0.05, {DEPENDENCY: "supplier", "resilience.retry.source": "backoff"})
        ]

    def test_a_hint_that_was_followed(self, recorded: RecordedTelemetry, observed: Driver, clock: FakeClock) -> None:
        observed.execute(make_policy(clock), Script(ThrottledFault(retry_after=2.0), "value"))
        assert [
            (p.value, p.attributes["resilience.retry.source"]) for p in recorded.points("resilience.retry.delay")
        ] == [(2.0, "retry_after")]

    def test_exemplars_carry_the_trace(self, recorded: RecordedTelemetry, observed: Driver, clock: FakeClock) -> None:
        with pytest.raises(TransientFault):
            observed.execute(make_policy(clock), Script(TransientFault()))
        trace_id = context_of(recorded.spans[-1]).trace_id
        data = recorded._reader.get_metrics_data()
        assert data is not None
        found = {
            metric.name: {exemplar.trace_id for point in metric.data.data_points for exemplar in point.exemplars}
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }
        for name in ("operation.duration", "operation.attempts", "errors", "retry.delay"):
            assert found[f"resilience.{name}"] == {trace_id}

    def test_status_is_one_for_the_state_and_zero_for_the_others_from_the_start(
        self, recorded: RecordedTelemetry, clock: FakeClock
    ) -> None:
        breaker = CircuitBreaker("status", CircuitBreakerConfig(consecutive_failures=1), clock=clock, rng=lambda: 1.0)

        def states() -> dict[str, float]:
            return {
                point.attributes["resilience.circuit_breaker.state"]: point.value
                for point in recorded.points("resilience.circuit_breaker.status")
                if point.attributes[DEPENDENCY] == "status"
            }

        def only(state: str) -> dict[str, float]:
            return {name: int(name == state) for name in STATES}

        assert states() == only("closed")
        with pytest.raises(TransientFault):
            breaker.execute(Script(TransientFault()).play)
        assert states() == only("open")
        clock.advance(5)
        assert states() == only("half_open")
        breaker.force_open()
        assert states() == only("forced_open")
        breaker.close()
        assert states() == only("closed")

    def test_a_shadow_breaker_shows_as_shadow(self, recorded: RecordedTelemetry) -> None:
        breaker = CircuitBreaker("status", CircuitBreakerConfig(shadow=True))
        points = recorded.points("resilience.circuit_breaker.status")
        assert [
            point.attributes["resilience.circuit_breaker.state"]
            for point in points
            if point.value and point.attributes[DEPENDENCY] == breaker.dependency
        ] == ["shadow"]

    @pytest.mark.fault("L13")
    @pytest.mark.parametrize("newest_first", [False, True])
    @pytest.mark.parametrize(
        ("states", "worst"),
        [
            (("closed", "open"), "open"),
            (("open", "forced_open", "half_open"), "forced_open"),
            (("closed", "half_open", "closed"), "half_open"),
            (("shadow", "open"), "open"),
            (("shadow", "closed"), "shadow"),
        ],
    )
    def test_the_status_of_a_name_is_the_worst_of_all_its_breakers(
        self, recorded: RecordedTelemetry, clock: FakeClock, states: tuple[str, ...], worst: str, newest_first: bool
    ) -> None:
        def breaker_in(state: str) -> CircuitBreaker:
            config = CircuitBreakerConfig(consecutive_failures=1, shadow=state == "shadow")
            breaker = CircuitBreaker("several", config, clock=clock, rng=lambda: 1.0)
            if state == "forced_open":
                breaker.force_open()
            elif state in ("open", "half_open"):
                fault = TransientFault()
                breaker.record_error(breaker.admit(), fault.classification, clock(), fault)
                if state == "half_open":
                    breaker._machine.tick(clock() + 5)
            return breaker

        breakers = [breaker_in(state) for state in (reversed(states) if newest_first else states)]
        points = [
            point
            for point in recorded.points("resilience.circuit_breaker.status")
            if point.attributes[DEPENDENCY] == "several"
        ]
        assert len(points) == len(STATES)
        assert [p.attributes["resilience.circuit_breaker.state"] for p in points if p.value] == [worst]
        assert len(breakers) == len(states)

    def test_dependencies_beyond_the_bound_show_their_worst_state_together(
        self, recorded: RecordedTelemetry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cardinality, "bounded_dependency", cardinality.BoundedNames(0))
        breakers = [CircuitBreaker(f"host-{number}") for number in range(5)]
        breakers[2].force_open()
        shown = {
            point.attributes["resilience.circuit_breaker.state"]: point.value
            for point in recorded.points("resilience.circuit_breaker.status")
        }
        assert (shown["forced_open"], shown["closed"]) == (1, 0)

    @pytest.mark.fault("L13")
    def test_the_utilization_of_a_name_is_that_of_its_emptiest_bucket(self, recorded: RecordedTelemetry) -> None:
        budgets = [RetryBudget("buckets") for _ in range(3)]
        budgets[1].take(50)
        points = recorded.points("resilience.retry.budget.utilization")
        assert [p.value for p in points if p.attributes[DEPENDENCY] == "buckets"] == pytest.approx([0.5], abs=0.01)

    def test_two_breakers_of_one_dependency_outlive_each_other(self, recorded: RecordedTelemetry) -> None:
        first = CircuitBreaker("twice")
        second = CircuitBreaker("twice")
        del second
        first.force_open()
        shown = {
            point.attributes["resilience.circuit_breaker.state"]: point.value
            for point in recorded.points("resilience.circuit_breaker.status")
            if point.attributes[DEPENDENCY] == "twice"
        }
        assert shown["forced_open"] == 1
        assert shown["closed"] == 0

    def test_the_budget_shows_what_is_spent(self, recorded: RecordedTelemetry, clock: FakeClock) -> None:
        policy = make_policy(clock, dependency="budgeted")

        def shown() -> list[float]:
            points = recorded.points("resilience.retry.budget.utilization")
            return [point.value for point in points if point.attributes[DEPENDENCY] == "budgeted"]

        assert shown() == [0.0]
        with pytest.raises(TransientFault):
            policy.execute(Script(TransientFault()).play)
        assert shown() == pytest.approx([0.2])

    def test_recovery_is_measured_from_opening_to_closing(self, recorded: RecordedTelemetry, clock: FakeClock) -> None:
        policy = make_policy(clock, retry=None, breaker=CircuitBreakerConfig(consecutive_failures=1))
        with pytest.raises(TransientFault):
            policy.execute(Script(TransientFault()).play)
        clock.advance(7)
        policy.execute(lambda: "value")
        assert [(p.value, p.attributes) for p in recorded.points("resilience.circuit_breaker.recovery.duration")] == [
            (7.0, {DEPENDENCY: "supplier"})
        ]


class TestEvents:
    def test_they_lie_in_the_context_of_their_span(
        self, recorded: RecordedTelemetry, observed: Driver, clock: FakeClock
    ) -> None:
        with pytest.raises(TransientFault):
            observed.execute(make_policy(clock), Script(TransientFault()))
        attempts, (operation,) = attempt_spans(recorded), operation_spans(recorded)
        spans: dict[str, list[int]] = {}
        for event in recorded.events:
            record = event.log_record
            assert record.trace_id == context_of(operation).trace_id
            spans.setdefault(record.event_name or "", []).append(record.span_id or 0)
        ids = [context_of(span).span_id for span in attempts]
        own = context_of(operation).span_id
        assert spans == {
            "resilience.error.classified": ids,
            "resilience.attempt.failed": ids,
            "resilience.retry.scheduled": [own, own],
            "resilience.retry.exhausted": [own],
        }

    def test_severities_keep_their_names_where_the_host_paints_those_of_its_log(
        self, recorded: RecordedTelemetry, observed: Driver, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for level in (logging.INFO, logging.WARNING):
            monkeypatch.setitem(logging._levelToName, level, "\033[33mlevel\033[0m")  # as logging.addLevelName does
        with pytest.raises(TransientFault):
            observed.execute(make_policy(clock), Script(TransientFault(), TransientFault(), TransientFault()))
        assert {event.log_record.severity_text for event in recorded.events} == {"INFO", "WARNING"}

    def test_a_change_of_state_is_reported_in_the_trace_that_caused_it(
        self, recorded: RecordedTelemetry, observed: Driver, clock: FakeClock
    ) -> None:
        policy = make_policy(clock, retry=None, breaker=CircuitBreakerConfig(consecutive_failures=1))
        with pytest.raises(TransientFault):
            observed.execute(policy, Script(TransientFault()))
        (event,) = [e.log_record for e in recorded.events if e.log_record.event_name == contract.EVENT_STATE_CHANGED]
        assert event.trace_id == context_of(recorded.spans[-1]).trace_id
        assert event.severity_text == "WARNING"
        assert dict(event.attributes or {}) == {
            DEPENDENCY: "supplier",
            "resilience.from": "closed",
            "resilience.to": "open",
            "resilience.reason": "consecutive_failures",
            "error.type": "503",
            "resilience.circuit_breaker.window.failures": 1,
            "resilience.circuit_breaker.window.calls": 1,
            "resilience.circuit_breaker.open_for": 5.0,
        }

    def test_an_empty_budget_is_reported_once_per_episode(
        self, recorded: RecordedTelemetry, observed: Driver, clock: FakeClock
    ) -> None:
        policy = make_policy(
            clock, breaker=None, budget=RetryBudgetConfig(capacity=20, refill_rate=0, success_credit=20)
        )
        for _ in range(2):
            for _ in range(4):
                with pytest.raises(TransientFault):
                    observed.execute(policy, Script(TransientFault()))
            observed.execute(policy, Script("value"))
        assert recorded.event_names().count("resilience.retry.budget_exhausted") == 2
        assert value(recorded, "resilience.retry.suppressed", resilience__retry__suppress_reason="budget") == 6

    @pytest.mark.parametrize(("opt_in", "on_spans"), [(None, True), ("", True), ("logs", False), ("logs/dup", True)])
    def test_the_opt_in_decides_whether_they_stand_on_the_span_too(
        self, monkeypatch: pytest.MonkeyPatch, clock: FakeClock, opt_in: str | None, on_spans: bool
    ) -> None:
        monkeypatch.delenv("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", raising=False)
        if opt_in is not None:
            monkeypatch.setenv("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", opt_in)
        with RecordedTelemetry().recording() as recorded, pytest.raises(TransientFault):
            make_policy(clock).execute(Script(TransientFault()).play)
        attempts, operation = attempt_spans(recorded), operation_spans(recorded)[0]
        failed = ["resilience.error.classified", "resilience.attempt.failed"] if on_spans else []
        assert [[event.name for event in span.events] for span in attempts] == [failed] * 3
        assert [event.name for event in operation.events] == (
            ["resilience.retry.scheduled"] * 2 + ["resilience.retry.exhausted"] if on_spans else []
        )
        assert len(recorded.events) == 9

    def test_secrets_in_messages_reach_nothing(
        self,
        recorded: RecordedTelemetry,
        observed: Driver,
        clock: FakeClock,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        fault = TransientFault(
            "GET https://user:hunter2@api.example/v1?apiKey=hunter2 failed: redis://:hunter2@db:6379/0"
        )
        with caplog.at_level(logging.DEBUG), pytest.raises(TransientFault):
            observed.execute(make_policy(clock), Script(fault))
        told = [span.to_json() for span in recorded.spans] + [event.to_json() for event in recorded.events]
        told += [str(point) for point in recorded.points()] + [str(vars(record)) for record in caplog.records]
        assert not [text for text in told if "hunter2" in text]
        assert any("api.example" in text for text in told)


class TestCardinality:
    @pytest.fixture(autouse=True)
    def fresh_bounds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cardinality, "bounded_dependency", cardinality.BoundedNames(cardinality.MAX_DEPENDENCIES))
        monkeypatch.setattr(cardinality, "bounded_error_type", cardinality.BoundedNames(cardinality.MAX_ERROR_TYPES))

    @pytest.mark.fault("F58")
    def test_a_hundred_thousand_operation_names(self, recorded: RecordedTelemetry, clock: FakeClock) -> None:
        policy = make_policy(clock)
        names = {policy.operation_name(None, f"GET /bundles/{number}") for number in range(100_000)}
        assert len(names) == cardinality.MAX_OPERATIONS + 1
        for number in range(1000):
            policy.execute(lambda: None, name=f"GET /bundles/{number}")
        assert len(recorded.points("resilience.operation.duration")) <= cardinality.MAX_OPERATIONS + 1
        assert len({span.name for span in operation_spans(recorded)}) <= cardinality.MAX_OPERATIONS + 1

    @pytest.mark.fault("L14")
    def test_many_policies_of_one_dependency_with_an_operation_each(
        self, recorded: RecordedTelemetry, clock: FakeClock
    ) -> None:
        for number in range(200):
            policy = make_policy(clock, budget=False, breaker=None)
            with contextlib.suppress(PermanentFault):
                policy.execute(Script(PermanentFault()).play, name=f"op{number}")
        for metric in ("resilience.operation.duration", "resilience.operation.attempts", "resilience.errors"):
            assert len(recorded.points(metric)) == cardinality.MAX_OPERATIONS + 1

    @pytest.mark.fault("F58")
    def test_many_dependencies(self, recorded: RecordedTelemetry, clock: FakeClock) -> None:
        policies = [make_policy(clock, dependency=f"host{number}.example") for number in range(500)]
        for policy in policies:
            policy.execute(lambda: None)
        bound = cardinality.MAX_DEPENDENCIES + 1
        assert len(recorded.points("resilience.operation.duration")) <= bound
        assert len(recorded.points("resilience.circuit_breaker.status")) <= bound * len(STATES)
        assert len(recorded.points("resilience.retry.budget.utilization")) <= bound

    def test_many_error_types(self, recorded: RecordedTelemetry, clock: FakeClock) -> None:
        policy = make_policy(clock, breaker=None, retry=None)
        for number in range(1000):
            with pytest.raises(TransientFault):
                policy.execute(Script(TransientFault(error_type=f"id-{number}")).play)
        assert len(recorded.points("resilience.errors")) <= cardinality.MAX_ERROR_TYPES + 1
        assert len(recorded.points("resilience.operation.duration")) <= cardinality.MAX_ERROR_TYPES + 1

    @pytest.mark.fault("F58")
    def test_memory_of_attribute_sets_is_bounded(self, recorded: RecordedTelemetry, clock: FakeClock) -> None:
        listener = telemetry.active()
        assert listener is not None
        instruments = listener.metrics
        context = trace_api.set_span_in_context(trace_api.INVALID_SPAN)
        for number in range(cardinality.MAX_ATTRIBUTE_SETS + 500):
            instruments.operation("supplier", f"operation {number}", "ok", "", 0.0, 1, context)
        for number in range(500):
            instruments.of(f"dependency {number}")
        assert len(instruments._sets) <= cardinality.MAX_ATTRIBUTE_SETS
        assert len(instruments._dependencies) <= cardinality.MAX_DEPENDENCIES

    def test_no_metric_carries_an_attempt_number_or_a_message(
        self, recorded: RecordedTelemetry, observed: Driver, clock: FakeClock
    ) -> None:
        everything(observed, clock)
        keys = {key for point in recorded.points() for key in point.attributes}
        assert "resilience.attempt.number" not in keys
        assert not any("message" in key or "url" in key for key in keys)


class BrokenPipelineError(Exception):
    """Raised by a part of the telemetry pipeline."""


def _fail(*_: Any, **__: Any) -> Any:
    raise TransientFault


def _break(*_: Any, **__: Any) -> Any:
    raise BrokenPipelineError("telemetry")


class BrokenProcessor(SpanProcessor):
    def __init__(self, *methods: str) -> None:
        for method in methods:
            setattr(self, method, _break)


class BrokenExporter(SpanExporter):
    export = _break


class BrokenMeter(NoOpMeter):
    """Every instrument raises when it is used."""

    def create_counter(self, *args: Any, **kwargs: Any) -> Any:
        counter = super().create_counter(*args, **kwargs)
        counter.add = _break  # type: ignore[method-assign]
        return counter

    def create_histogram(self, *args: Any, **kwargs: Any) -> Any:
        histogram = super().create_histogram(*args, **kwargs)
        histogram.record = _break  # type: ignore[method-assign]
        return histogram


class BrokenMeterProvider(NoOpMeterProvider):
    def get_meter(self, name: str, *_: Any, **__: Any) -> Any:
        return BrokenMeter(name)


class BrokenLogProcessor:
    on_emit = _break

    def shutdown(self) -> None: ...

    def force_flush(self, timeout_millis: int = 0) -> bool:
        return True


@pytest.mark.parametrize("part", ["on_start", "on_end", "exporter", "meter", "logs", "log handler"])
class TestBrokenTelemetry:
    """A part of the pipeline that raises never changes the result of a call."""

    @pytest.fixture
    def broken(self, part: str) -> Iterator[list[ReadableSpan]]:
        ended: list[ReadableSpan] = []

        class Collect(SpanProcessor):
            def on_end(self, span: ReadableSpan) -> None:
                ended.append(span)

        tracer_provider = TracerProvider(shutdown_on_exit=False)
        tracer_provider.add_span_processor(Collect())
        if part in ("on_start", "on_end"):
            tracer_provider.add_span_processor(BrokenProcessor(part))
        if part == "exporter":
            tracer_provider.add_span_processor(SimpleSpanProcessor(BrokenExporter()))
        logger_provider = None if part == "log handler" else LoggerProvider(shutdown_on_exit=False)
        if logger_provider is not None and part == "logs":
            logger_provider.add_log_record_processor(BrokenLogProcessor())  # type: ignore[arg-type]
        handler = logging.Handler()
        handler.emit = _break  # type: ignore[method-assign]
        if part == "log handler":
            telemetry.events_logger.addHandler(handler)
        try:
            with telemetry.use_providers(
                tracer_provider=tracer_provider,
                meter_provider=BrokenMeterProvider() if part == "meter" else NoOpMeterProvider(),
                logger_provider=logger_provider,
            ):
                yield ended
        finally:
            telemetry.events_logger.removeHandler(handler)

    @pytest.mark.fault("F50")
    def test_the_result_is_the_same(
        self, broken: list[ReadableSpan], part: str, observed: Driver, clock: FakeClock
    ) -> None:
        policy = make_policy(clock)
        assert observed.execute(policy, Script("value")) == "value"
        assert observed.execute(policy, Script(TransientFault(), "value")) == "value"
        fault = TransientFault()
        with pytest.raises(TransientFault) as caught:
            observed.execute(policy, Script(fault))
        assert caught.value is fault
        assert policy.breaker is not None
        assert policy.breaker.metrics().failures == 4
        policy.breaker.force_open()
        with pytest.raises(CircuitOpenError):
            observed.execute(policy, Script("value"))
        with pytest.raises(KeyboardInterrupt):
            observed.execute(make_policy(clock), Script(KeyboardInterrupt()))
        assert trace_api.get_current_span() is trace_api.INVALID_SPAN
        if part in ("meter", "logs", "log handler"):  # what works goes on working
            assert len([span for span in broken if span.name != "attempt"]) == 5
            assert len([span for span in broken if span.name == "attempt"]) == 1 + 2 + 3 + 1


def test_without_an_event_logger_and_an_sdk_nothing_is_emitted(clock: FakeClock) -> None:
    assert listener.override is None
    policy = make_policy(clock, deadline=None)
    with pytest.raises(TransientFault):
        policy.execute(Script(TransientFault()).play)


def test_where_only_logs_are_set_up_the_events_are_emitted(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> None:
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    monkeypatch.setattr("otel_resilience.telemetry.providers.logs_internal._LOGGER_PROVIDER", provider)
    monkeypatch.setattr(listener, "_global", None)
    with pytest.raises(TransientFault):
        make_policy(clock, deadline=None).execute(Script(TransientFault()).play)
    names = [log.log_record.event_name for log in exporter.get_finished_logs()]
    assert names.count("resilience.attempt.failed") == 3
    assert names.count("resilience.retry.exhausted") == 1


def test_global_providers_that_are_set_later_are_used(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> None:
    policy = make_policy(clock, deadline=None)
    policy.execute(lambda: None)
    reader = InMemoryMetricReader()
    meter_provider = MeterProvider([reader], shutdown_on_exit=False)
    monkeypatch.setattr("otel_resilience.telemetry.providers.metrics_internal._METER_PROVIDER", meter_provider)
    monkeypatch.setattr(listener, "_global", None)
    policy.execute(lambda: None)
    data = reader.get_metrics_data()
    assert data is not None
    names = {m.name for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics}
    assert "resilience.operation.duration" in names


def test_a_breaker_alone_reports_its_state(recorded: RecordedTelemetry, observed: Driver, clock: FakeClock) -> None:
    breaker = CircuitBreaker("alone", CircuitBreakerConfig(consecutive_failures=1), clock=clock)
    fault = TransientFault()
    with pytest.raises(TransientFault):
        observed.execute(breaker, Script(fault))
    with pytest.raises(CircuitOpenError):
        observed.execute(breaker, Script("value"))
    assert value(recorded, "resilience.circuit_breaker.transitions", resilience__dependency="alone") == 1
    assert value(recorded, "resilience.circuit_breaker.rejections", resilience__dependency="alone") == 1
    assert recorded.spans == ()
    assert classify(fault) == Classification(
        fault.verdict.error_class, fault.verdict.severity, "503", BreakerEffect.FAILURE
    )


def test_the_correlation_id_of_a_failed_call_is_its_trace_id(
    recorded: RecordedTelemetry, observed: Driver, clock: FakeClock
) -> None:
    fault = TransientFault()
    with pytest.raises(TransientFault):
        observed.execute(make_policy(clock, retry=RetryConfig(base_delay=0)), Script(fault))
    context = error_context(fault)
    assert context is not None
    assert context.correlation_id == f"{context_of(recorded.spans[-1]).trace_id:032x}"
