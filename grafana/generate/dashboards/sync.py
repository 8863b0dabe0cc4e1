"""Catalogue sync: is the catalogue fresh, did the last sync work, where did it fail?"""

from __future__ import annotations

from typing import Final

from grafana.generate.dashboard import Dashboard, Row
from grafana.generate.logql import FAILED, FAILED_SYNCS, SYNCS, spans
from grafana.generate.names import prometheus_name
from grafana.generate.panels import (
    FAILED_ATTEMPTS,
    GREEN,
    GREY,
    ORANGE,
    RED,
    YELLOW,
    bargauge,
    colors,
    dots,
    event_table,
    prom,
    stat,
    thresholds,
    timeseries,
    trace_table,
)  # fmt: skip
from grafana.generate.promql import IN_ENVIRONMENT, INTERVAL, ON_DASHBOARD, RANGE, RECORDED, match, per, ratio, total
from grafana.generate.rules.recording import (
    BUNDLES,
    BUNDLES_BEFORE,
    FAILED_OUTCOMES,
    GOOD_OUTCOMES,
    PUBLISHED_AT,
    SYNC_WORKED_AT,
)  # fmt: skip

from catalog_sync.observability import contract
from otel_resilience.telemetry import contract as resilience

_COUNT: Final = ON_DASHBOARD.of(contract.SYNC_DURATION, suffix="_count")
_BAD: Final = ON_DASHBOARD.of(contract.SYNC_DURATION, match(contract.OUTCOME, FAILED_OUTCOMES, "=~"), suffix="_count")
_OUTCOME_COLORS: Final = colors(
    COMPLETE=GREEN, PARTIAL=YELLOW, SKIPPED_LOCKED=GREY, LOCK_UNAVAILABLE=ORANGE, FAILED=RED
)
_AGE_LIMITS: Final = thresholds((None, GREEN), (43200, YELLOW), (86400, RED))
_COLUMNS: Final = {
    contract.KIND: "Kind",
    contract.OUTCOME: "Outcome",
    resilience.ERROR_TYPE: "Error",
    contract.BUNDLES: "Bundles",
    contract.QUARANTINED: "Set aside",
    contract.GROUPS_STALE: "Groups stale",
    contract.GROUPS_FAILED: "Groups failed",
    contract.ATTEMPTS: "Attempts",
    contract.RETRIES: "Retries",
    contract.DURATION: "Duration",
}


def _mean_duration(outcomes: str) -> str:
    of = match(contract.OUTCOME, outcomes, "=~")
    seconds, number = (
        total(ON_DASHBOARD.of(contract.SYNC_DURATION, of, suffix=suffix), INTERVAL, contract.KIND)
        for suffix in ("_sum", "_count")
    )
    return ratio(seconds, number)


_PUBLISHED_AT: Final = RECORDED.named(PUBLISHED_AT)
AGE: Final = stat(
    "Age of the catalogue",
    "Time since the published catalogue was read from the supplier. It keeps growing even while no process reports it."
    " Red from CATALOG_STALE_AFTER_S (a day) on.",
    [prom(f"time() - {_PUBLISHED_AT}", IN_ENVIRONMENT)],
    unit="s",
    limits=_AGE_LIMITS,
    none="never",
)
LAST_GOOD: Final = stat(
    "Last good sync",
    "Time since a sync ended COMPLETE or PARTIAL.",
    [prom(f"time() - max {per()} ({RECORDED.named(SYNC_WORKED_AT)})", IN_ENVIRONMENT)],
    unit="s",
    limits=_AGE_LIMITS,
    none="never",
)
OUTCOMES: Final = timeseries(
    "Syncs by outcome",
    "Each bar counts the syncs that ended in its interval. SKIPPED_LOCKED is not a failure: another sync was running.",
    [
        prom(total(_COUNT, INTERVAL, contract.OUTCOME), "{{catalog_outcome}}"),
        dots(match("span.name", contract.SYNC_SPAN)),
    ],
    bars=True,
    overrides=_OUTCOME_COLORS,
    width=10,
)

