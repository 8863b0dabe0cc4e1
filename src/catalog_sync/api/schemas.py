"""The JSON schemas of what the API takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from catalog_sync.api.parameters import MAX_TEXT, SCOPE
from catalog_sync.api.problems import TITLES, TYPE_PREFIX
from catalog_sync.domain.models import Outcome, SyncKind
from catalog_sync.jobs import JobStatus

Schema = dict[str, Any]

STRING: Final[Schema] = {"type": "string"}
INTEGER: Final[Schema] = {"type": "integer", "minimum": 0}
NUMBER: Final[Schema] = {"type": "number"}
BOOLEAN: Final[Schema] = {"type": "boolean"}
TIME: Final[Schema] = {"type": "string", "format": "date-time"}
ID: Final[Schema] = {"type": "string", "pattern": "^[0-9a-f]{32}$"}
ANYTHING: Final[Schema] = {"type": "object"}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _list(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def _object(properties: Mapping[str, Schema], *, optional: Mapping[str, Schema] | None = None) -> Schema:
    return {
        "type": "object",
        "properties": {**properties, **(optional or {})},
        "required": list(properties),
        "additionalProperties": False,
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_ORIGIN: Final = {
    "source": {"enum": ["fresh", "stale", "snapshot"]},
    "as_of": TIME,
    "stale": BOOLEAN,
    "version": STRING,
}

SCHEMAS: Final[Mapping[str, Schema]] = {
    "Problem": {
        "type": "object",
        "properties": {
            "type": {"enum": [TYPE_PREFIX + kind for kind in TITLES]},
            "title": STRING,
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": STRING,
            "correlation_id": ID,
            "errors": _list(_object({"detail": STRING}, optional={"parameter": STRING, "pointer": STRING})),
            "conflict": STRING,
            "error_type": STRING,
        },
        "required": ["type", "title", "status", "detail", "correlation_id"],
    },
    "Bundle": _object(
        {
            "name": STRING,
            "description": STRING,
            "groups": _list(STRING),
            "countries": _list(STRING),
            "region": _or_null(STRING),
            "data_mb": _or_null(INTEGER),
            "unlimited": BOOLEAN,
            "duration_days": INTEGER,
            "price": {"type": "string", "description": "Decimal, major units, exact as the supplier sent it."},
            "currency": _or_null(STRING),
            "speeds": _list(STRING),
            "stale": BOOLEAN,
        }
    ),
    "Bundles": _object({**_ORIGIN, "total": INTEGER, "bundles": _list(_ref("Bundle"))}),
    "OneBundle": _object({**_ORIGIN, "bundle": _ref("Bundle")}),
    "Countries": _object(
        {
            **_ORIGIN,
            "total": INTEGER,
            "countries": _list(_object({"code": STRING, "bundles": INTEGER, "regions": _list(STRING)})),
        }
    ),
    "Groups": _object(
        {
            **_ORIGIN,
            "total": INTEGER,
            "groups": _list(_object({"name": STRING, "bundles": INTEGER, "as_of": TIME, "stale": BOOLEAN})),
        }
    ),
    "SyncRequest": {
        "type": "object",
        "properties": {
            "kind": {"enum": [kind.value for kind in SyncKind], "default": "full"},
            "scope": {
                "description": "The group, country or bundle; none for a full sync.",
                **_or_null({"type": "string", "minLength": 1, "maxLength": MAX_TEXT, "pattern": SCOPE}),
            },
            "force": {**BOOLEAN, "default": False, "description": "Publish although a guard objects."},
        },
        "additionalProperties": False,
        "anyOf": [
            {"properties": {"kind": {"const": "full"}, "scope": {"type": "null"}}},
            {
                "properties": {"kind": {"enum": ["group", "country", "bundle"]}, "scope": {"type": "string"}},
                "required": ["kind", "scope"],
            },
        ],
    },
    "Error": _object(
        {
            "type": STRING,
            "class": STRING,
            "severity": {"enum": ["LOW", "MEDIUM", "HIGH", "CRITICAL"]},
            "message": STRING,
            "retry_after_s": _or_null(NUMBER),
            "correlation_id": STRING,
        }
    ),
    "GroupProgress": _object(
        {
            "name": STRING,
            "status": {"enum": ["pending", "running", "ok", "stale", "failed"]},
            "bundles": INTEGER,
            "error": _or_null(_ref("Error")),
        }
    ),
    "Sync": _object(
        {
            "id": STRING,
            "correlation_id": ID,
            "kind": {"enum": [kind.value for kind in SyncKind]},
            "scope": _or_null(STRING),
            "force": BOOLEAN,
            "status": {"enum": [status.value for status in JobStatus]},
            "outcome": _or_null({"enum": [outcome.value for outcome in Outcome]}),
            "created_at": TIME,
            "started_at": _or_null(TIME),
            "finished_at": _or_null(TIME),
            "cancel_requested": BOOLEAN,
            "progress": _object(
                {"groups_done": INTEGER, "groups_total": INTEGER, "groups": _list(_ref("GroupProgress"))}
            ),
            "report": _or_null({**ANYTHING, "description": "The object of `catalog-sync run --json`."}),
            "links": _object(
                {"self": STRING, "events": STRING, "spans": STRING},
                optional={"trace": {**STRING, "description": "The trace in the tool of `ERROR_ALERT_TRACE_URL`."}},
            ),
        }
    ),
    "Syncs": _object({"syncs": _list(_ref("Sync"))}),
    "TraceSummary": _object(
        {
            "trace_id": ID,
            "name": STRING,
            "start": NUMBER,
            "end": NUMBER,
            "spans": INTEGER,
            "errors": INTEGER,
            "failed": BOOLEAN,
            "services": _list(STRING),
        }
    ),
    "Traces": _object({"traces": _list(_ref("TraceSummary"))}),
    "Span": _object(
        {
            "trace_id": ID,
            "span_id": STRING,
            "parent_id": _or_null(STRING),
            "name": STRING,
            "kind": {"enum": ["INTERNAL", "CLIENT", "SERVER", "PRODUCER", "CONSUMER"]},
            "service": STRING,
            "start": NUMBER,
            "end": NUMBER,
            "status": {"enum": ["unset", "ok", "error"]},
            "message": _or_null(STRING),
            "attributes": ANYTHING,
            "events": _list(_object({"name": STRING, "at": NUMBER, "attributes": ANYTHING})),
            "links": _list(_object({"trace_id": ID, "span_id": STRING})),
        }
    ),
    "Trace": _object({"trace_id": ID, "link": _or_null(STRING), "spans": _list(_ref("Span"))}),
    "Health": _object(
        {
            "status": {"enum": ["healthy", "degraded", "unhealthy"]},
            "checks": {
                "type": "object",
                "additionalProperties": {
                    "type": "object",
                    "properties": {"status": {"enum": ["healthy", "degraded", "unhealthy"]}},
                    "required": ["status"],
                },
            },
        }
    ),
    "Overview": _object(
        {
            "now": TIME,
            "health": _ref("Health"),
            "catalogue": _or_null(ANYTHING),
            "breakers": _list(ANYTHING),
            "budgets": _list(ANYTHING),
            "alerts": ANYTHING,
        }
    ),
}
