"""OTLP data of two services, decoded and kept in memory: spans by trace, events, the latest value of each metric."""

from __future__ import annotations

import dataclasses
import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Final, TypeVar

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status as ProtoStatus

from catalog_sync.observability.traces.records import SpanRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource

Value = str | int | float | bool
Attributes = dict[str, Value]
Labels = tuple[tuple[str, Value], ...]

Request = TypeVar("Request", ExportTraceServiceRequest, ExportLogsServiceRequest, ExportMetricsServiceRequest)

_NANOS: Final = 1e9


class Span(SpanRecord):
    """A finished span."""

    __slots__ = ()

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.end - self.start

    @property
    def failed(self) -> bool:
        """Whether its status is ``error``, even if an enclosing span recovered from that."""
        return self.status == "error"


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """A log record with an event name. ``at`` in seconds since the epoch."""

    name: str
    service: str
    at: float
    body: str
    attributes: Attributes
    trace_id: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    """The latest value of one series: of a sum or gauge ``value``; of a histogram the count, and counts per bucket."""

    value: float
    buckets: tuple[int, ...] = ()
    bounds: tuple[float, ...] = ()


Series = dict[Labels, Point]


class TelemetryStore:
    """Keeps OTLP protobuf data. Thread-safe. Malformed data raises ``ValueError``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: dict[str, dict[str, Span]] = defaultdict(dict)
        self._events: list[Event] = []
        self._metrics: dict[str, Series] = defaultdict(dict)

    def add(self, signal: str, body: bytes) -> None:
        """Adds one export of ``traces``, ``logs`` or ``metrics``. Raises ``ValueError`` for any other signal."""
        if signal == "traces":
            self._add_spans(_parsed(ExportTraceServiceRequest(), body))
        elif signal == "logs":
            self._add_events(_parsed(ExportLogsServiceRequest(), body))
        elif signal == "metrics":
            self._add_metrics(_parsed(ExportMetricsServiceRequest(), body))
        else:
            raise ValueError(f"no signal {signal!r}")

    def trace(self, trace_id: str) -> list[Span]:
        """The spans of a trace so far, of all services, by start time."""
        with self._lock:
            return sorted(self._spans.get(trace_id, {}).values(), key=lambda span: (span.start, span.span_id))

    def events(self, name: str, *, since: float, until: float) -> list[Event]:
        """The events with that name within a time range, in order."""
        with self._lock:
            found = [event for event in self._events if event.name == name and since <= event.at <= until]
        return sorted(found, key=lambda event: event.at)

    def metric(self, name: str) -> Series:
        """The latest point of each series of a metric."""
        with self._lock:
            return dict(self._metrics.get(name, {}))

    def _add_spans(self, request: ExportTraceServiceRequest) -> None:
        spans = [
            _span(span, _service(group.resource))
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]
        with self._lock:
            for span in spans:
                self._spans[span.trace_id][span.span_id] = span

    def _add_events(self, request: ExportLogsServiceRequest) -> None:
        events = [
            Event(
                name=record.event_name,
                service=_service(group.resource),
                at=(record.time_unix_nano or record.observed_time_unix_nano) / _NANOS,
                body=record.body.string_value,
                attributes=_attributes(record.attributes),
                trace_id=record.trace_id.hex() or None,
            )
            for group in request.resource_logs
            for scope in group.scope_logs
            for record in scope.log_records
            if record.event_name
        ]
        with self._lock:
            self._events += events

    def _add_metrics(self, request: ExportMetricsServiceRequest) -> None:
        metrics = [
            (metric.name, _points(metric))
            for group in request.resource_metrics
            for scope in group.scope_metrics
            for metric in scope.metrics
        ]
        with self._lock:
            for name, points in metrics:
                self._metrics[name].update(points)


def increase(after: Series, before: Series) -> Series:
    """The increase of cumulative series; unchanged series are left out."""
    grown: Series = {}
    for labels, point in after.items():
        old = before.get(labels, Point(0.0))
        old_buckets = old.buckets or (0,) * len(point.buckets)
        buckets = tuple(new - was for new, was in zip(point.buckets, old_buckets, strict=True))
        difference = Point(point.value - old.value, buckets, point.bounds)
        if difference.value:
            grown[labels] = difference
    return grown


def _parsed(request: Request, body: bytes) -> Request:
    try:
        request.ParseFromString(body)
    except DecodeError as error:
        raise ValueError("no OTLP protobuf") from error
    return request


def _span(span: ProtoSpan, service: str) -> Span:
    return Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex() or None,
        name=span.name,
        kind=ProtoSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        service=service,
        start=span.start_time_unix_nano / _NANOS,
        end=span.end_time_unix_nano / _NANOS,
        attributes=_attributes(span.attributes),
        status="error" if span.status.code == ProtoStatus.STATUS_CODE_ERROR else "ok",
        message=span.status.message or None,
    )


def _points(metric: Metric) -> Series:
    points: Series = {}
    for number in (*metric.sum.data_points, *metric.gauge.data_points):
        points[_labels(number.attributes)] = Point(float(number.as_int or number.as_double))
    for each in metric.histogram.data_points:
        points[_labels(each.attributes)] = Point(
            float(each.count), tuple(each.bucket_counts), tuple(each.explicit_bounds)
        )
    return points


def _service(resource: Resource) -> str:
    return str(_attributes(resource.attributes).get("service.name", "?"))


def _labels(attributes: Iterable[KeyValue]) -> Labels:
    return tuple(sorted(_attributes(attributes).items()))


def _attributes(attributes: Iterable[KeyValue]) -> Attributes:
    return {attribute.key: _value(attribute.value) for attribute in attributes}


def _value(value: AnyValue) -> Value:
    kind = value.WhichOneof("value")
    if kind in {"string_value", "int_value", "double_value", "bool_value"}:
        found: Value = getattr(value, kind)
        return found
    return str(value).strip()
