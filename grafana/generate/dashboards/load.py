"""API and load: the four golden signals of catalog-api, and which of our own limits are reached."""

from __future__ import annotations

from typing import Final

from grafana.generate.dashboard import Dashboard, Row
from grafana.generate.foreign import API_DURATION
from grafana.generate.logql import events
from grafana.generate.names import label, prometheus_name
from grafana.generate.panels import (
    GREEN,
    RED,
    YELLOW,
    colors_matching,
    dots,
    event_table,
    prom,
    stat,
    thresholds,
    timeseries,
)
from grafana.generate.promql import INTERVAL, ON_DASHBOARD, RANGE, RECORDED, match, quantile, ratio, total
from grafana.generate.rules.recording import WAITING
from grafana.generate.settings import Settings

from catalog_sync.observability import contract as catalog
from otel_resilience.telemetry import contract

_ROUTE: Final = "http.route"
_STATUS: Final = "http.response.status_code"
_ANSWERS: Final = ON_DASHBOARD.of(API_DURATION, suffix="_count")
_BROKEN: Final = ON_DASHBOARD.of(API_DURATION, match(_STATUS, "5..", "=~"), suffix="_count")
_BUCKETS: Final = ON_DASHBOARD.of(API_DURATION, suffix="_bucket")
_SERVED: Final = 'span_kind="SPAN_KIND_SERVER"'
_BY: Final = contract.DEPENDENCY
_SHARE: Final = thresholds((None, GREEN), (0.001, YELLOW), (0.01, RED))

_SERVES: Final = Row(
    "Does the API answer, and how fast?",
    (
        stat(
            "Answers",
            "Requests that catalog-api responded to within the time range.",
            [prom(total(_ANSWERS, RANGE))],
            unit="locale",
        ),
        stat(
            "Server errors",
            "Share of responses within the time range with a status of 500 or above.",
            [prom(ratio(total(_BROKEN, RANGE), total(_ANSWERS, RANGE)))],
            unit="percentunit",
            limits=_SHARE,
            none="no requests",
        ),
        timeseries(
            "Traffic",
            "Responses in each interval, by route.",
            [prom(total(_ANSWERS, INTERVAL, _ROUTE), "{{http_route}}")],
            bars=True,
            width=10,
        ),
        timeseries(
            "Answers that are errors",
            "Responses with a status of 400 or above, by route and status, without the successful ones.",
            [
                prom(
                    total(
                        ON_DASHBOARD.of(API_DURATION, match(_STATUS, "[45]..", "=~"), suffix="_count"),
                        INTERVAL,
                        _ROUTE,
                        _STATUS,
                    ),
                    "{{http_route}}: {{http_response_status_code}}",
                ),
                dots(_SERVED),
            ],
            bars=True,
            overrides=colors_matching({": 4..$": YELLOW, ": 5..$": RED}),
            width=10,
        ),
        timeseries(
            "Latency",
            "Median, 95th and 99th percentile of all responses, over five minutes.",
            [
                prom(quantile(share, _BUCKETS, "5m"), name)
                for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
            ],
            unit="s",
            width=12,
        ),
        timeseries(
            "Latency by route",
            "95th percentile of the responses, over five minutes.",
            [prom(quantile(0.95, _BUCKETS, "5m", _ROUTE), "{{http_route}}"), dots(_SERVED)],
            unit="s",
            width=12,
        ),
    ),
)


