"""An OTLP/HTTP receiver on loopback that decodes what it gets, and can misbehave like a broken collector."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

REMOTE_WRITE = "/api/v1/write"
"""Path of Prometheus' remote write. Its bodies are kept raw: Snappy leaves short texts readable."""


@dataclasses.dataclass(frozen=True)
class SinkSpan:
    """A decoded span with its scope and resource."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_span_id: str
    attributes: dict[str, Any]
    status: str
    status_message: str
    events: list[tuple[str, dict[str, Any]]]
    resource: dict[str, Any]
    scope: str
    start: float
    """Seconds since the epoch, as ``end``."""
    end: float


@dataclasses.dataclass(frozen=True)
class SinkLog:
    """A decoded log record."""

    event_name: str
    body: Any
    severity: str
    attributes: dict[str, Any]
    trace_id: str
    span_id: str
    resource: dict[str, Any]
    scope: str
    time: float
    """Seconds since the epoch."""


@dataclasses.dataclass(frozen=True)
class SinkPoint:
    """A decoded data point of a metric."""

    name: str
    unit: str
    kind: str
    attributes: dict[str, Any]
    value: float
    """The value, or the sum of a histogram."""
    count: int
    bounds: list[float]
    resource: dict[str, Any]
    scope: str
    exemplar_trace_ids: list[str]
    monotonic: bool
    """Whether it is a sum that only grows."""


class OtlpSink:
    """What arrived so far, and how the sink behaves."""

    def __init__(self) -> None:
        self.spans: list[SinkSpan] = []
        self.logs: list[SinkLog] = []
        self.points: list[SinkPoint] = []
        self.raw: list[bytes] = []
        """Every body, decompressed."""
        self.encodings: set[str] = set()
        self.requests = 0
        self.mode = "accept"
        """``accept``, ``hang`` (no answer until the sink is closed) or ``unavailable`` (503)."""
        self.refusals: dict[bytes, int] = {}
        """Status for every body that contains this text, in any mode: a batch that is always refused."""
        self.refused = 0
        """Requests refused like this."""
        self.url = ""
        self.released = threading.Event()
        self._lock = threading.Lock()

    def receive(self, path: str, body: bytes, encoding: str) -> int:
        """Handles one export. Returns the HTTP status."""
        self.requests += 1
        if self.mode == "hang":
            self.released.wait(60)
            return 503
        if self.mode == "unavailable":
            return 503
        decompress: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress}
        data = decompress[encoding](body) if encoding in decompress else body
        with self._lock:
            for text, status in self.refusals.items():
                if text in data:
                    self.refused += 1
                    return status
            self.encodings.add(encoding)
            self.raw.append(data)
            decoders: dict[str, Callable[[bytes], None]] = {
                "/v1/traces": self._traces,
                "/v1/logs": self._logs,
                "/v1/metrics": self._metrics,
                REMOTE_WRITE: lambda _: None,
            }
            decode = decoders.get(path)
            if decode is None:
                return 404
            decode(data)
        return 200

    def wait_for(self, condition: Callable[[OtlpSink], Any], timeout: float = 60.0) -> None:
        """Waits until ``condition`` holds. Raises ``AssertionError`` if it does not in time."""
        deadline = time.monotonic() + timeout
        while not condition(self):
            assert time.monotonic() < deadline, "the sink did not receive what was expected in time"
            time.sleep(0.02)

    def everything(self) -> bytes:
        """All bytes that arrived, decompressed: to search for what must not be sent."""
        return b"\n".join(self.raw)

    def _traces(self, data: bytes) -> None:
        for of_resource in ExportTraceServiceRequest.FromString(data).resource_spans:
            resource = _attributes(of_resource.resource.attributes)
            for of_scope in of_resource.scope_spans:
                for span in of_scope.spans:
                    kind = span.DESCRIPTOR.fields_by_name["kind"].enum_type.values_by_number[span.kind].name
                    status = span.status.DESCRIPTOR.fields_by_name["code"].enum_type.values_by_number[span.status.code]
                    self.spans.append(
                        SinkSpan(
                            name=span.name,
                            kind=kind.removeprefix("SPAN_KIND_"),
                            trace_id=span.trace_id.hex(),
                            span_id=span.span_id.hex(),
                            parent_span_id=span.parent_span_id.hex(),
                            attributes=_attributes(span.attributes),
                            status=status.name.removeprefix("STATUS_CODE_"),
                            status_message=span.status.message,
                            events=[(event.name, _attributes(event.attributes)) for event in span.events],
                            resource=resource,
                            scope=of_scope.scope.name,
                            start=span.start_time_unix_nano / 1e9,
                            end=span.end_time_unix_nano / 1e9,
                        )
                    )

    def _logs(self, data: bytes) -> None:
        for of_resource in ExportLogsServiceRequest.FromString(data).resource_logs:
            resource = _attributes(of_resource.resource.attributes)
            for of_scope in of_resource.scope_logs:
                for record in of_scope.log_records:
                    self.logs.append(
                        SinkLog(
                            event_name=record.event_name,
                            body=_value(record.body),
                            severity=record.severity_text,
                            attributes=_attributes(record.attributes),
                            trace_id=record.trace_id.hex(),
                            span_id=record.span_id.hex(),
                            resource=resource,
                            scope=of_scope.scope.name,
                            time=(record.time_unix_nano or record.observed_time_unix_nano) / 1e9,
                        )
                    )

    def _metrics(self, data: bytes) -> None:
        for of_resource in ExportMetricsServiceRequest.FromString(data).resource_metrics:
            resource = _attributes(of_resource.resource.attributes)
            for of_scope in of_resource.scope_metrics:
                for metric in of_scope.metrics:
                    kind = metric.WhichOneof("data")
                    for point in getattr(metric, kind).data_points:
                        histogram = kind in {"histogram", "exponential_histogram"}
                        number = point.as_double if not histogram and point.WhichOneof("value") == "as_double" else 0.0
                        if not histogram and point.WhichOneof("value") == "as_int":
                            number = point.as_int
                        self.points.append(
                            SinkPoint(
                                name=metric.name,
                                unit=metric.unit,
                                kind=kind,
                                attributes=_attributes(point.attributes),
                                value=point.sum if histogram else number,
                                count=point.count if histogram else 1,
                                bounds=list(point.explicit_bounds) if kind == "histogram" else [],
                                resource=resource,
                                scope=of_scope.scope.name,
                                exemplar_trace_ids=[exemplar.trace_id.hex() for exemplar in point.exemplars],
                                monotonic=kind == "sum" and metric.sum.is_monotonic,
                            )
                        )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return getattr(value, kind)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    sink: OtlpSink

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        status = self.sink.receive(self.path, body, self.headers.get("content-encoding", ""))
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

    def do_GET(self) -> None:
        """Answers like a store that Prometheus scrapes: with no metrics, or not at all while it is away."""
        self.send_response(200 if self.sink.mode == "accept" else 503)
        self.send_header("content-type", "text/plain; version=0.0.4")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Silent."""


@contextlib.contextmanager
def otlp_sink() -> Iterator[OtlpSink]:
    """A sink that runs during the block."""
    sink = OtlpSink()
    handler = type("Handler", (_Handler,), {"sink": sink})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    sink.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield sink
    finally:
        sink.released.set()
        server.shutdown()
        server.server_close()
        thread.join(60)
