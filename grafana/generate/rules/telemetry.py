"""Rules about the delivery of alerts and about telemetry itself: without these no other rule can be relied on."""

from __future__ import annotations

from typing import Final

from grafana.generate import foreign
from grafana.generate.dashboards.telemetry import CLOCK_AHEAD, WITH_QUEUE
from grafana.generate.logql import FAILED, spans, where, with_trace
from grafana.generate.names import label
from grafana.generate.promql import IN_RULE, added, match, per, total
from grafana.generate.rules.catalogue import heartbeat
from grafana.generate.rules.model import Rule, Trace
from grafana.generate.settings import EVALUATION_INTERVAL, Settings, duration

from otel_resilience.telemetry import contract

_SDK: Final = {metric.name: metric for metric in foreign.SDK}
_ITEMS: Final = ("spans", "metric_points", "log_records")


def rules(settings: Settings) -> tuple[Rule, ...]:
    """Every rule of this subject."""
    return (
        _delivery(settings),
        _grafana_delivery(settings),
        _dropped(settings),
        _collector_losing(settings),
        _stuck(settings),
        _queue(settings),
        _clock(settings),
        _collector_down(),
        _store_down(),
        _prometheus_down(),
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
        meaning="A notification that a service itself sends was given up after retries. It becomes a dead letter unless"
        " another channel delivers it.",
        look=(
            "Table *Failed deliveries*: how did the channel respond?",
            "`catalog-sync alerts`, on each machine: the outbox.",
        ),
        act=("Correct the channel's ERROR_ALERT_* variable, and try it with `catalog-sync alerts test`.",),
        hold=settings.hold,
        trace=Trace(
            traceql=spans(f'name = "{contract.DELIVERY_SPAN}"', FAILED),
            logql=with_trace(contract.EVENT_ALERT_FAILED, where(contract.CHANNEL, "{channel}")),
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
        summary="Grafana's notifications through {{ $labels.integration }} fail.",
        dashboard="catalog-alerting",
        panel="Grafana's notifications",
        meaning="Grafana could not deliver a notification to a contact point. The other contact points of the route"
        " still get this alert.",
        look=("In Grafana, *Alerting*, *Contact points*: the last error of each.",),
        act=("Correct the GRAFANA_* variable of the contact point and restart Grafana.",),
        hold=settings.hold,
    )


def _or_zero(parts: list[str]) -> str:
    """The sum of sums, over all environments: any of them may have no series yet."""
    return " + ".join(f"(sum({part}) or vector(0))" for part in parts)


def _dropped(settings: Settings) -> Rule:
    names = [f"otel.sdk.processor.{signal}.processed" for signal in ("span", "log")]
    names += [f"otel.sdk.exporter.{item}.exported" for item in ("span", "log", "metric_data_point")]
    parts = [
        added(IN_RULE.of(_SDK[name], f'{label(contract.ERROR_TYPE)}!=""'), duration(settings.recent)) for name in names
    ]
    return Rule(
        name="TelemetryDropped",
        expr=_or_zero(parts),
        operator=">",
        threshold=0,
        severity="warning",
        component="telemetry",
        summary="Our processes are losing telemetry: {{ $value }} items in five minutes.",
        dashboard="catalog-telemetry",
        panel="Drops and failed exports",
        meaning="A queue of the SDK was full, or an export was given up. Traces and counts of that time are incomplete;"
        " the sync itself is not slowed down.",
        look=("Panels *Queues of the SDK* and *Duration of exports*.", "Is the Collector up, and does it refuse data?"),
        act=("Collector down: start it. Collector healthy: raise OTEL_BSP_MAX_QUEUE_SIZE, or lower the volume.",),
        hold=settings.hold,
    )


def _collector_losing(settings: Settings) -> Rule:
    """The receiver ``otlp/relay`` and ``prometheus_remote_write`` are the end of the Collector's own way to Prometheus.

    What those refuse or fail to send is tried again by ``otlp_http/metrics``.
    """
    lost = [IN_RULE.named(f"otelcol_exporter_enqueue_failed_{item}") for item in _ITEMS]
    lost += [IN_RULE.named(f"otelcol_exporter_send_failed_{item}", WITH_QUEUE) for item in _ITEMS]
    refused = [IN_RULE.named(f"otelcol_receiver_refused_{item}", 'receiver="otlp"') for item in _ITEMS]
    parts = [added(selector, duration(settings.recent)) for selector in (*lost, *refused)]
    return Rule(
        name="CollectorLosingTelemetry",
        expr=_or_zero(parts),
        operator=">",
        threshold=0,
        severity="warning",
        component="telemetry",
        summary="The Collector refuses or drops telemetry: {{ $value }} items in five minutes.",
        dashboard="catalog-telemetry",
        panel="Refused and thrown away",
        meaning="A queue to a backend was full, the memory limiter refused data, or a backend refused a request"
        " permanently (400, 401, 413) or for a day.",
        look=(
            "Panel *Failed exports*: which backend refuses? The Collector's log has its response.",
            "Panel *Queues to the stores*: which backend is behind?",
            "Panel *Memory*: does the limiter refuse data?",
        ),
        act=(
            "Refused: correct what the response names, such as credentials, limits, or the clock of a host.",
            "Full: bring the backend back. If it recurs, raise the queue size or the memory limit in otel-collector/.",
        ),
        hold=settings.hold,
    )


_STORES_UP: Final = 'min by (job) (up{job=~"tempo|loki"})'


def _stuck(settings: Settings) -> Rule:
    """A request takes milliseconds: one that is always under way is tried again and again."""
    down = f'label_replace({_STORES_UP} < 1, "exporter", "otlp_http/$1", "job", "(.*)")'
    under_way = IN_RULE.named("otelcol_exporter_in_flight_requests", WITH_QUEUE)
    return Rule(
        name="CollectorExportStuck",
        expr=f"max by (instance, exporter, data_type) ({under_way}) unless on (exporter) ({down})",
        operator=">",
        threshold=0,
        severity="warning",
        component="telemetry",
        summary="The Collector's exporter {{ $labels.exporter }} has {{ $value }} requests that its backend does"
        " not accept.",
        dashboard="catalog-telemetry",
        panel="Requests under way",
        meaning="There have been requests to a backend in flight for more than a minute without a break. Either the"
        " backend accepts nothing and the queue grows, or it refuses one request repeatedly while the others pass. The"
        " alert does not fire while StoreDown fires for the same backend.",
        look=(
            "Panel *Queues to the stores*: does the queue grow, or stay small?",
            "The Collector's log: `Exporting failed` is followed by the backend's response.",
        ),
        act=(
            "The queue grows: bring the backend back, or raise its limit.",
            "The queue is small: correct what the response names. The request is given up after OTELCOL_RETRY_FOR.",
        ),
        wait=75,
        hold=settings.hold,
    )


def _clock(settings: Settings) -> Rule:
    return Rule(
        name="ClockOff",
        expr=f"max {per('job')} (abs({CLOCK_AHEAD}))",
        operator=">",
        threshold=settings.clock_off,
        severity="warning",
        component="telemetry",
        summary="A clock of {{ $labels.job }} is off by {{ $value | humanizeDuration }}.",
        dashboard="catalog-telemetry",
        panel="Clocks ahead",
        meaning="The clocks of a process's host and of the Collector differ. Metrics are correct, because the Collector"
        " replaces such timestamps. Traces and log records have wrong timestamps: searches by time miss them, and Loki"
        " refuses records from the future. Other hosts cannot tell the age of a catalogue that this host published.",
        look=(
            "Panel *Clocks ahead*: by how much, and in which direction?",
            "`catalog-sync doctor` on the host compares its clock with Redis and the supplier.",
        ),
        act=("Set the clock of that host (chrony, systemd-timesyncd), then run `catalog-sync run` once.",),
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
        meaning="The backend accepts less data than arrives. Nothing is lost until the queue is full.",
        look=("Is the backend up, is its disk full, is it slow?",),
        act=("Bring the backend back; the queue then drains by itself.",),
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
        summary="The Collector does not respond: no telemetry arrives, and most other rules detect nothing.",
        dashboard="catalog-telemetry",
        panel="Targets that answer",
        meaning="Prometheus cannot scrape the Collector. Syncs continue, and the services' own alerts are still sent.",
        look=("`docker compose logs otel-collector`, or the journal of its host.",),
        act=("Start it. It then sends its queues from disk; data that the SDKs dropped meanwhile is lost.",),
        wait=EVALUATION_INTERVAL,
    )


def _store_down() -> Rule:
    """A scrape may be 15 s away and an evaluation 10 s: it fires within a minute of the death of a store."""
    return Rule(
        name="StoreDown",
        expr=_STORES_UP,
        operator="<",
        threshold=1,
        severity="warning",
        component="telemetry",
        summary="The backend {{ $labels.job }} does not respond: alerts still fire, but their traces and logs wait in"
        " the Collector.",
        dashboard="catalog-telemetry",
        panel="Targets that answer",
        meaning="Prometheus cannot scrape Tempo or Loki. No rule depends on them, but the links of alerts find nothing"
        " until the backend is back. Data that arrives meanwhile waits in the Collector's queue on disk.",
        look=("`docker compose logs tempo loki`: is the disk full, or is the process out of memory?",),
        act=("Start it; the queue then drains by itself.",),
        wait=2 * EVALUATION_INTERVAL,
    )


def _prometheus_down() -> Rule:
    """Fires in Grafana because its query fails; a Prometheus that evaluates this itself is not down."""
    return Rule(
        name="PrometheusDown",
        expr='up{job="prometheus"}',
        operator="<",
        threshold=1,
        severity="critical",
        component="telemetry",
        summary="Prometheus does not respond: no rule can be evaluated, and each keeps its last state.",
        dashboard="catalog-telemetry",
        panel="Targets that answer",
        meaning="Grafana gets no data from Prometheus. Alerts that fire continue to fire, but no new ones can start."
        " The services' own alerts are still sent. If Prometheus evaluates the rules itself, Watchdog stops firing"
        " instead.",
        look=("`docker compose logs prometheus`: is the disk full, is it out of memory, is it replaying its log?",),
        act=("Start it. Samples taken meanwhile wait in the Collector's queue on disk.",),
        wait=2 * EVALUATION_INTERVAL,
        no_data="Alerting",
        not_evaluated="Alerting",
    )
