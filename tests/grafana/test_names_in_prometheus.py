"""Every metric of the contract, sent through the real Collector, has its name in a real Prometheus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from grafana.generate import names
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from catalog_sync.observability import contract as catalog
from otel_resilience.telemetry import contract as resilience
from otel_resilience.telemetry.contract import Metric

METRICS = (*resilience.METRICS, *catalog.METRICS)
SERVICES = ("catalog-sync", "catalog-api")
"""A job, whose series the Collector adds up, and a service that runs on."""
FROM_THE_COLLECTOR = {
    *("__name__", "job", "instance", "service_name", "otel_scope_name", "otel_scope_version", "counting_since"),
}


def record(meter: Any, metric: Metric) -> None:
    attributes = dict.fromkeys(metric.attributes, "x")
    basics = (metric.name, metric.unit, metric.description)
    match metric.kind:
        case "counter":
            meter.create_counter(*basics).add(1, attributes)
        case "updowncounter":
            meter.create_up_down_counter(*basics).add(1, attributes)
        case "gauge":
            meter.create_gauge(*basics).set(1, attributes)
        case "histogram":
            meter.create_histogram(*basics).record(1, attributes)


def test_prometheus_knows_every_metric_by_the_name_that_dashboards_use(tmp_path: Path) -> None:
    collectors = pytest.importorskip("support.collector", reason="there is no Collector in this checkout")
    servers = pytest.importorskip("support.prometheus", reason="there is no Collector in this checkout")
    with (
        servers.Prometheus(tmp_path / "prometheus") as prometheus,
        collectors.Collector(
            "single", tmp_path / "collector", PROMETHEUS_REMOTE_WRITE_ENDPOINT=prometheus.remote_write
        ) as collector,
    ):
        for service in SERVICES:
            resource = Resource({"service.name": service, "service.instance.id": "named"})
            exporter = OTLPMetricExporter(endpoint=f"{collector.url}/v1/metrics")
            provider = MeterProvider([PeriodicExportingMetricReader(exporter)], resource, shutdown_on_exit=False)
            for metric in METRICS:
                record(provider.get_meter("test"), metric)
            provider.shutdown()
        for service in SERVICES:
            prometheus.wait_for(f'count({{job="{service}"}})', len(METRICS))
        stored = prometheus.series()
    known = names.known_series()
    expected = {name: known[name] for metric in METRICS for name in names.series_names(metric)}
    for service in SERVICES:
        found = [series for series in stored if series.get("job") == service]
        assert {"instance" in series for series in found} == {service != "catalog-sync"}
        labels = {series["__name__"]: series.keys() - FROM_THE_COLLECTOR for series in found}
        assert {name: labels[name] for name in labels.keys() & expected.keys()} == expected
        assert labels.keys() - expected.keys() <= {"target_info"}
