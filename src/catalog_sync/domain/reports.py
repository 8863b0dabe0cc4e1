"""Reports of syncs that no sync service could report on."""

from __future__ import annotations

from catalog_sync.domain.models import ErrorInfo, Outcome, SyncKind, SyncReport


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
