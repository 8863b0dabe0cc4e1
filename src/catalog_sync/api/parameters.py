"""Query parameters and JSON bodies: exactly those offered, or a problem that names what is wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Final, Literal
from urllib.parse import parse_qsl

from fastapi import Path, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic.json_schema import SkipJsonSchema
from starlette.requests import ClientDisconnect

from catalog_sync.api.problems import ProblemError, invalid
from catalog_sync.domain import models
from catalog_sync.jobs import Job
from catalog_sync.store.reader import DEFAULT_LIMIT, Query

MAX_NUMBER: Final = 999_999_999
MAX_TEXT: Final = 200
"""Maximum characters of a parameter or a scope."""
MAX_PAGE: Final = 200
"""Maximum entries of a page of syncs or traces."""
SCOPE: Final = r"^[^\x00-\x1f\x7f]*$"
"""A scope has no control characters."""
BODY_TIMEOUT: Final = 10.0
"""Timeout in seconds for a whole body."""

_MAX_PARAMETERS = 32


def _digits(value: object) -> object:
    """Accepts only digits: Pydantic would also accept ``+1``, ``1_000`` and ``1.0``."""
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        raise ValueError("must be a whole number")
    return value


Text = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT, pattern=r"\S")]
Number = Annotated[int, Field(ge=0, le=MAX_NUMBER), BeforeValidator(_digits)]
PathText = Annotated[str, Path(json_schema_extra={"minLength": 1})]
JobId = Annotated[str, Path(alias="id", json_schema_extra={"minLength": 1})]


class SearchParameters(BaseModel):
    """The parameters of a search."""

    country: Text | SkipJsonSchema[None] = Field(None, description="Country code, in any case.")
    group: Text | SkipJsonSchema[None] = Field(None, description="Group; case, hyphens and spaces do not matter.")
    region: Text | SkipJsonSchema[None] = Field(None, description="Region; case, hyphens and spaces do not matter.")
    min_days: Number | SkipJsonSchema[None] = Field(
        None, description="Shortest duration in days; above `max_days` nothing is found."
    )
    max_days: Number | SkipJsonSchema[None] = Field(None, description="Longest duration in days.")
    text: Text | SkipJsonSchema[None] = Field(
        None, description="Words that occur in the name or the description, in any case."
    )
    limit: Number = Field(DEFAULT_LIMIT, description="Maximum number of entries; 0: all.")
    offset: Number = Field(0, description="Entries to skip.")

    def query(self) -> Query:
        """The search."""
        least, most = self.min_days, self.max_days
        if least is not None and most is not None and least > most:
            # No duration matches: the same as one that no bundle has.
            least = most = MAX_NUMBER
        return Query(
            self.group, self.country, self.region, least, most, self.text, limit=self.limit, offset=self.offset
        )


class ListParameters(SearchParameters):
    """The parameters of a search that lists everything unless a limit is given."""

    limit: Number = Field(0, description="Maximum number of entries; 0: all.")


class PageParameters(BaseModel):
    """The parameters of a page of results."""

    limit: Annotated[int, BeforeValidator(_digits)] = Field(50, ge=1, le=MAX_PAGE, description="Maximum entries.")
    offset: Number = Field(0, description="Entries to skip.")


class SyncsParameters(PageParameters):
    """Which syncs are listed."""

    outcome: models.Outcome | SkipJsonSchema[None] = Field(None, description="Syncs with this outcome.")
    kind: models.SyncKind | SkipJsonSchema[None] = Field(None, description="Syncs of this kind.")
    trigger: Literal["cli", "schedule", "api", "demo"] | SkipJsonSchema[None] = Field(
        None, description="What requested them."
    )

    @property
    def filtered(self) -> bool:
        """Whether any filter is set."""
        return any(wanted is not None for wanted in (self.outcome, self.kind, self.trigger))

    def accepts(self, job: Job) -> bool:
        """Whether a job matches the filters."""
        return (
            self.outcome in (None, job.outcome)
            and self.kind in (None, job.kind)
            and self.trigger in (None, job.trigger)
        )


def check_query(raw: bytes, known: Collection[str]) -> dict[str, str]:
    """The parameters of a query. Raises a problem with status 400 unless every one is known and given once; FastAPI
    would ignore others."""
    if not raw:
        return {}
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS)
    except ValueError as error:  # wrong encoding, or too many
        raise invalid(400, "invalid_parameters", [{"detail": "the query is not well-formed UTF-8"}]) from error
    found = dict(pairs)
    if len(found) == len(pairs) and found.keys() <= set(known):
        return found
    seen: set[str] = set()
    errors = []
    for name, _ in pairs:
        if name not in known:
            offered = ", ".join(known) or "none"
            errors.append({"parameter": name[:MAX_TEXT], "detail": f"is not known here; offered: {offered}"})
        elif name in seen:
            errors.append({"parameter": name, "detail": "must not be given twice"})
        seen.add(name)
    raise invalid(400, "invalid_parameters", errors)


class SyncRequest(BaseModel):
    """A request for a sync; ``{}`` requests a full one."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "anyOf": [
                {"properties": {"kind": {"const": "full"}, "scope": {"type": "null"}}},
                {
                    "properties": {"kind": {"enum": ["group", "country", "bundle"]}, "scope": {"type": "string"}},
                    "required": ["kind", "scope"],
                },
            ]
        },
    )

    kind: Literal["full", "group", "country", "bundle"] = "full"
    scope: Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT, pattern=SCOPE)] | None = Field(
        None, description="The group, country or bundle; none for a full sync."
    )
    force: bool = Field(False, description="Publish even if a guard objects.")

    @model_validator(mode="after")
    def _scope_fits(self) -> SyncRequest:
        if (self.kind == "full") != (self.scope is None):
            raise ValueError("a full sync has no scope, every other kind needs one")
        return self

    def request(self) -> models.SyncRequest:
        """The sync that is requested."""
        return models.SyncRequest(models.SyncKind(self.kind), self.scope, self.force, trigger="api")


