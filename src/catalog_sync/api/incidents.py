"""Open incidents, and people's decisions about them."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Final

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.responses import Response

from catalog_sync.api.parameters import MAX_TEXT, SCOPE
from catalog_sync.api.ports import Alerts, answering_within
from catalog_sync.api.sending import UncachedJson
from catalog_sync.domain.errors import IncidentNotFoundError

TIMEOUT: Final = 5.0
"""Timeout in seconds for the records of incidents, which may be in Redis."""
LONGEST_SILENCE: Final = 30 * 86_400.0

Said = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT, pattern=SCOPE)]
IncidentId = Annotated[str, Path(alias="id", json_schema_extra={"minLength": 1})]


class Decision(BaseModel):
    """Who decided, and why; both are kept with the incident."""

    model_config = ConfigDict(extra="forbid", strict=True)

    by: Said | None = Field(None, description="Who decided.")
    reason: Said | None = Field(None, description="Why.")


class Silence(Decision):
    """For how long."""

    for_s: float = Field(14_400.0, gt=0, le=LONGEST_SILENCE, description="Seconds; only the end is sent meanwhile.")


@dataclasses.dataclass(eq=False)
class Incidents:
    """The endpoints of incidents."""

    alerts: Alerts

    async def listing(self) -> Response:
        """Open incidents, oldest first."""
        async with answering_within(TIMEOUT, "the records of incidents"):
            found = list((await self.alerts.overview())["incidents"])
        return UncachedJson({"incidents": found})

    async def one(self, incident_id: IncidentId) -> Response:
        """One incident by its ID or fingerprint, including a resolved one while it is remembered."""
        async with answering_within(TIMEOUT, "the records of incidents"):
            found = await self.alerts.incident(incident_id)
        if found is None:
            raise IncidentNotFoundError(f"incident {incident_id!r} does not exist or is no longer kept")
        return UncachedJson(found)

    async def ack(self, incident_id: IncidentId, body: Decision) -> Response:
        """Acknowledge: neither escalated nor repeated until it gets worse."""
        return await self._act("ack", incident_id, body)

    async def close(self, incident_id: IncidentId, body: Decision) -> Response:
        """Close: resolved at every receiver."""
        return await self._act("close", incident_id, body)

    async def silence(self, incident_id: IncidentId, body: Silence) -> Response:
        """Silence for a while."""
        return await self._act("silence", incident_id, body, body.for_s)

    async def resend(self, incident_id: IncidentId, body: Decision) -> Response:
        """Send its current state once more; also a dead letter, by the ID of its message."""
        return await self._act("resend", incident_id, body)

    async def _act(self, action: str, incident_id: str, decision: Decision, seconds: float = 0.0) -> Response:
        async with answering_within(TIMEOUT, "the records of incidents"):
            await self.alerts.act(action, incident_id, seconds=seconds, by=decision.by, reason=decision.reason)
        return UncachedJson({"incident": incident_id, "action": action, "by": decision.by, "reason": decision.reason})
