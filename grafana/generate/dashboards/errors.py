"""Errors: how many and how bad, do they pass by themselves, whose are they, and what does one look like?"""

from __future__ import annotations

from typing import Final

from grafana.generate import links
from grafana.generate.dashboard import Dashboard, Row
from grafana.generate.dashboards.budget import BURN_RATE, LEFT_BY_DEPENDENCY
from grafana.generate.logql import FAILED, events, spans, where
from grafana.generate.names import prometheus_name
from grafana.generate.panels import (
    BLUE,
    FAILED_ATTEMPTS,
    GREEN,
    GREY,
    OF_DEPENDENCIES,
    ORANGE,
    RED,
    YELLOW,
    Panel,
    colors,
    dots,
    event_table,
    metric_table,
    prom,
    stat,
    thresholds,
    timeseries,
    trace_table,
)  # fmt: skip
from grafana.generate.promql import INTERVAL, OF_DEPENDENCY, OF_JOB, RANGE, match, quantile, ratio, total

from otel_resilience.telemetry import contract

_ERRORS: Final = OF_DEPENDENCY.of(contract.ERRORS)
_CALLS: Final = OF_DEPENDENCY.of(contract.OPERATION_DURATION, suffix="_count")
_LOST: Final = OF_DEPENDENCY.of(
    contract.OPERATION_DURATION, match(contract.OUTCOME, "failed|rejected|deadline", "=~"), suffix="_count"
)
_BUCKETS: Final = OF_DEPENDENCY.of(contract.OPERATION_DURATION, suffix="_bucket")
_PERMANENT: Final = OF_DEPENDENCY.of(contract.ERRORS, match(contract.ERROR_CLASS, "permanent"))
_OBJECTIVE: Final = 0.01
_SHARE_LIMITS: Final = thresholds((None, GREEN), (_OBJECTIVE, YELLOW), (0.1, RED))
_SEVERITIES: Final = colors(LOW=BLUE, MEDIUM=YELLOW, HIGH=ORANGE, CRITICAL=RED)
_CLASSES: Final = colors(transient=BLUE, transient_slow="semi-dark-blue", throttled=YELLOW, permanent=RED, local=GREY)

_DOTS: Final = dots(*FAILED_ATTEMPTS, OF_DEPENDENCIES)
_CALLS_DOTS: Final = dots('resilience_dependency!=""', OF_DEPENDENCIES)
_TRACES: Final = {
    "title": "Failed traces with this error",
    "url": links.traces(
        '{ status = error && span.resilience.dependency = "{dependency}" && span.error.type = "{error}" }',
        {
            "dependency": "${__data.fields.Dependency:percentencode}",
            "error": "${__data.fields.Error:percentencode}",
        },
    ),
    "targetBlank": True,
}

_HOW_MANY: Final = Row(
    "How many errors are there, and how bad are they?",
    (
        stat(
            "Failed calls",
            "Share of protected calls within the time range that failed after all retries, were rejected or exceeded"
            " their deadline. The objective is below 1 %.",
            [prom(ratio(total(_LOST, RANGE), total(_CALLS, RANGE)))],
            unit="percentunit",
            limits=_SHARE_LIMITS,
            none="no calls",
        ),
        stat(
            "Failed attempts",
            "Attempts that failed within the time range, including those followed by a successful retry.",
            [prom(total(_ERRORS, RANGE))],
            none="0",
        ),
        timeseries(
            "Errors by severity",
            "Failed attempts by severity. HIGH and CRITICAL raise an alert.",
            [prom(total(_ERRORS, INTERVAL, contract.ERROR_SEVERITY), "{{resilience_error_severity}}"), _DOTS],
            bars=True,
            overrides=_SEVERITIES,
            width=10,
        ),
        timeseries(
            "Errors by type",
            "Failed attempts by error.type: an HTTP status, a Redis reply, or a name from the closed vocabulary.",
            [prom(total(_ERRORS, INTERVAL, contract.ERROR_TYPE), "{{error_type}}"), _DOTS],
            bars=True,
            width=10,
        ),
    ),
)

