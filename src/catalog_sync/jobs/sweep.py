"""The sweep: sends lost messages again, and ends and reports jobs that no worker processes any longer.

Celery redelivers the message of a killed worker only after the visibility timeout, which must be longer than the
longest job. The ledger knows within seconds that a step has no heartbeat.
"""

from __future__ import annotations

import dataclasses
import datetime
import logging
from typing import TYPE_CHECKING, Final

from catalog_sync.domain.errors import LockLostError, SyncDeadlineError
from catalog_sync.domain.reports import failed_report
from catalog_sync.domain.times import rfc3339
from catalog_sync.jobs.port import JobAbandonedError, JobStatus
from catalog_sync.jobs.records import PLAN, PUBLISH, step_of
from catalog_sync.observability import instruments
from catalog_sync.observability.sdk import trace_of
from catalog_sync.store.errors import CorruptEntryError
from catalog_sync.sync.reporting import error_info
from catalog_sync.sync.shared.distributed import keep_lease
from catalog_sync.sync.shared.failures import error_to_json
from otel_resilience import correlation_scope
from otel_resilience.correlation import is_correlation_id

if TYPE_CHECKING:
    from catalog_sync.domain.errors import CatalogSyncError
    from catalog_sync.domain.models import SyncReport
    from catalog_sync.jobs.ledger import JobLedger, StepState
    from catalog_sync.jobs.port import Sender
    from catalog_sync.jobs.records import Record
    from catalog_sync.store.catalog_store import CatalogStore
    from catalog_sync.sync.service import OnReport

GRACE: Final = 60.0
"""Seconds after its deadline in which a sync may still end by itself."""
UNTAKEN_AFTER: Final = 5.0
"""Seconds after which a message that is in no queue and was not taken counts as lost."""

_log = logging.getLogger(__name__)


async def sweep(
    ledger: JobLedger,
    store: CatalogStore,
    sender: Sender,
    *,
    lease: float,
    sync_deadline: float,
    now: datetime.datetime,
    on_report: OnReport | None = None,
) -> None:
    """Maintains the active job, if there is one. ``lease``: seconds between two heartbeats of a step.

    ``on_report`` is called for a sync that is ended here.
    """
    try:
        record = await ledger.active()
    except CorruptEntryError:
        await end_unreadable(ledger, now, on_report)
        return
    if record is None:
        return
    correlation_id = record.job.correlation_id
    with correlation_scope(correlation_id), trace_of(correlation_id, sampled=False):
        if await end_abandoned(ledger, record, sync_deadline, now, on_report):
            return
        now_ms = await ledger.now_ms()
        if record.deadline_ms is not None and now_ms > record.deadline_ms and record.fatal is None:
            error = SyncDeadlineError(f"the sync did not end within {sync_deadline:g} s")
            await ledger.fail(record.job.id, error_to_json(error))
            record = await ledger.read(record.job.id)
        await _keep_lock(ledger, store, record)
        steps = await ledger.steps(record.job.id)
        queue_is_empty = await sender.waiting() == 0
        for step in await _wanted(ledger, record):
            every = _resend_after(steps.get(step), now_ms, lease, queue_is_empty=queue_is_empty)
            if every is not None:
                await sender.send(record.job.id, step, record.carrier, every=every)


async def end_abandoned(
    ledger: JobLedger,
    record: Record,
    sync_deadline: float,
    now: datetime.datetime,
    on_report: OnReport | None = None,
) -> bool:
    """Ends a job that is overdue and that nothing else ends. Returns whether it is ended."""
    now_ms = await ledger.now_ms()
    give_up = (record.deadline_ms or record.created_ms + int(sync_deadline * 1000)) + int(GRACE * 1000)
    if now_ms <= give_up:
        return False
    what = "no worker took it" if record.deadline_ms is None else "its workers are gone"
    with trace_of(record.job.correlation_id, sampled=False):
        await end_with_error(ledger, record, JobAbandonedError(f"the sync was given up: {what}"), now, on_report)
    return True


async def end_with_error(
    ledger: JobLedger,
    record: Record,
    error: CatalogSyncError,
    now: datetime.datetime,
    on_report: OnReport | None = None,
) -> None:
    """Ends a job that its own last step cannot end, and reports it like any other failed sync."""
    report = _failed(record, error, now)
    finished_at = rfc3339(now)
    if await ledger.end(record.job.id, JobStatus.FINISHED, report.outcome, report.to_json(), finished_at=finished_at):
        _publish(report, on_report)


async def end_lost(
    ledger: JobLedger, record: Record, now: datetime.datetime, on_report: OnReport | None = None
) -> bool:
    """Whether the record of the job is gone, as after FLUSHALL. The first call records and reports the failure."""
    error = JobAbandonedError("the record of the sync is gone: Redis was emptied, or an older replica took over")
    report = _failed(record, error, now)
    lost = await ledger.end_lost(record, report.to_json(), finished_at=rfc3339(now))
    if lost:
        _publish(report, on_report)
    return lost


async def end_unreadable(ledger: JobLedger, now: datetime.datetime, on_report: OnReport | None = None) -> None:
    """Ends the active job if its record cannot be read, and reports it like any other failed sync."""
    report = await ledger.end_unreadable(finished_at=rfc3339(now))
    if report is not None:
        _publish(report, on_report)


def _failed(record: Record, error: CatalogSyncError, now: datetime.datetime) -> SyncReport:
    job = record.job
    with correlation_scope(job.correlation_id):
        info = dataclasses.replace(error_info(error), correlation_id=job.correlation_id)
    return failed_report(
        info,
        kind=job.kind,
        scope=job.scope,
        started_at=job.started_at or job.created_at,
        duration_s=record.distributed_sync().duration(now),
        trigger=record.request.trigger,
    )


def _publish(report: SyncReport, on_report: OnReport | None) -> None:
    # A record that cannot be read may lack its correlation ID.
    with correlation_scope(report.correlation_id if is_correlation_id(report.correlation_id) else None):
        instruments.record_sync(report.kind, report.outcome, report.duration_s, {}, {})
        instruments.emit_sync_finished(report)
        if on_report is not None:
            on_report(report, None)


async def _keep_lock(ledger: JobLedger, store: CatalogStore, record: Record) -> None:
    """Extends the lease while a step waits for a worker; if another run holds the lock, the sync is ended."""
    if record.token is None or record.fatal is not None:
        return
    try:
        await keep_lease(store, record.distributed_sync())
    except LockLostError as error:
        await ledger.fail(record.job.id, error_to_json(error))


async def _wanted(ledger: JobLedger, record: Record) -> list[str]:
    if record.fatal is not None or record.job.cancel_requested:
        return [PUBLISH]
    if not record.planned:
        return [PLAN]
    done = await ledger.parts(record.job.id)
    return [step for step in map(step_of, range(len(record.scopes))) if step not in done] or [PUBLISH]


def _resend_after(state: StepState | None, now_ms: int, lease: float, *, queue_is_empty: bool) -> float | None:
    """Seconds since it was last sent after which a step is sent again; ``None``: not needed."""
    if state is not None and state.until_ms > now_ms:
        return None
    if state is not None and state.starts > 0:
        return lease
    return max(lease, UNTAKEN_AFTER) if queue_is_empty else None
