"""Builds the providers of the OpenTelemetry SDK. Loaded only where telemetry goes somewhere."""

from __future__ import annotations

import functools
import logging
import os
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import _logs as logs_api
from opentelemetry import metrics as metrics_api
from opentelemetry import trace as trace_api
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import DropAggregation, ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from catalog_sync import __version__
from catalog_sync.domain.errors import ConfigurationError
from catalog_sync.observability import contract
from catalog_sync.observability.sdk.corrections import UNDEFINED_METRICS, correcting
from catalog_sync.observability.sdk.event_lines import EventLines
from catalog_sync.observability.sdk.log_handler import OtelLogHandler
from catalog_sync.observability.sdk.redacting import (
    RedactingLogExporter,
    RedactingLogProcessor,
    RedactingSpanExporter,
    RedactingSpanProcessor,
)
from catalog_sync.observability.sdk.session import Telemetry
from otel_resilience.redaction import redact
from otel_resilience.telemetry import contract as library_contract

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk._logs import LogRecordProcessor
    from opentelemetry.sdk.trace import SpanProcessor

    from catalog_sync.observability.sdk.selection import Choice, Target

EXPORT_TIMEOUT: Final = 3.0
"""Seconds for one export, repetitions included, where the user sets none; the SDK's own 10 s would outlast our end."""
OWN_VARIABLES: Final = ("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "OTEL_SEMCONV_STABILITY_OPT_IN")
"""Set by this application where the user has not."""
METRIC_INTERVAL_MS: Final = 15_000.0
SCHEDULE_DELAY_MS: Final = 2_000.0
_READER_SHUTDOWN_MS: Final = 5_000.0

_HTTP_BOUNDARIES: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_FOREIGN_DURATIONS: Final = (
    "http.client.request.duration",
    "http.server.request.duration",
    "otel.sdk.exporter.operation.duration",
)


def build(
    service_name: str,
    choice: Choice,
    span_processor: SpanProcessor | None,
    metric_reader: MetricReader | None,
    log_processor: LogRecordProcessor | None,
) -> Telemetry:
    """Makes the providers that are needed and sets them for the process."""
    os.environ.setdefault("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    try:
        resource = _resource(service_name)
        meters = _meter_provider(resource, choice, metric_reader)
        tracers = _tracer_provider(resource, choice, meters, span_processor)
        loggers = _logger_provider(resource, choice, meters, log_processor)
    except Exception as error:
        # Whatever was not foreseen in config_otel: components of other packages read variables of their own.
        names = ", ".join(sorted(name for name in os.environ if name.startswith("OTEL_") and name not in OWN_VARIABLES))
        raise ConfigurationError(
            f"telemetry cannot be set up with {names}: {type(error).__name__}: {redact(str(error))}"
        ) from error
    shutdowns: list[Callable[[], object]] = []
    handler = None
    if meters is not None:
        metrics_api.set_meter_provider(meters)
        shutdowns.append(functools.partial(meters.shutdown, timeout_millis=_READER_SHUTDOWN_MS))
    if tracers is not None:
        trace_api.set_tracer_provider(tracers)
        shutdowns.append(tracers.shutdown)
    if loggers is not None:
        logs_api.set_logger_provider(loggers)
        shutdowns.append(loggers.shutdown)
        handler = OtelLogHandler(loggers)
        logging.getLogger().addHandler(handler)
    flushes = [provider.force_flush for provider in (meters, tracers, loggers) if provider is not None]
    return Telemetry(shutdowns, flushes, handler)


DEPLOYMENT_ENVIRONMENT: Final = "deployment.environment.name"


def _resource(service_name: str) -> Resource:
    given = OTELResourceDetector().detect().attributes
    environment = os.environ.get("CATALOG_ENVIRONMENT", "").strip()
    own = {DEPLOYMENT_ENVIRONMENT: environment} if environment else {}
    return Resource.create({SERVICE_NAME: service_name, SERVICE_VERSION: __version__, **given, **own})


def _meter_provider(resource: Resource, choice: Choice, extra: MetricReader | None) -> MeterProvider | None:
    readers = [] if extra is None else [extra]
    if choice.metrics is not None:
        interval = _unless_set("OTEL_METRIC_EXPORT_INTERVAL", METRIC_INTERVAL_MS)
        readers.append(PeriodicExportingMetricReader(_exporter(choice.metrics, "metrics"), interval))
    if not readers:
        return None
    return MeterProvider(metric_readers=readers, resource=resource, shutdown_on_exit=False, views=_views())


def _views() -> list[View]:
    """Explicit buckets also where the user prefers exponential ones: alert rules depend on these metrics."""
    histograms = {
        metric.name: metric.boundaries
        for metric in (*library_contract.METRICS, *contract.METRICS)
        if metric.kind == "histogram" and metric.boundaries
    } | dict.fromkeys(_FOREIGN_DURATIONS, _HTTP_BOUNDARIES)
    return [
        *(
            View(instrument_name=name, aggregation=ExplicitBucketHistogramAggregation(boundaries))
            for name, boundaries in histograms.items()
        ),
        *(View(instrument_name=name, aggregation=DropAggregation()) for name in UNDEFINED_METRICS),
    ]


def _tracer_provider(
    resource: Resource, choice: Choice, meters: MeterProvider | None, extra: SpanProcessor | None
) -> TracerProvider | None:
    processors: list[SpanProcessor] = [] if extra is None else [RedactingSpanProcessor(extra)]
    if choice.traces is not None:
        exporter = RedactingSpanExporter(_exporter(choice.traces, "traces", meters))
        delay = _unless_set("OTEL_BSP_SCHEDULE_DELAY", SCHEDULE_DELAY_MS)
        processors.append(BatchSpanProcessor(exporter, schedule_delay_millis=delay, meter_provider=meters))
    if not processors:
        return None
    provider = TracerProvider(resource=resource, shutdown_on_exit=False, meter_provider=meters)
    for processor in processors:
        provider.add_span_processor(processor)
    return provider


def _logger_provider(
    resource: Resource, choice: Choice, meters: MeterProvider | None, extra: LogRecordProcessor | None
) -> LoggerProvider | None:
    if choice.logs is None and extra is None:
        return None
    provider = LoggerProvider(resource=resource, shutdown_on_exit=False, meter_provider=meters)
    provider.add_log_record_processor(EventLines())
    if extra is not None:
        provider.add_log_record_processor(RedactingLogProcessor(extra))
    if choice.logs is not None:
        exporter = RedactingLogExporter(_exporter(choice.logs, "logs", meters))
        delay = _unless_set("OTEL_BLRP_SCHEDULE_DELAY", SCHEDULE_DELAY_MS)
        provider.add_log_record_processor(
            BatchLogRecordProcessor(exporter, schedule_delay_millis=delay, meter_provider=meters)
        )
    return provider


def _unless_set(name: str, milliseconds: float) -> float | None:
    """Our own default; ``None`` where the user has set the variable, which the SDK reads itself."""
    return None if os.environ.get(name) else milliseconds


def _exporter(target: Target, signal: str, meters: MeterProvider | None = None) -> Any:
    """The official exporter of a signal, with a short timeout and compression where the user says nothing else."""
    options: dict[str, Any] = {"endpoint": target.endpoint}
    if meters is not None:
        options["meter_provider"] = meters
    if not target.timeout_set:
        options["timeout"] = EXPORT_TIMEOUT
    if target.protocol == "grpc":
        return _grpc_exporter(target, signal, options)
    from opentelemetry.exporter.otlp.proto.http import Compression  # only one protocol is loaded
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    options["compression"] = Compression(target.compression)
    if any(os.environ.get(f"OTEL_EXPORTER_OTLP_{name}CERTIFICATE") for name in ("", f"{signal.upper()}_")):
        from catalog_sync.observability.sdk.otlp_session import CertifiedSession

        options["session"] = CertifiedSession()
    kinds = {"traces": OTLPSpanExporter, "metrics": correcting(OTLPMetricExporter), "logs": OTLPLogExporter}
    return kinds[signal](**options)


def _grpc_exporter(target: Target, signal: str, options: dict[str, Any]) -> Any:
    from grpc import Compression
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    levels = {"gzip": Compression.Gzip, "deflate": Compression.Deflate, "none": Compression.NoCompression}
    options["compression"] = levels[target.compression]
    kinds = {"traces": OTLPSpanExporter, "metrics": correcting(OTLPMetricExporter), "logs": OTLPLogExporter}
    return kinds[signal](**options)
