"""Rules about the way of an alert and of telemetry itself: who does not hear the bell cannot be woken."""

from __future__ import annotations

from typing import Final

from grafana.generate import foreign
from grafana.generate.logql import FAILED, latest_trace, spans
from grafana.generate.names import label
from grafana.generate.promql import IN_RULE, match, total
from grafana.generate.rules.catalogue import heartbeat
from grafana.generate.rules.model import Rule, Trace
from grafana.generate.settings import EVALUATION_INTERVAL, Settings, duration

from otel_resilience import contract

_SDK: Final = {metric.name: metric for metric in foreign.SDK}
_ITEMS: Final = ("spans", "metric_points", "log_records")


def rules(settings: Settings) -> tuple[Rule, ...]:
    """Every rule of this subject."""
    return (
        _delivery(settings),
        _grafana_delivery(settings),
        _dropped(settings),
        _collector_losing(settings),
        _queue(settings),
        _collector_down(),
        heartbeat(),
    )


def _delivery(settings: Settings) -> Rule:
    failed = IN_RULE.of(contract.ALERT_NOTIFICATIONS, match(contract.OUTCOME, "failed"))
    return Rule(
        name="AlertDeliveryFailing",
        expr=total(failed, duration(settings.recent), contract.CHANNEL),
        operator=">",
        threshold=0,
        severity="critical",
        component="alerting",
        summary="Alerts do not reach the channel {{ $labels.resilience_channel }}.",
        dashboard="catalog-alerting",
        panel="Failed deliveries",
        meaning="A notification of the services themselves was given up after retries. It lies in the dead letters"
        " unless another"
        " channel took it.",
        look=("Table *Failed deliveries*: what did the channel answer?", "`catalog-sync alerts`: the outbox."),
        act=("Correct the channel's ERROR_ALERT_* variable; `catalog-sync alerts test` tries it.",),
        hold=settings.hold,
        trace=Trace(
            logql=latest_trace(contract.EVENT_ALERT_FAILED, duration(settings.recent * 3), by=(contract.CHANNEL,)),
            traceql=spans(f'name = "{contract.DELIVERY_SPAN}"', FAILED),
        ),
    )  # fmt: skip


def _grafana_delivery(settings: Settings) -> Rule:
    failed = IN_RULE.named("grafana_alerting_notifications_failed_total")
    return Rule(
        name="GrafanaDeliveryFailing",
        expr=total(failed, duration(settings.recent), "integration"),
        operator=">",
        threshold=0,
        severity="critical",
        component="alerting",
        summary="Grafana's notifications by {{ $labels.integration }} fail.",
        dashboard="catalog-alerting",
        panel="Grafana's notifications",
        meaning="Grafana could not deliver to a contact point. The other contact points of the route still get this"
        " alert.",
        look=("*Alerting*, *Contact points* in Grafana: the last error of each.",),
        act=("Correct the GRAFANA_* variable of the contact point and start Grafana again.",),
        hold=settings.hold,
    )


def _or_zero(parts: list[str]) -> str:
    return " + ".join(f"({part} or vector(0))" for part in parts)


def _dropped(settings: Settings) -> Rule:
    names = [f"otel.sdk.processor.{signal}.processed" for signal in ("span", "log")]
    names += [f"otel.sdk.exporter.{item}.exported" for item in ("span", "log", "metric_data_point")]
    parts = [
        total(IN_RULE.of(_SDK[name], f'{label(contract.ERROR_TYPE)}!=""'), duration(settings.recent)) for name in names
    ]
    return Rule(
        name="TelemetryDropped",
        expr=_or_zero(parts),
        operator=">",
        threshold=0,
        severity="warning",
        component="telemetry",
        summary="Our processes lose telemetry: {{ $value }} items in five minutes.",
        dashboard="catalog-telemetry",
        panel="Drops and failed exports",
        meaning="A queue of the SDK was full, or an export was given up. Traces and counts of that time have holes."
        " The sync"
        " itself is not slowed down.",
        look=("Panels *Queues of the SDK* and *Duration of exports*.", "Is the Collector up, and does it refuse data?"),
        act=("Collector down: start it. Collector well: raise OTEL_BSP_MAX_QUEUE_SIZE, or lower the volume.",),
        hold=settings.hold,
    )


def _collector_losing(settings: Settings) -> Rule:
    """The receiver ``otlp/relay`` is the Collector's own way to Prometheus: what it refuses is sent again."""
    lost = [IN_RULE.named(f"otelcol_exporter_enqueue_failed_{item}") for item in _ITEMS]
    refused = [IN_RULE.named(f"otelcol_receiver_refused_{item}", 'receiver="otlp"') for item in _ITEMS]
    parts = [total(selector, duration(settings.recent)) for selector in (*lost, *refused)]
    return Rule(
        name="CollectorLosingTelemetry",
        expr=_or_zero(parts),
        operator=">",
        threshold=0,
        severity="warning",
        component="telemetry",
        summary="The Collector refuses or throws away telemetry: {{ $value }} items in five minutes.",
        dashboard="catalog-telemetry",
        panel="Refused and thrown away",
        meaning="A queue to a store was full, or the memory limiter refused data.",
        look=("Panel *Queues to the stores*: which store is behind?", "Panel *Memory*."),
        act=("Bring the store back; raise the queue or the limit of memory in otel-collector/ if it recurs.",),
        hold=settings.hold,
    )


def _queue(settings: Settings) -> Rule:
    by = "max by (exporter, data_type)"
    size, capacity = (IN_RULE.named(f"otelcol_exporter_queue_{what}") for what in ("size", "capacity"))
    return Rule(
        name="CollectorQueueFilling",
        expr=f"{by} ({size}) / ({by} ({capacity}) > 0)",
        operator=">",
        threshold=settings.queue_share,
        severity="warning",
        component="telemetry",
        summary="The Collector's queue to {{ $labels.exporter }} is {{ $value | humanizePercentage }} full.",
        dashboard="catalog-telemetry",
        panel="Queues to the stores",
        meaning="The store takes less than comes in. Nothing is lost until the queue is full.",
        look=("Is the store up, is its disk full, does it answer slowly?",),
        act=("Bring the store back: the queue drains by itself.",),
        wait=60,
        hold=settings.hold,
    )


def _collector_down() -> Rule:
    """A scrape may be 15 s away, and a page leaves 15 s later: a minute allows for one more evaluation.

    A restart between two scrapes is over before the page would leave.
    """
    return Rule(
        name="CollectorDown",
        expr='up{job="otel-collector"} or absent(up{job="otel-collector"}) * 0',
        operator="<",
        threshold=1,
        severity="critical",
        component="telemetry",
        summary="The Collector does not answer: no telemetry arrives, and most other rules are blind.",
        dashboard="catalog-telemetry",
        panel="Targets that answer",
        meaning="Prometheus cannot scrape the Collector. Syncs go on; the services' own alerts still go out.",
        look=("`docker compose logs otel-collector`, or the journal of its host.",),
        act=("Start it. Its queues on disk are sent then; what the SDKs dropped meanwhile is gone.",),
        wait=EVALUATION_INTERVAL,
    )
