"""Backends that are down, and a Collector that dies: what was accepted is not lost."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cli import wait_until
from support.collector import Collector
from support.otlp_client import ERROR, Sender, gauge, log, new_trace, span
from support.otlp_sink import OtlpSink, otlp_sink
from support.prometheus import Prometheus

OUTAGE = 3.0
"""Seconds; docs/collector.md has the result of sixty."""
ROUNDS = 10
EACH = 20


class World:
    """A Collector with its own backends, which can go down."""

    def __init__(self, folder: Path, tempo: OtlpSink, loki: OtlpSink) -> None:
        self.tempo = tempo
        self.loki = loki
        self.prometheus = Prometheus(folder / "prometheus")
        self.collector = Collector(
            "single",
            folder / "collector",
            TEMPO_OTLP_ENDPOINT=tempo.url,
            LOKI_OTLP_ENDPOINT=loki.url,
            PROMETHEUS_REMOTE_WRITE_ENDPOINT=self.prometheus.remote_write,
            OTELCOL_SAMPLING_PERCENT="0",
        )
        self.sent = 0

    def backends_down(self) -> None:
        """Two answer 503, one does not even listen."""
        self.tempo.mode = self.loki.mode = "unavailable"
        self.prometheus.kill()

    def backends_up(self) -> None:
        self.tempo.mode = self.loki.mode = "accept"
        self.prometheus.start()

    def work(self, seconds: float) -> None:
        """Spans, logs and a sample per round, over some time."""
        sender = Sender(self.collector.url)
        for _ in range(ROUNDS):
            numbers = range(self.sent, self.sent + EACH)
            assert sender.spans(
                *(span("x", new_trace(), status=ERROR, attributes={"n": n}) for n in numbers)
            ).is_success
            assert sender.logs(*(log(n) for n in numbers)).is_success
            assert sender.metrics(gauge("rounds", self.sent, attributes={})).is_success
            self.sent += EACH
            time.sleep(seconds / ROUNDS)

    def assert_all_arrived(self) -> None:
        """Every span and every record once, every sample."""
        self.tempo.wait_for(lambda sink: len(sink.spans) >= self.sent)
        self.loki.wait_for(lambda sink: len(sink.logs) >= self.sent)
        self.prometheus.wait_for("count_over_time(rounds[5m])", self.sent / EACH)
        assert Counter(s.attributes["n"] for s in self.tempo.spans) == Counter(range(self.sent))
        assert Counter(record.body for record in self.loki.logs) == Counter(range(self.sent))
        (samples,) = self.prometheus.query("rounds[5m]")
        assert [float(value) for _, value in samples["values"]] == list(range(0, self.sent, EACH))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with otlp_sink() as tempo, otlp_sink() as loki:
        made = World(tmp_path, tempo, loki)
        with made.prometheus, made.collector:
            yield made


@pytest.mark.slow
def test_nothing_is_lost_while_all_backends_are_down(world: World) -> None:
    world.work(0.1)
    world.backends_down()
    world.work(OUTAGE)
    queued = "otelcol_exporter_queue_size"
    for exporter in ("otlp_http/tempo", "otlp_http/loki", "otlp_http/metrics"):
        assert world.collector.own_metric(queued, exporter=exporter) > 0
    world.backends_up()
    world.work(0.1)
    world.assert_all_arrived()
    wait_until(lambda: world.collector.own_metric(queued) == 0)
    failed = {name for name in world.collector.own_metrics() if "_failed_" in name and "exporter" in name}
    # Once per try of prometheus_remote_write; the queue before it tries again.
    assert failed <= {"otelcol_exporter_send_failed_metric_points"}
    assert world.collector.own_labels("otelcol_exporter_send_failed_metric_points", "exporter") <= {
        "prometheus_remote_write"
    }


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_nothing_in_the_queues_is_lost_when_the_collector_ends(world: World, end: str) -> None:
    """Killed or stopped with backends down, it delivers after its next start."""
    world.backends_down()
    world.work(0.5)
    getattr(world.collector, end)()
    world.backends_up()
    world.collector.start()
    world.work(0.1)
    world.assert_all_arrived()


def test_what_a_killed_collector_loses(world: World) -> None:
    """Spans of traces for which nothing had spoken yet: they were in memory."""
    trace_id = new_trace()
    sender = Sender(world.collector.url)
    sender.spans(span("undecided", trace_id))
    world.collector.kill()
    world.collector.start()
    sender.spans(span("error", trace_id, status=ERROR))
    world.tempo.wait_for(lambda sink: sink.spans)
    assert {s.name for s in world.tempo.spans} == {"error"}


def test_a_dead_prometheus_is_asked_with_pauses(world: World) -> None:
    """Its own exporter would ask without any."""
    world.prometheus.kill()
    sender = Sender(world.collector.url)
    sender.metrics(gauge("rounds", 1, attributes={}))
    sent = "otelcol_exporter_prometheusremotewrite_sent_batches"
    wait_until(lambda: world.collector.own_metric(sent) >= 1)
    began = time.monotonic()
    time.sleep(3)
    tries = world.collector.own_metric(sent)
    assert tries <= 1 + 2 * (time.monotonic() - began)