_DEGRADED: Final = ON_DASHBOARD.of(contract.STORAGE_DEGRADED)
_SATURATED: Final = Row(
    "What is at its limit?",
    (
        timeseries(
            "Workers and their queue",
            "Messages that no worker has taken, steps in progress, and the number of steps that can run at a time.",
            [
                prom(f"max({ON_DASHBOARD.of(catalog.QUEUE_SIZE)})", "waiting"),
                prom(f"max({ON_DASHBOARD.of(catalog.WORKER_BUSY)})", "busy"),
                prom(f"max({ON_DASHBOARD.of(catalog.WORKER_SLOTS)})", "slots"),
                prom(f"max({ON_DASHBOARD.of(catalog.WORKER_ALIVE)})", "workers"),
            ],
            unit="none",
            width=10,
        ),
        timeseries(
            "Wait for a worker",
            "How long the requested sync has been waiting for a worker; 0 if none is waiting. Above the line QueueStuck"
            " fires.",
            [prom(f"max({ON_DASHBOARD.of(catalog.QUEUE_WAIT)})", "wait")],
            unit="s",
            limits=thresholds((None, GREEN), (Settings().queue_wait, RED)),
            width=10,
        ),
        stat(
            "Dead letters",
            "Messages that were set aside because no worker can process them; `catalog-sync status` shows the latest.",
            [prom(f"max({ON_DASHBOARD.of(catalog.QUEUE_DEAD_LETTERS)})")],
            limits=thresholds((None, GREEN), (1, RED)),
            none="no workers",
        ),
        timeseries(
            "Waits for a limit",
            "95th percentile over five minutes of the waits for a permit (rate) or a slot (concurrency), without calls"
            " that did not have to wait.",
            [
                prom(
                    quantile(0.95, ON_DASHBOARD.of(contract.LIMIT_WAIT, suffix="_bucket"), "5m", _BY, contract.LIMIT),
                    "{{resilience_dependency}}: {{resilience_limit}}",
                )
            ],
            unit="s",
        ),
        timeseries(
            "Calls turned away by a limit",
            "Calls that got no permit or slot in time; nothing was sent.",
            [
                prom(
                    total(ON_DASHBOARD.of(contract.LIMIT_REJECTIONS), INTERVAL, _BY, contract.LIMIT),
                    "{{resilience_dependency}}: {{resilience_limit}}",
                )
            ],
            bars=True,
        ),
        timeseries(
            "Calls under way",
            "Calls in flight to dependencies with a concurrency limit, in all processes together.",
            [
                prom(
                    f"sum by ({label(_BY)}) ({ON_DASHBOARD.of(contract.CONCURRENCY_IN_FLIGHT)})",
                    "{{resilience_dependency}}",
                ),
            ],
            unit="none",
        ),
        timeseries(
            "Abandoned threads",
            "Threads that are still running an attempt that was abandoned at its time limit.",
            [
                prom(
                    f"sum by ({label(_BY)}) ({ON_DASHBOARD.of(contract.TIMEOUT_ABANDONED)})",
                    "{{resilience_dependency}}",
                )
            ],
            unit="none",
        ),
        timeseries(
            "Waiting notifications",
            "Notifications in the queues of the channels; the last known number if no process reports one.",
            [prom(f"sum by ({label(contract.CHANNEL)}) ({RECORDED.named(WAITING)})", "{{resilience_channel}}")],
            unit="none",
        ),
        timeseries(
            "Steps of shared state",
            "95th percentile over five minutes of one step of shared breakers and budgets, waits for the storage"
            " included; failed steps are shown separately.",
            [
                prom(
                    quantile(
                        0.95,
                        ON_DASHBOARD.of(contract.STORAGE_DURATION, suffix="_bucket"),
                        "5m",
                        contract.STORAGE,
                        contract.ERROR_TYPE,
                    ),
                    "{{resilience_storage}} {{error_type}}",
                )
            ],
            unit="s",
        ),
        stat(
            "Shared state that is degraded",
            "Processes that currently cannot reach shared state and use local state instead.",
            [prom(f"sum({_DEGRADED})")],
            limits=thresholds((None, GREEN), (1, RED)),
            width=6,
            height=8,
        ),
        event_table(
            "Losses of shared state",
            "Each time at which shared state became unreachable, with the error.",
            events(contract.EVENT_STORAGE_DEGRADED),
            {contract.STORAGE: "Storage", contract.ERROR_TYPE: "Error"},
            width=18,
        ),
    ),
)

DASHBOARD: Final = Dashboard(
    uid="catalog-load",
    title="API and load",
    description="Does the API answer, how fast, and what is at its limit?",
    rows=(_SERVES, _SATURATED),
    jobs='{__name__=~"'
    + prometheus_name(API_DURATION)
    + "_count|"
    + prometheus_name(contract.OPERATION_DURATION)
    + '_count"}',
)
