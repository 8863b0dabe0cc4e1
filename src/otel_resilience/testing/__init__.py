"""Helpers for the tests of those who use this library: a fake clock, no waits, recorded telemetry."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import selectors
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from otel_resilience import telemetry
from otel_resilience.policy.policy import Policy
from otel_resilience.retries.budget import forget_budgets

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.trace import ReadableSpan


__all__ = ["FakeClock", "FakeTimeLoop", "Point", "RecordedTelemetry", "forget_budgets", "no_waits"]


class FakeClock:
    """A monotonic clock that moves only by :meth:`advance`, or when something sleeps on it.

    Give it to a policy as ``clock``, its :meth:`sleep` as ``sleep`` and its :meth:`async_sleep` as ``async_sleep``.
    """

    def __init__(self, start: float = 1000.0) -> None:
        self.now = start
        self.sleeps: list[float] = []
        """Every wait that was asked for, in seconds."""

    def __call__(self) -> float:
        """The time in seconds."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Moves the time forward. Raises ``ValueError`` for a negative step."""
        if seconds < 0:
            raise ValueError("a monotonic clock does not go back")
        self.now += seconds

    def sleep(self, seconds: float) -> None:
        """Moves the time instead of waiting."""
        self.sleeps.append(seconds)
        self.advance(seconds)

    async def async_sleep(self, seconds: float) -> None:
        """Moves the time instead of waiting, and lets other tasks run."""
        self.sleep(seconds)
        await asyncio.sleep(0)


class FakeTimeLoop(asyncio.SelectorEventLoop):
    """An event loop that jumps to its next timer instead of waiting for it.

    ``asyncio.timeout`` and ``asyncio.sleep`` work on fake time, so that an operation that hangs for ever meets its
    attempt timeout at once. Only for tests without real I/O: a timer that is due fires before a socket is ready.
    """

    def __init__(self, clock: FakeClock | None = None) -> None:
        self.clock = clock or FakeClock()
        super().__init__(_JumpingSelector(self.clock))

    def time(self) -> float:
        """The fake time in seconds."""
        return self.clock.now

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  # asyncio's own
        """Waits for the threads without a limit: one on fake time would be over before they can end."""
        del timeout
        await super().shutdown_default_executor()


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0 if timeout is not None else None)
        if not ready and timeout is not None and timeout > 0:
            self._clock.advance(timeout)
        return ready


@contextlib.contextmanager
def no_waits(*policies: Policy) -> Iterator[list[float]]:
    """Within the block these policies do not sleep; yields the list of the waits that they asked for."""
    waits: list[float] = []
    saved = [(policy, policy.sleep, policy.async_sleep) for policy in policies]

    async def skip(seconds: float) -> None:
        waits.append(seconds)

    for policy in policies:
        policy.sleep = waits.append
        policy.async_sleep = skip
    try:
        yield waits
    finally:
        for policy, sleep, async_sleep in saved:
            policy.sleep = sleep
            policy.async_sleep = async_sleep


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    """One data point of a metric."""

    metric: str
    attributes: dict[str, Any]
    value: float
    """The value of a counter or gauge, the sum of a histogram."""
    count: int
    """Recordings of a histogram; 1 for the others."""


class RecordedTelemetry:
    """Everything that the library emits within :meth:`recording`, in memory. Needs ``opentelemetry-sdk``."""

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
        with telemetry.use_providers(
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
