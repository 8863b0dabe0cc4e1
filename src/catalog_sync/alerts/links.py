"""Links to the evidence about one sync."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catalog_sync.alerts import outcomes
from catalog_sync.alerts.service import config
from catalog_sync.domain.models import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from catalog_sync.settings.settings import Settings
    from otel_resilience.alerting.model.alert import Links


def links_of(settings: Settings, outcome: Outcome | None, report: Mapping[str, Any] | None, trace_id: str) -> Links:
    """The links of a notification about a sync with this outcome; those of a failed one if it succeeded."""
    of_outcome = {Outcome.PARTIAL: outcomes.SYNC_PARTIAL, Outcome.LOCK_UNAVAILABLE: outcomes.STORE_UNAVAILABLE}
    kind = of_outcome.get(outcome, outcomes.SYNC_FAILED) if outcome else outcomes.SYNC_FAILED
    error = (report or {}).get("error") or {}
    kind = error["type"] if error.get("type") in {outcomes.PUBLISH_REFUSED, outcomes.LOCK_LOST} else kind
    return config(settings).links(kind, trace_id)
