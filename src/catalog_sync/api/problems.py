"""Errors as RFC 9457 problem documents."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.responses import Response

from catalog_sync.domain.errors import (
    BundleNotFoundError,
    CacheAuthenticationError,
    CacheConnectionError,
    CacheWritesPausedError,
    CatalogSyncError,
    CatalogUnavailableError,
    ConfigurationError,
    UnknownScopeError,
)
from catalog_sync.jobs import JobConflictError, JobNotFoundError
from catalog_sync.sync.reporting import error_info
from otel_resilience import correlation_id

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:catalog-sync:problem:"
RETRY_AFTER: Final = 1
"""Seconds after which a client may ask again where nothing better is known."""

TITLES: Final[Mapping[str, str]] = {
    "bad_request": "The request cannot be understood",
    "invalid_parameters": "A query parameter is wrong",
    "invalid_body": "The body is not what is needed",
    "unknown_scope": "There is no such group or country",
    "unauthorized": "A token is needed",
    "forbidden": "Writing is not set up",
    "not_found": "There is nothing at this address",
    "bundle_not_found": "The catalogue has no such bundle",
    "sync_not_found": "No such sync is known",
    "trace_not_found": "This trace is not kept",
    "method_not_allowed": "This method is not offered here",
    "timeout": "The request took too long to arrive",
    "sync_conflict": "Another sync is under way",
    "too_large": "The body is too large",
    "uri_too_long": "The query is too long",
    "unsupported_media_type": "The body must be JSON",
    "overloaded": "Too many requests at once",
    "stopping": "This server is stopping",
    "catalog_unavailable": "There is no catalogue to read",
    "store_unavailable": "The store does not answer",
    "not_configured": "A setting is missing",
    "internal_error": "Something went wrong here",
}
"""Every kind of problem; ``type`` is the key behind :data:`TYPE_PREFIX`."""


class ProblemError(Exception):
    """Answer with this problem. ``detail`` must not hold secrets."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra = extra


def invalid(status: int, kind: str, errors: Sequence[Mapping[str, str]]) -> ProblemError:
    """What is wrong with each part: entries have ``detail`` and ``parameter`` or ``pointer``."""
    first = errors[0]
    return ProblemError(
        status, kind, f"{first.get('parameter') or first.get('pointer') or 'body'}: {first['detail']}", errors=errors
    )


def problem_of(error: BaseException) -> ProblemError:
    """What an exception means to the client; one that is no fault of theirs shows nothing of the inside."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, HTTPException):
        return _of_http(error)
    if isinstance(error, JobConflictError):
        return ProblemError(
            409,
            "sync_conflict",
            str(error),
            headers={"Location": f"/syncs/{error.running.id}"},
            conflict=error.running.id,
        )
    if isinstance(error, JobNotFoundError):
        return ProblemError(404, "sync_not_found", error_info(error).message)
    if isinstance(error, BundleNotFoundError):
        return ProblemError(404, "bundle_not_found", error_info(error).message)
    if isinstance(error, UnknownScopeError):
        return ProblemError(
            422, "unknown_scope", str(error), errors=[{"pointer": "/scope", "detail": error_info(error).message}]
        )
    if isinstance(error, CatalogSyncError):
        return _unavailable(error)
    return ProblemError(500, "internal_error", "The error is recorded under this correlation ID.")


def _of_http(error: HTTPException) -> ProblemError:
    if error.status_code == 404:
        return ProblemError(404, "not_found", "GET /openapi.json lists what is offered.")
    if error.status_code == 405:
        allowed = ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
        return ProblemError(405, "method_not_allowed", f"Allowed: {allowed}.", headers={"Allow": allowed})
    return ProblemError(error.status_code, "bad_request", "The request cannot be served.", headers=error.headers or {})


def _unavailable(error: CatalogSyncError) -> ProblemError:
    info = error_info(error)
    wait = RETRY_AFTER if info.retry_after_s is None else max(1, math.ceil(info.retry_after_s))
    extra: dict[str, Any] = {"error_type": info.type}
    if isinstance(error, ConfigurationError):
        return ProblemError(503, "not_configured", info.message, **extra)
    if isinstance(error, CatalogUnavailableError):
        return ProblemError(503, "catalog_unavailable", info.message, headers={"Retry-After": str(wait)}, **extra)
    if isinstance(error, CacheConnectionError | CacheWritesPausedError | CacheAuthenticationError):
        return ProblemError(503, "store_unavailable", info.message, headers={"Retry-After": str(wait)}, **extra)
    return ProblemError(500, "internal_error", "The error is recorded under this correlation ID.", **extra)


def problem_response(problem: ProblemError) -> Response:
    """The document."""
    document = {
        "type": TYPE_PREFIX + problem.kind,
        "title": TITLES[problem.kind],
        "status": problem.status,
        "detail": problem.detail,
        "correlation_id": correlation_id(),
        **problem.extra,
    }
    body = json.dumps(document, ensure_ascii=False).encode()
    return Response(body, problem.status, {"Cache-Control": "no-store", **problem.headers}, MEDIA_TYPE)
