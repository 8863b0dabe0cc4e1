"""Jobs that run for seconds: they have no more series than one run, with the right values."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from grafana.generate.promql import added

from support.cli import wait_until
from support.collector import Collector
from support.otlp_client import Sender, counter, gauge, histogram
from support.otlp_sink import otlp_sink
from support.prometheus import Prometheus

RUNS = 60
BOUNDS = (0.5, 1.5)


class Run:
    """One process of a job; every export contains all that it has counted so far."""

    def __init__(self, job: str = "catalog-sync", host: str = "a", *, clock: float = 0.0) -> None:
        self._clock = clock
        self._started = time.time() + clock
        self._resource = {
            "service.name": job,
            "service.instance.id": str(uuid.uuid4()),
            "service.version": host,
            "host.name": host,
            "process.pid": 4,
        }

    def says(self, send: Sender, errors: int, waits: int = 1, **more: Any) -> None:
        """An export."""
        attributes = {"error.type": "503"} | more
        answer = send.metrics(
            counter("job.errors", errors, attributes=attributes, started=self._started, age=-self._clock),
            counter("job.open", errors % 2, attributes={}, started=self._started, monotonic=False),
            histogram("job.wait", (0, waits, 0), BOUNDS, attributes={}, started=self._started),
            gauge("job.left", errors, attributes={}),
            resource=self._resource,
        )
        assert answer.is_success


def of(prometheus: Prometheus, name: str, job: str = "catalog-sync") -> list[dict[str, str]]:
    """The labels of the series of a metric."""
    return [found for found in prometheus.series() if found.get("__name__") == name and found.get("job") == job]


def settled(prometheus: Prometheus, expression: str, truth: float) -> None:
    """Waits for the right value, and asserts that it does not change afterwards."""
    prometheus.wait_for(expression, truth)
    time.sleep(1.5)
    assert prometheus.value(expression) == truth


@pytest.mark.fault("O6")
def test_sixty_runs_have_the_series_of_one_and_count_what_they_did(send: Sender, prometheus: Prometheus) -> None:
    """Each exports twice, as one does whose end comes after an interval; a value that is said again counts once."""
    for number in range(RUNS):
        run = Run(host="ab"[number % 2])
        run.says(send, errors=1)
        run.says(send, errors=3, waits=2)
    settled(prometheus, f"sum({added('job_errors_total', '15m')})", 3 * RUNS)
    assert prometheus.value("job_wait_seconds_count") == 2 * RUNS
    assert prometheus.value('job_wait_seconds_bucket{le="1.5"}') == 2 * RUNS
    assert prometheus.value('job_wait_seconds_bucket{le="0.5"}') == 0
    assert prometheus.value("job_wait_seconds_sum") == 2 * RUNS
    for name in ("job_errors_total", "job_wait_seconds_count", "job_left", "job_open", "target_info"):
        assert len(of(prometheus, name)) <= 1, name
    (found,) = of(prometheus, "job_errors_total")
    assert found.pop("counting_since")
    assert found == {
        "__name__": "job_errors_total",
        "job": "catalog-sync",
        "service_name": "catalog-sync",
        "error_type": "503",
    }
    assert (prometheus.value("job_left"), prometheus.value("job_open")) == (3, 1)


def test_runs_side_by_side_add_up(send: Sender, prometheus: Prometheus) -> None:
    def play(number: int) -> None:
        run = Run(host=str(number))
        for errors in range(1, 6):
            run.says(send, errors=errors, beside="1")

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(play, range(40)))
    settled(prometheus, 'sum(job_errors_total{beside="1"})', 200)


@pytest.mark.parametrize("off", [-3600, 3600, -20])
def test_the_clock_of_a_host_changes_nothing(send: Sender, prometheus: Prometheus, off: float) -> None:
    selector = f'job_errors_total{{clock="{off:g}"}}'
    for clock in (0, off, 0):
        run = Run(clock=clock)
        run.says(send, errors=2, clock=f"{off:g}")
        run.says(send, errors=5, clock=f"{off:g}")
    settled(prometheus, f"sum({selector})", 15)
    assert prometheus.value(f"count({selector})") == 1
    assert abs(prometheus.value(f"time() - timestamp({selector})")) < 60


def test_processes_that_stay_keep_their_instance(send: Sender, prometheus: Prometheus) -> None:
    for host in ("a", "b"):
        Run("catalog-api", host).says(send, errors=4)
    prometheus.wait_for('sum(job_errors_total{job="catalog-api"})', 8)
    found = of(prometheus, "job_errors_total", "catalog-api")
    assert len({series["instance"] for series in found}) == len(found) == 2
    assert not any("counting_since" in series for series in found)
    assert len(of(prometheus, "target_info", "catalog-api")) == 2


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[Collector, Prometheus]]:
    """A Collector that may be stopped, and its Prometheus."""
    with otlp_sink() as store, Prometheus(tmp_path / "prometheus") as prometheus:
        endpoints = {
            "TEMPO_OTLP_ENDPOINT": store.url,
            "LOKI_OTLP_ENDPOINT": store.url,
            "PROMETHEUS_REMOTE_WRITE_ENDPOINT": prometheus.remote_write,
        }
        with Collector("single", tmp_path / "collector", OTELCOL_JOBS="nightly|hourly", **endpoints) as collector:
            yield collector, prometheus


@pytest.mark.slow
def test_a_new_start_of_the_collector_loses_and_doubles_nothing(own: tuple[Collector, Prometheus]) -> None:
    """The second sum ends at the value of the first: only as a series of its own it is seen to have grown."""
    collector, prometheus = own
    send = Sender(collector.url)
    for job in ("nightly", "hourly"):
        Run(job).says(send, errors=3)
    collector.stop()
    collector.start()
    for job in ("nightly", "hourly"):
        Run(job).says(send, errors=3)
    settled(prometheus, f"sum({added('job_errors_total', '15m')})", 12)
    assert len(of(prometheus, "job_errors_total", "nightly")) == 2
    assert len(of(prometheus, "job_left", "hourly")) == 1


@pytest.mark.slow
def test_what_prometheus_did_not_take_arrives_later(own: tuple[Collector, Prometheus]) -> None:
    collector, prometheus = own
    send = Sender(collector.url)
    Run("nightly").says(send, errors=1)
    prometheus.wait_for("job_errors_total", 1)
    prometheus.kill()
    Run("nightly").says(send, errors=2)
    wait_until(lambda: collector.own_metric("otelcol_exporter_in_flight_requests", exporter="otlp_http/metrics") > 0)
    Run("nightly").says(send, errors=4)
    prometheus.start()
    settled(prometheus, "job_errors_total", 7)
