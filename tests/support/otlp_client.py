"""Sends hand-made OTLP to a Collector: also what our SDK would never send."""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Sequence
from typing import Any

import httpx
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from support import loopback

ERROR = Status.STATUS_CODE_ERROR
RESOURCE = {"service.name": "catalog-api"}


def new_trace() -> str:
    """A random trace ID, 32 hex digits."""
    return secrets.token_hex(16)


@dataclasses.dataclass(frozen=True)
class Sender:
    """OTLP over HTTP to one Collector."""

    url: str

    def spans(
        self, *spans: Span, resource: dict[str, Any] = RESOURCE, scope: dict[str, Any] | None = None
    ) -> httpx.Response:
        """One export of spans."""
        request = ExportTraceServiceRequest()
        of_resource = request.resource_spans.add()
        of_resource.resource.attributes.extend(pairs(resource))
        of_scope = of_resource.scope_spans.add()
        of_scope.scope.attributes.extend(pairs(scope or {}))
        of_scope.spans.extend(spans)
        return self._post("traces", request.SerializeToString())

    def logs(self, *records: LogRecord, resource: dict[str, Any] = RESOURCE) -> httpx.Response:
        """One export of log records."""
        request = ExportLogsServiceRequest()
        of_resource = request.resource_logs.add()
        of_resource.resource.attributes.extend(pairs(resource))
        of_resource.scope_logs.add().log_records.extend(records)
        return self._post("logs", request.SerializeToString())

    def metrics(self, *metrics: Metric, resource: dict[str, Any] = RESOURCE) -> httpx.Response:
        """One export of metrics."""
        request = ExportMetricsServiceRequest()
        of_resource = request.resource_metrics.add()
        of_resource.resource.attributes.extend(pairs(resource))
        of_resource.scope_metrics.add().metrics.extend(metrics)
        return self._post("metrics", request.SerializeToString())

    def _post(self, signal: str, body: bytes) -> httpx.Response:
        headers = {"content-type": "application/x-protobuf"}
        return loopback.post(f"{self.url}/v1/{signal}", content=body, headers=headers)


def span(
    name: str,
    trace_id: str,
    *,
    attributes: dict[str, Any] | None = None,
    seconds: float = 0.01,
    status: Any = Status.STATUS_CODE_UNSET,
    message: str = "",
    parent: str = "",
    events: Sequence[tuple[str, dict[str, Any]]] = (),
    link: dict[str, Any] | None = None,
) -> Span:
    """A span that ended now."""
    end = time.time_ns()
    made = Span(
        name=name,
        trace_id=bytes.fromhex(trace_id),
        span_id=secrets.token_bytes(8),
        parent_span_id=bytes.fromhex(parent),
        kind=Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=end - int(seconds * 1e9),
        end_time_unix_nano=end,
        attributes=pairs(attributes or {}),
        status=Status(code=status, message=message),
    )
    for event_name, event_attributes in events:
        made.events.add(time_unix_nano=end, name=event_name, attributes=pairs(event_attributes))
    if link is not None:
        made.links.add(trace_id=secrets.token_bytes(16), span_id=secrets.token_bytes(8), attributes=pairs(link))
    return made


def log(body: Any, *, attributes: dict[str, Any] | None = None, event_name: str = "") -> LogRecord:
    """A log record of now."""
    return LogRecord(
        time_unix_nano=time.time_ns(), body=value(body), attributes=pairs(attributes or {}), event_name=event_name
    )


def gauge(
    name: str, number: float, *, attributes: dict[str, Any], exemplar: dict[str, Any] | None = None, age: float = 0.0
) -> Metric:
    """A gauge with one point of now, or of ``age`` seconds ago; negative is the future."""
    metric = Metric(name=name)
    point = metric.gauge.data_points.add(
        time_unix_nano=time.time_ns() - int(age * 1e9), as_double=number, attributes=pairs(attributes)
    )
    if exemplar is not None:
        point.exemplars.add(
            time_unix_nano=time.time_ns(),
            as_double=number,
            trace_id=secrets.token_bytes(16),
            span_id=secrets.token_bytes(8),
            filtered_attributes=pairs(exemplar),
        )
    return metric


def counter(
    name: str, number: int, *, attributes: dict[str, Any], started: float, age: float = 0.0, monotonic: bool = True
) -> Metric:
    """A cumulative sum since ``started``, seconds since the epoch, of now or of ``age`` seconds ago."""
    metric = Metric(name=name)
    metric.sum.is_monotonic = monotonic
    metric.sum.aggregation_temporality = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    metric.sum.data_points.add(
        start_time_unix_nano=int(started * 1e9),
        time_unix_nano=time.time_ns() - int(age * 1e9),
        as_int=number,
        attributes=pairs(attributes),
    )
    return metric


def histogram(
    name: str, counts: Sequence[int], bounds: Sequence[float], *, attributes: dict[str, Any], started: float
) -> Metric:
    """A cumulative histogram of seconds since ``started``; each value is taken to be one."""
    metric = Metric(name=name, unit="s")
    metric.histogram.aggregation_temporality = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    metric.histogram.data_points.add(
        start_time_unix_nano=int(started * 1e9),
        time_unix_nano=time.time_ns(),
        count=sum(counts),
        sum=float(sum(counts)),
        bucket_counts=counts,
        explicit_bounds=bounds,
        attributes=pairs(attributes),
    )
    return metric


def pairs(mapping: dict[str, Any]) -> list[KeyValue]:
    """Attributes."""
    return [KeyValue(key=key, value=value(item)) for key, item in mapping.items()]


def value(item: Any) -> AnyValue:
    """A value of any type that OTLP knows."""
    made = AnyValue()
    match item:
        case bool():
            made.bool_value = item
        case str():
            made.string_value = item
        case int():
            made.int_value = item
        case float():
            made.double_value = item
        case bytes():
            made.bytes_value = item
        case dict():
            made.kvlist_value.values.extend(pairs(item))
        case list():
            made.array_value.values.extend(map(value, item))
        case _:
            raise TypeError(type(item).__name__)
    return made
