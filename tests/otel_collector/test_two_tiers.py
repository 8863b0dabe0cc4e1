"""Two gateways before two samplers: all spans of a trace reach the same sampler, whichever gateway receives them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.collector import Collector
from support.otlp_client import ERROR, Sender, counter, gauge, log, new_trace, span
from support.otlp_sink import OtlpSink, otlp_sink
from support.prometheus import Prometheus

TRACES = 60


class Tiers:
    """The four Collectors; each sampler has a Tempo of its own, so that it shows which one a span went through."""

    def __init__(self, folder: Path, tempos: list[OtlpSink], shared: dict[str, str]) -> None:
        self.tempos = tempos
        self.samplers = [
            Collector("sampler", folder / f"sampler-{n}", **{**shared, "TEMPO_OTLP_ENDPOINT": tempo.url})
            for n, tempo in enumerate(tempos)
        ]
        addresses = json.dumps([f"127.0.0.1:{sampler.ports.grpc}" for sampler in self.samplers])
        self.gateways = [
            Collector("gateway", folder / f"gateway-{n}", **shared, OTELCOL_SAMPLERS=addresses) for n in range(2)
        ]
        self.send = [Sender(gateway.url) for gateway in self.gateways]

    def spans(self, trace_id: str) -> list[int]:
        """How many spans of a trace each Tempo has."""
        return [sum(s.trace_id == trace_id for s in tempo.spans) for tempo in self.tempos]

    def wait_for(self, traces: list[str], spans: int) -> None:
        for tempo in self.tempos:
            tempo.wait_for(lambda _: all(sum(self.spans(trace_id)) >= spans for trace_id in traces))


@pytest.fixture(scope="module")
def tiers(folder: Path, backends: dict[str, str]) -> Iterator[Tiers]:
    with otlp_sink() as first, otlp_sink() as second:
        made = Tiers(folder, [first, second], backends)
        with made.samplers[0], made.samplers[1], made.gateways[0], made.gateways[1]:
            yield made


def test_the_spans_of_a_trace_meet_at_one_sampler(tiers: Tiers) -> None:
    """The error, sent to one gateway, also keeps what went to the other."""
    traces = [new_trace() for _ in range(TRACES)]
    tiers.send[0].spans(*(span("GET /bundles", trace_id) for trace_id in traces))
    tiers.send[1].spans(*(span("attempt", trace_id, status=ERROR) for trace_id in traces))
    tiers.wait_for(traces, 2)
    shares = [tuple(tiers.spans(trace_id)) for trace_id in traces]
    assert set(shares) == {(2, 0), (0, 2)}
    assert all(0.2 < shares.count(share) / TRACES < 0.8 for share in set(shares))


def test_what_passes_two_tiers_is_redacted_once(tiers: Tiers) -> None:
    trace_id = new_trace()
    tiers.send[0].spans(span("GET /x?apikey=SECRET-4711", trace_id, status=ERROR, attributes={"token": "SECRET-4711"}))
    tiers.wait_for([trace_id], 1)
    assert all(b"SECRET-4711" not in tempo.everything() for tempo in tiers.tempos)
    (arrived,) = [s for tempo in tiers.tempos for s in tempo.spans if s.trace_id == trace_id]
    assert (arrived.name, arrived.attributes["token"]) == ("GET /x?****", "****")


def test_span_metrics_of_all_samplers_add_up(tiers: Tiers, prometheus: Prometheus) -> None:
    resource = {"service.name": "tiered", "service.instance.id": "one-process"}
    for sender in tiers.send:
        sender.spans(*(span("x", new_trace()) for _ in range(TRACES // 2)), resource=resource)
    calls = 'traces_span_metrics_calls_total{service_name="tiered"}'
    assert prometheus.wait_for(f"sum({calls})", TRACES) == TRACES
    assert prometheus.value(f"count({calls})") == 2


def test_logs_and_metrics_take_the_gateway_alone(tiers: Tiers, prometheus: Prometheus, loki: OtlpSink) -> None:
    tiers.send[0].logs(log("through a gateway"))
    tiers.send[1].metrics(gauge("through_a_gateway", 7, attributes={}))
    loki.wait_for(lambda sink: any(record.body == "through a gateway" for record in sink.logs))
    assert prometheus.wait_for("through_a_gateway", 7) == 7


@pytest.mark.fault("O6")
def test_what_a_job_counts_is_added_up_at_one_sampler_whichever_gateway_it_reaches(
    tiers: Tiers, prometheus: Prometheus
) -> None:
    """A process says all that it has counted with every export: two samplers would count the first part twice."""
    for errors, send in enumerate(tiers.send, 1):
        for number in range(20):
            resource = {"service.name": "catalog-sync", "service.instance.id": f"run-{number}"}
            send.metrics(counter("tiered.errors", errors, attributes={}, started=time.time()), resource=resource)
        prometheus.wait_for("sum(tiered_errors_total)", 20 * errors)
    prometheus.wait_for("sum(tiered_errors_total)", 40)
    time.sleep(2)
    assert prometheus.value("sum(tiered_errors_total)") == 40
    assert 1 <= prometheus.value("count(tiered_errors_total)") <= len(tiers.samplers)


def test_a_sampler_that_restarts_gets_what_waited(tiers: Tiers) -> None:
    """The gateways keep it in their queues; the other sampler may get some of it twice."""
    tiers.samplers[0].stop()
    traces = [new_trace() for _ in range(TRACES)]
    tiers.send[0].spans(*(span("attempt", trace_id, status=ERROR) for trace_id in traces))
    tiers.samplers[0].start()
    tiers.wait_for(traces, 1)
    assert all(0 in tiers.spans(trace_id) for trace_id in traces)
