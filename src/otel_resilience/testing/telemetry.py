"""Everything that the library emits, kept in memory."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from otel_resilience.telemetry import use_providers

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.trace import ReadableSpan


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    """One data point of a metric, as returned by :meth:`RecordedTelemetry.points`. Durations are in seconds.

    Examples:
        >>> from otel_resilience.testing import RecordedTelemetry
        >>> with RecordedTelemetry().recording() as telemetry:
        ...     _ = Policy("supplier").execute(lambda: "plans", name="list plans")
        >>> point, = telemetry.points("resilience.operation.attempts")
        >>> point.value, point.attributes["resilience.operation"]
        (1, 'list plans')
    """

    metric: str
    attributes: dict[str, Any]
    value: float
    """The value of a counter or gauge, the sum of a histogram."""
    count: int
    """Recordings of a histogram; 1 for other instruments."""


class RecordedTelemetry:
    """Everything that the library emits within :meth:`recording`, in memory.

    Raises ``ImportError`` if ``opentelemetry-sdk`` is missing.

    Examples:
        >>> from otel_resilience.testing import RecordedTelemetry
        >>> @Policy("supplier", retry=RetryConfig())
        ... def fetch():
        ...     if current_attempt() == 1:
        ...         raise ConnectionResetError
        >>> with RecordedTelemetry().recording() as telemetry:
        ...     fetch()
        >>> [span.name for span in telemetry.spans]
        ['attempt', 'attempt', 'supplier fetch']
        >>> telemetry.event_names()[1:]
        ['resilience.attempt.failed', 'resilience.retry.scheduled']
    """

    def __init__(self) -> None:
        from opentelemetry.sdk._logs import LoggerProvider  # optional: only tests need the SDK
        from opentelemetry.sdk._logs.export import (
            InMemoryLogRecordExporter,
            SimpleLogRecordProcessor,
        )
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        self._spans = InMemorySpanExporter()
        self._logs = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # the SDK's own
        self._reader = InMemoryMetricReader()
        self.tracer_provider = TracerProvider(shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.logger_provider = LoggerProvider(shutdown_on_exit=False)
        self.logger_provider.add_log_record_processor(SimpleLogRecordProcessor(self._logs))
        self.meter_provider = MeterProvider([self._reader], shutdown_on_exit=False)

    @contextlib.contextmanager
    def recording(self) -> Iterator[RecordedTelemetry]:
        """Sends the library's telemetry here, for the whole process, within the block."""
        with use_providers(
            tracer_provider=self.tracer_provider,
            meter_provider=self.meter_provider,
            logger_provider=self.logger_provider,
        ):
            yield self

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """Ended spans, in the order in which they ended."""
        return self._spans.get_finished_spans()

    @property
    def events(self) -> tuple[ReadableLogRecord, ...]:
        """Events in the order in which they were emitted."""
        return tuple(self._logs.get_finished_logs())

    def event_names(self) -> list[str]:
        """The names of the events, in order."""
        return [event.log_record.event_name or "" for event in self.events]

    def points(self, metric: str | None = None) -> list[Point]:
        """Data points, of one metric or of all. Collects the observable instruments as well."""
        data = self._reader.get_metrics_data()
        found: list[Point] = []
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                for each in scope.metrics:
                    if metric is None or each.name == metric:
                        found.extend(_points(each))
        return found


def _points(metric: Any) -> Iterator[Point]:
    for point in metric.data.data_points:
        histogram = hasattr(point, "sum")
        yield Point(
            metric.name,
            dict(point.attributes),
            point.sum if histogram else point.value,
            point.count if histogram else 1,
        )
