"""Group G: with the SDK recording, this library against the same telemetry written by hand.

Both sides make two nested spans with the same attributes and record the same two histogram points with the same
attribute sets, in the context of the outer span. The spans end in a processor that does nothing, the points in a
reader that is never read, so that no exporter is measured.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

from benchmarks import ours, peers
from benchmarks.groups import BARE, OURS
from benchmarks.measure import Case, InvalidCaseError, Operation, trip

G = "G. SDK recording: operation span, attempt span, two histogram points"
SYNC, ASYNC = "sync", "async"
REJECTION = "rejection with its span and count"
_DEPENDENCY, _OPERATION = "supplier", "succeed"


class LastSpans(SpanProcessor):
    """Does nothing, save that it can show the last two spans while cases are compared."""

    def __init__(self) -> None:
        self.kept: list[ReadableSpan] = []
        self.keeping = False

    def on_end(self, span: ReadableSpan) -> None:
        if self.keeping:
            self.kept.append(span)


class Telemetry:
    """The global providers of the measured process."""

    def __init__(self) -> None:
        self.spans = LastSpans()
        self.reader = InMemoryMetricReader()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(self.spans)
        trace.set_tracer_provider(provider)
        metrics.set_meter_provider(MeterProvider([self.reader], shutdown_on_exit=False))
        self.tracer = trace.get_tracer("by hand")
        meter = metrics.get_meter("by hand")
        self.duration = meter.create_histogram(
            "hand.operation.duration", "s", explicit_bucket_boundaries_advisory=_boundaries("duration")
        )
        self.attempts = meter.create_histogram(
            "hand.operation.attempts", "{attempt}", explicit_bucket_boundaries_advisory=_boundaries("attempts")
        )

    def by_hand(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """What a careful person writes around one call."""
        tracer, duration, attempts = self.tracer, self.duration, self.attempts
        attempt_attributes: dict[str, str | int] = {
            "resilience.dependency": _DEPENDENCY,
            "resilience.attempt.number": 1,
        }

        def run() -> Any:
            started = time.monotonic()
            with tracer.start_as_current_span(
                "supplier succeed",
                attributes={"resilience.dependency": _DEPENDENCY, "resilience.operation": _OPERATION},
            ) as span:
                with tracer.start_as_current_span("attempt", attributes=attempt_attributes):
                    result = function()
                span.set_attributes({"resilience.attempts": 1, "resilience.outcome": "ok"})
                attributes = {
                    "resilience.dependency": _DEPENDENCY,
                    "resilience.operation": _OPERATION,
                    "resilience.outcome": "ok",
                }
                duration.record(time.monotonic() - started, attributes)
                attempts.record(1, attributes)
            return result

        return run

    def by_hand_async(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """The same for ``async def``."""
        tracer, duration, attempts = self.tracer, self.duration, self.attempts
        attempt_attributes: dict[str, str | int] = {
            "resilience.dependency": _DEPENDENCY,
            "resilience.attempt.number": 1,
        }

        async def run() -> Any:
            started = time.monotonic()
            with tracer.start_as_current_span(
                "supplier succeed",
                attributes={"resilience.dependency": _DEPENDENCY, "resilience.operation": _OPERATION},
            ) as span:
                with tracer.start_as_current_span("attempt", attributes=attempt_attributes):
                    result = await function()
                span.set_attributes({"resilience.attempts": 1, "resilience.outcome": "ok"})
                attributes = {
                    "resilience.dependency": _DEPENDENCY,
                    "resilience.operation": _OPERATION,
                    "resilience.outcome": "ok",
                }
                duration.record(time.monotonic() - started, attributes)
                attempts.record(1, attributes)
            return result

        return run

    def cases(self) -> list[Case]:
        """All rows of the group; raises :class:`InvalidCaseError` if the two sides do not emit the same."""
        cases = []
        for kind, by_hand in ((SYNC, self.by_hand), (ASYNC, self.by_hand_async)):
            asynchronous = kind == ASYNC

            def add(name: str, make: Callable[..., Any], asynchronous: bool = asynchronous) -> None:
                operation = Operation(asynchronous=asynchronous)
                cases.append(Case(G, name, make(operation.function), operation, asynchronous=asynchronous))

            add(f"{BARE} {kind}", lambda function: function)
            add(f"by hand {kind}", by_hand)
            add(f"by hand around nopanic retry+breaker {kind}", _around(by_hand))
            add(f"{OURS}retry+budget+breaker {kind}", ours.decorated())
            add(f"{OURS}retry+breaker {kind}", ours.decorated(budget=False))
        operation = Operation(failing="always")
        call = ours.decorated()(operation.function)
        cases.append(Case(G, OURS + REJECTION, call, operation, trip(call, operation)))
        return cases

    def compare(self, first: Case, second: Case) -> None:
        """Raises :class:`InvalidCaseError` if two cases do not emit the same spans and points."""
        shapes = []
        for case in (first, second):
            self.spans.keeping = True
            before = self._points()
            if case.asynchronous:
                asyncio.run(case.call())
            else:
                case.call()
            after = self._points()
            spans, self.spans.kept, self.spans.keeping = self.spans.kept, [], False
            shape = [(span.name, dict(span.attributes or {}), span.parent is None, span.kind) for span in spans]
            grown = {key for key in after if after[key] != before.get(key, 0)}
            shapes.append((shape, sorted((key[0].rpartition(".")[2], key[1]) for key in grown)))
        if shapes[0] != shapes[1]:
            raise InvalidCaseError(f"{first.name} and {second.name} do not emit the same: {shapes}")

    def _points(self) -> dict[tuple[str, tuple[tuple[str, Any], ...]], int]:
        data = self.reader.get_metrics_data()
        points = {}
        scopes = itertools.chain.from_iterable(each.scope_metrics for each in data.resource_metrics) if data else ()
        for scope in scopes:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    if hasattr(point, "count"):
                        points[metric.name, tuple(sorted(dict(point.attributes or {}).items()))] = point.count
        return points


def _around(by_hand: Callable[..., Any]) -> Callable[..., Any]:
    protect = peers.nopanic_policy(breaker=True)
    return lambda function: by_hand(protect(function))


def _boundaries(name: str) -> Any:
    from otel_resilience.telemetry import contract

    return {"duration": contract.OPERATION_DURATION, "attempts": contract.OPERATION_ATTEMPTS}[name].boundaries
