"""The spans, metrics and events of the application, over the OpenTelemetry API.

No-ops if no SDK is set up. Nothing here raises into the sync, except an exception from the body of a span.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, TypedDict, Unpack

from opentelemetry import _logs as logs_api
from opentelemetry import metrics as metrics_api
from opentelemetry import trace as trace_api
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.trace import Span, Status, StatusCode

from catalog_sync import __version__
from catalog_sync.domain.models import Outcome, SyncReport
from catalog_sync.observability import contract
from otel_resilience import classify
from otel_resilience.redaction import redact
from otel_resilience.telemetry.cardinality import BoundedNames
from otel_resilience.telemetry.contract import ERROR_TYPE, Metric
from otel_resilience.telemetry.event_log import EventLog
from otel_resilience.telemetry.listener import never_raise

MAX_GROUPS = 32
"""Groups that metrics distinguish; further ones are ``_OTHER``."""

event_log = logging.getLogger("catalog_sync.events")
"""Takes the events if no logger provider of OpenTelemetry is set; each event goes only one way."""

_LEVELS = {
    Outcome.COMPLETE: logging.INFO,
    Outcome.SKIPPED_LOCKED: logging.INFO,
    Outcome.PARTIAL: logging.WARNING,
    Outcome.LOCK_UNAVAILABLE: logging.WARNING,
    Outcome.FAILED: logging.ERROR,
}
_bounded_group = BoundedNames(MAX_GROUPS)
_age: Callable[[], float | None] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class QueueState:
    """How busy the workers are."""

    waiting: int
    """Messages that no worker has taken."""
    wait: float
    """Seconds that the requested sync has waited for a worker; 0 if none waits."""
    dead_letters: int
    workers: int
    slots: int
    """Steps that all of them can run concurrently."""
    busy: int
    """Steps that they are running."""


_queue: Callable[[], QueueState | None] | None = None

_QUEUE_GAUGES: dict[Metric, Callable[[QueueState], float]] = {
    contract.QUEUE_SIZE: lambda queue: queue.waiting,
    contract.QUEUE_WAIT: lambda queue: queue.wait,
    contract.QUEUE_DEAD_LETTERS: lambda queue: queue.dead_letters,
    contract.WORKER_ALIVE: lambda queue: queue.workers,
    contract.WORKER_SLOTS: lambda queue: queue.slots,
    contract.WORKER_BUSY: lambda queue: queue.busy,
}


class Providers(TypedDict, total=False):
    """Providers to use instead of the global ones."""

    tracer_provider: trace_api.TracerProvider
    meter_provider: metrics_api.MeterProvider
    logger_provider: logs_api.LoggerProvider


class _Instruments:
    """Tracer, events and instruments; of the global providers, even if set later, unless others are given."""

    def __init__(self, **providers: Unpack[Providers]) -> None:
        scope, schema = (contract.SCOPE, __version__), contract.SCHEMA_URL
        meter = metrics_api.get_meter(*scope, providers.get("meter_provider"), schema)
        buckets = contract.SYNC_DURATION.boundaries
        self.duration = meter.create_histogram(
            *_basics(contract.SYNC_DURATION), explicit_bucket_boundaries_advisory=buckets
        )
        self.bundles = meter.create_gauge(*_basics(contract.SYNC_BUNDLES))
        self.quarantined = meter.create_counter(*_basics(contract.SYNC_QUARANTINED))
        self.reads = meter.create_counter(*_basics(contract.READS))
        observed: dict[Metric, Callable[[CallbackOptions], Iterable[Observation]]] = {
            contract.AGE: _observe_age,
            contract.CLOCK: _observe_clock,
            **{metric: _observe_queue(value) for metric, value in _QUEUE_GAUGES.items()},
        }
        for metric, observe in observed.items():
            meter.create_observable_gauge(metric.name, [observe], metric.unit, metric.description)
        self.tracer = trace_api.get_tracer(*scope, providers.get("tracer_provider"), schema)
        self.events = EventLog(*scope, schema, event_log, providers.get("logger_provider"))


def _basics(metric: Metric) -> tuple[str, str, str]:
    return metric.name, metric.unit, metric.description


_current: _Instruments | None = None


def _instruments() -> _Instruments:
    global _current  # one per process, created when first needed
    if _current is None:
        _current = _Instruments()
    return _current


@contextlib.contextmanager
def use_providers(**providers: Unpack[Providers]) -> Iterator[None]:
    """Within a block, sends the application's telemetry to these providers instead of the global ones."""
    global _current  # a process-wide switch by design
    previous, _current = _current, _Instruments(**providers)
    try:
        yield
    finally:
        _current = previous


def sync_span(kind: str, trigger: str) -> AbstractContextManager[Span]:
    """The span ``catalog.sync`` around a sync; :func:`emit_sync_finished` completes it while it is current."""
    return _span(contract.SYNC_SPAN, {contract.KIND: str(kind), contract.TRIGGER: trigger})


