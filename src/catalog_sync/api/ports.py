"""The protocols of other components shown by the API: alerts, breakers and budgets."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from catalog_sync.domain.errors import CacheConnectionError
from catalog_sync.domain.times import rfc3339, utc_now
from catalog_sync.last_run import protection_json

if TYPE_CHECKING:
    from otel_resilience import Policy

Overview = Mapping[str, Any]


@contextlib.asynccontextmanager
async def answering_within(seconds: float, what: str) -> AsyncIterator[None]:
    """A time limit for access to records that may be in Redis: a timeout counts as a store that does not answer.

    Raises ``CacheConnectionError``.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise CacheConnectionError(f"{what} did not answer within {seconds:g} s") from error


class Alerts(Protocol):
    """Open incidents and alerts in the outbox. Called with a time limit; may raise ``CatalogSyncError``."""

    async def overview(self) -> Overview:
        """``{"set_up": bool, "complete": bool, "incidents": [...], "outbox": int, "dead_letters": int}``.

        ``complete`` is false if incidents of other machines cannot be read. If it is missing, they can.

        An incident has at least ``title``, ``severity``, ``status``, ``first_seen``, ``last_seen``, ``count`` and
        ``correlation_id``, as in the generic webhook.
        """
        ...

    async def incident(self, identifier: str) -> Mapping[str, Any] | None:
        """One incident by its ID or fingerprint, including one that is over, as long as it is remembered.

        It also has ``resolved_at``, ``closed``, ``links``, ``deliveries`` and ``actions``.
        """
        ...

    async def act(self, action: str, identifier: str, *, seconds: float, by: str | None, reason: str | None) -> None:
        """Carries out ``ack``, ``close``, ``silence`` (for ``seconds``) or ``resend`` on an open incident.

        Raises ``IncidentNotFoundError``.
        """
        ...


class Protection(Protocol):
    """Breakers and retry budgets of the processes that sync. Called like :class:`Alerts`."""

    async def overview(self) -> Overview:
        """``{"breakers": [...], "budgets": [...]}``, with entries as in ``catalog-sync status --json``."""
        ...


@dataclasses.dataclass(eq=False)
class LocalProtection:
    """The policies of this process."""

    policies: Sequence[Policy]
    now: Callable[[], datetime.datetime] = utc_now

    async def overview(self) -> Overview:
        """Their current state."""
        return protection_json(self.policies, rfc3339(self.now()))
