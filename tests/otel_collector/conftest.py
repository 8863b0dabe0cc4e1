from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.collector import Collector, require_collector
from support.otlp_client import Sender
from support.otlp_sink import OtlpSink, otlp_sink
from support.prometheus import Prometheus


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A separate folder for the module."""
    require_collector()
    return tmp_path_factory.mktemp("collector")


@pytest.fixture(scope="module")
def tempo() -> Iterator[OtlpSink]:
    """A stand-in for Tempo."""
    with otlp_sink() as sink:
        yield sink


@pytest.fixture(scope="module")
def loki() -> Iterator[OtlpSink]:
    """A stand-in for Loki."""
    with otlp_sink() as sink:
        yield sink


@pytest.fixture(scope="module")
def prometheus(folder: Path) -> Iterator[Prometheus]:
    """A real Prometheus."""
    with Prometheus(folder / "prometheus") as server:
        yield server


@pytest.fixture(scope="module")
def backends(tempo: OtlpSink, loki: OtlpSink, prometheus: Prometheus) -> dict[str, str]:
    """The addresses to which a Collector sends."""
    return {
        "TEMPO_OTLP_ENDPOINT": tempo.url,
        "LOKI_OTLP_ENDPOINT": loki.url,
        "PROMETHEUS_REMOTE_WRITE_ENDPOINT": prometheus.remote_write,
    }


@pytest.fixture(scope="module")
def collector(folder: Path, backends: dict[str, str]) -> Iterator[Collector]:
    """One Collector for everything, with all backends up."""
    with Collector("single", folder / "single", **backends) as running:
        yield running


@pytest.fixture
def send(collector: Collector) -> Sender:
    """A sender to the Collector."""
    return Sender(collector.url)
