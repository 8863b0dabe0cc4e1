"""The OpenAPI document: what is offered, as ``/openapi.json`` and the tests have it."""

from __future__ import annotations

import functools
from importlib.metadata import version
from typing import Any, Final

from catalog_sync.api import schemas
from catalog_sync.api.parameters import MAX_NUMBER, MAX_TEXT
from catalog_sync.api.problems import MEDIA_TYPE
from catalog_sync.api.syncs import MAX_PAGE
from catalog_sync.store.reader import DEFAULT_LIMIT

_DESCRIPTION: Final = (
    "Reads the eSIM catalogue and asks for syncs. Every answer carries `X-Correlation-ID`, which is the trace ID, and"
    " `traceresponse` (W3C Trace Context, level 2). Errors are problem documents (RFC 9457)."
)
_STATUS_TEXTS: Final = {
    304: "As the client has it.",
    400: "A parameter or the body cannot be understood.",
    401: "The token is missing or wrong.",
    403: "No token is configured.",
    404: "There is no such thing.",
    408: "The body took too long.",
    409: "Another sync is under way; `conflict` names it.",
    413: "The body is too large.",
    414: "The query is too long.",
    415: "The body is not announced as JSON.",
    422: "The body is JSON, but not what is needed, or there is no such group or country.",
    503: "Nothing to read, the store does not answer, or too many requests.",
}


