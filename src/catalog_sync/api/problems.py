"""Errors as RFC 9457 problem documents."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from catalog_sync.domain.errors import (
    STORE,
    BundleNotFoundError,
    CatalogSyncError,
    CatalogUnavailableError,
    ConfigurationError,
    IncidentNotFoundError,
    UnknownScopeError,
)
from catalog_sync.jobs import JobConflictError, JobNotFoundError
from catalog_sync.sync.reporting import error_info
from otel_resilience import correlation_id

MEDIA_TYPE: Final = "application/problem+json"
SHOW_PROBLEM: Final = "catalog_sync.show_problem"
"""Key of a scope for what shows a problem instead of :func:`problem_response`: as a page."""
TYPE_PREFIX: Final = "urn:catalog-sync:problem:"
RETRY_AFTER: Final = 1
"""Seconds after which a client may try again, by default."""

TITLES: Final[Mapping[str, str]] = {
    "bad_request": "Malformed request",
    "invalid_parameters": "Invalid query parameter",
    "invalid_body": "Invalid request body",
    "unknown_scope": "Unknown group or country",
    "unauthorized": "Authentication required",
    "forbidden": "Writes are disabled",
    "not_found": "Not found",
    "bundle_not_found": "Bundle not found",
    "sync_not_found": "Sync not found",
    "incident_not_found": "Incident not found",
    "trace_not_found": "Trace not found",
    "method_not_allowed": "Method not allowed",
    "timeout": "Request timed out",
    "sync_conflict": "Another sync is running",
    "too_large": "Request too large",
    "uri_too_long": "Query too long",
    "unsupported_media_type": "Unsupported media type",
    "overloaded": "Too many requests at once",
    "too_many_requests": "Too many requests of this client",
    "stopping": "Server is shutting down",
    "catalog_unavailable": "No catalogue available",
    "store_unavailable": "Store unavailable",
    "not_configured": "Missing setting",
    "internal_error": "Internal error",
}
"""Every kind of problem; ``type`` is the key, prefixed with :data:`TYPE_PREFIX`."""

_NOT_FOUND: Final[Mapping[type[CatalogSyncError], str]] = {
    JobNotFoundError: "sync_not_found",
    BundleNotFoundError: "bundle_not_found",
    IncidentNotFoundError: "incident_not_found",
}


class ProblemError(HTTPException):
    """Answers with this problem. ``detail`` must not contain secrets.

    An ``HTTPException``, because FastAPI hides every other exception raised while it reads a body.
    """

    def __init__(
        self,
        status_code: int,
        kind: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(status_code, detail, headers)
        self.kind = kind
        self.extra = extra


def invalid(status_code: int, kind: str, errors: Sequence[Mapping[str, str]]) -> ProblemError:
    """A problem that lists what is wrong: entries have ``detail`` and ``parameter`` or ``pointer``."""
    first = errors[0]
    detail = f"{first.get('parameter') or first.get('pointer') or 'body'}: {first['detail']}"
    return ProblemError(status_code, kind, detail, errors=errors)


def too_many(detail: str, *, wait: int = RETRY_AFTER) -> ProblemError:
    """One client has more than its share; ``wait`` in seconds."""
    return ProblemError(429, "too_many_requests", detail, headers={"Retry-After": str(wait)})


def overloaded(detail: str = "Try again in a moment.", *, wait: int = RETRY_AFTER) -> ProblemError:
    """All clients together have too much; ``wait`` in seconds."""
    return ProblemError(503, "overloaded", detail, headers={"Retry-After": str(wait)})


def problem_of(error: BaseException) -> ProblemError:
    """The problem for an exception; if it is not the client's fault, no internals are shown."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, RequestValidationError):
        return _of_validation(error)
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
    for missing, kind in _NOT_FOUND.items():
        if isinstance(error, missing):
            return ProblemError(404, kind, error_info(error).message)
    if isinstance(error, UnknownScopeError):
        return ProblemError(
            422, "unknown_scope", str(error), errors=[{"pointer": "/scope", "detail": error_info(error).message}]
        )
    if isinstance(error, CatalogSyncError):
        return _unavailable(error)
    return ProblemError(500, "internal_error", "The error is recorded under this correlation ID.")


def wrong_parameters(error: ValidationError) -> ProblemError:
    """The errors of a model of query parameters; the values are left out, they can be secrets."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return invalid(
        400,
        "invalid_parameters",
        [{"parameter": str(each["loc"][0]), "detail": each["msg"].removeprefix("Value error, ")} for each in found],
    )


def _of_validation(error: RequestValidationError) -> ProblemError:
    """The errors found by FastAPI; the values are left out, they can be secrets."""
    found = [(each["loc"], each["msg"].removeprefix("Value error, ")) for each in error.errors()]
    wrong = [{"parameter": str(place[1]), "detail": message} for place, message in found if place[0] == "query"]
    if wrong:
        return invalid(400, "invalid_parameters", wrong)
    parts = [{"pointer": "".join(f"/{part}" for part in place[1:]), "detail": message} for place, message in found]
    return invalid(422, "invalid_body", parts)


def _of_http(error: HTTPException) -> ProblemError:
    if error.status_code == 404:
        return ProblemError(404, "not_found", "GET /openapi.json lists what is offered.")
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
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
    if error.dependency == STORE:  # unreachable, full, or damaged
        return ProblemError(503, "store_unavailable", info.message, headers={"Retry-After": str(wait)}, **extra)
    return ProblemError(500, "internal_error", "The error is recorded under this correlation ID.", **extra)


def document(kind: str, status: int, detail: str, correlation_id: str) -> dict[str, Any]:
    """A problem document with the fields that all kinds have."""
    head = {"type": TYPE_PREFIX + kind, "title": TITLES[kind], "status": status}
    return {**head, "detail": detail, "correlation_id": correlation_id}


def problem_response(problem: ProblemError) -> Response:
    members = document(problem.kind, problem.status_code, problem.detail, correlation_id()) | problem.extra
    body = json.dumps(members, ensure_ascii=False).encode()
    return Response(body, problem.status_code, {"Cache-Control": "no-store", **(problem.headers or {})}, MEDIA_TYPE)