class JsonRequest(Request):
    """A request whose body is read within limits of size and time, and is one JSON object without duplicate keys.

    The size limit is ``max_body_bytes`` of the application's state. Both methods raise a problem: status 400, 408, 413,
    415 or 422.
    """

    async def body(self) -> bytes:
        kind, _, charset = self.headers.get("content-type", "").partition(";")
        if kind.strip().lower() != "application/json" or charset.strip().lower() not in {"", "charset=utf-8"}:
            raise ProblemError(415, "unsupported_media_type", "Send Content-Type: application/json.")
        # FastAPI does not parse an empty body.
        return await self._read() or b" "

    async def json(self) -> Mapping[str, Any]:
        raw = await self.body()
        try:
            document = json.loads(raw.decode(), object_pairs_hook=_no_duplicates, parse_constant=_no_constants)
        except (ValueError, RecursionError) as error:
            raise ProblemError(
                400, "invalid_body", "The body is not one JSON object in UTF-8; {} requests a full sync."
            ) from (None if isinstance(error, RecursionError) else error)
        if not isinstance(document, dict):
            raise ProblemError(422, "invalid_body", "The body must be a JSON object; {} requests a full sync.")
        return document

    async def _read(self) -> bytes:
        if hasattr(self, "_body"):
            return self._body
        limit: int = self.app.state.max_body_bytes
        announced = self.headers.get("content-length", "")
        too_large = ProblemError(413, "too_large", f"At most {limit} bytes.", headers={"Connection": "close"})
        if announced.isascii() and announced.isdigit() and int(announced[:20]) > limit:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_TIMEOUT):
                async for chunk in self.stream():
                    body += chunk
                    if len(body) > limit:
                        raise too_large
        except TimeoutError as error:
            raise ProblemError(
                408, "timeout", f"The body did not arrive within {BODY_TIMEOUT:g} s.", headers={"Connection": "close"}
            ) from error
        except ClientDisconnect as error:
            raise ProblemError(400, "bad_request", "The body did not arrive.") from error
        self._body = bytes(body)
        return self._body


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has the same key twice")
    return found


def _no_constants(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
