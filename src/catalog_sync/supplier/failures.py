"""Translates failures on the wire to the errors of this package, with the cause chained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catalog_sync.domain.errors import (
    AccessDeniedError,
    ApiConnectionError,
    ApiTimeoutError,
    CatalogSyncError,
    InvalidDataError,
    NotFoundError,
    PayloadTooLargeError,
    RateLimitError,
    SupplierError,
    SupplierUnavailableError,
    SyncDeadlineError,
)
from catalog_sync.domain.text import printable
from otel_resilience import (
    CircuitOpenError,
    Classifier,
    ConcurrencyLimitError,
    DeadlineExceededError,
    RateLimitedError,
)
from otel_resilience.integrations import BodyEncodingError, BodyTooLargeError
from otel_resilience.redaction import redact

if TYPE_CHECKING:
    from catalog_sync.domain.errors import Context

_BY_STATUS: dict[int, type[CatalogSyncError]] = {
    401: AccessDeniedError,
    403: AccessDeniedError,
    404: NotFoundError,
    410: NotFoundError,
    429: RateLimitError,
    509: RateLimitError,
}


def translate(error: Exception, operation: str, classifier: Classifier) -> CatalogSyncError:
    """The error of this package for ``error``. The caller raises it ``from error``."""
    if isinstance(error, CatalogSyncError):
        return error
    context: Context = {"operation": operation}
    if isinstance(error, CircuitOpenError):
        if isinstance(error.__cause__, Exception):
            # Attempts were made: their failures are the reason, and the open circuit only the consequence.
            return translate(error.__cause__, operation, classifier)
        return SupplierUnavailableError(
            f"{operation}: not sent, the circuit of the supplier is open",
            retry_after=error.retry_after,
            context=context,
        )
    if isinstance(error, RateLimitedError):
        return RateLimitError(
            f"{operation}: not sent, the rate limit lets it pass in {error.retry_after:.1f} s, too late for this run",
            classification=error.classification,
            retry_after=error.retry_after,
            context=context,
        )
    if isinstance(error, DeadlineExceededError | ConcurrencyLimitError):
        return SyncDeadlineError(f"{operation}: the time of the sync is up", context=context)
    import httpx  # only if a request failed

    kind: type[CatalogSyncError] = SupplierError
    if isinstance(error, httpx.HTTPStatusError):
        context["status"] = error.response.status_code
        kind = _BY_STATUS.get(error.response.status_code, SupplierError)
    elif isinstance(error, BodyTooLargeError):
        context["limit_bytes"] = error.limit
        kind = PayloadTooLargeError
    elif isinstance(error, BodyEncodingError):
        context["encoding"] = error.response.headers.get("content-encoding")
        kind = InvalidDataError
    elif isinstance(error, httpx.TimeoutException | TimeoutError):
        kind = ApiTimeoutError
    elif isinstance(error, httpx.TransportError | OSError):
        kind = ApiConnectionError
    text = printable(redact(str(error))) or type(error).__name__
    message = text if text.startswith(operation) else f"{operation}: {text}"
    return kind(message, classification=classifier.classify(error), context=context)
