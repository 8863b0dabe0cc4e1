"""Retries: do they help, what do they cost, when are they not made?"""

from __future__ import annotations

from typing import Final

from grafana.generate.dashboard import Dashboard, Row
from grafana.generate.logql import events
from grafana.generate.names import label, prometheus_name
from grafana.generate.panels import (
    FAILED_ATTEMPTS,
    GREEN,
    GREY,
    OF_DEPENDENCIES,
    ORANGE,
    RED,
    YELLOW,
    colors,
    dots,
    event_table,
    prom,
    stat,
    thresholds,
    timeseries,
)  # fmt: skip
from grafana.generate.promql import INTERVAL, OF_DEPENDENCY, RANGE, match, quantile, ratio, total

from otel_resilience.telemetry import contract

_CALLS: Final = OF_DEPENDENCY.of(contract.OPERATION_DURATION, suffix="_count")
_ATTEMPTS: Final = OF_DEPENDENCY.of(contract.OPERATION_ATTEMPTS, suffix="_sum")
_SENDING: Final = OF_DEPENDENCY.of(contract.OPERATION_ATTEMPTS, suffix="_count")
_NOT_AT_ONCE: Final = OF_DEPENDENCY.of(
    contract.OPERATION_DURATION, match(contract.OUTCOME, "ok", "!="), suffix="_count"
)
_CURED: Final = OF_DEPENDENCY.of(
    contract.OPERATION_DURATION, match(contract.OUTCOME, "ok_after_retry"), suffix="_count"
)
_SURVIVING: Final = OF_DEPENDENCY.of(
    contract.OPERATION_DURATION,
    match(contract.OUTCOME, "ok_after_retry|fallback|failed|deadline", "=~"),
    suffix="_count",
)
_HOPELESS: Final = OF_DEPENDENCY.of(
    contract.SUPPRESSED,
    match(contract.SUPPRESS_REASON, "not_retryable|not_idempotent|idempotency_unknown", "=~"),
)
_OUTCOMES: Final = colors(
    ok=GREEN,
    ok_after_retry=YELLOW,
    fallback="light-orange",
    failed=RED,
    rejected=ORANGE,
    deadline="dark-red",
    cancelled=GREY,
)
_AMPLIFIED: Final = thresholds((None, GREEN), (1.2, YELLOW), (2, RED))
_BY: Final = contract.DEPENDENCY


def _cured(window: str, *by: str) -> str:
    """Each call that no retry may follow is counted once if its retry is not made."""
    surviving, hopeless = total(_SURVIVING, window, *by), total(_HOPELESS, window, *by)
    curable = f"({surviving} - ({hopeless} or 0 * {surviving}))"
    return ratio(total(_CURED, window, *by), curable)


_HELP: Final = Row(
    "Do retries help?",
    (
        stat(
            "Cured by a retry",
            "Share of calls that succeeded after a retry, out of those whose first attempt failed with a retryable"
            " error.",
            [prom(_cured(RANGE))],
            unit="percentunit",
            limits=thresholds((None, RED), (0.5, YELLOW), (0.9, GREEN)),
            none="no failures",
            height=8,
        ),
        timeseries(
            "Calls by outcome",
            "Protected calls that ended in each interval.",
            [
                prom(total(_CALLS, INTERVAL, contract.OUTCOME), "{{resilience_outcome}}"),
                dots('resilience_dependency!=""', OF_DEPENDENCIES),
            ],
            bars=True,
            overrides=_OUTCOMES,
            width=10,
        ),
        timeseries(
            "Calls that did not go well at once",
            "The same without the calls that succeeded at once, which would hide the others. ok_after_retry: a retry"
            " succeeded; fallback: the caller got a substitute value; rejected: nothing was sent.",
            [
                prom(total(_NOT_AT_ONCE, INTERVAL, contract.OUTCOME), "{{resilience_outcome}}"),
                dots(*FAILED_ATTEMPTS, OF_DEPENDENCIES),
            ],
            bars=True,
            overrides=_OUTCOMES,
            width=10,
        ),
        timeseries(
            "Share cured by a retry",
            "By dependency, over five minutes. If it is low despite many errors, the failures are not transient.",
            [prom(_cured("5m", _BY), "{{resilience_dependency}}")],
            unit="percentunit",
            maximum=1,
            width=24,
            height=7,
        ),
    ),
)

