"""The errors of the catalogue sync.

Every one carries its classification, the correlation ID under which it happened, a context without secrets and, as
``__cause__``, the exception it stands for.
"""

from __future__ import annotations

from typing import ClassVar, Final

from otel_resilience import BreakerEffect, Classification, ErrorClass, Severity, correlation_id
from otel_resilience.classification import error_types

SUPPLIER: Final = "esim-go"
STORE: Final = "redis"
"""Values of ``resilience.dependency``."""

Context = dict[str, str | int | float | bool | None]


class CatalogSyncError(Exception):
    """Base of all errors of this package. Raise with ``from`` so that the cause stays."""

    default: ClassVar[Classification] = Classification(ErrorClass.PERMANENT, Severity.HIGH, error_types.OTHER)
    """The verdict where the raiser gives none."""
    dependency: ClassVar[str | None] = None
    """Whose error it is, where that is the same for all of the class."""

    def __init__(
        self,
        message: str,
        *,
        classification: Classification | None = None,
        retry_after: float | None = None,
        context: Context | None = None,
    ) -> None:
        super().__init__(message)
        verdict = classification or self.default
        self.classification = verdict if retry_after is None else verdict.replace(retry_after=retry_after)
        self.correlation_id = correlation_id()
        self.context: Context = dict(context or {})

    @property
    def severity(self) -> Severity:
        """How severe it is."""
        return self.classification.severity

    @property
    def error_type(self) -> str:
        """Its ``error.type``."""
        return self.classification.error_type

    @property
    def retry_after(self) -> float | None:
        """Seconds after which it may be tried again, where known."""
        return self.classification.retry_after


class _SupplierFaultError(CatalogSyncError):
    dependency = SUPPLIER


class _StoreFaultError(CatalogSyncError):
    dependency = STORE


class ConfigurationError(CatalogSyncError):
    """A setting is missing or wrong. The message names the variable and what is allowed."""

    default = Classification(ErrorClass.PERMANENT, Severity.HIGH, "configuration")


class ApiTimeoutError(_SupplierFaultError):
    """The supplier did not answer in time."""

    default = Classification(ErrorClass.TRANSIENT, Severity.MEDIUM, error_types.READ_TIMEOUT, BreakerEffect.FAILURE)


class ApiConnectionError(_SupplierFaultError):
    """No connection to the supplier, or it broke."""

    default = Classification(ErrorClass.TRANSIENT, Severity.MEDIUM, error_types.CONNECTION_ERROR, BreakerEffect.FAILURE)


class SupplierError(_SupplierFaultError):
    """The supplier answered with an error that has no class of its own here."""


class SupplierUnavailableError(_SupplierFaultError):
    """The circuit of the supplier is open: nothing was sent."""

    default = Classification(ErrorClass.TRANSIENT, Severity.HIGH, error_types.CIRCUIT_OPEN, unsent=True)


class RateLimitError(_SupplierFaultError):
    """The supplier asked us to slow down; ``retry_after`` says until when."""

    default = Classification(ErrorClass.THROTTLED, Severity.MEDIUM, "429")


class AuthenticationError(_SupplierFaultError):
    """The supplier refuses the API key as a whole."""

    default = Classification(ErrorClass.PERMANENT, Severity.CRITICAL, "401")


class AccessDeniedError(_SupplierFaultError):
    """The key works, but not for this group."""

    default = Classification(ErrorClass.PERMANENT, Severity.MEDIUM, "403")


class NotFoundError(CatalogSyncError):
    """The supplier does not know the bundle or the endpoint."""

    default = Classification(ErrorClass.PERMANENT, Severity.LOW, "404", BreakerEffect.SUCCESS)


class UnknownScopeError(CatalogSyncError):
    """There is no such group, country or bundle: a mistake in the request, not a failure."""

    default = Classification(ErrorClass.PERMANENT, Severity.LOW, "unknown_scope")


UNKNOWN_SCOPE_TYPES: Final = frozenset({"unknown_scope", "bundle_not_found"})
"""Values of ``error.type`` of a sync that was asked for something that does not exist."""


