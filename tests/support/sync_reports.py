"""Reports of syncs, and the alerts that they raise."""

from __future__ import annotations

from typing import Any

from catalog_sync.alerts import outcomes
from catalog_sync.domain.errors import CatalogSyncError
from catalog_sync.domain.models import Outcome, SyncKind, SyncReport
from catalog_sync.sync.reporting import error_info
from otel_resilience.alerting import Alert


def report(outcome: Outcome, error: CatalogSyncError | None = None, **changes: Any) -> SyncReport:
    fields: dict[str, Any] = {
        "outcome": outcome,
        "kind": SyncKind.FULL,
        "scope": None,
        "correlation_id": "ab" * 16,
        "version": "v1",
        "bundles": 10,
        "quarantined": 0,
        "groups": (),
        "started_at": "2026-01-01T00:00:00Z",
        "duration_s": 1.5,
        "attempts": 4,
        "retries": 2,
        "error": None if error is None else error_info(error),
    }
    return SyncReport(**{**fields, **changes})


def raised(of: SyncReport, *, age: float | None = 60.0, partial_threshold: int = 2) -> list[Alert]:
    return list(outcomes.raised(of, age=age, stale_after=3600, partial_threshold=partial_threshold, credential="cafe"))
