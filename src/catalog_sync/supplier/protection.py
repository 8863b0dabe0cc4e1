"""Where the supplier's breaker, retry budget and earliest next start are stored, so that they outlive a process."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from catalog_sync.domain.errors import SUPPLIER, ConfigurationError
from catalog_sync.domain.schedule import LONGEST_PAUSE, Pause, pause_after
from catalog_sync.store.owner import supplier_address
from otel_resilience.storage import DiskStorage, RedisStorage, SharedState

if TYPE_CHECKING:
    from catalog_sync.domain.models import SyncReport
    from catalog_sync.settings.settings import Settings
    from otel_resilience.storage import Storage

FOLDER: Final = "protection"
"""Folder inside the state folder."""
_ASKED: Final = f"{SUPPLIER} asked"
"""A separate pause, always of the greatest length: what is left of it shows when the supplier last requested one."""

_log = logging.getLogger(__name__)


def open_shared_state(settings: Settings) -> SharedState:
    """Uses Redis if ``REDIS_URL`` is set, with the disk behind it; else only the disk. Close it at the end.

    Does not wait for a connection. Raises ``ConfigurationError`` if ``REDIS_URL`` is not usable.
    """
    storages: list[Storage] = [DiskStorage(settings.state_dir / FOLDER)]
    if settings.redis_url:
        try:
            redis = RedisStorage(settings.redis_url, namespace=f"{settings.key_prefix}resilience")
        except ValueError as error:
            raise ConfigurationError(f"REDIS_URL: {error}") from error
        storages.insert(0, redis)
    return SharedState(*storages, scope=supplier_address(settings.base_url))


def note_pause(shared: SharedState, report: SyncReport) -> None:
    """Delays the next scheduled sync by the longest wait that the supplier requested in this one, whoever ran it."""
    seconds = pause_after(report)
    if seconds > 0:
        _log.warning("no scheduled sync for %.0f s: the supplier requested a pause", seconds)
        shared.pause(_ASKED, LONGEST_PAUSE)
        shared.pause(SUPPLIER, seconds)


def read_pause(shared: SharedState) -> Pause:
    """The pause that the supplier requested."""
    asked = shared.pause(_ASKED)
    return Pause(shared.pause(SUPPLIER), LONGEST_PAUSE - asked if asked else 0.0)