_FRESH: Final = Row(
    "Is the catalogue fresh?",
    (
        AGE,
        stat(
            "Bundles",
            "Bundles of all groups after the last good sync; a bundle in two groups counts twice.",
            [prom(f"sum {per()} ({RECORDED.named(BUNDLES)})", IN_ENVIRONMENT)],
            unit="locale",
        ),
        timeseries(
            "Age over time",
            "The line falls with every successful sync; if it only rises, nothing is being published.",
            [prom(f"time() - {_PUBLISHED_AT}", f"age {IN_ENVIRONMENT}")],
            unit="s",
            limits=_AGE_LIMITS,
            width=10,
        ),
        timeseries(
            "Reads by source",
            "Reads by the source of the data: fresh, stale, or the snapshot on disk (if Redis could not be read).",
            [prom(total(ON_DASHBOARD.of(contract.READS), INTERVAL, contract.SOURCE), "{{catalog_source}}")],
            bars=True,
            overrides=colors(fresh=GREEN, stale=YELLOW, snapshot=ORANGE),
            width=10,
        ),
    ),
)

_WORKED: Final = Row(
    "Did the last sync work?",
    (
        LAST_GOOD,
        stat(
            "Syncs that failed",
            "Syncs within the time range that ended FAILED or LOCK_UNAVAILABLE.",
            [prom(total(_BAD, RANGE))],
            limits=thresholds((None, GREEN), (1, RED)),
            none="0",
        ),
        OUTCOMES,
        timeseries(
            "Duration of syncs",
            "Mean duration of the syncs that ended in each interval, by kind, with failed ones shown separately. There"
            " are too few syncs for a percentile, which would only show a bucket bound.",
            [
                prom(_mean_duration(GOOD_OUTCOMES), "{{catalog_kind}}"),
                prom(_mean_duration(FAILED_OUTCOMES), "{{catalog_kind}} failed"),
            ],
            unit="s",
            width=10,
        ),
        event_table(
            "Last syncs",
            "Every sync that ended, newest first. The trace shows every call that it made.",
            SYNCS,
            _COLUMNS,
        ),
    ),
)

_CHANGE: Final = f"{RECORDED.named(BUNDLES)} / {RECORDED.named(BUNDLES_BEFORE)} - 1"
_GROUP_LEGEND: Final = f"{{{{catalog_group}}}} {IN_ENVIRONMENT}"
_ERRORS_OF_CALLS: Final = total(
    ON_DASHBOARD.of(resilience.ERRORS), INTERVAL, resilience.DEPENDENCY, resilience.OPERATION, resilience.ERROR_TYPE
)

_FAILED: Final = Row(
    "Where did it fail?",
    (
        event_table(
            "Failed syncs",
            "Syncs that published nothing. Open the trace, then the red attempt span: it shows the call, the attempt"
            " and the error.",
            FAILED_SYNCS,
            _COLUMNS,
        ),
        timeseries(
            "Failed attempts by call",
            "Failed attempts by dependency, operation and error. A retry may have succeeded.",
            [
                prom(_ERRORS_OF_CALLS, "{{resilience_dependency}} {{resilience_operation}}: {{error_type}}"),
                dots(*FAILED_ATTEMPTS),
            ],
            bars=True,
            width=24,
        ),
        trace_table(
            "Failed groups and publications",
            "Groups that could not be fetched and publications that were refused, each with its error."
            " They appear in Tempo after half a minute.",
            spans(f'name =~ "{contract.GROUP_SPAN}|{contract.PUBLISH_SPAN}"', FAILED)
            + f" | select(span.{contract.GROUP}, span.{resilience.ERROR_TYPE})",
        ),
        timeseries(
            "Rows set aside",
            "Unusable rows from the supplier, by reason. A sync refuses to publish if their share exceeds"
            " CATALOG_MAX_BAD_ROW_RATIO.",
            [prom(total(ON_DASHBOARD.of(contract.SYNC_QUARANTINED), INTERVAL, contract.REASON), "{{catalog_reason}}")],
            bars=True,
            width=8,
        ),
        bargauge(
            "Bundles by group",
            "Bundles of each group after the last good sync. A catalogue that shrinks by more than"
            " CATALOG_MAX_DROP_RATIO is not published.",
            [prom(RECORDED.named(BUNDLES), _GROUP_LEGEND)],
            unit="locale",
            height=11,  # names of groups are long: of lower bars they are cut, and of the legend beside
        ),
        timeseries(
            "Last change of bundles by group",
            "By what share of its bundles the last change made each group larger or smaller.",
            [prom(_CHANGE, _GROUP_LEGEND)],
            unit="percentunit",
            limits=thresholds((None, RED), (-0.3, GREEN)),
            lowest=None,
        ),
    ),
)

DASHBOARD: Final = Dashboard(
    uid="catalog-sync",
    title="Catalogue sync",
    description="Is the catalogue fresh, did the last sync work, where did it fail?",
    rows=(_FRESH, _WORKED, _FAILED),
    jobs=prometheus_name(contract.SYNC_DURATION) + "_count",
    time_from="now-24h",
)
