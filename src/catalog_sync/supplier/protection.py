"""Where the supplier's breaker, retry budget and earliest next start are kept, so that they outlive a process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from catalog_sync.domain.errors import ConfigurationError
from otel_resilience.storage import DiskStorage, RedisStorage, SharedState

if TYPE_CHECKING:
    from catalog_sync.settings.settings import Settings
    from otel_resilience.storage import Storage

FOLDER: Final = "protection"
"""Below the state directory."""


def scope(base_url: str) -> str:
    """Host and port: what is known of one environment of the supplier says nothing of another."""
    parts = urlsplit(base_url)
    return f"{parts.hostname}:{parts.port or {'http': 80}.get(parts.scheme, 443)}"


def open_shared_state(settings: Settings) -> SharedState:
    """Redis where ``REDIS_URL`` is set, and the disk behind it; else the disk alone. Close it at the end.

    Nothing is waited for. Raises ``ConfigurationError`` on an unusable ``REDIS_URL``.
    """
    storages: list[Storage] = [DiskStorage(settings.state_dir / FOLDER)]
    if settings.redis_url:
        try:
            storages.insert(0, RedisStorage(settings.redis_url))
        except ValueError as error:
            raise ConfigurationError(f"REDIS_URL: {error}") from error
    return SharedState(*storages, scope=scope(settings.base_url))
