"""The published catalogue: in Redis for everyone, on disk for when Redis is unreachable."""

from __future__ import annotations

from catalog_sync.store.backend import open_store, redis_policy
from catalog_sync.store.catalog_store import CatalogStore
from catalog_sync.store.errors import (
    CacheReplyError,
    CorruptEntryError,
    StagingIncompleteError,
    StaleFenceError,
    VersionGoneError,
)
from catalog_sync.store.lock import LockLease, SharedOwner
from catalog_sync.store.snapshot import Snapshot, SnapshotFile
from catalog_sync.store.staging import Staging

__all__ = [
    "CacheReplyError",
    "CatalogStore",
    "CorruptEntryError",
    "LockLease",
    "SharedOwner",
    "Snapshot",
    "SnapshotFile",
    "Staging",
    "StagingIncompleteError",
    "StaleFenceError",
    "VersionGoneError",
    "open_store",
    "redis_policy",
]
