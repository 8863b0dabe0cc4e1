"""If a store always refuses a batch, only that batch is lost, at every exporter, with one tier and with two."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric

from support.cli import wait_until
from support.collector import Collector, require_collector
from support.otlp_client import ERROR, Sender, gauge, log, new_trace, pairs, span
from support.otlp_sink import REMOTE_WRITE, OtlpSink, otlp_sink
from support.prometheus import Prometheus

POISON = "poisoned"
HOUR = 3600.0
RETRYABLE = 503
FOR_GOOD = (400, 500)
"""What OTLP calls not retryable. Remote write retries 500."""


def send(sender: Sender, name: str) -> None:
    """Sends a sampled span, a record and a sample with this name, each in its own request."""
    assert sender.spans(span(name, new_trace(), status=ERROR)).is_success
    assert sender.logs(log(name)).is_success
    assert sender.metrics(gauge(name, 1, attributes={})).is_success


class Stores:
    """Receivers that replace Tempo, Loki and Prometheus."""

    def __init__(self, tempo: OtlpSink, loki: OtlpSink, prometheus: OtlpSink) -> None:
        self.all = (tempo, loki, prometheus)
        self.tempo, self.loki, self.prometheus = self.all

    @property
    def environment(self) -> dict[str, str]:
        return {
            "TEMPO_OTLP_ENDPOINT": self.tempo.url,
            "LOKI_OTLP_ENDPOINT": self.loki.url,
            "PROMETHEUS_REMOTE_WRITE_ENDPOINT": self.prometheus.url + REMOTE_WRITE,
        }

    def refuse(self, status: int) -> None:
        for store in self.all:
            store.refusals[POISON.encode()] = status

    def wait_until_all_refused(self) -> None:
        for store in self.all:
            store.wait_for(lambda sink: sink.refused)

    def wait_for(self, name: str) -> None:
        """Waits until each store has what was sent with this name."""
        for store in self.all:
            store.wait_for(lambda sink: name.encode() in sink.everything())

    def assert_without(self, name: str) -> None:
        for store in self.all:
            assert name.encode() not in store.everything()


@pytest.fixture
def stores() -> Iterator[Stores]:
    with otlp_sink() as tempo, otlp_sink() as loki, otlp_sink() as prometheus:
        yield Stores(tempo, loki, prometheus)


@pytest.mark.fault("O1")
@pytest.mark.parametrize("age", [70 / 60 * HOUR, 30 * 24 * HOUR, -70 / 60 * HOUR], ids=["old", "ancient", "future"])
def test_a_host_with_a_wrong_clock_holds_up_no_metric_of_others_nor_its_own(tmp_path: Path, age: float) -> None:
    """Prometheus 2.42 answers 500 to a sample that is too old; one from the future makes all others too old."""
    require_collector()
    with Prometheus(tmp_path / "prometheus") as prometheus:
        endpoints = {"PROMETHEUS_REMOTE_WRITE_ENDPOINT": prometheus.remote_write}
        with Collector("single", tmp_path / "collector", **endpoints) as collector:
            sender = Sender(collector.url)
            for number in range(1, 4):
                sender.metrics(gauge("wrong_clock", number, attributes={}, age=age))
                sender.metrics(gauge("right_clock", number, attributes={}))
                prometheus.wait_for("right_clock", number)
                prometheus.wait_for("wrong_clock", number)
            assert abs(prometheus.value("timestamp(wrong_clock)") - time.time()) < 60
            assert collector.own_metric("otelcol_exporter_send_failed_metric_points") == 0


def exponential_histogram() -> Metric:
    """As an SDK with ``base2_exponential_bucket_histogram`` sends it."""
    metric = Metric(name="odd", unit="s")
    metric.exponential_histogram.aggregation_temporality = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    point = metric.exponential_histogram.data_points.add(
        time_unix_nano=time.time_ns(), count=3, sum=4.0, scale=3, attributes=pairs({"le": "5"})
    )
    point.positive.bucket_counts.extend([1, 2])
    return metric


def histogram(label: str) -> Metric:
    """With a label of this name."""
    metric = Metric(name="odd", unit="s")
    metric.histogram.aggregation_temporality = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    metric.histogram.data_points.add(
        time_unix_nano=time.time_ns(), count=3, sum=4.0, explicit_bounds=[1.0], bucket_counts=[1, 2],
        attributes=pairs({label: "5"}),
    )  # fmt: skip
    return metric


def summary() -> Metric:
    """With a label that the exporter sets too."""
    metric = Metric(name="odd", unit="s")
    point = metric.summary.data_points.add(
        time_unix_nano=time.time_ns(), count=3, sum=4.0, attributes=pairs({"quantile": "0.5"})
    )
    point.quantile_values.add(quantile=0.5, value=1.0)
    return metric


@pytest.mark.fault("O1")
@pytest.mark.parametrize("config", ["single", "gateway"])
@pytest.mark.parametrize(
    "odd",
    [exponential_histogram(), histogram("le"), histogram("__name__"), summary()],
    ids=["exponential histogram", "le", "__name__", "quantile"],
)
def test_a_process_whose_every_metric_prometheus_would_answer_with_500_stops_no_other(
    tmp_path: Path, odd: Metric, config: str
) -> None:
    """Sent more often than the exporter has consumers, each of which a request that is tried again would hold."""
    require_collector()
    with Prometheus(tmp_path / "prometheus") as prometheus:
        endpoints = {"PROMETHEUS_REMOTE_WRITE_ENDPOINT": prometheus.remote_write}
        with Collector(config, tmp_path / "collector", **endpoints) as collector:
            sender = Sender(collector.url)
            for _ in range(40):
                assert sender.metrics(odd).is_success
            sender.metrics(gauge("good", 1, attributes={}))
            prometheus.wait_for("good", 1)
            prometheus.wait_for("odd_seconds_count", 3)
            wait_until(lambda: collector.own_metric("otelcol_exporter_in_flight_requests") == 0)


def test_a_clock_that_is_a_little_off_keeps_its_time(tmp_path: Path) -> None:
    require_collector()
    with Prometheus(tmp_path / "prometheus") as prometheus:
        endpoints = {"PROMETHEUS_REMOTE_WRITE_ENDPOINT": prometheus.remote_write}
        with Collector("single", tmp_path / "collector", **endpoints) as collector:
            before = time.time()
            Sender(collector.url).metrics(gauge("slow_clock", 1, attributes={}, age=240))
            prometheus.wait_for("slow_clock", 1)
            assert abs(prometheus.value("timestamp(slow_clock)") - (before - 240)) < 5


@pytest.mark.fault("O1")
@pytest.mark.parametrize("status", [RETRYABLE, *FOR_GOOD])
def test_what_comes_before_between_and_after_refused_batches_arrives(
    tmp_path: Path, stores: Stores, status: int
) -> None:
    stores.refuse(status)
    with Collector("single", tmp_path, **stores.environment) as collector:
        sender = Sender(collector.url)
        for number in range(5):
            send(sender, f"{POISON}_{number}")
            send(sender, f"good_{number}")
        stores.wait_until_all_refused()
        send(sender, "last")
        for number in range(5):
            stores.wait_for(f"good_{number}")
        stores.wait_for("last")
        stores.assert_without(POISON)


@pytest.mark.fault("O1")
def test_what_is_refused_again_and_again_is_given_up_in_the_end_and_counted(tmp_path: Path, stores: Stores) -> None:
    stores.refuse(RETRYABLE)
    with Collector("single", tmp_path, OTELCOL_RETRY_FOR="5s", **stores.environment) as collector:
        send(Sender(collector.url), POISON)
        stores.wait_until_all_refused()
        lost = {"otlp_http/tempo": "spans", "otlp_http/loki": "log_records", "otlp_http/metrics": "metric_points"}
        for exporter, item in lost.items():
            name = f"otelcol_exporter_send_failed_{item}"
            wait_until(lambda n=name, e=exporter: collector.own_metric(n, exporter=e) >= 1)  # type: ignore[misc]
        for exporter in ("otlp_http/tempo", "otlp_http/loki"):  # span metrics name the span again every second
            wait_until(lambda e=exporter: collector.own_metric("otelcol_exporter_queue_size", exporter=e) == 0)  # type: ignore[misc]


class Sampler(TraceServiceServicer):
    """Takes spans as the second tier does, except poisoned ones."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self.names: list[str] = []
        self.refused = 0
        self._code = code

    def Export(  # noqa: N802  # named by the base class
        self, request: ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> ExportTraceServiceResponse:
        """One batch of a gateway."""
        names = [s.name for of in request.resource_spans for scope in of.scope_spans for s in scope.spans]
        if any(POISON in name for name in names):
            self.refused += 1
            context.abort(self._code, "no")
        self.names += names
        return ExportTraceServiceResponse()


@contextlib.contextmanager
def running_sampler(code: grpc.StatusCode) -> Iterator[tuple[Sampler, str]]:
    sampler = Sampler(code)
    server = grpc.server(futures.ThreadPoolExecutor(8))
    add_TraceServiceServicer_to_server(sampler, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield sampler, f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait(60)


@pytest.mark.fault("O1")
@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INVALID_ARGUMENT])
def test_a_gateway_passes_a_batch_that_its_sampler_refuses(
    tmp_path: Path, stores: Stores, code: grpc.StatusCode
) -> None:
    stores.refuse(RETRYABLE)
    with running_sampler(code) as (sampler, address):
        samplers = {"OTELCOL_SAMPLERS": json.dumps([address])}
        with Collector("gateway", tmp_path, **stores.environment, **samplers) as gateway:
            sender = Sender(gateway.url)
            for number in range(5):
                send(sender, f"{POISON}_{number}")
                send(sender, f"good_{number}")
            good = {f"good_{number}" for number in range(5)}
            wait_until(lambda: good <= set(sampler.names) and sampler.refused > 0)
            for name in good:
                for store in (stores.loki, stores.prometheus):
                    store.wait_for(lambda sink, n=name: n.encode() in sink.everything())  # type: ignore[misc]


