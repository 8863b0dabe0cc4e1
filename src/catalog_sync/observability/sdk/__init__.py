"""The one place in the application that sets up the OpenTelemetry SDK and instruments clients.

Nothing of the SDK is imported unless telemetry goes somewhere: an OTLP endpoint is configured, or a processor or a
reader is given.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from catalog_sync.observability.sdk.continuation import trace_of
from catalog_sync.observability.sdk.propagation import extract_context, foreign, headers_allowed, inject
from catalog_sync.observability.sdk.selection import choose_signals
from catalog_sync.observability.sdk.session import SHUTDOWN_TIMEOUT, Telemetry, tracing
from catalog_sync.settings.otel import check_otel
from catalog_sync.settings.secrets import register_secrets
from catalog_sync.settings.settings import SECRET_NAMES, TRACE_REDIS_FROM

if TYPE_CHECKING:
    import httpx
    from opentelemetry.sdk._logs import LogRecordProcessor
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span

    from catalog_sync.observability.traces.deferred import DeferredSpans
    from catalog_sync.observability.traces.records import SpanRecord

__all__ = [
    "SHUTDOWN_TIMEOUT",
    "Telemetry",
    "choose_signals",
    "defer_spans",
    "extract_context",
    "foreign",
    "headers_allowed",
    "inject_context",
    "instrument_celery",
    "instrument_redis",
    "keep_spans",
    "setup_telemetry",
    "summarized",
    "trace_of",
    "traced_transport",
    "untraced",
]


def setup_telemetry(
    service_name: str,
    environ: Mapping[str, str],
    *,
    extra_span_processor: SpanProcessor | None = None,
    extra_log_processor: LogRecordProcessor | None = None,
    extra_metric_reader: MetricReader | None = None,
) -> Telemetry:
    """Sets up traces, metrics and logs, before clients are instrumented.

    A signal is exported if ``OTEL_EXPORTER_OTLP_ENDPOINT`` or its own endpoint is set, unless
    ``OTEL_{TRACES,METRICS,LOGS}_EXPORTER`` is ``none``; ``OTEL_SDK_DISABLED=true`` turns all of them off. Extra
    processors and readers always get their signal, redacted as for exports. If the process already has an SDK, from
    ``opentelemetry-instrument`` or a host application, that one is used: it exports, redacted, and nothing is exported
    twice. ``environ`` is ``os.environ``, except in tests of the choice of signals: the SDK itself reads the environment
    of the process.

    Raises ``ConfigurationError`` naming the variable if an ``OTEL_*`` variable is not usable.
    """
    register_secrets(environ, SECRET_NAMES)
    check_otel(environ)
    choice, redis_from = choose_signals(environ), TRACE_REDIS_FROM.value(environ)
    extras = (extra_span_processor, extra_metric_reader, extra_log_processor)
    if choice.disabled or not (choice.any or any(extra is not None for extra in extras) or tracing()):
        return Telemetry()
    _use_stable_conventions()
    from catalog_sync.observability.sdk.providers import build  # loads the SDK

    return build(
        service_name, choice, extra_span_processor, extra_metric_reader, extra_log_processor, redis_from=redis_from
    )


def keep_spans(keep: Callable[[SpanRecord], None]) -> SpanProcessor:
    """A span processor for :func:`setup_telemetry` that passes each ended span to ``keep``, in the thread that ends it.

    Loads the SDK. ``keep`` must be quick and must not raise.
    """
    from catalog_sync.observability.sdk.span_records import SpanRecords

    return SpanRecords(keep)


def defer_spans(spans: DeferredSpans) -> SpanProcessor:
    """Like :func:`keep_spans`; the ended spans are only converted when they are read from ``spans``."""
    from catalog_sync.observability.sdk.span_records import DeferredSpanRecords

    return DeferredSpanRecords(spans)


def traced_transport(
    transport: httpx.AsyncBaseTransport,
    trace_headers_to: tuple[str, ...] = (),
    *,
    on_response: Callable[[httpx.Response], object] | None = None,
) -> httpx.AsyncBaseTransport:
    """``transport`` with a CLIENT span for every request, and trace headers only to hosts that may see them.

    Spans are named ``GET {template}`` if the request has an extension ``url_template``. Without an SDK there are no
    spans; trace headers and baggage still go to the hosts that may see them, and to no other. ``on_response`` is called
    with each response.
    """
    _use_stable_conventions()
    from catalog_sync.observability.sdk.http_client import traced  # loads httpx

    return traced(transport, trace_headers_to, on_response)


def instrument_redis(client: Any) -> None:
    """Gives every command of a redis-py client, sync or async, a CLIENT span without the values of its arguments."""
    if not tracing() or getattr(client, "_instrumented_by_catalog_sync", False):
        return
    _use_stable_conventions()
    from opentelemetry.instrumentation.redis import RedisInstrumentor  # only if there are spans

    if not RedisInstrumentor().is_instrumented_by_opentelemetry:  # otherwise every client already has spans
        RedisInstrumentor.instrument_client(client, request_hook=_summarize)
    client._instrumented_by_catalog_sync = True  # noqa: SLF001  # our own mark


def instrument_celery() -> None:
    """Gives every message that this process sends a PRODUCER span, and every job that it runs a CONSUMER span.

    The context is passed in the headers of the message. For the whole process; repeated calls do nothing.
    """
    if not tracing():
        return
    from opentelemetry.instrumentation.celery import CeleryInstrumentor  # loads Celery

    instrumentor = CeleryInstrumentor()  # type: ignore[no-untyped-call]  # it has no types here
    if not instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.instrument()


def inject_context() -> dict[str, str]:
    """The current trace context and baggage, for work that is done later or elsewhere on our own machines."""
    carrier: dict[str, str] = {}
    inject(carrier)
    return carrier


@contextlib.contextmanager
def untraced() -> Iterator[None]:
    """No client spans within the block: for waiting and polling, which no request caused."""
    from opentelemetry.instrumentation.utils import suppress_instrumentation

    with suppress_instrumentation():
        yield


@contextlib.contextmanager
def summarized(text: str) -> Iterator[None]:
    """The purpose of the Redis commands within the block, from a bounded set: the name of their spans."""
    token = _summary.set(text)
    try:
        yield
    finally:
        _summary.reset(token)


_summary: ContextVar[str] = ContextVar("catalog_sync_query_summary")


def _summarize(span: Span, *_: Any) -> None:
    text = _summary.get(None)
    if text is not None and span.is_recording():
        span.update_name(text)
        span.set_attribute("db.query.summary", text)


def _use_stable_conventions() -> None:
    """The instrumentations read this once, when the first of them is used."""
    os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http,database")
