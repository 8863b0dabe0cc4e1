"""Errors that only the store raises."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catalog_sync.domain.errors import STORE, CatalogSyncError, InvalidDataError, LockLostError, permanent
from otel_resilience import Severity
from otel_resilience.classification import error_types

if TYPE_CHECKING:
    from catalog_sync.domain.models import CatalogueMeta


class StaleFenceError(LockLostError):
    """A run with a higher fencing token has published: this one lost its lease without noticing."""


class SyncEndedError(LockLostError):
    """The job that asks for the lock has ended: a late step of it must not take the lock from the next sync."""


class AlreadyPublishedError(CatalogSyncError, default=permanent("already_published", Severity.LOW)):
    """Another attempt of the same sync has published ``version``: this one must not publish again."""

    def __init__(self, version: str) -> None:
        super().__init__(f"this sync has published version {version} before", context={"version": version})
        self.version = version


class StagingIncompleteError(CatalogSyncError, default=permanent("staging_incomplete")):
    """The staged version does not match its manifest, so it was not published."""


class VersionGoneError(InvalidDataError, dependency=STORE, default=permanent("version_gone")):
    """A requested version is not in Redis any more, or lacks a part (expired, evicted, deleted)."""

    meta: CatalogueMeta | None = None
    """The metadata of the version, if only another part of it is lost."""


class CorruptEntryError(InvalidDataError, dependency=STORE, default=permanent(error_types.INVALID_RESPONSE)):
    """A stored entry cannot be parsed."""


class CacheReplyError(CatalogSyncError, dependency=STORE, default=permanent("redis_err")):
    """Redis rejected a command for a reason that repeating it does not fix."""


class PrivateRedisError(CatalogSyncError, default=permanent(error_types.RESOURCE_EXHAUSTED)):
    """The private redis-server could not be started."""
