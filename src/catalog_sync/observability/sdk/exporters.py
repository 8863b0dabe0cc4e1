"""The exporters of a signal: the official OTLP ones, and the console for experiments."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from catalog_sync.observability.sdk.corrections import correcting

if TYPE_CHECKING:
    import requests
    from opentelemetry.sdk.metrics import MeterProvider

    from catalog_sync.observability.sdk.selection import Target

EXPORT_TIMEOUT: Final = 3.0
"""Seconds for one export, including retries, if the user sets none; the SDK's own 10 s would outlast our shutdown."""


def exporters(target: Target, signal: str, meters: MeterProvider | None = None) -> Iterator[Any]:
    """The exporters for the target."""
    if target.endpoint is not None:
        yield otlp_exporter(target, signal, meters)
    if target.console:
        yield _console_exporter(signal)


def _console_exporter(signal: str) -> Any:
    """Writes to stderr: programs read what a command prints on stdout."""
    from opentelemetry.sdk._logs.export import ConsoleLogRecordExporter
    from opentelemetry.sdk.metrics.export import ConsoleMetricExporter
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    kinds: dict[str, Any] = {
        "traces": ConsoleSpanExporter,
        "metrics": correcting(ConsoleMetricExporter),
        "logs": ConsoleLogRecordExporter,
    }
    return kinds[signal](out=sys.stderr)


def otlp_exporter(target: Target, signal: str, meters: MeterProvider | None = None, **options: Any) -> Any:
    """The official exporter of a signal, with a short timeout and compression unless the user sets them."""
    options["endpoint"] = target.endpoint
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
    if any(os.environ[name] for name in os.environ if name.endswith("_CREDENTIAL_PROVIDER")):
        options.pop("session", None)  # the provider has one
    else:
        options.setdefault("session", session_class()())
    kinds = {"traces": OTLPSpanExporter, "metrics": correcting(OTLPMetricExporter), "logs": OTLPLogExporter}
    return kinds[signal](**options)


@functools.cache
def session_class() -> type[requests.Session]:
    """The session class of the HTTP exporters, for which ``OTEL_EXPORTER_OTLP_CERTIFICATE`` takes effect.

    In a plain requests session ``REQUESTS_CA_BUNDLE`` overrides it (https://github.com/psf/requests/issues/3829).
    """
    import requests  # loaded only when used

    class Session(requests.Session):
        def merge_environment_settings(
            self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any
        ) -> dict[str, Any]:
            merged: dict[str, Any] = super().merge_environment_settings(url, proxies, stream, verify, cert)
            return merged | ({"verify": self.verify} if isinstance(self.verify, str) else {})

    return Session


def _grpc_exporter(target: Target, signal: str, options: dict[str, Any]) -> Any:
    from grpc import Compression
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    levels = {"gzip": Compression.Gzip, "deflate": Compression.Deflate, "none": Compression.NoCompression}
    options["compression"] = levels[target.compression]
    kinds = {"traces": OTLPSpanExporter, "metrics": correcting(OTLPMetricExporter), "logs": OTLPLogExporter}
    return kinds[signal](**options)