def group_span(name: str) -> AbstractContextManager[Span]:
    """The span ``catalog.sync.group`` around the fetching of one group."""
    return _span(contract.GROUP_SPAN, {contract.GROUP: name})


def publish_span() -> AbstractContextManager[Span]:
    """The span ``catalog.publish`` around staging, checks and the swap."""
    return _span(contract.PUBLISH_SPAN, {})


@contextlib.contextmanager
def _span(name: str, attributes: dict[str, str]) -> Iterator[Span]:
    """A current span that gets an error's class from our classification."""
    with _instruments().tracer.start_as_current_span(
        name, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield span
        except BaseException as error:
            _mark_failed(span, error)
            raise


@never_raise
def _mark_failed(span: Span, error: BaseException) -> None:
    if span.is_recording():
        span.set_attribute(ERROR_TYPE, classify(error).error_type)
        span.set_status(Status(StatusCode.ERROR, redact(str(error)) or type(error).__name__))


@never_raise
def record_sync(
    kind: str,
    outcome: str,
    duration: float,
    group_counts: Mapping[str, int],
    quarantined: Mapping[tuple[str, str], int],
) -> None:
    """Counts a sync: its duration in seconds, bundles per group, and rows set aside per group and reason."""
    instruments = _instruments()
    instruments.duration.record(duration, {contract.KIND: str(kind), contract.OUTCOME: str(outcome)})
    for group, count in group_counts.items():
        instruments.bundles.set(count, {contract.GROUP: _bounded_group(group)})
    for (group, reason), count in quarantined.items():
        instruments.quarantined.add(count, {contract.GROUP: _bounded_group(group), contract.REASON: reason})


@never_raise
def count_read(source: str) -> None:
    """Counts a read by the source of its data: ``fresh``, ``stale`` or ``snapshot``."""
    _instruments().reads.add(1, {contract.SOURCE: str(source)})


def set_catalog_age(age: Callable[[], float | None] | None) -> None:
    """Sets the function behind the gauge ``catalog.age``: it returns seconds, or ``None`` without a catalogue.

    The function runs in the thread of the metric reader; it must be quick and must not block.
    """
    global _age  # one gauge per process
    _age = age
    _instruments()


def _observe_age(_: CallbackOptions) -> Iterable[Observation]:
    value = None if _age is None else _age()
    return [] if value is None else [Observation(value)]


def _observe_clock(_: CallbackOptions) -> Iterable[Observation]:
    return [Observation(time.time())]


def set_queue(queue: Callable[[], QueueState | None] | None) -> None:
    """Sets the function that returns the values of the queue and worker gauges; ``None``: they have none.

    The function runs in the thread of the metric reader; it must be quick and must not block.
    """
    global _queue  # one queue per process
    _queue = queue
    _instruments()


def _observe_queue(value: Callable[[QueueState], float]) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_: CallbackOptions) -> Iterable[Observation]:
        state = None if _queue is None else _queue()
        return [] if state is None else [Observation(value(state))]

    return observe


@never_raise
def emit_sync_finished(report: SyncReport) -> None:
    """Emits ``catalog.sync.finished`` and writes the result to the current ``catalog.sync`` span."""
    attributes = _result(report)
    span = trace_api.get_current_span()
    if span.is_recording():
        span.set_attributes(attributes)
        if report.outcome is Outcome.FAILED and not report.unknown_scope:
            span.set_status(Status(StatusCode.ERROR, redact(report.error.message) if report.error else None))
    attributes |= {contract.DURATION: report.duration_s, contract.CORRELATION_ID: report.correlation_id}
    level = logging.WARNING if report.unknown_scope else _LEVELS[report.outcome]
    body = f"sync {report.kind.value} finished: {report.outcome.value}, {report.bundles} bundles"
    if report.error is not None:
        body += f"; {redact(report.error.message)}"
    _instruments().events.emit(contract.EVENT_SYNC_FINISHED, level, body, attributes)


def _result(report: SyncReport) -> dict[str, Any]:
    by_status = {status: sum(group.status == status for group in report.groups) for status in ("ok", "stale", "failed")}
    attributes: dict[str, Any] = {
        contract.KIND: report.kind.value,
        contract.OUTCOME: report.outcome.value,
        contract.BUNDLES: report.bundles,
        contract.QUARANTINED: report.quarantined,
        contract.GROUPS_OK: by_status["ok"],
        contract.GROUPS_STALE: by_status["stale"],
        contract.GROUPS_FAILED: by_status["failed"],
        contract.ATTEMPTS: report.attempts,
        contract.RETRIES: report.retries,
    }
    if report.version is not None:
        attributes[contract.VERSION] = report.version
    if report.error is not None:
        attributes[ERROR_TYPE] = report.error.type
    return attributes
