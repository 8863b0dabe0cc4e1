"""The one file that uses private names of OpenTelemetry: are providers set, and is instrumentation suppressed.

Every call checks whether providers are set. The public getters (such as ``get_tracer_provider()``) cannot tell: without
a provider they return a proxy that looks like one, and each time they read the environment, which costs as much as a
protected call. The key that suppresses instrumentation has no public name in ``opentelemetry-api``.

``tests/test_distributions.py`` tests these names with the oldest and the newest allowed version.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from opentelemetry import context as context_api
from opentelemetry import trace as trace_api
from opentelemetry._logs import LoggerProvider
from opentelemetry._logs import _internal as logs_internal
from opentelemetry.metrics import _internal as metrics_internal

overridden = False
"""Whether providers given to :func:`otel_resilience.telemetry.use_providers` replace the global ones."""


def any_set() -> bool:
    """Whether spans, metrics or events go anywhere."""
    return (
        overridden
        or trace_api._TRACER_PROVIDER is not None  # noqa: SLF001
        or metrics_internal._METER_PROVIDER is not None  # noqa: SLF001
        or logs_internal._LOGGER_PROVIDER is not None  # noqa: SLF001
    )


def metrics_set() -> bool:
    """Whether metrics go anywhere."""
    return overridden or metrics_internal._METER_PROVIDER is not None  # noqa: SLF001


def global_logger_provider() -> LoggerProvider | None:
    """The logger provider that the application has set, ``None`` if it has set none."""
    return logs_internal._LOGGER_PROVIDER  # noqa: SLF001


@contextlib.contextmanager
def suppressed_instrumentation() -> Iterator[None]:
    """Within the block instrumented clients create no spans and send no trace headers."""
    token = context_api.attach(context_api.set_value(context_api._SUPPRESS_INSTRUMENTATION_KEY, value=True))  # noqa: SLF001
    try:
        yield
    finally:
        context_api.detach(token)


def instrumentation_is_suppressed() -> bool:
    """Whether the current context suppresses instrumentation, as that of an exporter does."""
    return bool(context_api.get_value(context_api._SUPPRESS_INSTRUMENTATION_KEY))  # noqa: SLF001
