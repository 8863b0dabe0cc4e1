"""Each of our tracers, meters and loggers states its version and the version of its names."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import catalog_sync
import otel_resilience
from catalog_sync.domain.models import Outcome
from catalog_sync.observability import instruments
from otel_resilience import Policy, telemetry
from otel_resilience.telemetry import contract
from support.sync_reports import report


def use_the_library() -> None:
    with pytest.raises(ConnectionRefusedError):
        Policy("supplier").execute(refuse, name="fetch")


def refuse() -> None:
    raise ConnectionRefusedError


def use_the_application() -> None:
    with instruments.sync_span("full", "cli"):
        instruments.emit_sync_finished(report(Outcome.COMPLETE))
    instruments.count_read("fresh")


@pytest.mark.parametrize(
    ("use_providers", "use", "scope"),
    [
        (telemetry.use_providers, use_the_library, ("otel_resilience", otel_resilience.__version__)),
        (instruments.use_providers, use_the_application, ("catalog_sync", catalog_sync.__version__)),
    ],
    ids=["otel_resilience", "catalog_sync"],
)
def test_spans_events_and_metrics_name_the_version_in_their_scope(
    use_providers: Callable[..., AbstractContextManager[None]], use: Callable[[], None], scope: tuple[str, str]
) -> None:
    spans, logs, reader = InMemorySpanExporter(), InMemoryLogRecordExporter(), InMemoryMetricReader()  # type: ignore[no-untyped-call]
    tracer_provider = TracerProvider(shutdown_on_exit=False)
    tracer_provider.add_span_processor(SimpleSpanProcessor(spans))
    logger_provider = LoggerProvider(shutdown_on_exit=False)
    logger_provider.add_log_record_processor(SimpleLogRecordProcessor(logs))
    meter_provider = MeterProvider([reader], shutdown_on_exit=False)
    with use_providers(tracer_provider=tracer_provider, meter_provider=meter_provider, logger_provider=logger_provider):
        use()
    data = reader.get_metrics_data()
    assert data is not None
    found: list[list[Any]] = [
        [span.instrumentation_scope for span in spans.get_finished_spans()],
        [log.instrumentation_scope for log in logs.get_finished_logs()],
        [each.scope for resource in data.resource_metrics for each in resource.scope_metrics],
    ]
    for scopes in found:
        assert {(each.name, each.version) for each in scopes} == {scope}
        assert {each.schema_url for each in scopes} == {contract.SCHEMA_URL}


def test_the_version_is_no_look_up_among_installed_packages() -> None:
    """That costs milliseconds and fails where the code is used without being installed."""
    script = "import sys, opentelemetry.trace; sys.modules['importlib.metadata'] = None; import otel_resilience as o"
    ours = f"{script}; assert o.__version__"
    done = subprocess.run([sys.executable, "-c", ours], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
