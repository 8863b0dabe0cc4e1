"""Telemetry health: do our processes lose telemetry, does the Collector, are the stores there?"""

from __future__ import annotations

from typing import Final

from grafana.generate import foreign
from grafana.generate.dashboard import Dashboard, Row
from grafana.generate.logql import STREAMS
from grafana.generate.names import label
from grafana.generate.panels import (
    GREEN,
    RED,
    YELLOW,
    Target,
    logs,
    prom,
    stat,
    thresholds,
    timeseries,
)  # fmt: skip
from grafana.generate.promql import IN_RULE, INTERVAL, OF_JOB, ON_DASHBOARD, RANGE, Series, quantile, total

from catalog_sync.observability import contract as catalog
from otel_resilience.telemetry.contract import ERROR_TYPE, Metric

_SDK: Final[dict[str, Metric]] = {metric.name: metric for metric in foreign.SDK}
_QUEUE_LIMITS: Final = thresholds((None, GREEN), (0.5, YELLOW), (0.9, RED))
_LOSSES: Final = thresholds((None, GREEN), (1, RED))
WITH_QUEUE: Final = 'exporter!="prometheus_remote_write"'
"""The exporters that count what is lost; this one has no queue and counts tries."""
_ITEMS: Final = ("spans", "metric_points", "log_records")
_SIGNALS: Final = {"spans": "span", "logs": "log"}
_EXPORTED: Final = {"spans": "span", "logs": "log", "metric points": "metric_data_point"}


def _ahead(series: Series) -> str:
    """Seconds by which the clock of a process is ahead: the Collector's time is on the sample if they differ."""
    clock = series.of(catalog.CLOCK)
    return f"{clock} - timestamp({clock})"


CLOCK_AHEAD: Final = _ahead(IN_RULE)


def _failed(name: str) -> str:
    """A counter of the SDK, limited to what it could not do."""
    return ON_DASHBOARD.of(_SDK[name], f'{label(ERROR_TYPE)}!=""')


def _dropped(window: str, *by: str) -> list[Target]:
    legend = "{{job}}" if by else ""
    return [
        prom(total(_failed(f"otel.sdk.processor.{signal}.processed"), window, *by), f"{legend} {name} dropped".strip())
        for name, signal in _SIGNALS.items()
    ]


def _sdk_queue(signal: str) -> str:
    size = ON_DASHBOARD.of(_SDK[f"otel.sdk.processor.{signal}.queue.size"])
    capacity = ON_DASHBOARD.of(_SDK[f"otel.sdk.processor.{signal}.queue.capacity"])
    by = "sum by (job, instance)"
    return f"max by (job) ({by} ({size}) / {by} ({capacity}))"


def _collector(stem: str, *by: str, matchers: tuple[str, ...] = ()) -> list[Target]:
    """A counter of the Collector per kind of item. Its receiver ``otlp/relay`` only takes what goes to Prometheus."""
    legend = "".join(f"{{{{{name}}}}} " for name in by)
    if "_receiver_" in stem:
        matchers = ('receiver="otlp"',)
    return [
        prom(total(ON_DASHBOARD.named(f"{stem}_{item}", *matchers), INTERVAL, *by), f"{legend}{item.replace('_', ' ')}")
        for item in _ITEMS
    ]


def _collector_losses() -> str:
    lost = [ON_DASHBOARD.named(f"otelcol_exporter_enqueue_failed_{item}") for item in _ITEMS]
    lost += [ON_DASHBOARD.named(f"otelcol_exporter_send_failed_{item}", WITH_QUEUE) for item in _ITEMS]
    refused = [ON_DASHBOARD.named(f"otelcol_receiver_refused_{item}", 'receiver="otlp"') for item in _ITEMS]
    parts = [f"({total(selector, RANGE)} or vector(0))" for selector in (*lost, *refused)]
    return " + ".join(parts)


_QUEUE: Final = (
    f"max by (job, exporter, data_type) ({ON_DASHBOARD.named('otelcol_exporter_queue_size')})"
    f" / max by (job, exporter, data_type) ({ON_DASHBOARD.named('otelcol_exporter_queue_capacity')})"
)

_UNDER_WAY: Final = (
    f"max by (job, exporter, data_type) ({ON_DASHBOARD.named('otelcol_exporter_in_flight_requests', WITH_QUEUE)})"
)

