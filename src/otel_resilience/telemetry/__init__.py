"""The library's OpenTelemetry spans, events and metrics, as defined in ``contract``.

Nothing here raises into the application. Breakers, budgets and storages are known here only through the protocols in
:mod:`otel_resilience.telemetry.gauges`.
"""

from otel_resilience.telemetry.events import (
    budget_exhausted,
    limit_exceeded,
    limit_waited,
    probe_expired,
    rejected,
    stale_result,
    state_changed,
    storage_damaged,
    storage_degraded,
    storage_restored,
    storage_step,
)
from otel_resilience.telemetry.gauges import (
    living_breakers,
    watch_breaker,
    watch_budgets,
    watch_concurrency,
    watch_storage,
)
from otel_resilience.telemetry.listener import (
    Listener,
    active,
    emit,
    events_logger,
    global_listener,
    never_raise,
    observe,
    use_providers,
)

__all__ = [
    "Listener",
    "active",
    "budget_exhausted",
    "emit",
    "events_logger",
    "global_listener",
    "limit_exceeded",
    "limit_waited",
    "living_breakers",
    "never_raise",
    "observe",
    "probe_expired",
    "rejected",
    "stale_result",
    "state_changed",
    "storage_damaged",
    "storage_degraded",
    "storage_restored",
    "storage_step",
    "use_providers",
    "watch_breaker",
    "watch_budgets",
    "watch_concurrency",
    "watch_storage",
]
