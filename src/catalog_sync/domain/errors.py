"""The errors of the catalogue sync.

Each carries its classification, the correlation ID under which it happened, a context without secrets and, as
``__cause__``, the exception behind it.
"""

from __future__ import annotations

from typing import ClassVar, Final

from otel_resilience import BreakerEffect, Classification, ErrorClass, Severity, correlation_id
from otel_resilience.classification import error_types

SUPPLIER: Final = "esim-go"
STORE: Final = "redis"
"""Values of ``resilience.dependency``."""

Context = dict[str, str | int | float | bool | None]


def permanent(
    error_type: str, severity: Severity = Severity.HIGH, *, breaker: BreakerEffect = BreakerEffect.NEUTRAL
) -> Classification:
    """The verdict on an error that a repetition does not fix."""
    return Classification(ErrorClass.PERMANENT, severity, error_type, breaker)


class CatalogSyncError(Exception):
    """Base of all errors of this package. Raise it with ``from`` to keep the cause.

    A subclass sets its verdict, and the dependency that it belongs to, in its first line::

        class LockLostError(CatalogSyncError, default=permanent("lock_lost")): ...
    """

    default: ClassVar[Classification] = Classification(ErrorClass.PERMANENT, Severity.HIGH, error_types.OTHER)
    """The verdict by default."""
    dependency: ClassVar[str | None] = None
    """The dependency that the error belongs to, if it is the same for the whole class."""

    def __init_subclass__(cls, *, default: Classification | None = None, dependency: str | None = None) -> None:
        """Parameters that are not given are inherited from the base class."""
        super().__init_subclass__()
        cls.default = default or cls.default
        cls.dependency = dependency or cls.dependency

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
        """Seconds after which it may be tried again, if known."""
        return self.classification.retry_after


class _SupplierFaultError(CatalogSyncError, dependency=SUPPLIER):
    pass


class _StoreFaultError(CatalogSyncError, dependency=STORE):
    pass


class ConfigurationError(CatalogSyncError, default=permanent("configuration")):
    """A setting is missing or wrong. The message names the variable and what is allowed."""


class UnknownVariableError(ConfigurationError):
    """An unknown variable with one of our prefixes."""


class ApiTimeoutError(
    _SupplierFaultError,
    default=Classification(ErrorClass.TRANSIENT, Severity.MEDIUM, error_types.READ_TIMEOUT, BreakerEffect.FAILURE),
):
    """The supplier did not answer in time."""


class ApiConnectionError(
    _SupplierFaultError,
    default=Classification(ErrorClass.TRANSIENT, Severity.MEDIUM, error_types.CONNECTION_ERROR, BreakerEffect.FAILURE),
):
    """The connection to the supplier could not be established, or broke."""


class SupplierError(_SupplierFaultError):
    """The supplier answered with an error that has no class of its own here."""


class SupplierUnavailableError(
    _SupplierFaultError,
    default=Classification(ErrorClass.TRANSIENT, Severity.HIGH, error_types.CIRCUIT_OPEN, unsent=True),
):
    """The supplier's circuit is open: nothing was sent."""


class RateLimitError(_SupplierFaultError, default=Classification(ErrorClass.THROTTLED, Severity.MEDIUM, "429")):
    """The supplier asked us to slow down; ``retry_after`` says until when."""


class AuthenticationError(_SupplierFaultError, default=permanent("401", Severity.CRITICAL)):
    """The supplier rejects the API key altogether."""


class AccessDeniedError(_SupplierFaultError, default=permanent("403", Severity.MEDIUM)):
    """The key works, but not for this group."""


class NotFoundError(CatalogSyncError, default=permanent("404", Severity.LOW, breaker=BreakerEffect.SUCCESS)):
    """The supplier does not know the bundle or the endpoint."""


class UnknownScopeError(CatalogSyncError, default=permanent("unknown_scope", Severity.LOW)):
    """There is no such group, country or bundle: a mistake in the request, not a failure."""


UNKNOWN_SCOPE_TYPES: Final = frozenset({"unknown_scope", "bundle_not_found"})
"""Values of ``error.type`` of a sync that was asked for something that does not exist."""


class InvalidDataError(
    _SupplierFaultError, default=permanent(error_types.INVALID_RESPONSE, breaker=BreakerEffect.FAILURE)
):
    """The supplier's response cannot be used: not JSON, the wrong structure, or inconsistent."""


class PayloadTooLargeError(
    InvalidDataError, default=permanent(error_types.PAYLOAD_TOO_LARGE, breaker=BreakerEffect.FAILURE)
):
    """The response is larger than ``CATALOG_MAX_BODY_BYTES``, possibly only after decompression."""


class CatalogueChangedError(InvalidDataError, default=permanent(error_types.INVALID_RESPONSE, Severity.MEDIUM)):
    """The catalogue changed while its pages were fetched, so that they do not fit together; paging starts again."""


class UnusableGroupsError(
    InvalidDataError,
    default=permanent(error_types.INVALID_RESPONSE, Severity.MEDIUM).replace(max_retries=0),
):
    """Some entries of the supplier's list of groups have no usable name; ``usable`` are the names of the others.

    Only the group behind such an entry fails.
    """

    usable: tuple[str, ...] = ()


class RedirectRefusedError(_SupplierFaultError, default=permanent(error_types.REDIRECT_REFUSED)):
    """The supplier redirects to another host or to plain http; not followed, and the key was not sent there."""


class CacheConnectionError(
    _StoreFaultError,
    default=Classification(ErrorClass.TRANSIENT, Severity.HIGH, error_types.CONNECTION_ERROR, BreakerEffect.FAILURE),
):
    """Redis cannot be reached, or did not answer in time."""


class CacheAuthenticationError(_StoreFaultError, default=permanent("redis_auth", Severity.CRITICAL)):
    """Redis rejects our credentials or one of our commands."""


class CacheWritesPausedError(
    _StoreFaultError, default=Classification(ErrorClass.TRANSIENT_SLOW, Severity.HIGH, "redis_oom")
):
    """Redis accepts no writes (full, or unable to persist). Reads continue; the old version stays."""


class LockLostError(CatalogSyncError, default=permanent("lock_lost")):
    """The lease of the sync lock was lost, so that another run may own the catalogue now."""


class PublishRefusedError(CatalogSyncError, default=permanent("publish_refused")):
    """A guard refused the publication: too many bad rows, a large drop, or a vanished group."""


class CatalogueDamagedError(_StoreFaultError, default=permanent("version_gone")):
    """The published catalogue is incomplete, so that a part of it cannot be renewed; a full sync repairs it."""


class NotDurableError(CatalogSyncError, default=permanent("not_durable")):
    """The new catalogue exists only in this process and ends with it: neither a server nor the disk has it."""


class SyncDeadlineError(CatalogSyncError, default=permanent(error_types.DEADLINE_EXCEEDED)):
    """The sync did not end within ``CATALOG_SYNC_DEADLINE_MS``."""


class CatalogUnavailableError(
    CatalogSyncError, default=Classification(ErrorClass.TRANSIENT, Severity.CRITICAL, "catalog_unavailable")
):
    """There is no catalogue to read, neither in the store nor on disk. Never an empty list."""


class BundleNotFoundError(CatalogSyncError, default=permanent("bundle_not_found", Severity.LOW)):
    """The catalogue has no bundle of this name."""


class IncidentNotFoundError(CatalogSyncError, default=permanent("incident_not_found", Severity.LOW)):
    """No open incident, and no dead letter, has this ID."""
