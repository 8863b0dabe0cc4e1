"""The datasources with their links.

Grafana expands variables in this file, so every dollar sign that it shall see is two.
"""

from __future__ import annotations

from typing import Any, Final

from grafana.generate.settings import DATASOURCE_UIDS

_PROMETHEUS: Final = DATASOURCE_UIDS["prometheus"]
_LOKI: Final = DATASOURCE_UIDS["loki"]
_TEMPO: Final = DATASOURCE_UIDS["tempo"]
_SERVICE: Final = [{"key": "service.name", "value": "service_name"}]


def datasources() -> dict[str, Any]:
    """Prometheus, Loki and Tempo.

    Links lead from an exemplar to its trace, from a trace to its logs, its metrics and the map of services, and from a
    log line to its trace.
    """
    return {
        "apiVersion": 1,
        "prune": True,
        "datasources": [
            _source("Prometheus", _PROMETHEUS, "http://prometheus:9090", _prometheus()) | {"isDefault": True},
            _source("Loki", _LOKI, "http://loki:3100", _loki()),
            _source("Tempo", _TEMPO, "http://tempo:3200", _tempo()),
        ],
    }


def _source(name: str, uid: str, url: str, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "uid": uid,
        "type": uid,
        "access": "proxy",
        "url": url,
        "editable": False,
        "jsonData": data,
    }


def _prometheus() -> dict[str, Any]:
    """OpenTelemetry and the Collector write ``trace_id`` on exemplars, Tempo's generator ``traceID``."""
    return {
        "httpMethod": "POST",
        "timeInterval": "15s",
        "prometheusType": "Prometheus",
        "exemplarTraceIdDestinations": [
            {"name": name, "datasourceUid": _TEMPO, "urlDisplayLabel": "Open the trace"}
            for name in ("trace_id", "traceID")
        ],
    }


def _loki() -> dict[str, Any]:
    """The type ``label`` also finds structured metadata, where OTLP puts the trace ID."""
    field = {
        "name": "trace_id",
        "matcherType": "label",
        "matcherRegex": "trace_id",
        "datasourceUid": _TEMPO,
        "url": "$${__value.raw}",
        "urlDisplayLabel": "Open the trace",
    }
    return {"maxLines": 1000, "derivedFields": [field]}


def _tempo() -> dict[str, Any]:
    """The built-in search for logs looks for the ID in the text of a line, where OTLP has none; hence the own query."""
    calls = "traces_span_metrics_calls_total{$$__tags}"
    failed = 'traces_span_metrics_calls_total{$$__tags,status_code="STATUS_CODE_ERROR"}'
    buckets = "traces_span_metrics_duration_seconds_bucket{$$__tags}"
    return {
        "tracesToLogsV2": {
            "datasourceUid": _LOKI,
            "spanStartTimeShift": "-5m",
            "spanEndTimeShift": "5m",
            "tags": _SERVICE,
            "filterByTraceID": False,
            "filterBySpanID": False,
            "customQuery": True,
            "query": '{$${__tags}} | trace_id = "$${__trace.traceId}"',
        },
        "tracesToMetrics": {
            "datasourceUid": _PROMETHEUS,
            "spanStartTimeShift": "-10m",
            "spanEndTimeShift": "10m",
            "tags": _SERVICE,
            "queries": [
                {"name": "Calls per second", "query": f"sum(rate({calls}[5m]))"},
                {"name": "Failed calls per second", "query": f"sum(rate({failed}[5m]))"},
                {"name": "Duration, p95", "query": f"histogram_quantile(0.95, sum by (le) (rate({buckets}[5m])))"},
            ],
        },
        "serviceMap": {"datasourceUid": _PROMETHEUS},
        "nodeGraph": {"enabled": True},
        "search": {"hide": False},
        "traceQuery": {"timeShiftEnabled": True, "spanStartTimeShift": "-30m", "spanEndTimeShift": "30m"},
    }
