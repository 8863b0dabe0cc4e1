"""Metrics on their way to Prometheus: names, labels, exemplars; RED metrics of all spans; the Collector's own."""

from __future__ import annotations

import re

import pytest
from tools.telemetry import signals

from catalog_sync.observability import contract
from otel_resilience.telemetry import contract as library_contract
from support.cli import wait_until
from support.collector import FOLDER, Collector
from support.otlp_client import ERROR, Sender, gauge, log, new_trace, span
from support.otlp_sink import OtlpSink
from support.prometheus import Prometheus

SPAN_METRIC_LABELS = {
    "__name__", "job", "service_name", "span_name", "span_kind", "status_code", "resilience_dependency", "error_type",
    "collector_instance_id", "otel_scope_name",
}  # fmt: skip
ONLY_ON_FAILURE = re.compile(r"_(enqueue_failed|send_failed)_|memory_limiter_refused_")


def test_span_metrics_count_all_spans_also_of_traces_that_are_dropped(send: Sender, prometheus: Prometheus) -> None:
    """The processes of a service share one series, as a job that runs again must."""
    for process in ("a", "b"):
        resource = {"service.name": "red", "service.instance.id": process}
        ok = [span("esim-go list bundles", new_trace(), seconds=0.2) for _ in range(50)]
        failed = span(
            "esim-go list bundles",
            new_trace(),
            status=ERROR,
            attributes={library_contract.DEPENDENCY: "esim-go", library_contract.ERROR_TYPE: "503"},
        )
        send.spans(*ok, failed, resource=resource)
    prometheus.wait_for('sum(traces_span_metrics_calls_total{service_name="red"})', 102)
    (errors,) = prometheus.query('traces_span_metrics_calls_total{service_name="red",status_code="STATUS_CODE_ERROR"}')
    assert errors["metric"].keys() == SPAN_METRIC_LABELS
    assert (errors["metric"]["resilience_dependency"], errors["metric"]["error_type"]) == ("esim-go", "503")
    assert errors["metric"]["job"] == "red"
    assert errors["value"][1] == "2"
    slow = 'traces_span_metrics_duration_seconds_bucket{service_name="red",le="%s"}'
    assert prometheus.value(f"sum({slow % '0.1'})") == 2
    assert prometheus.value(f"sum({slow % '0.25'})") == 102


def test_the_exemplar_of_an_error_leads_to_a_kept_trace(send: Sender, prometheus: Prometheus, tempo: OtlpSink) -> None:
    trace_id = new_trace()
    send.spans(span("lead", trace_id, status=ERROR), resource={"service.name": "exemplary"})
    prometheus.wait_for('sum(traces_span_metrics_calls_total{service_name="exemplary"})', 1)
    prometheus.wait_for('sum(traces_kept_duration_seconds_count{service_name="exemplary"})', 1)
    found = prometheus.exemplars('traces_kept_duration_seconds_bucket{service_name="exemplary"} < 0')
    assert {exemplar["labels"]["trace_id"] for exemplar in found} == {trace_id}
    tempo.wait_for(lambda sink: any(s.trace_id == trace_id for s in sink.spans))


@pytest.mark.fault("O11")
def test_every_exemplar_leads_to_a_kept_trace(send: Sender, prometheus: Prometheus, tempo: OtlpSink) -> None:
    """Also of an API whose answers are well, of which one in ten is kept."""
    resource = {"service.name": "mostly-well"}
    for _ in range(10):
        send.spans(*(span("GET /bundles", new_trace()) for _ in range(20)), resource=resource)
    send.spans(span("GET /bundles", failed := new_trace(), status=ERROR), resource=resource)
    prometheus.wait_for('sum(traces_span_metrics_calls_total{service_name="mostly-well"})', 201)
    prometheus.wait_for('traces_kept_duration_seconds_count{service_name="mostly-well",status_code=~".*ERROR"}', 1)
    prometheus.wait_for('traces_kept_duration_seconds_count{service_name="mostly-well",status_code=~".*UNSET"}', 1)
    found = prometheus.exemplars('{__name__=~"traces_.+", service_name="mostly-well"}')
    linked = {exemplar["labels"]["trace_id"] for exemplar in found}
    assert failed in linked
    assert len(linked) > 1
    tempo.wait_for(lambda sink: linked <= {s.trace_id for s in sink.spans})
    assert prometheus.value('sum(traces_kept_duration_seconds_count{service_name="mostly-well"})') < 100


def test_labels_of_a_metric_of_ours(send: Sender, prometheus: Prometheus) -> None:
    resource = {
        "service.name": "catalog-api",
        "service.namespace": "esim",
        "service.instance.id": "i-1",
        "service.version": "1",
        "deployment.environment.name": "staging",
    }
    metric = gauge(
        "labelled", 1, attributes={library_contract.DEPENDENCY: "redis"}, exemplar={"dropped.by.view": "x" * 500}
    )
    send.metrics(metric, resource=resource)
    prometheus.wait_for("labelled", 1)
    (found,) = prometheus.query("labelled")
    assert found["metric"] == {
        "__name__": "labelled",
        "job": "esim/catalog-api",
        "instance": "i-1",
        "service_name": "catalog-api",
        "deployment_environment_name": "staging",
        "resilience_dependency": "redis",
    }
    (info,) = prometheus.query('target_info{instance="i-1"}')
    assert info["metric"]["service_version"] == "1"


def test_no_attribute_of_the_contract_is_masked(send: Sender, prometheus: Prometheus) -> None:
    parts = ("resilience", "catalog")
    on_spans = [span.attributes for part in parts for span in signals.spans(part)]
    on_events = [event.attributes for part in parts for event in signals.events(part)]
    on_metrics = [metric.attributes for metric in (*library_contract.METRICS, *contract.METRICS)]
    names = {name for attributes in (*on_spans, *on_events, *on_metrics) for name in attributes}
    send.metrics(gauge("contract", 1, attributes=dict.fromkeys(sorted(names), "as it is")))
    prometheus.wait_for("contract", 1)
    (found,) = prometheus.query("contract")
    assert {name: found["metric"].get(name.replace(".", "_")) for name in names} == dict.fromkeys(names, "as it is")


def documented_own_names() -> set[str]:
    """The table in otel-collector/README.md."""
    found = set()
    for cell in re.findall(r"^\| (`otelcol_[^|]*) \|", (FOLDER / "README.md").read_text(encoding="utf-8"), re.M):
        for name in re.findall(r"`(otelcol_[^`]+)`", cell):
            names = [name]
            while any("{" in each for each in names):
                names = [
                    each.replace(match[0], choice, 1)
                    for each in names
                    if (match := re.search(r"\{([^}]*)\}", each))
                    for choice in match[1].split(",")
                ]
            found.update(names)
    return found


def test_the_readme_names_its_own_metrics_as_they_are(collector: Collector, send: Sender) -> None:
    send.spans(span("x", new_trace(), status=ERROR))
    send.logs(log("x"))
    send.metrics(gauge("x", 1, attributes={}))
    expected = {name for name in documented_own_names() if not ONLY_ON_FAILURE.search(name)}
    assert len(expected) > 15
    wait_until(lambda: expected <= collector.own_metrics().keys())


@pytest.mark.parametrize("name", ["otelcol_exporter_queue_size", "otelcol_exporter_queue_capacity"])
def test_every_backend_has_a_queue_that_can_be_watched(collector: Collector, name: str) -> None:
    assert collector.own_labels(name, "exporter") == {"otlp_http/tempo", "otlp_http/loki", "otlp_http/metrics"}
