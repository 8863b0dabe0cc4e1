"""Moments that Prometheus remembers by itself, so that no rule and no panel has to search days of samples for them.

Each series goes on with its last value: a process may be long gone, the moment stays.
"""

from __future__ import annotations

from typing import Any, Final

from grafana.generate.promql import ENVIRONMENT, IN_RULE, added, match, on, per, total
from grafana.generate.rules.causes import CAUSE_LABEL, CAUSE_SEEN_AT, EXPLAINED_FROM, conditions
from grafana.generate.settings import EVALUATION_INTERVAL, Settings, duration

from catalog_sync.observability import contract
from otel_resilience.telemetry import contract as resilience

LOST_OUTCOMES: Final = "failed|rejected|deadline"
"""Of protected calls: those that spend the error budget."""
FAILED_OUTCOMES: Final = "FAILED|LOCK_UNAVAILABLE"
GOOD_OUTCOMES: Final = "COMPLETE|PARTIAL"
JUST_NOW: Final = 120
"""Seconds. Samples that arrive later than this after their time are not noticed as new."""

SYNC_FAILED_AT: Final = "catalog_kind:catalog_sync_failed:timestamp_seconds"
SYNC_WORKED_AT: Final = "catalog_kind:catalog_sync_worked:timestamp_seconds"
PUBLISHED_AT: Final = "catalog:catalog_published:timestamp_seconds"
BUNDLES: Final = "catalog_group:catalog_sync_bundles:last"
"""Of each group, as the last good sync left it; a process that synced before it may still report another number."""
BUNDLES_BEFORE: Final = "catalog_group:catalog_sync_bundles:before"
"""What :data:`BUNDLES` was until it last changed."""
WAITING: Final = "resilience_channel:resilience_alert_queue_size:last"
DEAD_LETTERS: Final = "resilience_alert_dead_letter_size:last"
CALLS: Final = "resilience_dependency:resilience_calls:added5m"
"""Protected calls that ended within five minutes, recorded every five: their sum over days costs next to nothing."""
LOST: Final = "resilience_dependency:resilience_calls_lost:added5m"
BUDGET_STEP: Final = 300
"""Seconds."""

SERIES: Final[dict[str, frozenset[str]]] = {
    SYNC_FAILED_AT: frozenset({"catalog_kind", ENVIRONMENT}),
    SYNC_WORKED_AT: frozenset({"catalog_kind", ENVIRONMENT}),
    PUBLISHED_AT: frozenset({ENVIRONMENT}),
    CAUSE_SEEN_AT: frozenset({CAUSE_LABEL, "resilience_dependency", ENVIRONMENT}),
    EXPLAINED_FROM: frozenset({"catalog_kind", ENVIRONMENT}),
    BUNDLES: frozenset({"catalog_group", ENVIRONMENT}),
    BUNDLES_BEFORE: frozenset({"catalog_group", ENVIRONMENT}),
    WAITING: frozenset({"resilience_channel", ENVIRONMENT}),
    DEAD_LETTERS: frozenset({ENVIRONMENT}),
    CALLS: frozenset({"resilience_dependency", ENVIRONMENT}),
    LOST: frozenset({"resilience_dependency", ENVIRONMENT}),
}
"""Each with its labels."""

EXPECTED_FOR: Final = 7 * 86_400
"""Seconds for which an environment that reports nothing any more is expected to: then it is taken for retired."""


def syncs(outcomes: str = "") -> str:
    """The count of ended syncs, by default of all."""
    matchers = [match(contract.OUTCOME, outcomes, "=~")] if outcomes else []
    return IN_RULE.of(contract.SYNC_DURATION, *matchers, suffix="_count")


def last_sync_failed(settings: Settings) -> str:
    """The kinds of sync whose last run failed; of a failure and a success just now, the failure counts."""
    just_now = total(syncs(FAILED_OUTCOMES), duration(JUST_NOW), contract.KIND)
    not_cured = f"{SYNC_FAILED_AT} > {_worked_at()}"
    return f"({just_now} > 0 or ({not_cured}) > time() - {settings.watched})"


def expected_since(settings: Settings) -> str:
    """What an environment reported last before this moment is forgotten."""
    return f"time() - {settings.remembered(EXPECTED_FOR)}"


def seen_lately(settings: Settings) -> str:
    """The environments in which a sync ended within the time for which they are expected to go on."""
    since = expected_since(settings)
    return f"max {per()} ({SYNC_WORKED_AT} > {since} or {SYNC_FAILED_AT} > {since})"


