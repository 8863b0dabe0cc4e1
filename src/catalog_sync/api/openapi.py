"""Completes FastAPI's description of the routes: the problems and headers of responses, and who may use them."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from pydantic import BaseModel

from catalog_sync.api.problems import MEDIA_TYPE
from catalog_sync.api.schemas import Problem

Responses = dict[int | str, dict[str, Any]]

DESCRIPTION: Final = (
    "Reads the eSIM catalogue and requests syncs. Every response carries `X-Correlation-ID`, which is the trace ID, and"
    " `traceresponse` (W3C Trace Context, level 2). Errors are problem documents (RFC 9457)."
)
EVENTS: Final = "Events of type `sync`; their data is the object of `GET /syncs/{id}`."
_STATUS_TEXTS: Final = {
    400: "Invalid parameter or body.",
    401: "The token is missing or wrong.",
    403: "No token is configured.",
    404: "Not found.",
    408: "The body took too long.",
    409: "Another sync is running; `conflict` names it.",
    413: "The body is too large.",
    414: "The query is too long.",
    415: "The body is not announced as JSON.",
    422: "The body is JSON, but invalid, or there is no such group or country.",
    503: "Nothing to read, the store does not answer, or too many requests.",
}
_TEXT: Final = {"schema": {"type": "string"}}
_HEADERS: Final[dict[str, Any]] = {
    "X-Correlation-ID": {"required": True, "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"}},
    "traceresponse": {
        "required": True,
        "schema": {"type": "string", "pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"},
    },
}
_READ_HEADERS: Final[dict[str, Any]] = {
    **_HEADERS,
    "ETag": {"required": True, "schema": {"type": "string"}},
    "Cache-Control": {"required": True, "schema": {"type": "string"}},
    "X-Catalog-Source": {"required": True, "schema": {"enum": ["fresh", "stale", "snapshot"]}},
    "X-Catalog-As-Of": {"required": True, "schema": {"type": "string"}},
    "X-Catalog-Stale": {"required": True, "schema": {"enum": ["true", "false"]}},
    "X-Catalog-Version": {"required": True, "schema": {"type": "string"}},
}
_PROBLEM_HEADERS: Final[dict[int, Any]] = {
    401: {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}},
}
_NOT_MODIFIED: Final = "The client has the current version."

IF_NONE_MATCH: Final = {
    "name": "If-None-Match",
    "in": "header",
    "description": "The ETag of an earlier response; if it is still valid the response is 304.",
    "schema": {"type": "string"},
}
OPEN: Final[dict[str, Any]] = {"security": [{}]}
"""Never needs a token."""
TOKEN: Final[dict[str, Any]] = {"security": [{"token": []}]}
"""Always needs the token; everything else needs it unless reading is open."""
LINKS: Final = {
    name: {"operationId": operation, "parameters": {"id": "$response.body#/id"}}
    for name, operation in (("status", "oneSync"), ("events", "watchSync"), ("cancel", "cancelSync"))
}


def read(model: type[BaseModel], *problems: int) -> Responses:
    """Responses of a read of the catalogue."""
    return {
        **result(model, *problems),
        200: {"model": model, "description": "The result.", "headers": _READ_HEADERS},
        304: {"description": _NOT_MODIFIED, "headers": _READ_HEADERS},
    }


def result(model: Any, *problems: int) -> Responses:
    """Responses with a JSON object."""
    return {**_one(200, "The result.", model), **_problems(400, 401, 414, 503, *problems)}


def submitted(model: type[BaseModel]) -> Responses:
    """Responses to a request for a sync."""
    accepted = _one(202, "The sync is requested.", model)
    accepted[202]["headers"] = {**_HEADERS, "Location": {"schema": {"type": "string"}, "required": True}}
    accepted[202]["links"] = LINKS
    return {**accepted, **_problems(400, 401, 403, 408, 409, 413, 414, 415, 422, 503)}


def cancelled(model: type[BaseModel]) -> Responses:
    """Responses to a cancellation."""
    return {
        **_one(200, "It had ended already.", model),
        **_one(202, "It is ending.", model),
        **_problems(400, 401, 403, 404, 414, 503),
    }


def acted(model: Any) -> Responses:
    """Responses to a person's decision about an incident."""
    done = _one(200, "It is done: the ID of the incident, the action, by whom and why.", model)
    return {**done, **_problems(400, 401, 403, 404, 408, 413, 414, 415, 422, 503)}


def health(model: type[BaseModel]) -> Responses:
    """Responses of a health check."""
    return {**_one(200, "Healthy or degraded.", model), **_one(503, "Unhealthy.", model), **_problems(400)}


def stream(*problems: int) -> Responses:
    """Responses with server-sent events."""
    events = {"description": "The events.", "headers": _HEADERS, "content": {"text/event-stream": _TEXT}}
    return {200: events, **_problems(400, 401, 414, 503, *problems)}


def file(media_type: str) -> Responses:
    """Responses with a file."""
    return {
        200: {"description": "The file.", "headers": _HEADERS, "content": {media_type: _TEXT}},
        304: {"description": _NOT_MODIFIED},
        **_problems(400, 404, 414, 503),
    }


def _one(status: int, description: str, model: Any) -> Responses:
    return {status: {"model": model, "description": description, "headers": _HEADERS}}


def _problems(*statuses: int) -> Responses:
    return {
        status: {
            "model": Problem,
            "description": _STATUS_TEXTS[status],
            "headers": {**_HEADERS, **_PROBLEM_HEADERS.get(status, {})},
        }
        for status in statuses
    }


def describe(app: FastAPI) -> dict[str, Any]:
    """The completed OpenAPI document of ``app``. Do not modify it."""
    if app.openapi_schema is None:
        document = app.openapi()
        document["security"] = [{}, {"token": []}]
        components = document["components"]
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for name in ("HTTPValidationError", "ValidationError"):
            components["schemas"].pop(name, None)
        for methods in document["paths"].values():
            for operation in methods.values():
                _complete(operation)
    return app.openapi()


def _complete(operation: dict[str, Any]) -> None:
    """Gives problems their media type, and removes 422 unless a route declares it."""
    for status, response in list(operation["responses"].items()):
        content = response.get("content", {})
        reference = content.get("application/json", {}).get("schema", {}).get("$ref", "")
        if reference.endswith("/Problem"):
            content[MEDIA_TYPE] = content.pop("application/json")
        elif reference.endswith("/HTTPValidationError"):
            del operation["responses"][status]
