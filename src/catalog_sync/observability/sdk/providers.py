"""Creates and configures the providers of the OpenTelemetry SDK. Loaded only if telemetry goes somewhere.

A provider can be set only once per process. An existing one, from ``opentelemetry-instrument`` or a host application,
is reused: what passes through it is redacted, it gets our views, and only it exports. One of our own stays for the life
of the process; it exports while a session runs.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import _logs as logs_api
from opentelemetry import metrics as metrics_api
from opentelemetry import trace as trace_api
from opentelemetry.sdk._logs import LoggerProvider, LogRecordLimits
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import DropAggregation, ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import (
    SERVICE_INSTANCE_ID,
    SERVICE_NAME,
    SERVICE_VERSION,
    OTELResourceDetector,
    Resource,
)
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from catalog_sync import __version__
from catalog_sync.domain.errors import STORE, ConfigurationError
from catalog_sync.observability import contract
from catalog_sync.observability.sdk import joining
from catalog_sync.observability.sdk.corrections import UNWANTED_METRICS
from catalog_sync.observability.sdk.event_lines import EventLines
from catalog_sync.observability.sdk.exporters import exporters
from catalog_sync.observability.sdk.log_handler import OtelLogHandler
from catalog_sync.observability.sdk.quick_calls import QuickCalls
from catalog_sync.observability.sdk.redacting import (
    RedactingLogExporter,
    RedactingLogProcessor,
    RedactingSpanExporter,
    RedactingSpanProcessor,
)
from catalog_sync.observability.sdk.session import Telemetry, end_at_exit
from otel_resilience.redaction import redact
from otel_resilience.telemetry import contract as library_contract

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import LogRecordProcessor
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.sdk.trace.id_generator import IdGenerator

    from catalog_sync.observability.sdk.selection import Choice, Target

End = Callable[[], object]
"""Undoes one thing that a session has set up."""

OWN_VARIABLES: Final = ("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "OTEL_SEMCONV_STABILITY_OPT_IN")
"""Variables that this application sets unless the user has."""
METRIC_INTERVAL_MS: Final = 15_000.0
SCHEDULE_DELAY_MS: Final = 2_000.0
_READER_SHUTDOWN_MS: Final = 5_000.0

_HTTP_BOUNDARIES: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_FEW_BOUNDARIES: Final[dict[str, tuple[float, ...]]] = {
    library_contract.OPERATION_ATTEMPTS.name: (1.0,),
    library_contract.STORAGE_DURATION.name: (0.001, 0.01, 0.1, 1.0),
    "otel.sdk.exporter.operation.duration": (0.05, 0.25, 1.0, 3.0, 10.0),
}
"""Each bucket is a series for each set of attributes; for attempts it only matters whether one was enough."""

_own: Final[weakref.WeakSet[Any]] = weakref.WeakSet()
"""The providers that this application has set."""
_used: Final[weakref.WeakKeyDictionary[Any, tuple[int, list[End]]]] = weakref.WeakKeyDictionary()
"""How many sessions currently use a provider, and what the last of them has to undo."""
_added: Final[weakref.WeakKeyDictionary[Any, list[MetricReader]]] = weakref.WeakKeyDictionary()
"""The readers that were added to a provider."""
_lock: Final = threading.Lock()


def build(
    service_name: str,
    choice: Choice,
    span_processor: SpanProcessor | None,
    metric_reader: MetricReader | None,
    log_processor: LogRecordProcessor | None,
    *,
    redis_from: float,
) -> Telemetry:
    """Creates the providers that are needed and missing, and uses all of them until the session ends.

    ``redis_from``: duration in seconds from which on a successful call to Redis has spans.
    """
    os.environ.setdefault("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    if level := os.environ.get("OTEL_LOG_LEVEL"):
        logging.getLogger("opentelemetry").setLevel(level.strip().upper())
    joining.reread_conventions()
    ends: list[End] = []
    try:
        resource = _resource(service_name)
        meters = _meters(resource, choice.metrics, metric_reader, ends)
        tracers = _tracers(resource, choice.traces, meters, span_processor, ends, redis_from)
        loggers = _loggers(resource, choice.logs, meters, log_processor, ends)
    except Exception as error:
        for end in ends:
            end()
        # An error not foreseen in settings.otel: components of other packages read variables of their own.
        names = ", ".join(sorted(name for name in os.environ if name.startswith("OTEL_") and name not in OWN_VARIABLES))
        raise ConfigurationError(
            f"telemetry cannot be set up with {names}: {type(error).__name__}: {redact(str(error))}"
        ) from error
    flushes = [provider.force_flush for provider in (tracers, loggers) if provider is not None]
    if meters is not None:
        flushes.append(functools.partial(_flush_metrics, meters))
    return Telemetry(ends, flushes)


DEPLOYMENT_ENVIRONMENT: Final = "deployment.environment.name"


def _resource(service_name: str) -> Resource:
    given = dict(OTELResourceDetector().detect().attributes)
    if SERVICE_INSTANCE_ID in given:
        given[SERVICE_INSTANCE_ID] = f"{given[SERVICE_INSTANCE_ID]}-{_suffix(os.getpid())}"
    environment = os.environ.get("CATALOG_ENVIRONMENT", "").strip()
    own = {DEPLOYMENT_ENVIRONMENT: environment} if environment else {}
    return Resource.create({SERVICE_NAME: service_name, SERVICE_VERSION: __version__, **given, **own})


@functools.cache
def _suffix(pid: int) -> str:
    """Makes an instance ID from the environment, which several processes may share, unique to this process."""
    del pid  # a forked child has another one
    return uuid.uuid4().hex[:12]


def _share(provider: Any, begin: Callable[[], Iterable[End]]) -> End:
    """The first session runs ``begin`` for a provider; the end of the last session undoes it."""
    with _lock:
        count, ends = _used.get(provider, (0, []))
        if not count:
            with contextlib.ExitStack() as undo:
                for end in begin():
                    undo.callback(end)
                    ends.append(end)
                undo.pop_all()
        _used[provider] = count + 1, ends

    def leave() -> None:
        with _lock:
            count, ends = _used.pop(provider)
            if count > 1:
                _used[provider] = count - 1, ends
                return
        for end in ends:
            end()

    return leave


def _meters(
    resource: Resource, target: Target | None, extra: MetricReader | None, ends: list[End]
) -> MeterProvider | None:
    provider = joining.present_meters()
    if provider is None:
        if target is None and extra is None:
            return None
        provider = MeterProvider(resource=resource, shutdown_on_exit=False, views=_views())
        metrics_api.set_meter_provider(provider)
        _own.add(provider)
    ends.append(_share(provider, functools.partial(_begin_metrics, provider, resource, target)))
    if extra is not None:
        ends.append(_add_reader(provider, extra))
    return provider


def _begin_metrics(provider: MeterProvider, resource: Resource, target: Target | None) -> Iterator[End]:
    joining.name_service(provider, resource, ours=provider in _own)
    if provider not in _own:
        joining.add_views(provider, _views())
        yield from _bounded(provider)
    elif target is not None:
        interval = _unless_set("OTEL_METRIC_EXPORT_INTERVAL", METRIC_INTERVAL_MS)
        for exporter in exporters(target, "metrics"):
            yield _add_reader(provider, PeriodicExportingMetricReader(exporter, interval))


def _bounded(provider: TracerProvider | MeterProvider | LoggerProvider) -> Iterator[End]:
    """Under ``opentelemetry-instrument`` shutdown at process exit has no time limit, and a forked worker does not
    flush.

    A session flushes what it has collected within its own limit, so that little is left at process exit.
    """
    if joining.of_agent(provider):
        if joining.take_exit_handler(provider):
            end_at_exit(provider.shutdown)
        yield provider.force_flush


def _add_reader(provider: MeterProvider, reader: MetricReader) -> End:
    provider.add_metric_reader(reader)
    _added.setdefault(provider, []).append(reader)

    def end() -> None:
        reader.shutdown(timeout_millis=_READER_SHUTDOWN_MS)
        joining.take_reader(provider, reader)
        _added[provider].remove(reader)

    return end


def _flush_metrics(provider: MeterProvider) -> bool:
    """The provider flushes only the readers that it was created with, not those added later."""
    flushed = [provider.force_flush(), *(reader.force_flush() for reader in tuple(_added.get(provider, ())))]
    return all(flushed)


def _views() -> list[View]:
    """Explicit buckets even if the user prefers exponential ones: alert rules depend on these metrics."""
    histograms = {
        metric.name: metric.boundaries
        for metric in (*library_contract.METRICS, *contract.METRICS)
        if metric.kind == "histogram" and metric.boundaries
    }
    histograms |= {"http.server.request.duration": _HTTP_BOUNDARIES} | _FEW_BOUNDARIES
    return [
        *(
            View(instrument_name=name, aggregation=ExplicitBucketHistogramAggregation(boundaries))
            for name, boundaries in histograms.items()
        ),
        *(View(instrument_name=name, aggregation=DropAggregation()) for name in UNWANTED_METRICS),
    ]


def _tracers(
    resource: Resource,
    target: Target | None,
    meters: MeterProvider | None,
    extra: SpanProcessor | None,
    ends: list[End],
    redis_from: float,
) -> TracerProvider | None:
    provider = joining.present_tracers()
    if provider is None:
        if target is None and extra is None:
            return None
        whole = SpanLimits(max_attribute_length=SpanLimits.UNSET, max_span_attribute_length=SpanLimits.UNSET)
        provider = TracerProvider(
            resource=resource,
            shutdown_on_exit=False,
            meter_provider=meters,
            span_limits=whole,
            id_generator=_id_generator(),
        )
        trace_api.set_tracer_provider(provider)
        _own.add(provider)
    ends.append(_share(provider, functools.partial(_begin_tracing, provider, resource, target, meters, redis_from)))
    if extra is not None:
        worth_it = QuickCalls(RedactingSpanProcessor(extra), STORE, redis_from)
        ends.append(_add_span_processor(provider, worth_it))
    return provider


def _id_generator() -> IdGenerator | None:
    name = os.environ.get("OTEL_PYTHON_ID_GENERATOR", "")
    points = entry_points(group="opentelemetry_id_generator", name=name) if name else ()
    return next((point.load()() for point in points), None)


def _begin_tracing(
    provider: TracerProvider,
    resource: Resource,
    target: Target | None,
    meters: MeterProvider | None,
    redis_from: float,
) -> Iterator[End]:
    joining.name_service(provider, resource, ours=provider in _own)
    if provider not in _own:
        joining.guard_spans(provider)
        yield from _bounded(provider)
    elif target is not None:
        delay = _unless_set("OTEL_BSP_SCHEDULE_DELAY", SCHEDULE_DELAY_MS)
        for exporter in exporters(target, "traces", meters):
            redacting = RedactingSpanExporter(exporter, SpanLimits())
            batches = BatchSpanProcessor(redacting, schedule_delay_millis=delay, meter_provider=meters)
            yield _add_span_processor(provider, QuickCalls(batches, STORE, redis_from))


def _add_span_processor(provider: TracerProvider, processor: SpanProcessor) -> End:
    provider.add_span_processor(processor)
    return functools.partial(_take, processor, functools.partial(joining.take_span_processor, provider))


def _take(processor: SpanProcessor | LogRecordProcessor, take: Callable[[Any], None]) -> None:
    """Shuts a processor down and removes it from its provider."""
    processor.shutdown()
    take(processor)


def _loggers(
    resource: Resource,
    target: Target | None,
    meters: MeterProvider | None,
    extra: LogRecordProcessor | None,
    ends: list[End],
) -> LoggerProvider | None:
    provider = joining.present_loggers()
    if provider is None:
        if target is None and extra is None:
            return None
        whole = LogRecordLimits(
            max_attribute_length=LogRecordLimits.UNSET, max_log_record_attribute_length=LogRecordLimits.UNSET
        )
        provider = LoggerProvider(
            resource=resource, shutdown_on_exit=False, meter_provider=meters, log_record_limits=whole
        )
        logs_api.set_logger_provider(provider)
        _own.add(provider)
    ends.append(_share(provider, functools.partial(_begin_logs, provider, resource, target, meters)))
    if extra is not None:
        ends.append(_add_log_processor(provider, RedactingLogProcessor(extra)))
    return provider


def _begin_logs(
    provider: LoggerProvider, resource: Resource, target: Target | None, meters: MeterProvider | None
) -> Iterator[End]:
    joining.name_service(provider, resource, ours=provider in _own)
    root = logging.getLogger()
    if provider in _own or not any(map(_exports, root.handlers)):
        handler = OtelLogHandler(provider)
        root.addHandler(handler)
        yield functools.partial(root.removeHandler, handler)
    yield _add_log_processor(provider, EventLines())
    if provider not in _own:
        joining.guard_logs(provider)
        yield from _bounded(provider)
    elif target is not None:
        delay = _unless_set("OTEL_BLRP_SCHEDULE_DELAY", SCHEDULE_DELAY_MS)
        longest = LogRecordLimits().max_log_record_attribute_length
        for exporter in exporters(target, "logs", meters):
            redacting = RedactingLogExporter(exporter, longest)
            batches = BatchLogRecordProcessor(redacting, schedule_delay_millis=delay, meter_provider=meters)
            yield _add_log_processor(provider, batches)


def _exports(handler: logging.Handler) -> bool:
    """Whether a handler of the host already passes standard records to OpenTelemetry."""
    return any(base.__module__.startswith("opentelemetry.") for base in type(handler).__mro__)


def _add_log_processor(provider: LoggerProvider, processor: LogRecordProcessor) -> End:
    provider.add_log_record_processor(processor)
    return functools.partial(_take, processor, functools.partial(joining.take_log_processor, provider))


def _unless_set(name: str, milliseconds: float) -> float | None:
    """Our own default; ``None`` if the user has set the variable, which the SDK reads itself."""
    return None if os.environ.get(name) else milliseconds