@pytest.mark.fault("O1")
def test_a_sampler_passes_traces_and_span_metrics_that_its_stores_refuse(tmp_path: Path, stores: Stores) -> None:
    stores.refuse(RETRYABLE)
    with Collector("sampler", tmp_path, **stores.environment) as sampler:
        sender = Sender(sampler.url)
        sender.spans(span(POISON, new_trace(), status=ERROR))
        stores.tempo.wait_for(lambda sink: sink.refused)
        sender.spans(span("good", new_trace(), status=ERROR))
        stores.tempo.wait_for(lambda sink: b"good" in sink.everything())


@pytest.mark.fault("O1")
def test_a_refused_batch_among_a_thousand_good_ones_costs_itself_also_at_the_head_of_the_queue_after_a_kill(
    tmp_path: Path, stores: Stores
) -> None:
    stores.refuse(RETRYABLE)
    with Collector("single", tmp_path, **stores.environment) as collector:
        sender = Sender(collector.url)
        send(sender, POISON)
        stores.wait_until_all_refused()
        for store in stores.all:
            store.mode = "unavailable"
        for number in range(1000):
            assert sender.logs(log(f"record_{number}_")).is_success
        send(sender, "good")
        collector.kill()
        for store in stores.all:
            store.mode, store.refused = "accept", 0
        collector.start()
        stores.wait_until_all_refused()
        stores.loki.wait_for(lambda sink: len(sink.logs) == 1001)
        for store in (stores.loki, stores.prometheus):
            store.wait_for(lambda sink: b"good" in sink.everything())
        stores.assert_without(POISON)
