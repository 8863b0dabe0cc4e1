"""Incidents, outbox and dead letters as they lie on the disk and in Redis, for people who look."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from catalog_sync.alerts.routes import routes
from catalog_sync.alerts.service import config, folder, open_store, usable
from catalog_sync.domain.errors import IncidentNotFoundError
from catalog_sync.domain.times import rfc3339
from otel_resilience.alerting import Incident, Outbox, Phase
from otel_resilience.alerting.persistence.recovery import Archive

if TYPE_CHECKING:
    from catalog_sync.alerts.service import CatalogAlerts
    from catalog_sync.settings.settings import Settings


def overview(settings: Settings) -> dict[str, Any]:
    """The object ``alerts`` of ``status``: ``channels``, ``incidents``, ``outbox``, ``dead_letters``.

    Incidents that are over are not in it. Reads files and asks Redis, for at most a second or two. Raises
    ``ConfigurationError`` where a channel cannot be used as it is set.
    """
    channels = usable(lambda: routes(settings.alerts))
    outbox = Outbox(folder(settings))
    store, close = open_store(settings)
    try:
        known = Archive(store, None, config(settings).owner).incidents() or []
    finally:
        close()
    return {
        "channels": [route.name for route in channels],
        "incidents": [
            _incident(each) for each in sorted(known, key=lambda each: each.first_seen) if each.phase is Phase.OPEN
        ],
        "outbox": [each.to_json() for each in outbox.waiting()],
        "dead_letters": outbox.dead_letters(),
    }


class KeptAlerts:
    """:func:`overview` for the API: counts where that is enough, read in a thread."""

    def __init__(self, settings: Settings, alerts: CatalogAlerts) -> None:
        """``alerts`` carries out what people decide."""
        self._settings = settings
        self._alerts = alerts

    async def overview(self) -> dict[str, Any]:
        """Open incidents, and how many notifications wait or were given up."""
        seen = await asyncio.to_thread(overview, self._settings)
        return {
            "set_up": True,
            "incidents": seen["incidents"],
            "outbox": len(seen["outbox"]),
            "dead_letters": len(seen["dead_letters"]),
        }

    async def act(self, action: str, identifier: str, *, seconds: float, by: str | None, reason: str | None) -> None:
        """See :meth:`CatalogAlerts.act`. Raises ``IncidentNotFoundError``."""
        found = await asyncio.to_thread(self._alerts.act, action, identifier, seconds=seconds, by=by, reason=reason)
        if found is None:
            raise IncidentNotFoundError(f"there is no open incident {identifier!r}")


def _incident(incident: Incident) -> dict[str, Any]:
    alert = incident.alert
    return {
        "id": incident.id,
        "kind": alert.kind,
        "status": "firing",
        "severity": incident.severity.value,
        "title": alert.title,
        "summary": alert.summary,
        "dependency": alert.dependency,
        "error_type": alert.error_type,
        "fingerprint": incident.fingerprint,
        "correlation_id": alert.correlation_id,
        "first_seen": rfc3339(incident.first_seen),
        "last_seen": rfc3339(incident.last_seen),
        "calm_since": None if incident.calm_since is None else rfc3339(incident.calm_since),
        "count": incident.total,
        "escalation": incident.escalation,
        "returns": incident.returns,
        "acknowledged_at": None if incident.acknowledged_at is None else rfc3339(incident.acknowledged_at),
        "silenced_until": None if incident.silenced_until <= 0 else rfc3339(incident.silenced_until),
        "deliveries": incident.deliveries,
        "actions": incident.actions,
    }
