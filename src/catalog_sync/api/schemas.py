"""Models of the API's responses for the OpenAPI document. Responses are made from the domain, not from these."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt
from pydantic.json_schema import SkipJsonSchema

from catalog_sync.api.problems import TITLES, TYPE_PREFIX
from catalog_sync.domain.models import Outcome, Source, SyncKind
from catalog_sync.jobs import JobStatus

Id = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
Time = datetime.datetime
HealthStatus = Literal["healthy", "degraded", "unhealthy"]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ProblemPart(_Closed):
    detail: str
    parameter: str | SkipJsonSchema[None] = None
    pointer: str | SkipJsonSchema[None] = None


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    type: Annotated[str, Field(json_schema_extra={"enum": [TYPE_PREFIX + kind for kind in TITLES]})]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    correlation_id: Id
    errors: list[ProblemPart] | SkipJsonSchema[None] = None
    conflict: str | SkipJsonSchema[None] = None
    error_type: str | SkipJsonSchema[None] = None


class Bundle(_Closed):
    name: str
    description: str
    groups: list[str]
    countries: list[str]
    region: str | None
    data_mb: NonNegativeInt | None
    unlimited: bool
    duration_days: NonNegativeInt
    price: Annotated[str, Field(description="Decimal, major units, exact as the supplier sent it.")]
    currency: str | None
    speeds: list[str]
    stale: bool


class _Read(_Closed):
    source: Source
    as_of: Time
    stale: bool
    version: str


class _Listed(_Read):
    total: NonNegativeInt


class Bundles(_Listed):
    bundles: list[Bundle]


class OneBundle(_Read):
    bundle: Bundle


class Country(_Closed):
    code: str
    bundles: NonNegativeInt
    regions: list[str]


class Countries(_Listed):
    countries: list[Country]


class Group(_Closed):
    name: str
    bundles: NonNegativeInt
    as_of: Time
    stale: bool


class Groups(_Listed):
    groups: list[Group]


class Error(_Closed):
    type: str
    class_: Annotated[str, Field(alias="class")]
    severity: Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"]
    message: str
    retry_after_s: float | None
    correlation_id: str


class GroupProgress(_Closed):
    name: str
    status: Literal["pending", "running", "ok", "stale", "failed"]
    bundles: NonNegativeInt
    error: Error | None


class Progress(_Closed):
    groups_done: NonNegativeInt
    groups_total: NonNegativeInt
    groups: list[GroupProgress]


class Links(_Closed):
    self: str
    events: str | SkipJsonSchema[None] = Field(None, description="Of syncs that were requested here.")
    spans: str
    trace: str | SkipJsonSchema[None] = Field(None, description="The trace in the tool of `ERROR_ALERT_TRACE_URL`.")


class Sync(_Closed):
    id: str
    correlation_id: Id
    kind: SyncKind
    scope: str | None
    force: bool
    trigger: str | None
    status: JobStatus
    outcome: Outcome | None
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    cancel_requested: bool
    progress: Progress
    report: Annotated[dict[str, Any] | None, Field(description="The object of `catalog-sync run --json`.")]
    links: Links


class Syncs(_Closed):
    syncs: list[Sync]


class TraceSummary(_Closed):
    trace_id: Id
    name: str
    start: float
    end: float
    spans: NonNegativeInt
    errors: NonNegativeInt
    failed: bool
    services: list[str]


class Traces(_Closed):
    traces: list[TraceSummary]


class SpanEvent(_Closed):
    name: str
    at: float
    attributes: dict[str, Any]


class SpanLink(_Closed):
    trace_id: Id
    span_id: str


class Span(_Closed):
    trace_id: Id
    span_id: str
    parent_id: str | None
    name: str
    kind: Literal["INTERNAL", "CLIENT", "SERVER", "PRODUCER", "CONSUMER"]
    service: str
    start: float
    end: float
    status: Literal["unset", "ok", "error"]
    message: str | None
    attributes: dict[str, Any]
    events: list[SpanEvent]
    links: list[SpanLink]


class Trace(_Closed):
    trace_id: Id
    link: str | None
    spans: list[Span]


class Check(BaseModel):
    """One check, with what it looked at."""

    status: HealthStatus


class Health(_Closed):
    """The worst of all checks, and each of them."""

    status: HealthStatus
    checks: dict[str, Check]


class Overview(_Closed):
    now: Time
    health: Health
    catalogue: dict[str, Any] | None
    breakers: list[dict[str, Any]]
    budgets: list[dict[str, Any]]
    alerts: dict[str, Any]
