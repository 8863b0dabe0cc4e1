"""Circuit breakers: what state are they in, why did they change, what did it cost, how long until recovery?"""

from __future__ import annotations

from typing import Final

from grafana.generate.dashboard import Dashboard, Row
from grafana.generate.logql import BREAKER_CHANGES, events
from grafana.generate.names import label, prometheus_name
from grafana.generate.panels import (
    BLUE,
    FAILED_ATTEMPTS,
    GREEN,
    OF_DEPENDENCIES,
    RED,
    YELLOW,
    Target,
    dots,
    event_table,
    prom,
    stat,
    state_timeline,
    thresholds,
    timeseries,
)  # fmt: skip
from grafana.generate.promql import INTERVAL, OF_DEPENDENCY, RANGE, match, quantile, ratio, total
from grafana.generate.settings import Settings, duration

from catalog_sync.settings.settings import BreakerSettings
from otel_resilience.telemetry import contract

_STATES: Final = {"closed": 0, "half_open": 1, "open": 2, "forced_open": 3, "shadow": 4}
_SHOWN: Final = {
    0: ("closed", GREEN),
    1: ("half open", YELLOW),
    2: ("open", RED),
    3: ("forced open", "dark-red"),
    4: ("shadow", BLUE),
}
_ORDER_OF_ALARM: Final = ("forced_open", "open", "half_open", "shadow", "closed")
_RECOVERY: Final = OF_DEPENDENCY.of(contract.BREAKER_RECOVERY, suffix="_bucket")

_REJECTING: Final = OF_DEPENDENCY.of(contract.BREAKER_STATUS, match(contract.BREAKER_STATE, "open|forced_open", "=~"))


def _state() -> str:
    """The number of the state; if processes differ, the one that is most alarming."""
    parts = []
    for state in _ORDER_OF_ALARM:
        series = OF_DEPENDENCY.of(contract.BREAKER_STATUS, match(contract.BREAKER_STATE, state))
        parts.append(f"max by ({label(contract.DEPENDENCY)}) ({series} == 1) * 0 + {_STATES[state]}")
    return " or ".join(parts)


def _counted(metric: contract.Metric, legend: str, *by: str) -> Target:
    return prom(total(OF_DEPENDENCY.of(metric), INTERVAL, *by), legend)


_DOTS: Final = dots(*FAILED_ATTEMPTS, OF_DEPENDENCIES)


OPEN_CIRCUITS: Final = stat(
    "Open circuits",
    "Circuits that reject calls now, in any process.",
    [prom(f"count(max by ({label(contract.DEPENDENCY)}) ({_REJECTING} == 1)) or vector(0)")],
    limits=thresholds((None, GREEN), (1, RED)),
    none="0",
    height=6,
)

_WHERE: Final = Row(
    "What state are they in?",
    (
        OPEN_CIRCUITS,
        state_timeline(
            "State of the circuits",
            "One lane per dependency with the most severe state of all processes. A gap means that no process"
            " reported one.",
            [prom(_state(), "{{resilience_dependency}}")],
            _SHOWN,
            width=20,
            height=6,
        ),
    ),
)

_BREAKER: Final = BreakerSettings.read({})
_WINDOW: Final = duration(round(_BREAKER.monitoring_period))
_BY_PROCESS: Final = (contract.DEPENDENCY, "instance")
_NAMED: Final = "{{resilience_dependency}}"


def _worst(expression: str) -> str:
    """Breakers count in each process for itself; of jobs there are too many for a line each."""
    return f"max by ({label(contract.DEPENDENCY)}) ({expression})"


_FAILURES: Final = total(
    OF_DEPENDENCY.of(contract.ERRORS, match(contract.ERROR_CLASS, "transient|transient_slow", "=~")),
    _WINDOW,
    *_BY_PROCESS,
)
_ATTEMPTS: Final = total(OF_DEPENDENCY.of(contract.OPERATION_ATTEMPTS, suffix="_sum"), _WINDOW, *_BY_PROCESS)
_CALLS: Final = total(OF_DEPENDENCY.of(contract.OPERATION_DURATION, suffix="_count"), _WINDOW, *_BY_PROCESS)
_QUICK: Final = total(
    OF_DEPENDENCY.of(contract.OPERATION_DURATION, match("le", f"{Settings().slow_call:g}"), suffix="_bucket"),
    _WINDOW,
    *_BY_PROCESS,
)

