"""Names that are not ours: of the OpenTelemetry SDK, the Collector, Prometheus, Grafana and Tempo's generator.

They are stable only as long as the versions pinned in docker-compose.yml and pyproject.toml; a query may name no other.
"""

from __future__ import annotations

from typing import Final

from otel_resilience.telemetry.contract import Metric

_COMPONENT: Final = ("otel.component.name", "otel.component.type", "error.type")


def _pipeline(signal: str, item: str, unit: str) -> tuple[Metric, ...]:
    """What a batch processor and an exporter of one signal report: "OpenTelemetry SDK metrics"."""
    processor, exporter = f"otel.sdk.processor.{signal}", f"otel.sdk.exporter.{item}"
    return (
        Metric(f"{processor}.processed", "counter", unit, _COMPONENT, ""),
        Metric(f"{processor}.queue.size", "updowncounter", unit, _COMPONENT, ""),
        Metric(f"{processor}.queue.capacity", "updowncounter", unit, _COMPONENT, ""),
        Metric(f"{exporter}.exported", "counter", unit, _COMPONENT, ""),
    )


SDK: Final = (
    *_pipeline("span", "span", "{span}"),
    *_pipeline("log", "log", "{log_record}"),
    Metric("otel.sdk.exporter.metric_data_point.exported", "counter", "{data_point}", _COMPONENT, ""),
    Metric("otel.sdk.exporter.operation.duration", "histogram", "s", _COMPONENT, ""),
)
"""Reported by the Python SDK if ``OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED=true``, which our services set."""

API_DURATION: Final = Metric(
    "http.server.request.duration",
    "histogram",
    "s",
    ("http.request.method", "http.route", "http.response.status_code", "error.type"),
    "",
)
"""A metric of the semantic conventions for HTTP, reported by `catalog-api`."""

_EXPORTER: Final = ("exporter", "data_type")
_SPAN: Final = ("service_name", "span_name", "span_kind", "status_code", "resilience_dependency", "error_type")

SERIES: Final[dict[str, tuple[str, ...]]] = {
    # The Collector's own, scraped from its pull reader: without _total (pushed by OTLP they would have it).
    "otelcol_exporter_queue_size": _EXPORTER,
    "otelcol_exporter_queue_capacity": _EXPORTER,
    "otelcol_exporter_in_flight_requests": ("instance", *_EXPORTER),
    "otelcol_exporter_enqueue_failed_spans": _EXPORTER,
    "otelcol_exporter_enqueue_failed_metric_points": _EXPORTER,
    "otelcol_exporter_enqueue_failed_log_records": _EXPORTER,
    "otelcol_exporter_send_failed_spans": _EXPORTER,
    "otelcol_exporter_send_failed_metric_points": _EXPORTER,
    "otelcol_exporter_send_failed_log_records": _EXPORTER,
    "otelcol_exporter_sent_spans": _EXPORTER,
    "otelcol_exporter_sent_metric_points": _EXPORTER,
    "otelcol_exporter_sent_log_records": _EXPORTER,
    "otelcol_receiver_accepted_spans": ("receiver", "transport"),
    "otelcol_receiver_accepted_metric_points": ("receiver", "transport"),
    "otelcol_receiver_accepted_log_records": ("receiver", "transport"),
    "otelcol_receiver_refused_spans": ("receiver", "transport"),
    "otelcol_receiver_refused_metric_points": ("receiver", "transport"),
    "otelcol_receiver_refused_log_records": ("receiver", "transport"),
    "otelcol_process_memory_rss": (),
    "otelcol_process_uptime": (),
    # The Collector's span_metrics connector.
    "traces_span_metrics_calls_total": _SPAN,
    "traces_span_metrics_duration_seconds_bucket": (*_SPAN, "le"),
    # The same over the spans of kept traces only; with exemplars.
    "traces_kept_duration_seconds_bucket": (*_SPAN, "le"),
    # Prometheus and what it says about every target that it scrapes.
    "up": (),
    "target_info": (),
    # Grafana's own alerting. A series is absent until its first use.
    "grafana_alerting_notifications_total": ("integration",),
    "grafana_alerting_notifications_failed_total": ("integration",),
    "grafana_alerting_notification_latency_seconds_bucket": ("le",),
    "grafana_alerting_rule_evaluation_failures_total": (),
}
"""Series, each with its labels besides ``job`` and ``instance``."""

JOBS: Final = ("otel-collector", "prometheus", "tempo", "loki", "grafana")
"""Values of ``job`` of the targets that Prometheus scrapes (grafana/prometheus/prometheus.yml)."""