class InvalidDataError(_SupplierFaultError):
    """The supplier's answer cannot be used: not JSON, the wrong shape, or contradicting itself."""

    default = Classification(ErrorClass.PERMANENT, Severity.HIGH, error_types.INVALID_RESPONSE, BreakerEffect.FAILURE)


class PayloadTooLargeError(InvalidDataError):
    """The answer is larger than ``CATALOG_MAX_BODY_BYTES``, possibly only after decompression."""

    default = Classification(ErrorClass.PERMANENT, Severity.HIGH, error_types.PAYLOAD_TOO_LARGE, BreakerEffect.FAILURE)


class CatalogueChangedError(InvalidDataError):
    """The catalogue changed while it was paged, so that the pages do not fit together; paging starts again."""

    default = Classification(ErrorClass.PERMANENT, Severity.MEDIUM, error_types.INVALID_RESPONSE)


class UnusableGroupsError(InvalidDataError):
    """Some entries of the supplier's list of groups have no usable name; ``usable`` are the names of the others.

    The group behind such an entry fails alone.
    """

    default = Classification(
        ErrorClass.PERMANENT, Severity.MEDIUM, error_types.INVALID_RESPONSE, BreakerEffect.NEUTRAL, max_retries=0
    )
    usable: tuple[str, ...] = ()


class RedirectRefusedError(_SupplierFaultError):
    """The supplier redirects to another host or to plain http; not followed, and the key was not sent there."""

    default = Classification(ErrorClass.PERMANENT, Severity.HIGH, error_types.REDIRECT_REFUSED)


class CacheConnectionError(_StoreFaultError):
    """Redis cannot be reached, or not in time."""

    default = Classification(ErrorClass.TRANSIENT, Severity.HIGH, error_types.CONNECTION_ERROR, BreakerEffect.FAILURE)


class CacheAuthenticationError(_StoreFaultError):
    """Redis refuses our credentials or a command of ours."""

    default = Classification(ErrorClass.PERMANENT, Severity.CRITICAL, "redis_auth")


class CacheWritesPausedError(_StoreFaultError):
    """Redis takes no writes (full, or cannot persist). Reads go on; the old version stays."""

    default = Classification(ErrorClass.TRANSIENT_SLOW, Severity.HIGH, "redis_oom")


class LockLostError(CatalogSyncError):
    """The lease of the sync lock is gone, so that another run may own the catalogue now."""

    default = Classification(ErrorClass.PERMANENT, Severity.HIGH, "lock_lost")


class PublishRefusedError(CatalogSyncError):
    """A guard refused the publication: too many bad rows, a large drop, or a vanished group."""

    default = Classification(ErrorClass.PERMANENT, Severity.HIGH, "publish_refused")


class CatalogueDamagedError(_StoreFaultError):
    """The published catalogue is not whole any more, so that a part of it cannot be renewed; a full sync mends it."""

    default = Classification(ErrorClass.PERMANENT, Severity.HIGH, "version_gone")


class NotDurableError(CatalogSyncError):
    """The new catalogue exists in this process alone and ends with it: no server keeps it, and no disk took it."""

    default = Classification(ErrorClass.PERMANENT, Severity.HIGH, "not_durable")


class SyncDeadlineError(CatalogSyncError):
    """The sync did not end within ``CATALOG_SYNC_DEADLINE_MS``."""

    default = Classification(ErrorClass.PERMANENT, Severity.HIGH, error_types.DEADLINE_EXCEEDED)


class CatalogUnavailableError(CatalogSyncError):
    """There is no catalogue to read, neither in the store nor on disk. Never an empty list."""

    default = Classification(ErrorClass.TRANSIENT, Severity.CRITICAL, "catalog_unavailable")


class BundleNotFoundError(CatalogSyncError):
    """The catalogue has no bundle of this name."""

    default = Classification(ErrorClass.PERMANENT, Severity.LOW, "bundle_not_found")


class IncidentNotFoundError(CatalogSyncError):
    """No open incident, and no dead letter, has this ID."""

    default = Classification(ErrorClass.PERMANENT, Severity.LOW, "incident_not_found")
