"""Where the supplier's breaker, retry budget and earliest next start are stored, so that they outlive a process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from catalog_sync.domain.errors import ConfigurationError
from catalog_sync.store.owner import supplier_address
from otel_resilience.storage import DiskStorage, RedisStorage, SharedState

if TYPE_CHECKING:
    from catalog_sync.settings.settings import Settings
    from otel_resilience.storage import Storage

FOLDER: Final = "protection"
"""Folder inside the state folder."""


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
