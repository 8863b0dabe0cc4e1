"""Moments that Prometheus remembers by itself, so that no rule and no panel has to search days of samples for them.

Each series goes on with its last value: a process may be long gone, the moment stays.
"""

from __future__ import annotations

from typing import Any, Final

from grafana.generate.promql import IN_RULE, match, total
from grafana.generate.settings import EVALUATION_INTERVAL, Settings, duration

from catalog_sync import contract

FAILED_OUTCOMES: Final = "FAILED|LOCK_UNAVAILABLE"
GOOD_OUTCOMES: Final = "COMPLETE|PARTIAL"
JUST_NOW: Final = "2m"
"""Samples that arrive later than this after their time are not noticed as new."""

SYNC_FAILED_AT: Final = "catalog_kind:catalog_sync_failed:timestamp_seconds"
SYNC_WORKED_AT: Final = "catalog_kind:catalog_sync_worked:timestamp_seconds"
PUBLISHED_AT: Final = "catalog:catalog_published:timestamp_seconds"

SERIES: Final[dict[str, frozenset[str]]] = {
    SYNC_FAILED_AT: frozenset({"catalog_kind"}),
    SYNC_WORKED_AT: frozenset({"catalog_kind"}),
    PUBLISHED_AT: frozenset(),
}
"""Each with its labels."""


def syncs(outcomes: str = "") -> str:
    """The count of ended syncs, by default of all."""
    matchers = [match(contract.OUTCOME, outcomes, "=~")] if outcomes else []
    return IN_RULE.of(contract.SYNC_DURATION, *matchers, suffix="_count")


def rule_file(settings: Settings) -> dict[str, Any]:
    """As Prometheus loads it."""
    watched = duration(settings.watched)

    def remembered(name: str, expr: str) -> dict[str, str]:
        return {"record": name, "expr": f"{expr} or last_over_time({name}[{watched}])"}

    def moment(outcomes: str) -> str:
        return f"time() * ({total(syncs(outcomes), JUST_NOW, contract.KIND)} > bool 0) > 0"

    age = IN_RULE.of(contract.AGE)
    published = f"max((timestamp({age}) - {age}) or last_over_time({PUBLISHED_AT}[{watched}]))"
    return {
        "groups": [
            {
                "name": "remembered",
                "interval": duration(EVALUATION_INTERVAL),
                "rules": [
                    remembered(SYNC_FAILED_AT, moment(FAILED_OUTCOMES)),
                    remembered(SYNC_WORKED_AT, moment(GOOD_OUTCOMES)),
                    {"record": PUBLISHED_AT, "expr": published},
                ],
            }
        ]
    }