def _worked_at() -> str:
    return f"({SYNC_WORKED_AT} or 0 * {SYNC_FAILED_AT})"


def _explained_from(settings: Settings) -> str:
    """The last good sync, or a while before the failed one, whichever is later. Both moments lag by up to JUST_NOW."""
    by = f"and {on(contract.KIND)} {last_sync_failed(settings)}"
    since_good = f"{_worked_at()} - {settings.remembered(JUST_NOW)}"
    since_before = f"{SYNC_FAILED_AT} - {settings.remembered(settings.recent)}"
    return f"(({since_before} > {since_good}) or ({since_good})) {by}"


def _causes(settings: Settings) -> list[dict[str, Any]]:
    """Their moments lag as those of the syncs do: a cause that a good sync ended explains no failure after it."""

    def seen(name: str, condition: str) -> str:
        before = f"{CAUSE_SEEN_AT}{{{match(CAUSE_LABEL, name)}}}[{duration(settings.watched)}]"
        unlabelled = f"max without ({CAUSE_LABEL}) (last_over_time({before}))"
        return f"time() * ({condition} > bool 0) > 0 or {unlabelled}"

    return [
        {"record": CAUSE_SEEN_AT, "expr": seen(name, condition), "labels": {CAUSE_LABEL: name}}
        for name, condition in conditions(settings, JUST_NOW).items()
    ]


def _bundles(watched: str) -> list[dict[str, str]]:
    """The value before comes first: it is compared with what the other one was until now."""
    just_synced = f"({added(syncs(GOOD_OUTCOMES), duration(JUST_NOW))} > 0)"
    of_process = f"and {on('job', 'instance')} {just_synced}"
    now = f"max {per(contract.GROUP)} ({IN_RULE.of(contract.SYNC_BUNDLES)} {of_process})"
    last = f"last_over_time({BUNDLES}[{watched}])"
    return [
        {
            "record": BUNDLES_BEFORE,
            "expr": f"{last} != {on(contract.GROUP)} {now} or last_over_time({BUNDLES_BEFORE}[{watched}])",
        },
        {"record": BUNDLES, "expr": f"{now} or {last}"},
    ]


def _budget() -> list[dict[str, str]]:
    def gained(*matchers: str) -> str:
        calls = IN_RULE.of(resilience.OPERATION_DURATION, *matchers, suffix="_count")
        return total(calls, duration(BUDGET_STEP), resilience.DEPENDENCY)

    lost = gained(match(resilience.OUTCOME, LOST_OUTCOMES, "=~"))
    return [
        {"record": CALLS, "expr": f"{gained()} > 0"},
        {"record": LOST, "expr": f"{lost} > 0"},
    ]


def rule_file(settings: Settings) -> dict[str, Any]:
    """In Prometheus' format."""
    watched = duration(settings.watched)

    def remembered(name: str, expr: str) -> dict[str, str]:
        return {"record": name, "expr": f"{expr} or last_over_time({name}[{watched}])"}

    def moment(outcomes: str) -> str:
        return f"time() * ({total(syncs(outcomes), duration(JUST_NOW), contract.KIND)} > bool 0) > 0"

    age = IN_RULE.of(contract.AGE)
    remembered_age = f"last_over_time({PUBLISHED_AT}[{watched}]) > {expected_since(settings)}"
    published = f"max {per()} ((timestamp({age}) - {age}) or {remembered_age})"
    waiting = f"max {per(resilience.CHANNEL)} ({IN_RULE.of(resilience.ALERT_QUEUE)})"
    return {
        "groups": [
            {"name": "budget", "interval": duration(BUDGET_STEP), "rules": _budget()},
            {
                "name": "remembered",
                "interval": duration(EVALUATION_INTERVAL),
                "rules": [
                    remembered(SYNC_FAILED_AT, moment(FAILED_OUTCOMES)),
                    remembered(SYNC_WORKED_AT, moment(GOOD_OUTCOMES)),
                    {"record": PUBLISHED_AT, "expr": published},
                    *_bundles(watched),
                    remembered(WAITING, waiting),
                    remembered(DEAD_LETTERS, f"max {per()} ({IN_RULE.of(resilience.ALERT_DEAD_LETTERS)})"),
                    *_causes(settings),
                    {"record": EXPLAINED_FROM, "expr": _explained_from(settings)},
                ],
            },
        ]
    }
