"""``run --if-due``: whether a sync is due."""

from __future__ import annotations

import functools
import socket
from typing import TYPE_CHECKING

from catalog_sync import composition as app
from catalog_sync import exit_codes
from catalog_sync.domain import schedule
from catalog_sync.domain.errors import CatalogSyncError, ConfigurationError
from catalog_sync.domain.schedule import Due, Reason
from catalog_sync.domain.times import utc_now
from catalog_sync.supplier.protection import read_pause
from catalog_sync.sync.reporting import error_info
from catalog_sync.terminal.output import error_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from catalog_sync.domain.models import CatalogueMeta, ErrorInfo
    from catalog_sync.settings.settings import Settings
    from catalog_sync.terminal.output import CommandOutput
    from catalog_sync.terminal.signals import StopSignals

_REASONS: Mapping[Reason, str] = {
    "young": "the catalogue is recent enough",
    "paused": "the supplier requested a pause",
    "unreadable": "the store does not answer, so the age of the catalogue is unknown",
}


def unless_due(settings: Settings, policies: app.Policies, output: CommandOutput, signals: StopSignals) -> int | None:
    """``None`` if a sync is due. Otherwise prints why not and returns 0, or 1 if that is unknown."""
    found, error = signals.run(functools.partial(_look, settings, policies))
    if found.due:
        return None
    if output.as_json:
        output.json(found.to_json() | ({} if error is None else {"error": error.to_json()}))
    until = "" if found.next_due_at is None else f"; due at {found.to_json()['next_due_at']}"
    output.text(f"not due: {_REASONS[found.reason]}{until}")
    if error is None:
        return exit_codes.OK
    output.notice(error_line(error))
    return exit_codes.FAILED


async def _look(settings: Settings, policies: app.Policies) -> tuple[Due, ErrorInfo | None]:
    try:
        meta, damaged = await _published(settings, policies)
        found = schedule.decide(
            meta,
            utc_now(),
            every=settings.sync_every,
            damaged=damaged,
            pause=read_pause(policies.shared),
            place=socket.gethostname(),
        )
    except ConfigurationError:
        raise
    except (CatalogSyncError, OSError, ValueError) as error:
        return schedule.UNREADABLE, error_info(error)
    return found, None


async def _published(settings: Settings, policies: app.Policies) -> tuple[CatalogueMeta | None, bool]:
    """What is published: in the store, or, if the store is private to this process, in the snapshot; and whether it is
    damaged."""
    async with app.open_catalogue(settings, policies.store) as (store, snapshot):
        meta, damaged = await store.current_or_damaged()
        if meta is None and not damaged and store.degraded:
            file = await snapshot.load()
            return (None if file is None else file.meta), False
        return meta, damaged