_PASSING: Final = Row(
    "Do they pass by themselves?",
    (
        stat(
            "Permanent share",
            "Share of failed attempts within the time range for which no retry can help.",
            [prom(ratio(total(_PERMANENT, RANGE), total(_ERRORS, RANGE)))],
            unit="percentunit",
            limits=thresholds((None, GREEN), (0.05, YELLOW), (0.5, RED)),
            none="no errors",
        ),
        timeseries(
            "Errors by class",
            "Transient errors are retried, throttled ones after the requested wait, permanent ones not at all.",
            [prom(total(_ERRORS, INTERVAL, contract.ERROR_CLASS), "{{resilience_error_class}}")],
            bars=True,
            overrides=_CLASSES,
            width=10,
        ),
        timeseries(
            "Permanent errors by type",
            "These errors need a person: to replace a key, adapt to a changed API, or correct a setting.",
            [
                prom(
                    total(_PERMANENT, INTERVAL, contract.DEPENDENCY, contract.ERROR_TYPE),
                    "{{resilience_dependency}}: {{error_type}}",
                ),
                _DOTS,
            ],
            bars=True,
            width=10,
        ),
    ),
)

_ENDS: Final = {"successful": "STATUS_CODE_UNSET", "failed": "STATUS_CODE_ERROR"}


def _attempt_latency(name: str, status: str) -> Panel:
    """From span metrics: our histograms do not time attempts, and these show how each ended."""
    selected = (match("span.name", contract.ATTEMPT_SPAN), f'status_code="{status}"', OF_DEPENDENCIES)
    buckets = OF_JOB.named("traces_span_metrics_duration_seconds_bucket", *selected)
    return timeseries(
        f"Latency of {name} attempts",
        "Median, 95th and 99th percentile over five minutes, by dependency, without waits. For Redis, only calls that"
        " failed or took at least a second have spans.",
        [
            *(
                prom(quantile(share, buckets, "5m", contract.DEPENDENCY), f"{{{{resilience_dependency}}}} {legend}")
                for share, legend in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
            ),
            dots(*selected),
        ],
        unit="s",
        width=12,
        height=11,  # three lines for each of five dependencies: the legend of lower panels is cut
    )  # fmt: skip


_WHOSE: Final = Row(
    "Which dependency is it?",
    (
        timeseries(
            "Share of failed calls by dependency",
            "Share of the protected calls ended within five minutes that failed after all retries.",
            [
                prom(
                    ratio(total(_LOST, "5m", contract.DEPENDENCY), total(_CALLS, "5m", contract.DEPENDENCY)),
                    "{{resilience_dependency}}",
                ),
                _DOTS,
            ],
            unit="percentunit",
            limits=_SHARE_LIMITS,
        ),
        timeseries(
            "Calls by dependency",
            "Protected calls that ended in each interval, without retries.",
            [prom(total(_CALLS, INTERVAL, contract.DEPENDENCY), "{{resilience_dependency}}")],
            bars=True,
        ),
        timeseries(
            "Duration of calls by dependency",
            "95th percentile over five minutes, waits and retries included. Dots are example traces.",
            [prom(quantile(0.95, _BUCKETS, "5m", contract.DEPENDENCY), "{{resilience_dependency}}"), _CALLS_DOTS],
            unit="s",
        ),
        *(_attempt_latency(name, status) for name, status in _ENDS.items()),
        BURN_RATE,
        LEFT_BY_DEPENDENCY,
    ),
)

_FINGERPRINT: Final = {
    contract.DEPENDENCY: "Dependency",
    contract.OPERATION: "Operation",
    contract.ERROR_TYPE: "Error",
    contract.ERROR_CLASS: "Class",
    contract.ERROR_SEVERITY: "Severity",
}
_TOP: Final = f"topk(20, {total(_ERRORS, RANGE, *_FINGERPRINT)} > 0)"

_EXAMPLE: Final = Row(
    "What does one look like?",
    (
        metric_table(
            "Top fingerprints",
            "The most frequent combinations of call and error within the time range. Click a number to open traces"
            " with that failure.",
            _TOP,
            _FINGERPRINT,
            _TRACES,
        ),
        event_table(
            "Latest errors",
            "Errors classified as HIGH or CRITICAL, each with its trace.",
            events(contract.EVENT_ERROR_CLASSIFIED, where(contract.ERROR_SEVERITY, "HIGH|CRITICAL", "=~")),
            _FINGERPRINT,
        ),
        trace_table(
            "Traces with failed attempts",
            "Traces in which an attempt failed; the sampler keeps every trace with an error.",
            spans(f'name = "{contract.ATTEMPT_SPAN}"', FAILED),
        ),
    ),
)

DASHBOARD: Final = Dashboard(
    uid="catalog-errors",
    title="Errors",
    description="How many errors are there, do they pass by themselves, whose are they, and what does one look like?",
    rows=(_HOW_MANY, _PASSING, _WHOSE, _EXAMPLE),
    jobs=prometheus_name(contract.OPERATION_DURATION) + "_count",
    by_dependency=prometheus_name(contract.OPERATION_DURATION) + "_count",
)
