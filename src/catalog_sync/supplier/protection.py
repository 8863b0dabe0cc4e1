"""Where the supplier's breaker, retry budget and earliest next start are kept, so that they outlive a process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from catalog_sync.domain.errors import ConfigurationError
from catalog_sync.store.owner import supplier_address
from otel_resilience.storage import DiskStorage, RedisStorage, SharedState

if TYPE_CHECKING:
    from catalog_sync.settings.settings import Settings
    from otel_resilience.storage import Storage

FOLDER: Final = "protection"
"""Below the state directory."""


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