@functools.cache
def document() -> dict[str, Any]:
    """The whole document. Not to be changed."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "catalog-api",
            "version": version("catalog-sync"),
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{}, {"token": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas.SCHEMAS,
        },
    }


def _paths() -> dict[str, Any]:
    return {
        "/bundles": {"get": _read("searchBundles", "Search bundles.", "Bundles", _search(DEFAULT_LIMIT))},
        "/bundles/{name}": {
            "get": _read("showBundle", "One bundle by its case-sensitive name.", "OneBundle", [_path("name")], 404)
        },
        "/countries": {"get": _read("listCountries", "Countries of the bundles that match.", "Countries", _search(0))},
        "/groups": {"get": _read("listGroups", "Groups, with bundles that match.", "Groups", _search(0))},
        "/syncs": {"get": _list_syncs(), "post": _submit()},
        "/syncs/{id}": {"get": _get("oneSync", "One sync.", "Sync", [_path("id")], 404), "delete": _cancel()},
        "/syncs/{id}/events": {
            "get": _events("watchSync", "One sync, from how it stands until it has ended.", [_path("id")], 404)
        },
        "/events": {"get": _events("watchSyncs", "Every sync that changes.", [])},
        "/traces": {
            "get": _get("listTraces", "Failed traces that are kept, newest first.", "Traces", _page_parameters(), 400)
        },
        "/traces/{trace_id}": {
            "get": _get("oneTrace", "The spans of a kept trace.", "Trace", [_path("trace_id")], 404)
        },
        "/overview": {"get": _get("overview", "Catalogue, health, breakers, budgets, alerts.", "Overview", [])},
        "/health": {"get": _health("health", "All checks.")},
        "/health/live": {"get": _health("live", "Whether the process answers.")},
        "/health/ready": {"get": _health("ready", "Whether requests may be sent here.")},
        "/openapi.json": {"get": _get("openapi", "This document.", None, [])},
        "/": {"get": _file("page", "The page for people.", "text/html")},
        "/static/{name}": {"get": {**_file("static", "A part of the page.", "*/*"), "parameters": [_path("name")]}},
    }


def _read(operation: str, summary: str, schema: str, parameters: list[Any], *further: int) -> dict[str, Any]:
    found = _get(operation, summary, schema, [*parameters, _IF_NONE_MATCH], 400, 503, *further)
    found["responses"]["200"]["headers"] = {**_HEADERS, **_READ_HEADERS}
    found["responses"]["304"] = {"description": _STATUS_TEXTS[304], "headers": {**_HEADERS, **_READ_HEADERS}}
    return found


def _get(operation: str, summary: str, schema: str | None, parameters: list[Any], *further: int) -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "object"} if schema is None else _ref(schema)}}
    return {
        "operationId": operation,
        "summary": summary,
        "parameters": parameters,
        "responses": {
            "200": {"description": "What was asked for.", "headers": _HEADERS, "content": content},
            **_problems(400, 401, 414, 503, *further),
        },
    }


def _list_syncs() -> dict[str, Any]:
    return _get("listSyncs", "The last syncs, newest first.", "Syncs", _page_parameters())


def _submit() -> dict[str, Any]:
    accepted = {
        "description": "The sync is asked for.",
        "headers": {**_HEADERS, "Location": {"schema": {"type": "string"}, "required": True}},
        "content": {"application/json": {"schema": _ref("Sync")}},
        "links": {
            "status": {"operationId": "oneSync", "parameters": {"id": "$response.body#/id"}},
            "events": {"operationId": "watchSync", "parameters": {"id": "$response.body#/id"}},
            "cancel": {"operationId": "cancelSync", "parameters": {"id": "$response.body#/id"}},
        },
    }
    return {
        "operationId": "askForSync",
        "summary": "Ask for a sync.",
        "security": [{"token": []}],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _ref("SyncRequest")}}},
        "responses": {"202": accepted, **_problems(400, 401, 403, 408, 409, 413, 414, 415, 422, 503)},
    }


def _cancel() -> dict[str, Any]:
    content = {"application/json": {"schema": _ref("Sync")}}
    return {
        "operationId": "cancelSync",
        "summary": "Cancel a sync.",
        "security": [{"token": []}],
        "parameters": [_path("id")],
        "responses": {
            "200": {"description": "It had ended already.", "headers": _HEADERS, "content": content},
            "202": {"description": "It is ending.", "headers": _HEADERS, "content": content},
            **_problems(400, 401, 403, 404, 414, 503),
        },
    }


def _events(operation: str, summary: str, parameters: list[Any], *further: int) -> dict[str, Any]:
    found = _get(operation, summary, None, parameters, *further)
    found["responses"]["200"]["content"] = {"text/event-stream": {"schema": {"type": "string"}}}
    found["description"] = "Events of type `sync`; their data is the object of `GET /syncs/{id}`."
    return found


def _health(operation: str, summary: str) -> dict[str, Any]:
    found = _get(operation, summary, "Health", [])
    found["security"] = [{}]
    found["responses"] = {
        "200": {**found["responses"]["200"], "description": "Healthy or degraded."},
        "503": {**found["responses"]["200"], "description": "Unhealthy."},
        **_problems(400),
    }
    return found


def _file(operation: str, summary: str, media_type: str) -> dict[str, Any]:
    return {
        "operationId": operation,
        "summary": summary,
        "security": [{}],
        "responses": {
            "200": {
                "description": "The file.",
                "headers": _HEADERS,
                "content": {media_type: {"schema": {"type": "string"}}},
            },
            "304": {"description": _STATUS_TEXTS[304]},
            **_problems(400, 404, 414, 503),
        },
    }


def _problems(*statuses: int) -> dict[str, Any]:
    return {
        str(status): {
            "description": _STATUS_TEXTS[status],
            "headers": {**_HEADERS, **_PROBLEM_HEADERS.get(status, {})},
            "content": {MEDIA_TYPE: {"schema": _ref("Problem")}},
        }
        for status in sorted(set(statuses))
    }


def _ref(schema: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema}"}


def _path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _query(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _search(limit: int) -> list[dict[str, Any]]:
    text = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT, "pattern": r"\S"}
    number = {"type": "integer", "minimum": 0, "maximum": MAX_NUMBER}
    return [
        _query("country", text, "Country code, in any case."),
        _query("group", text, "Group; case, hyphens and spaces do not matter."),
        _query("region", text, "Region; case, hyphens and spaces do not matter."),
        _query("min_days", number, "Shortest duration in days; above `max_days` nothing is found."),
        _query("max_days", number, "Longest duration in days."),
        _query("text", text, "Words that occur in the name or the description, in any case."),
        _query("limit", {**number, "default": limit}, "Entries of the answer; 0: all."),
        _query("offset", {**number, "default": 0}, "Entries left out before the first."),
    ]


def _page_parameters() -> list[dict[str, Any]]:
    return [
        _query("limit", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 50}, "Entries."),
        _query("offset", {"type": "integer", "minimum": 0, "maximum": MAX_NUMBER, "default": 0}, "Entries left out."),
    ]


_HEADERS: Final[dict[str, Any]] = {
    "X-Correlation-ID": {"required": True, "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"}},
    "traceresponse": {
        "required": True,
        "schema": {"type": "string", "pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"},
    },
}
_READ_HEADERS: Final[dict[str, Any]] = {
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
_IF_NONE_MATCH: Final[dict[str, Any]] = {
    "name": "If-None-Match",
    "in": "header",
    "description": "The ETag of an earlier answer; where it still holds the answer is 304.",
    "schema": {"type": "string"},
}
