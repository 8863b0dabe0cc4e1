"""Where the supplier's breaker, retry budget and earliest next start are kept, so that they outlive a process."""

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
"""Below the state directory."""
_ASKED: Final = f"{SUPPLIER} asked"
"""A pause of its own, always of the greatest length: what is left of it says when the supplier last asked for one."""

_log = logging.getLogger(__name__)


def open_shared_state(settings: Settings) -> SharedState:
    """Redis where ``REDIS_URL`` is set, and the disk behind it; else the disk alone. Close it at the end.

    Nothing is waited for. Raises ``ConfigurationError`` on an unusable ``REDIS_URL``.
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
    """The longest wait that the supplier asked for in a sync, whoever ran it, sets the next scheduled start."""
    seconds = pause_after(report)
    if seconds > 0:
        _log.warning("no scheduled sync for %.0f s: the supplier requested a pause", seconds)
        shared.pause(_ASKED, LONGEST_PAUSE)
        shared.pause(SUPPLIER, seconds)


def read_pause(shared: SharedState) -> Pause:
    """The pause that the supplier asked for."""
    asked = shared.pause(_ASKED)
    return Pause(shared.pause(SUPPLIER), LONGEST_PAUSE - asked if asked else 0.0)