_COST: Final = Row(
    "What do they cost?",
    (
        stat(
            "Amplification",
            "Attempts sent per call within the time range. 1 means no retries; the budget keeps it near 1.2 in an"
            " outage.",
            [prom(ratio(total(_ATTEMPTS, RANGE), total(_SENDING, RANGE)))],
            unit="none",
            limits=_AMPLIFIED,
            none="no calls",
        ),
        timeseries(
            "Attempts per call",
            "Mean over five minutes, by dependency: the factor by which retries multiply the load.",
            [prom(ratio(total(_ATTEMPTS, "5m", _BY), total(_SENDING, "5m", _BY)), "{{resilience_dependency}}")],
            unit="none",
            limits=_AMPLIFIED,
            width=10,
        ),
        timeseries(
            "Retry budget in use",
            "Share of the budget that is spent; at 100 % no further retry is made.",
            [
                prom(
                    f"max by ({label(_BY)}) ({OF_DEPENDENCY.of(contract.BUDGET_UTILIZATION)})",
                    "{{resilience_dependency}}",
                )
            ],
            unit="percentunit",
            maximum=1,
            limits=thresholds((None, GREEN), (0.5, YELLOW), (1, RED)),
            width=10,
        ),
        timeseries(
            "Waits before retries",
            "95th percentile of the waits, by their source: backoff or the server's Retry-After.",
            [
                prom(
                    quantile(
                        0.95, OF_DEPENDENCY.of(contract.DELAY, suffix="_bucket"), "5m", _BY, contract.RETRY_SOURCE
                    ),
                    "{{resilience_dependency}}: {{resilience_retry_source}}",
                )
            ],
            unit="s",
            width=12,
        ),
        timeseries(
            "Retries made",
            "Retries in each interval, by the source of their wait.",
            [
                prom(
                    total(OF_DEPENDENCY.of(contract.DELAY, suffix="_count"), INTERVAL, _BY, contract.RETRY_SOURCE),
                    "{{resilience_dependency}}: {{resilience_retry_source}}",
                )
            ],
            bars=True,
            width=12,
        ),
    ),
)

_NOT_MADE: Final = Row(
    "When are they not made?",
    (
        timeseries(
            "Suppressed retries",
            "Retries that were not made although there were attempts left, by reason.",
            [
                prom(
                    total(OF_DEPENDENCY.of(contract.SUPPRESSED), INTERVAL, _BY, contract.SUPPRESS_REASON),
                    "{{resilience_dependency}}: {{resilience_retry_suppress_reason}}",
                ),
                dots(*FAILED_ATTEMPTS, OF_DEPENDENCIES),
            ],
            bars=True,
            width=24,
            height=7,
        ),
        event_table(
            "Calls that used up their attempts",
            "Calls that failed in their last attempt, each with the error and its trace.",
            events(contract.EVENT_RETRY_EXHAUSTED),
            {
                _BY: "Dependency",
                contract.OPERATION: "Operation",
                contract.ERROR_TYPE: "Error",
                contract.ATTEMPTS: "Attempts",
            },
            width=12,
        ),
        event_table(
            "Budgets that ran dry",
            "Each time a retry budget became empty; reported once per episode.",
            events(contract.EVENT_BUDGET_EXHAUSTED),
            {_BY: "Dependency"},
            width=12,
        ),
    ),
)

DASHBOARD: Final = Dashboard(
    uid="catalog-retries",
    title="Retries",
    description="Do retries help, what do they cost, when are they not made?",
    rows=(_HELP, _COST, _NOT_MADE),
    jobs=prometheus_name(contract.OPERATION_DURATION) + "_count",
    by_dependency=prometheus_name(contract.OPERATION_DURATION) + "_count",
)