_PROCESSES: Final = Row(
    "Do our processes lose telemetry?",
    (
        stat(
            "Dropped",
            "Spans and log records that were dropped because a queue was full, within the time range.",
            _dropped(RANGE),
            limits=_LOSSES,
            none="0",
            width=4,
            height=10,
        ),
        timeseries(
            "Queues of the SDK",
            "Filled share of the queue, for the fullest process of each job. A full queue drops the oldest items.",
            [prom(_sdk_queue(signal), f"{{{{job}}}} {name}") for name, signal in _SIGNALS.items()],
            unit="percentunit",
            maximum=1,
            limits=_QUEUE_LIMITS,
            width=10,
            height=10,
        ),
        timeseries(
            "Drops and failed exports",
            "Items that were dropped before an export, or given up after one. The Collector may be down.",
            [
                *_dropped(INTERVAL, "job"),
                *(
                    prom(
                        total(_failed(f"otel.sdk.exporter.{item}.exported"), INTERVAL, "job"),
                        f"{{{{job}}}} {name} not exported",
                    )
                    for name, item in _EXPORTED.items()
                ),
            ],
            bars=True,
            width=10,
            height=10,
        ),
        timeseries(
            "Duration of exports",
            "95th percentile of one export over five minutes, by kind of exporter. The limit is"
            " OTEL_EXPORTER_OTLP_TIMEOUT.",
            [
                prom(
                    quantile(
                        0.95,
                        ON_DASHBOARD.of(_SDK["otel.sdk.exporter.operation.duration"], suffix="_bucket"),
                        "5m",
                        "otel.component.type",
                    ),
                    "{{otel_component_type}}",
                )
            ],
            unit="s",
            width=24,
            height=7,
        ),
    ),
)

_COLLECTOR: Final = Row(
    "Does the Collector lose any?",
    (
        stat(
            "Lost in the Collector",
            "Items refused by the receiver, refused by a backend, or dropped because a queue was full, within the time"
            " range.",
            [prom(_collector_losses())],
            limits=_LOSSES,
            none="0",
        ),
        stat(
            "Memory",
            "Resident memory of the Collector; the limiter refuses data before it grows beyond its limit.",
            [prom(f"max({ON_DASHBOARD.named('otelcol_process_memory_rss')})")],
            unit="bytes",
            none="no Collector",
        ),
        timeseries(
            "Queues to the stores",
            "Filled share of each queue; it grows if a backend is slow or down. The queues to Tempo and Loki survive a"
            " restart.",
            [prom(_QUEUE, "{{exporter}} {{data_type}}")],
            unit="percentunit",
            maximum=1,
            limits=_QUEUE_LIMITS,
            width=20,
        ),
        timeseries(
            "Requests under way",
            "Requests that an exporter holds, including those between two attempts. If there are any for minutes, a"
            " backend is down or refuses one of them repeatedly.",
            [prom(_UNDER_WAY, "{{exporter}} {{data_type}}")],
            width=24,
            height=7,
        ),
        timeseries(
            "Received",
            "Items that the Collector received, by kind.",
            _collector("otelcol_receiver_accepted"),
            width=12,
        ),
        timeseries(
            "Sent",
            "Items that the backends accepted, by exporter and kind.",
            _collector("otelcol_exporter_sent", "exporter"),
            width=12,
        ),
        timeseries(
            "Refused and thrown away",
            "Items refused by the receiver (the SDK sends them again), and items dropped at a full queue (lost).",
            [
                *_collector("otelcol_receiver_refused"),
                *_collector("otelcol_exporter_enqueue_failed", "exporter"),
            ],
            bars=True,
            width=12,
        ),
        timeseries(
            "Failed exports",
            "Lost items: permanently refused by a backend, or given up after OTELCOL_RETRY_FOR.",
            _collector("otelcol_exporter_send_failed", "exporter", matchers=(WITH_QUEUE,)),
            bars=True,
            width=12,
        ),
    ),
)

_STORES: Final = Row(
    "Are the stores there?",
    (
        stat(
            "Targets that answer",
            "Whether the last scrape of each target succeeded.",
            [prom(f"min by (job) ({ON_DASHBOARD.named('up')})", "{{job}}")],
            unit="bool_yes_no",
            limits=thresholds((None, RED), (1, GREEN)),
            named=True,
            width=8,
            height=8,
        ),
        timeseries(
            "Spans by service",
            "Spans that the Collector counted before sampling. A service that stops sending shows here first.",
            [
                prom(
                    total(OF_JOB.named("traces_span_metrics_calls_total"), INTERVAL, "service.name"),
                    "{{service_name}}",
                )
            ],
            bars=True,
            width=16,
        ),
        timeseries(
            "Clocks ahead",
            "Time by which the clock of each service is ahead of the Collector's; below zero it is behind. Services are"
            " shown if they are ahead by more than one minute or behind by more than five, jobs always.",
            [
                prom(f"max by (job) ({_ahead(ON_DASHBOARD)}) > 0", "{{job}} ahead"),
                prom(f"min by (job) ({_ahead(ON_DASHBOARD)}) < 0", "{{job}} behind"),
            ],
            unit="s",
            lowest=None,
            width=24,
        ),
        logs(
            "What the SDK says about itself",
            "Warnings from the OpenTelemetry SDK in our services.",
            f'{STREAMS} | scope_name=~"opentelemetry.*" | severity_text=~"WARN.*|ERROR"',
        ),
    ),
)

DASHBOARD: Final = Dashboard(
    uid="catalog-telemetry",
    title="Telemetry health",
    description="Do our processes or the Collector lose telemetry, and are the stores there?",
    rows=(_PROCESSES, _COLLECTOR, _STORES),
    jobs='{__name__=~"target_info|up"}',
)
