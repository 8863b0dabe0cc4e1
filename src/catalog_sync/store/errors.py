"""Errors that only the store raises."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catalog_sync.domain.errors import STORE, CatalogSyncError, InvalidDataError, LockLostError
from otel_resilience import Classification, ErrorClass, Severity
from otel_resilience.classification import error_types

if TYPE_CHECKING:
    from catalog_sync.domain.models import CatalogueMeta


class StaleFenceError(LockLostError):
    """A run with a higher fencing token has published: this one lost its lease without noticing."""


class SyncEndedError(LockLostError):
    """The job that asks for the lock is over: a late step of it must not take the lock from the next sync."""


class AlreadyPublishedError(CatalogSyncError):
    """Another attempt of the same sync has published ``version``: this one must not do so again."""

    default = Classification(ErrorClass.PERMANENT, Severity.LOW, "already_published")

    def __init__(self, version: str) -> None:
        super().__init__(f"this sync has published version {version} before", context={"version": version})
        self.version = version


class StagingIncompleteError(CatalogSyncError):
    """The staged version is not what its manifest says, so it was not published."""

    default = Classification(ErrorClass.PERMANENT, Severity.HIGH, "staging_incomplete")


class VersionGoneError(InvalidDataError):
    """A version that was asked for is not in Redis any more, or lacks a part (expired, evicted, deleted)."""

    dependency = STORE
    default = Classification(ErrorClass.PERMANENT, Severity.HIGH, "version_gone")

    meta: CatalogueMeta | None = None
    """What the version said about itself, where only another part of it is lost."""


class CorruptEntryError(InvalidDataError):
    """A stored entry cannot be read back."""

    dependency = STORE
    default = Classification(ErrorClass.PERMANENT, Severity.HIGH, error_types.INVALID_RESPONSE)


class CacheReplyError(CatalogSyncError):
    """Redis refused a command for a reason that repeating it does not cure."""

    default = Classification(ErrorClass.PERMANENT, Severity.HIGH, "redis_err")


class PrivateRedisError(CatalogSyncError):
    """The private redis-server could not be started."""

    default = Classification(ErrorClass.PERMANENT, Severity.HIGH, error_types.RESOURCE_EXHAUSTED)
