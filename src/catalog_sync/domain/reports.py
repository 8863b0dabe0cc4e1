"""Reports as they are stored, and reports of syncs that no sync service could report on."""

from __future__ import annotations

import json
from typing import Any, Final

from catalog_sync.domain.models import ErrorInfo, Outcome, SyncKind, SyncReport
from catalog_sync.domain.text import is_encodable

_EMPTY: Final[dict[str, Any]] = {
    **dict.fromkeys(("outcome", "kind", "started_at", "correlation_id"), ""),
    "duration_s": 0,
    "groups": [],
}
_ERROR_FIELDS: Final = ("type", "class", "severity", "message", "correlation_id")


def is_report(data: Any, *, partial: bool = False) -> bool:
    """Whether a stored object has the structure of ``run --json``, as far as anything here reads it. ``partial``:
    missing fields are allowed."""
    if partial and isinstance(data, dict):
        data = {**_EMPTY, **data}
    return (
        isinstance(data, dict)
        and all(isinstance(data.get(key), str) for key in ("outcome", "kind", "started_at", "correlation_id"))
        and isinstance(data.get("duration_s"), int | float)
        and isinstance(data.get("version"), str | None)
        and _is_error(data.get("error"))
        and isinstance(data.get("groups"), list)
        and all(map(_is_group, data["groups"]))
        and isinstance(data.get("warnings", []), list)
        and all(isinstance(warning, str) for warning in data.get("warnings", ()))
        and is_encodable(json.dumps(data, ensure_ascii=False))
    )


def _is_group(data: Any) -> bool:
    return (
        isinstance(data, dict)
        and isinstance(data.get("name"), str)
        and isinstance(data.get("status"), str)
        and isinstance(data.get("bundles"), int)
        and "error" in data
        and _is_error(data["error"])
    )


def _is_error(data: Any) -> bool:
    return data is None or (isinstance(data, dict) and all(isinstance(data.get(key), str) for key in _ERROR_FIELDS))


def failed_report(
    error: ErrorInfo,
    *,
    kind: SyncKind,
    scope: str | None,
    started_at: str,
    correlation_id: str | None = None,
    outcome: Outcome = Outcome.FAILED,
    duration_s: float = 0.0,
    trigger: str | None = None,
) -> SyncReport:
    """The report of a sync that ended with ``error``."""
    return SyncReport(
        outcome=outcome,
        kind=kind,
        scope=scope,
        correlation_id=error.correlation_id if correlation_id is None else correlation_id,
        version=None,
        bundles=0,
        quarantined=0,
        groups=(),
        started_at=started_at,
        duration_s=duration_s,
        attempts=0,
        retries=0,
        error=error,
        trigger=trigger,
    )
