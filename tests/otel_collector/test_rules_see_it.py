"""Our rules in a real Prometheus, with the metrics of a real Collector: its losses, and what a store refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from drill import pace as paces
from support.cli import wait_until
from support.collector import Collector, require_collector
from support.otlp_client import ERROR, Sender, log, new_trace, span
from support.otlp_sink import OtlpSink, otlp_sink
from support.prometheus import Prometheus
from support.redis_server import free_port

ROOT = Path(__file__).parents[2]
PACE: Final = paces.Pace(waits=6, memory=1)
LIMIT: Final = PACE.wall(180)
"""Three minutes, in seconds of this test."""
POISON = "poisoned"


class World:
    """A Collector, its stores, and a Prometheus with our rules that watches them."""

    def __init__(self, collector: Collector, prometheus: Prometheus, loki: OtlpSink, tempo: OtlpSink) -> None:
        self.collector = collector
        self.prometheus = prometheus
        self.loki = loki
        self.tempo = tempo

    def firing(self) -> list[dict[str, Any]]:
        """Without CollectorDown, which fires here until the first scrape."""
        return [
            found["metric"]
            for found in self.prometheus.query(
                'ALERTS{alertstate="firing", component="telemetry", alertname!="CollectorDown"}'
            )
        ]

    def wait_for(self, **labels: str) -> None:
        """Waits until an alert with these labels fires, and no other alert about telemetry."""
        wait_until(lambda: any(labels.items() <= alert.items() for alert in self.firing()), LIMIT)
        assert {alert["alertname"] for alert in self.firing()} == {labels["alertname"]}


def configuration(folder: Path, targets: Mapping[str, int | str]) -> str:
    """Our configuration, with the targets of the test."""
    for name, content in paces.rule_files(PACE).items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    config = paces.compressed(
        yaml.safe_load((ROOT / "grafana/prometheus/prometheus.yml").read_text(encoding="utf-8")), PACE
    )
    config["rule_files"] = [str(folder / "alerts.yml"), str(folder / "recording.yml")]
    config["scrape_configs"] = [
        {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for job, port in targets.items()
    ]
    return str(yaml.safe_dump(config))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    require_collector()
    own = free_port()
    with otlp_sink() as tempo, otlp_sink() as loki:
        ports: dict[str, int | str] = {
            "otel-collector": own,
            **{n: s.url.rpartition(":")[2] for n, s in (("tempo", tempo), ("loki", loki))},
        }
        prometheus = Prometheus(tmp_path / "prometheus", configuration(tmp_path, ports))
        endpoints = {
            "TEMPO_OTLP_ENDPOINT": tempo.url,
            "LOKI_OTLP_ENDPOINT": loki.url,
            "PROMETHEUS_REMOTE_WRITE_ENDPOINT": prometheus.remote_write,
        }
        collector = Collector("single", tmp_path / "collector", OTELCOL_SELF_PORT=str(own), **endpoints)
        with prometheus, collector:
            yield World(collector, prometheus, loki, tempo)


def send_both(world: World) -> None:
    sender = Sender(world.collector.url)
    sender.logs(log(POISON))
    sender.logs(log("good"))
    sender.spans(span("good", new_trace(), status=ERROR))


@pytest.mark.slow
@pytest.mark.fault("O1", "O2")
@pytest.mark.parametrize("status", [400, 401])
def test_what_a_store_refuses_for_good_is_seen_as_lost(world: World, status: int) -> None:
    world.loki.refusals[POISON.encode()] = status
    send_both(world)
    world.wait_for(alertname="CollectorLosingTelemetry")


@pytest.mark.slow
@pytest.mark.fault("O2")
def test_a_trace_that_is_too_large_for_its_store_is_seen_as_lost(world: World) -> None:
    world.tempo.refusals[POISON.encode()] = 413
    sender = Sender(world.collector.url)
    sender.spans(span(POISON, new_trace(), status=ERROR))
    sender.spans(span("good", kept := new_trace(), status=ERROR))
    world.wait_for(alertname="CollectorLosingTelemetry")
    world.tempo.wait_for(lambda sink: {each.trace_id for each in sink.spans} == {kept})


@pytest.mark.slow
@pytest.mark.fault("O1")
def test_what_a_store_refuses_again_and_again_is_seen_while_everything_else_passes(world: World) -> None:
    world.loki.refusals[POISON.encode()] = 503
    send_both(world)
    world.wait_for(alertname="CollectorExportStuck", exporter="otlp_http/loki", data_type="logs")
    assert any(record.body == "good" for record in world.loki.logs)


@pytest.mark.slow
@pytest.mark.fault("O7")
def test_a_store_that_dies_with_data_under_way_is_one_alert(world: World) -> None:
    world.loki.mode = "unavailable"
    send_both(world)
    world.wait_for(alertname="StoreDown", job="loki")


@pytest.mark.slow
@pytest.mark.fault("O7")
def test_a_trace_store_that_answers_nothing_at_all_is_one_alert(world: World) -> None:
    world.tempo.mode = "hang"
    send_both(world)
    world.wait_for(alertname="StoreDown", job="tempo")
    assert {record.body for record in world.loki.logs} >= {"good"}, "the other store goes on"