_NEAR: Final = Row(
    "How near are they to opening?",
    (
        timeseries(
            "Failures in the window",
            f"Failed attempts of the last {_WINDOW} that a breaker counts, in the process with the most; *Instance*"
            " selects a process. The line is the default of"
            f" ERROR_CIRCUIT_BREAKER_THRESHOLD ({_BREAKER.threshold}), at which a circuit"
            " opens.",
            [prom(_worst(_FAILURES), _NAMED)],
            unit="none",
            limits=thresholds((None, GREEN), (_BREAKER.threshold, RED)),
        ),
        timeseries(
            "Failure rate",
            f"Share of the attempts of the last {_WINDOW} that failed in a way that a breaker counts, in the worst"
            " process. The line is at one half, where many rate-based breakers open.",
            [prom(_worst(ratio(_FAILURES, _ATTEMPTS)), _NAMED)],
            unit="percentunit",
            maximum=1,
            limits=thresholds((None, GREEN), (0.5, RED)),
        ),
        timeseries(
            "Calls in the window",
            f"Protected calls that ended in the last {_WINDOW}, in the process with the most.",
            [prom(_worst(_CALLS), _NAMED)],
            unit="none",
        ),
        timeseries(
            "Slow-call rate",
            f"Share of the calls of the last {_WINDOW} that took longer than {Settings().slow_call:g} s, waits and"
            f" retries included, in the worst process. Above the line, at {Settings().slow_share:.0%}, DependencySlow"
            " may fire.",
            [prom(_worst(f"1 - ({ratio(_QUICK, _CALLS)})"), _NAMED)],
            unit="percentunit",
            maximum=1,
            limits=thresholds((None, GREEN), (Settings().slow_share, YELLOW)),
            width=24,
            height=7,
        ),
    ),
)

_WHY: Final = Row(
    "Why did they change?",
    (
        timeseries(
            "Transitions",
            "State changes in each interval, by reason.",
            [
                _counted(
                    contract.BREAKER_TRANSITIONS,
                    "{{resilience_dependency}}: {{resilience_from}} → {{resilience_to}} ({{resilience_reason}})",
                    contract.DEPENDENCY,
                    contract.BREAKER_FROM,
                    contract.BREAKER_TO,
                    contract.BREAKER_REASON,
                ),
                _DOTS,
            ],
            bars=True,
            width=24,
            height=7,
        ),
        event_table(
            "Changes of state",
            "Each transition with the trace of the call in which it happened.",
            BREAKER_CHANGES,
            {
                contract.DEPENDENCY: "Dependency",
                contract.BREAKER_FROM: "From",
                contract.BREAKER_TO: "To",
                contract.BREAKER_REASON: "Reason",
                contract.ERROR_TYPE: "Error",
                contract.PREFIX + "circuit_breaker.window.failures": "Failures",
                contract.PREFIX + "circuit_breaker.window.calls": "Calls",
            },
        ),
    ),
)

_COST: Final = Row(
    "What did it cost?",
    (
        timeseries(
            "Rejected calls",
            "Calls that an open circuit rejected; nothing was sent to the dependency. In shadow mode: calls that"
            " passed but would have been rejected by an enforcing breaker.",
            [
                _counted(contract.BREAKER_REJECTIONS, "{{resilience_dependency}}", contract.DEPENDENCY),
                _counted(contract.BREAKER_SHADOW_REJECTIONS, "{{resilience_dependency}} (shadow)", contract.DEPENDENCY),
                _DOTS,
            ],
            bars=True,
            width=12,
        ),
        timeseries(
            "Late results",
            "Results that arrived after the state had changed and were therefore not counted.",
            [_counted(contract.BREAKER_STALE, "{{resilience_dependency}}", contract.DEPENDENCY), _DOTS],
            bars=True,
            width=12,
        ),
    ),
)

_BACK: Final = Row(
    "How long until recovery?",
    (
        stat(
            "Median recovery",
            "Median time from the opening of a circuit until it was closed again, within the time range.",
            [prom(quantile(0.5, _RECOVERY, RANGE))],
            unit="s",
            limits=thresholds((None, GREEN), (120, YELLOW), (600, RED)),
            none="none",
        ),
        timeseries(
            "Recovery time",
            "95th percentile of the recoveries that ended within the interval.",
            [
                prom(quantile(0.95, _RECOVERY, INTERVAL, contract.DEPENDENCY), "{{resilience_dependency}}"),
                dots('resilience_dependency!=""', OF_DEPENDENCIES),
            ],
            unit="s",
            interval="5m",
            width=10,
        ),
        event_table(
            "Probes without an answer",
            "Half-open probes whose lease expired: the dependency accepted the call but did not respond.",
            events(contract.EVENT_PROBE_EXPIRED),
            {contract.DEPENDENCY: "Dependency", contract.PREFIX + "circuit_breaker.probes": "Probes"},
            width=10,
        ),
    ),
)

DASHBOARD: Final = Dashboard(
    uid="catalog-breakers",
    title="Circuit breakers",
    description="What state are the circuits in, why did they change, what did it cost, how long until recovery?",
    rows=(_WHERE, _NEAR, _WHY, _COST, _BACK),
    jobs=prometheus_name(contract.BREAKER_STATUS),
    by_dependency=prometheus_name(contract.BREAKER_STATUS),
)
