"""Why syncs fail, as conditions of their own.

A failed sync has a cause that another critical rule names, or none that we know. Only one of the two pages: if a
cause is known, *SyncFailed* is silent, and the alert of the cause lasts until a sync works. So an incident is one
alert, and no alert has to wait for another one in the same group of messages.
"""

from __future__ import annotations

from typing import Final

from grafana.generate.promql import IN_RULE, match, on, per, total
from grafana.generate.settings import Settings, duration

from catalog_sync.observability import contract as catalog
from otel_resilience.alerting import heartbeat
from otel_resilience.alerting.delivery import dispatch as delivery
from otel_resilience.telemetry import contract

CIRCUIT_OPEN: Final = "CircuitBreakerOpen"
AUTHENTICATION: Final = "AuthenticationFailed"
STORE: Final = "StoreFailing"
REFUSED: Final = "PublicationRefused"

CREDENTIAL_ERRORS: Final = "401|403|redis_auth|redis_noauth|redis_wrongpass|redis_noperm"
REFUSED_ERRORS: Final = "publish_refused|staging_incomplete"
STORE_DEPENDENCY: Final = "redis"

LAST_WORD: Final = 90
"""Seconds for which the last state of a process counts: longer than between two exports, or between two runs of a job
that cron starts each minute, and much shorter than Prometheus goes on showing it."""

NO_SYNC_NEEDS: Final = match(contract.DEPENDENCY, f"{delivery.DEPENDENCY_PREFIX}.*|{heartbeat.DEPENDENCY}", "!~")
"""The ways of alerts have protection too; trouble with them explains no failed sync."""

CAUSE_LABEL: Final = "catalog_cause"
CAUSE_SEEN_AT: Final = "catalog_cause:catalog_failure_cause:timestamp_seconds"
"""When the condition of a cause was last true, by the rule that names it and the dependency it is about."""
EXPLAINED_FROM: Final = "catalog_kind:catalog_failure_explained_from:timestamp_seconds"
"""While the last sync of a kind is a failed one: a cause seen since this moment explains it."""


def conditions(settings: Settings, within: int) -> dict[str, str]:
    """The condition of each cause by the name of its rule, over ``within`` seconds; true if positive."""
    return {
        CIRCUIT_OPEN: _circuit_open(settings),
        AUTHENTICATION: _errors(within, match(contract.ERROR_TYPE, CREDENTIAL_ERRORS, "=~")),
        STORE: _store_failing(within),
        REFUSED: failed_syncs_with(REFUSED_ERRORS, within),
    }


def until_a_sync_works(name: str, settings: Settings, *by: str) -> str:
    """The condition of a cause, and after it as long as it explains a failed sync that no good one has followed."""
    seen = IN_RULE.named(CAUSE_SEEN_AT, match(CAUSE_LABEL, name), NO_SYNC_NEEDS)
    since = f"{on()} group_left () min {per()} ({EXPLAINED_FROM})"
    return f"{conditions(settings, settings.recent)[name]} > 0 or max {per(*by)} ({seen}) - {since} > 0"


def unless_explained(settings: Settings) -> str:
    """Leaves out the kinds of sync whose failure is explained by a cause.

    A refused publication is counted by the Collector, seconds after the sync; no recording rule may delay it further.
    """
    seen = IN_RULE.named(CAUSE_SEEN_AT, NO_SYNC_NEEDS)
    by_cause = f"{EXPLAINED_FROM} < {on()} group_left () max {per()} ({seen})"
    refused = f"{failed_syncs_with(REFUSED_ERRORS, settings.recent)} > 0"
    return f"unless {on(catalog.KIND)} ({by_cause}) unless {on()} ({refused})"


def failed_syncs_with(error_types: str, within: int) -> str:
    """Failed syncs by what they failed with: the Collector's span metrics know the error, our histogram does not."""
    selector = IN_RULE.named(
        "traces_span_metrics_calls_total",
        f'span_name="{catalog.SYNC_SPAN}"',
        match(contract.ERROR_TYPE, error_types, "=~"),
    )
    return total(selector, duration(within))


def _errors(window: int, *matchers: str) -> str:
    return total(IN_RULE.of(contract.ERRORS, *matchers), duration(window), contract.DEPENDENCY)


def _circuit_open(settings: Settings) -> str:
    """If Redis itself is the trouble, StoreFailing names it: both would be two pages for one outage.

    A process that ended with an open circuit does not continue to reject calls: its last value counts for a while only.
    """
    status = IN_RULE.of(contract.BREAKER_STATUS, match(contract.BREAKER_STATE, "open|forced_open", "=~"))
    is_open = f"last_over_time({status}[{duration(LAST_WORD)}])"
    opened = IN_RULE.of(contract.BREAKER_TRANSITIONS, match(contract.BREAKER_TO, "open|forced_open", "=~"))
    by = contract.DEPENDENCY
    either = f"(max {per(by)} ({is_open}) > 0 or {total(opened, '1m', by)})"
    return f"({either} unless {on(by)} ({_store_failing(settings.recent * 3)}))"


def _store_failing(window: int) -> str:
    """Errors that retries cure now and then are normal; grave ones are not."""

    def errors(severities: str) -> str:
        return _errors(
            window,
            match(contract.DEPENDENCY, STORE_DEPENDENCY),
            match(contract.ERROR_TYPE, CREDENTIAL_ERRORS, "!~"),
            match(contract.ERROR_SEVERITY, severities, "=~"),
        )

    return f"({errors('HIGH|CRITICAL')} > 0 or {errors('LOW|MEDIUM')} > 2)"
