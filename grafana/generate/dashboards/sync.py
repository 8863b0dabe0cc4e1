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
from grafana.generate.promql import INTERVAL, ON_DASHBOARD, RANGE, match, ratio, total
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


AGE: Final = stat(
    "Age of the catalogue",
    "Time since the published catalogue was read from the supplier. Keeps growing while no process reports it. Red from"
    " CATALOG_STALE_AFTER_S (a day) on.",
    [prom(f"time() - {PUBLISHED_AT}")],
    unit="s",
    limits=_AGE_LIMITS,
    none="never",
)
LAST_GOOD: Final = stat(
    "Last good sync",
    "Time since a sync ended COMPLETE or PARTIAL.",
    [prom(f"time() - max({SYNC_WORKED_AT})")],
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
            [prom(f"sum({BUNDLES})")],
            unit="locale",
        ),
        timeseries(
            "Age over time",
            "The saw-tooth falls with every good sync; a line that only rises means that nothing is published.",
            [prom(f"time() - {PUBLISHED_AT}", "age")],
            unit="s",
            limits=_AGE_LIMITS,
            width=10,
        ),
        timeseries(
            "Reads by source",
            "Reads by where the data came from: fresh, stale, or the snapshot on disk (Redis could not be read).",
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
            "Mean of the syncs that ended in each interval, by kind; of a single sync, its duration. A percentile of"
            " so few would only show a bucket bound. Failed ones separately.",
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

_CHANGE: Final = f"{BUNDLES} / {BUNDLES_BEFORE} - 1"
_ERRORS_OF_CALLS: Final = total(
    ON_DASHBOARD.of(resilience.ERRORS), INTERVAL, resilience.DEPENDENCY, resilience.OPERATION, resilience.ERROR_TYPE
)

_FAILED: Final = Row(
    "Where did it fail?",
    (
        event_table(
            "Failed syncs",
            "Syncs that published nothing. Open the trace, then the red attempt span: it shows which call failed,"
            " at which attempt, with which error.",
            FAILED_SYNCS,
            _COLUMNS,
        ),
        timeseries(
            "Failed attempts by call",
            "Which operation of which dependency failed, and with which error. A retry may have succeeded.",
            [
                prom(_ERRORS_OF_CALLS, "{{resilience_dependency}} {{resilience_operation}}: {{error_type}}"),
                dots(*FAILED_ATTEMPTS),
            ],
            bars=True,
            width=24,
        ),
        trace_table(
            "Failed groups and publications",
            "Groups that could not be fetched, and publications that were refused, each with its error."
            " Tempo shows them half a minute late.",
            spans(f'name =~ "{contract.GROUP_SPAN}|{contract.PUBLISH_SPAN}"', FAILED)
            + f" | select(span.{contract.GROUP}, span.{resilience.ERROR_TYPE})",
        ),
        timeseries(
            "Rows set aside",
            "Rows of the supplier that could not be used, by reason. A sync refuses to publish above"
            " CATALOG_MAX_BAD_ROW_RATIO.",
            [prom(total(ON_DASHBOARD.of(contract.SYNC_QUARANTINED), INTERVAL, contract.REASON), "{{catalog_reason}}")],
            bars=True,
            width=8,
        ),
        bargauge(
            "Bundles by group",
            "Bundles of each group as the last good sync left it. A catalogue that shrinks by more than"
            " CATALOG_MAX_DROP_RATIO is not published.",
            [prom(BUNDLES, "{{catalog_group}}")],
            unit="locale",
            height=11,  # names of groups are long: of lower bars they are cut, and of the legend beside
        ),
        timeseries(
            "Last change of bundles by group",
            "By how much the last change made each group larger or smaller.",
            [prom(_CHANGE, "{{catalog_group}}")],
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
