"""The one file in the application that uses private names of OpenTelemetry: to work with an existing SDK.

The process may have providers before we start: from ``opentelemetry-instrument``, from a host application, or from an
earlier session of our own. They can be set only once per process, and offer no public way to redact what passes, to add
a view, or to remove a processor. ``tests/catalog_sync/observability/test_joining.py`` tests these names.
"""

from __future__ import annotations

import atexit
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Final

from opentelemetry import _logs as logs_api
from opentelemetry import metrics as metrics_api
from opentelemetry import trace as trace_api
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider

from catalog_sync.observability.sdk.redacting import redact_span, redacted

_AGENT: Final = "telemetry.auto.version"
_UNNAMED: Final = "unknown_service"
_GUARDED: Final = "_guarded_by_catalog_sync"


def present_tracers() -> TracerProvider | None:
    """The global provider, if it is one of the SDK."""
    provider = trace_api.get_tracer_provider()
    return provider if isinstance(provider, TracerProvider) else None


def present_meters() -> MeterProvider | None:
    """The same for metrics."""
    provider = metrics_api.get_meter_provider()
    return provider if isinstance(provider, MeterProvider) else None


def present_loggers() -> LoggerProvider | None:
    """The same for logs."""
    provider = logs_api.get_logger_provider()
    return provider if isinstance(provider, LoggerProvider) else None


def guard_spans(provider: TracerProvider) -> None:
    """Gives all processors of the provider, later ones too, redacted spans; length limits are applied after that."""
    multi = provider._active_span_processor  # noqa: SLF001
    if not _guards_first(multi):
        return
    limits = provider._span_limits  # noqa: SLF001
    asked = SpanLimits(
        max_attribute_length=_or_unset(limits.max_attribute_length),
        max_span_attribute_length=_or_unset(limits.max_span_attribute_length),
    )
    limits.max_attribute_length = limits.max_span_attribute_length = None
    pass_on = multi.on_end
    multi.on_end = lambda span: pass_on(redact_span(span, asked))  # type: ignore[method-assign]


def guard_logs(provider: LoggerProvider) -> None:
    """The same for log records."""
    multi = provider._multi_log_record_processor  # noqa: SLF001
    if not _guards_first(multi):
        return
    limits = provider._log_record_limits  # noqa: SLF001
    longest, limits.max_log_record_attribute_length = limits.max_log_record_attribute_length, None
    pass_on = multi.on_emit
    multi.on_emit = lambda log_record: pass_on(redacted(log_record, longest))  # type: ignore[method-assign]


def _guards_first(multi: object) -> bool:
    """Marks it as guarded. Returns whether it was not guarded before."""
    guarded = hasattr(multi, _GUARDED)
    setattr(multi, _GUARDED, True)
    return not guarded


def _or_unset(limit: int | None) -> int:
    return SpanLimits.UNSET if limit is None else limit


def add_views(provider: MeterProvider, views: Sequence[Any]) -> None:
    """Adds views for instruments that are created later; a host with its own views keeps only those."""
    config = provider._sdk_config  # noqa: SLF001
    if not config.views:
        config.views = tuple(views)


def name_service(provider: TracerProvider | MeterProvider | LoggerProvider, resource: Resource, *, ours: bool) -> None:
    """Gives one of our providers this resource, and completes that of ``opentelemetry-instrument`` with it.

    The agent only knows the environment: it lacks the name of the service, and has an instance ID that other processes
    have too. A host's own resource is left as it is: our work is part of its service.
    """
    holder = provider._sdk_config if isinstance(provider, MeterProvider) else provider  # noqa: SLF001
    given: Mapping[str, Any] = holder.resource.attributes
    if ours:
        provider._update_resource(resource)  # noqa: SLF001
    elif _AGENT in given:
        named = not str(given.get(SERVICE_NAME, _UNNAMED)).startswith(_UNNAMED)
        kept = {SERVICE_NAME, SERVICE_VERSION} if named else frozenset()
        more = {key: value for key, value in resource.attributes.items() if key not in kept}
        provider._update_resource(Resource(more))  # noqa: SLF001


def under_agent() -> bool:
    """Whether ``opentelemetry-instrument`` has set up this process."""
    provider = present_tracers()
    return provider is not None and _AGENT in provider.resource.attributes


def of_agent(provider: TracerProvider | MeterProvider | LoggerProvider) -> bool:
    """Whether ``opentelemetry-instrument`` made this provider: it lives as long as the process, so it is ours."""
    holder = provider._sdk_config if isinstance(provider, MeterProvider) else provider  # noqa: SLF001
    return _AGENT in holder.resource.attributes


def take_exit_handler(provider: TracerProvider | MeterProvider | LoggerProvider) -> bool:
    """Keeps a provider from shutting itself down when the process exits. Returns whether it would have."""
    for name in ("_atexit_handler", "_at_exit_handler"):
        handler = getattr(provider, name, None)
        if handler is not None:
            atexit.unregister(handler)
            setattr(provider, name, None)
            return True
    return False


def take_span_processor(provider: TracerProvider, processor: Any) -> None:
    """Removes a processor from its provider."""
    multi = provider._active_span_processor  # noqa: SLF001
    with multi._lock:  # noqa: SLF001
        multi._span_processors = tuple(each for each in multi._span_processors if each is not processor)  # noqa: SLF001


def take_log_processor(provider: LoggerProvider, processor: Any) -> None:
    """Removes a processor from its provider."""
    multi = provider._multi_log_record_processor  # noqa: SLF001
    with multi._lock:  # noqa: SLF001
        kept = tuple(each for each in multi._log_record_processors if each is not processor)  # noqa: SLF001
        multi._log_record_processors = kept  # noqa: SLF001


def take_reader(provider: MeterProvider, reader: Any) -> None:
    """Removes a reader that was shut down from its provider, whose public method would shut it down again."""
    provider._measurement_consumer.remove_metric_reader(reader)  # noqa: SLF001
    provider._all_metric_readers.discard(reader)  # noqa: SLF001


@functools.cache
def reread_conventions() -> None:
    """Lets instrumentations read ``OTEL_SEMCONV_STABILITY_OPT_IN`` again, once.

    The first of them reads it for all, and under ``opentelemetry-instrument`` that happened before us.
    """
    if not under_agent():
        return
    from opentelemetry.instrumentation._semconv import _OpenTelemetrySemanticConventionStability as Conventions
    from opentelemetry.instrumentation.redis import RedisInstrumentor

    Conventions._initialized = False  # noqa: SLF001
    redis = RedisInstrumentor()
    if redis.is_instrumented_by_opentelemetry:
        redis.uninstrument()
        redis.instrument()
