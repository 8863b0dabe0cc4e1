"""Incidents, outbox and dead letters as stored on disk and in Redis, for display."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from typing import TYPE_CHECKING, Any, Final

from catalog_sync.alerts.routes import routes
from catalog_sync.alerts.service import config, folder, open_store, usable
from catalog_sync.domain.errors import CacheConnectionError, IncidentNotFoundError
from catalog_sync.domain.times import rfc3339
from otel_resilience.alerting import Incident, Outbox, Phase
from otel_resilience.alerting.persistence.recovery import Archive

if TYPE_CHECKING:
    from catalog_sync.alerts.service import CatalogAlerts
    from catalog_sync.settings.settings import Settings

DONE: Final = {"ack": "acknowledged", "close": "closed", "silence": "silenced", "resend": "sent again"}
"""What people decide about an incident, and its resulting state."""

_log = logging.getLogger(__name__)


def overview(settings: Settings) -> dict[str, Any]:
    """The object ``alerts`` of ``status``: ``channels``, ``incidents``, ``outbox``, ``dead_letters``.

    Without incidents that are over. Reads files and Redis, for at most a second or two, and logs what it cannot read.
    Raises ``ConfigurationError`` if the configuration of a channel is not usable.
    """
    seen, _ = _open_incidents(settings)
    try:
        return seen | _notifications(settings)
    except OSError as error:
        _log.warning("the outbox and the dead letters cannot be read: %s", error.strerror or type(error).__name__)
        return seen | {"outbox": [], "dead_letters": []}


def _open_incidents(settings: Settings) -> tuple[dict[str, Any], bool]:
    """``channels`` and ``incidents``, and whether these are all incidents; see :func:`_known`."""
    channels = usable(lambda: routes(settings.alerts))
    known, complete = _known(settings)
    seen = {
        "channels": [route.name for route in channels],
        "incidents": [
            _incident(each) for each in sorted(known, key=lambda each: each.first_seen) if each.phase is Phase.OPEN
        ],
    }
    return seen, complete


def _notifications(settings: Settings) -> dict[str, list[dict[str, Any]]]:
    """``outbox`` and ``dead_letters``. Raises ``OSError``."""
    outbox = Outbox(folder(settings))
    return {"outbox": [each.to_json() for each in outbox.waiting()], "dead_letters": outbox.dead_letters()}


def incident(settings: Settings, identifier: str) -> dict[str, Any] | None:
    """One incident by its ID or fingerprint, including one that is over while it is remembered.

    An entry of ``incidents`` plus ``resolved_at``, ``closed``, ``error_types`` and ``links``. Raises
    ``CacheConnectionError`` if only Redis may know it, and does not answer.
    """
    known, complete = _known(settings)
    for each in known:
        if identifier in (each.id, each.fingerprint) and each.phase in (Phase.OPEN, Phase.OVER):
            over = each.phase is Phase.OVER
            return {
                **_incident(each),
                "status": "resolved" if over else "firing",
                "resolved_at": rfc3339(each.ended_at) if over else None,
                "closed": each.closed,
                "error_types": dict(each.error_types),
                "links": dataclasses.asdict(config(settings).links(each.kind, each.alert.correlation_id)),
            }
    if not complete:
        raise CacheConnectionError("the incidents of other processes cannot be read")
    return None


def not_open(settings: Settings, identifier: str) -> IncidentNotFoundError:
    """Why an incident cannot be acted on: it is over, or there is none.

    Raises ``CacheConnectionError`` if only Redis may know it, and does not answer.
    """
    found = incident(settings, identifier)
    if found is not None and found["resolved_at"] is not None:
        return IncidentNotFoundError(f"incident {identifier!r} ended at {found['resolved_at']}")
    return IncidentNotFoundError(f"there is no open incident {identifier!r}")


def _known(settings: Settings) -> tuple[list[Incident], bool]:
    """The incidents, and whether these are all: if Redis does not answer, only those of this machine are known."""
    store, close = open_store(settings)
    try:
        found = Archive(store, None, config(settings).owner).incidents()
    finally:
        close()
    return found or [], found is not None and not getattr(store, "degraded", False)


class KeptAlerts:
    """:func:`overview` for the API: counts where that is enough, read in a thread."""

    def __init__(self, settings: Settings, alerts: CatalogAlerts) -> None:
        """``alerts`` carries out what people decide."""
        self._settings = settings
        self._alerts = alerts

    async def overview(self) -> dict[str, Any]:
        """Open incidents, and how many notifications are waiting or were given up."""
        seen, complete = await asyncio.to_thread(_open_incidents, self._settings)
        kept = await asyncio.to_thread(_notifications, self._settings)
        return {
            "set_up": True,
            "complete": complete,
            "incidents": seen["incidents"],
            **{name: len(notifications) for name, notifications in kept.items()},
        }

    async def incident(self, identifier: str) -> dict[str, Any] | None:
        return await asyncio.to_thread(incident, self._settings, identifier)

    async def act(self, action: str, identifier: str, *, seconds: float, by: str | None, reason: str | None) -> None:
        """See :meth:`CatalogAlerts.act`. Raises what :func:`not_open` returns or raises."""
        found = await asyncio.to_thread(self._alerts.act, action, identifier, seconds=seconds, by=by, reason=reason)
        if found is None:
            raise await asyncio.to_thread(not_open, self._settings, identifier)


def _incident(found: Incident) -> dict[str, Any]:
    alert = found.alert
    return {
        "id": found.id,
        "kind": alert.kind,
        "status": "firing",
        "severity": found.severity.value,
        "title": alert.title,
        "summary": alert.summary,
        "dependency": alert.dependency,
        "error_type": alert.error_type,
        "fingerprint": found.fingerprint,
        "correlation_id": alert.correlation_id,
        "first_seen": rfc3339(found.first_seen),
        "last_seen": rfc3339(found.last_seen),
        "calm_since": None if found.calm_since is None else rfc3339(found.calm_since),
        "count": found.total,
        "escalation": found.escalation,
        "escalations": found.escalations,
        "messages": found.messages,
        "returns": found.returns,
        "acknowledged_at": None if found.acknowledged_at is None else rfc3339(found.acknowledged_at),
        "silenced_until": None if found.silenced_until <= 0 else rfc3339(found.silenced_until),
        "deliveries": found.deliveries,
        "actions": found.actions,
    }
