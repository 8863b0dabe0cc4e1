"""The envelopes of the eSIM Go API: from parsed JSON to pages, groups and bundles; contradictions are rejected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from catalog_sync.domain.errors import InvalidDataError, UnusableGroupsError
from catalog_sync.domain.text import is_encodable, printable
from catalog_sync.supplier.esim_go.responses import CONFIRM_ONCE
from catalog_sync.supplier.esim_go.rows import MAX_NAME, validate_rows
from catalog_sync.supplier.port import SCHEMA_MISMATCH, Page

if TYPE_CHECKING:
    from catalog_sync.domain.models import Bundle


def parse_page(data: Any, number: int) -> Page:
    """Page ``number`` from ``{bundles, pageCount, rows, pageSize}`` or a bare array.

    Raises ``InvalidDataError``: to be confirmed by one retry if the envelope contradicts itself, ``schema_mismatch`` if
    all rows lack the same required field.
    """
    if isinstance(data, list):
        rows, row_count, page_count = data, None, None
    elif isinstance(data, dict):
        listed = data.get("bundles")
        row_count, page_count = _count(data, "rows"), _count(data, "pageCount")
        if not isinstance(listed, list):
            raise _contradiction("the answer has no list of bundles", number)
        rows = listed
    else:
        raise _contradiction("the answer is neither an object nor an array", number)
    if not rows and row_count:
        if page_count is None or number <= max(page_count, 1):
            raise _contradiction(f"the page is empty, yet the catalogue claims {row_count} rows", number)
    elif rows and row_count is not None and len(rows) > row_count:
        raise _contradiction(f"the page has {len(rows)} rows, the whole catalogue claims {row_count}", number)
    checked = validate_rows(rows)
    lacking = checked.lacking_everywhere()
    if lacking is not None:
        raise InvalidDataError(
            f"no row of page {number} has the field {lacking!r}: the supplier changed its format",
            classification=SCHEMA_MISMATCH,
            context={"page": number, "field": lacking},
        )
    return Page(number, page_count, row_count, checked.bundles, checked.rejected)


def parse_groups(data: Any) -> list[str]:
    """The names from ``{groups: [{name}]}`` or from a bare array, without duplicates.

    Raises ``InvalidDataError`` if there is no usable name, ``UnusableGroupsError`` if some entries have none.
    """
    groups = data.get("groups") if isinstance(data, dict) else data
    if not isinstance(groups, list):
        raise InvalidDataError("the answer has no list of groups", classification=CONFIRM_ONCE)
    names: dict[str, None] = {}
    unusable: list[str] = []
    for group in groups:
        name = group.get("name") if isinstance(group, dict) else group
        if isinstance(name, str) and name.strip() and len(name) <= MAX_NAME and is_encodable(name):
            names[name] = None
        else:
            unusable.append(printable(repr(name) if not isinstance(name, str) else name, limit=40))
    if not names:
        what = "lists no groups at all" if not groups else "lists no group with a usable name"
        raise InvalidDataError(f"the supplier {what}", classification=CONFIRM_ONCE)
    if unusable:
        shown = ", ".join(f'"{name}"' for name in unusable[:3])
        error = UnusableGroupsError(
            f"{len(unusable)} of {len(groups)} groups have no usable name: {shown}", context={"groups": len(groups)}
        )
        error.usable = tuple(names)
        raise error
    return list(names)


def parse_bundle(data: Any, name: str) -> Bundle:
    """The bundle ``name`` from its own endpoint. Raises ``InvalidDataError``."""
    if not isinstance(data, dict):
        raise InvalidDataError("the answer is not a bundle", classification=CONFIRM_ONCE)
    if isinstance(data.get("groups"), list):
        groups = [group.get("name") if isinstance(group, dict) else group for group in data["groups"]]
        data = {**data, "groups": groups}
    checked = validate_rows([data])
    if checked.rejected:
        row = checked.rejected[0]
        raise InvalidDataError(
            f"the bundle cannot be used: {row.reason.value} ({row.field})",
            classification=SCHEMA_MISMATCH,
            context={"reason": row.reason.value, "field": row.field},
        )
    if checked.bundles[0].name != name:
        raise InvalidDataError("the supplier answers with another bundle", classification=CONFIRM_ONCE)
    return checked.bundles[0]


def _count(data: dict[str, Any], key: str) -> int | None:
    value = data.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidDataError(f"{key} is not a count", classification=CONFIRM_ONCE)
    return value


def _contradiction(message: str, number: int) -> InvalidDataError:
    return InvalidDataError(f"page {number}: {message}", classification=CONFIRM_ONCE, context={"page": number})
