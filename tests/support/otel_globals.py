"""Lets a test set the global providers, which OpenTelemetry allows only once per process."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

from opentelemetry import trace as trace_api
from opentelemetry._logs import _internal as logs_internal
from opentelemetry.instrumentation._semconv import _OpenTelemetrySemanticConventionStability as SemanticConventions
from opentelemetry.metrics import _internal as metrics_internal
from opentelemetry.util._once import Once

import catalog_sync.observability.instruments as application
import otel_resilience.telemetry.listener as library

_CELLS = (
    (trace_api, "_TRACER_PROVIDER", None),
    (metrics_internal, "_METER_PROVIDER", None),
    (logs_internal, "_LOGGER_PROVIDER", None),
    (library, "_global", None),
    (application, "_current", None),
    (SemanticConventions, "_initialized", False),  # instrumentations read the variable for it once per process
)
_ONCES = (
    (trace_api, "_TRACER_PROVIDER_SET_ONCE"),
    (metrics_internal, "_METER_PROVIDER_SET_ONCE"),
    (logs_internal, "_LOGGER_PROVIDER_SET_ONCE"),
)


@contextlib.contextmanager
def fresh_otel_globals() -> Iterator[None]:
    """No providers are set at the start of the block; at its end everything is restored, including the environment."""
    before = [(module, name, getattr(module, name)) for module, name, _ in _CELLS]
    onces = [(module, name, getattr(module, name)) for module, name in _ONCES]
    proxy = metrics_internal._PROXY_METER_PROVIDER
    handlers, level = list(logging.getLogger().handlers), logging.getLogger().level
    environ = dict(os.environ)
    for module, name, value in _CELLS:
        setattr(module, name, value)
    for module, name in _ONCES:
        setattr(module, name, Once())
    metrics_internal._PROXY_METER_PROVIDER = metrics_internal._ProxyMeterProvider()
    try:
        yield
    finally:
        for module, name, value in (*before, *onces):
            setattr(module, name, value)
        metrics_internal._PROXY_METER_PROVIDER = proxy
        logging.getLogger().handlers[:] = handlers
        logging.getLogger().setLevel(level)
        os.environ.clear()
        os.environ.update(environ)
