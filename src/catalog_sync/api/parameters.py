"""Query parameters and JSON bodies: exactly what is offered, or a problem that names what is wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final, Literal
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.requests import ClientDisconnect, Request

from catalog_sync.api.problems import ProblemError, invalid
from catalog_sync.domain.models import SyncKind, SyncRequest
from catalog_sync.store.reader import DEFAULT_LIMIT, Query

MAX_NUMBER: Final = 999_999_999
MAX_TEXT: Final = 200
"""Characters of a parameter or a scope."""
SCOPE: Final = r"^[^\x00-\x1f\x7f]*$"
"""A scope has no control characters."""
BODY_TIMEOUT: Final = 10.0
"""Seconds for a whole body."""

TEXTS: Final = ("country", "group", "region", "text")
NUMBERS: Final = ("min_days", "max_days", "limit", "offset")
_MAX_PARAMETERS = 32


def search_query(raw: bytes, *, limit: int = DEFAULT_LIMIT) -> Query:
    """The parameters of a search. Raises a problem with status 400."""
    given = parse(raw, (*TEXTS, *NUMBERS))
    values: dict[str, Any] = {"limit": limit}
    errors = []
    for name, text in given.items():
        try:
            values[name] = number(text) if name in NUMBERS else label(text)
        except ValueError as error:
            errors.append({"parameter": name, "detail": str(error)})
    if errors:
        raise invalid(400, "invalid_parameters", errors)
    if values.get("min_days", 0) > values.get("max_days", MAX_NUMBER):
        # No duration fits: the same as one that no bundle has.
        values["min_days"] = values["max_days"] = MAX_NUMBER
    return Query(**values)


def page_parameters(raw: bytes, *, limit: int, maximum: int) -> tuple[int, int]:
    """``limit`` from 1 to ``maximum`` and ``offset``. Raises a problem with status 400."""
    values = {"limit": limit, "offset": 0}
    for name, text in parse(raw, tuple(values)).items():
        try:
            values[name] = number(text)
        except ValueError as error:
            raise invalid(400, "invalid_parameters", [{"parameter": name, "detail": str(error)}]) from error
    if not 1 <= values["limit"] <= maximum:
        raise invalid(
            400, "invalid_parameters", [{"parameter": "limit", "detail": f"must be a whole number from 1 to {maximum}"}]
        )
    return values["limit"], values["offset"]


def no_parameters(raw: bytes) -> None:
    """Raises a problem with status 400 where there are any."""
    parse(raw, ())


def parse(raw: bytes, known: tuple[str, ...]) -> dict[str, str]:
    """The parameters of a query: known ones, each once."""
    if not raw:
        return {}
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS)
    except ValueError as error:  # wrong encoding, or too many
        raise invalid(400, "invalid_parameters", [{"detail": "the query is not well-formed UTF-8"}]) from error
    found: dict[str, str] = {}
    errors = []
    for name, value in pairs:
        if name not in known:
            offered = ", ".join(known) or "none"
            errors.append({"parameter": name[:MAX_TEXT], "detail": f"is not known here; offered: {offered}"})
        elif name in found:
            errors.append({"parameter": name, "detail": "must not be given twice"})
        found[name] = value
    if errors:
        raise invalid(400, "invalid_parameters", errors)
    return found


def number(text: str) -> int:
    """Raises ``ValueError``."""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MAX_NUMBER))):
        raise ValueError(f"must be a whole number from 0 to {MAX_NUMBER}")
    return int(text)


def label(text: str) -> str:
    """Raises ``ValueError``."""
    if not text.strip() or len(text) > MAX_TEXT:
        raise ValueError(f"must have 1 to {MAX_TEXT} characters, not only spaces")
    return text


class SyncBody(BaseModel):
    """What ``POST /syncs`` takes."""

    model_config = ConfigDict(extra="forbid", strict=True)

    kind: Literal["full", "group", "country", "bundle"] = "full"
    scope: str | None = Field(default=None, min_length=1, max_length=MAX_TEXT, pattern=SCOPE)
    force: bool = False

    @model_validator(mode="after")
    def _scope_fits(self) -> SyncBody:
        if (self.kind == "full") != (self.scope is None):
            raise ValueError("a full sync has no scope, every other kind needs one")
        return self

    def request(self) -> SyncRequest:
        """The sync that is asked for."""
        return SyncRequest(SyncKind(self.kind), self.scope, self.force, trigger="api")


async def sync_body(request: Request, max_bytes: int) -> SyncBody:
    """The body of ``POST /syncs``. Raises a problem with status 400, 408, 413, 415 or 422."""
    document = await _json_object(request, max_bytes)
    try:
        return SyncBody.model_validate(document)
    except ValidationError as error:
        errors = [
            {
                "pointer": "".join(f"/{part}" for part in each["loc"]),
                "detail": each["msg"].removeprefix("Value error, "),
            }
            for each in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise invalid(422, "invalid_body", errors) from None


async def _json_object(request: Request, max_bytes: int) -> Mapping[str, Any]:
    kind, _, charset = request.headers.get("content-type", "").partition(";")
    if kind.strip().lower() != "application/json" or charset.strip().lower() not in {"", "charset=utf-8"}:
        raise ProblemError(415, "unsupported_media_type", "Send Content-Type: application/json.")
    raw = await _read(request, max_bytes)
    try:
        document = json.loads(raw.decode(), object_pairs_hook=_no_duplicates, parse_constant=_no_constants)
    except (ValueError, RecursionError) as error:
        raise ProblemError(
            400, "invalid_body", "The body is not one JSON object in UTF-8; {} asks for a full sync."
        ) from (None if isinstance(error, RecursionError) else error)
    if not isinstance(document, dict):
        raise ProblemError(422, "invalid_body", "The body must be a JSON object; {} asks for a full sync.")
    return document


async def _read(request: Request, max_bytes: int) -> bytes:
    announced = request.headers.get("content-length", "")
    too_large = ProblemError(413, "too_large", f"At most {max_bytes} bytes.", headers={"Connection": "close"})
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > max_bytes:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            async for chunk in request.stream():
                body += chunk
                if len(body) > max_bytes:
                    raise too_large
    except TimeoutError as error:
        raise ProblemError(
            408, "timeout", f"The body did not arrive within {BODY_TIMEOUT:g} s.", headers={"Connection": "close"}
        ) from error
    except ClientDisconnect as error:
        raise ProblemError(400, "bad_request", "The body did not arrive.") from error
    return bytes(body)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in an object")
    return found


def _no_constants(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
