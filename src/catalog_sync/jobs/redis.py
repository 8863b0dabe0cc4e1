"""Sync jobs run by workers: the port ``Jobs`` on Redis and Celery."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Final

from opentelemetry import trace

from catalog_sync.domain.models import SyncRequest
from catalog_sync.domain.times import rfc3339, utc_now
from catalog_sync.jobs.ledger import JobLedger
from catalog_sync.jobs.port import Job, JobConflictError, JobNotFoundError, JobStatus, Sender
from catalog_sync.jobs.records import PLAN, PUBLISH, record_fields
from catalog_sync.jobs.sweep import end_abandoned, end_unreadable
from catalog_sync.observability.sdk import inject_context, trace_of
from catalog_sync.store.errors import CorruptEntryError
from otel_resilience import correlation_scope

if TYPE_CHECKING:
    from catalog_sync.sync.service import OnReport

MAX_LATEST: Final = 200

_log = logging.getLogger(__name__)


@dataclasses.dataclass(eq=False)
class RedisJobs:
    """Implements ``Jobs``. For one event loop; call ``configure`` of :mod:`catalog_sync.worker.celery_app` before.

    ``on_report`` is called for a sync that is given up here.
    """

    ledger: JobLedger
    sender: Sender
    _: dataclasses.KW_ONLY
    sync_deadline: float
    on_submitted: Callable[[Job], object] | None = None
    on_report: OnReport | None = None
    now: Callable[[], datetime.datetime] = utc_now

    async def submit(self, request: SyncRequest) -> Job:
        """Requests a sync in the current trace. Raises :class:`JobConflictError` while another one is active.

        Once the job is recorded it will run, even if its message cannot be sent at the moment.
        """
        with correlation_scope() as identifier, _within_trace(identifier):
            carrier = inject_context()
            fields = record_fields(request, correlation_id=identifier, created_at=rfc3339(self.now()), carrier=carrier)
            job_id = secrets.token_hex(8)
            active = await self.ledger.submit(job_id, fields)
            if active != job_id and await self._abandoned(active):
                active = await self.ledger.submit(job_id, fields)
            if active != job_id:
                raise JobConflictError((await self.ledger.read(active)).job)
            await self.sender.send(job_id, PLAN)
            job = (await self.ledger.read(job_id)).job
        if self.on_submitted is not None:
            self.on_submitted(job)
        return job

    async def get(self, job_id: str) -> Job:
        return await self.ledger.shown(job_id)

    async def latest(self, *, limit: int = 50, offset: int = 0) -> Sequence[Job]:
        return await self.ledger.latest(min(limit, MAX_LATEST), offset)

    async def cancel(self, job_id: str) -> Job:
        """Requests that the job stops: waiting steps are not started, running steps stop at their next heartbeat.

        A version that is being published is still published. Raises :class:`JobNotFoundError`.
        """
        record = await self.ledger.read(job_id)
        if record.job.status.ended:
            return record.job
        finished_at = rfc3339(self.now())
        await self.ledger.cancel(job_id)
        ended = await self.ledger.end(
            job_id, JobStatus.CANCELLED, None, None, finished_at=finished_at, only_queued=True
        )
        if not ended:
            await self.sender.send(job_id, PUBLISH, record.carrier)
        return (await self.ledger.read(job_id)).job

    async def changes(self) -> AsyncIterator[Job]:
        """Every job that changes from now on; states in quick succession are merged."""
        async for ids in self.ledger.changed():
            for job_id in ids:
                try:
                    record = await self.ledger.read(job_id)
                except (JobNotFoundError, CorruptEntryError) as error:
                    _log.debug("a changed job is left out: %s", error)
                    continue
                yield record.job

    async def _abandoned(self, job_id: str) -> bool:
        """Whether the conflicting job was given up by all workers; then it has been ended now."""
        try:
            record = await self.ledger.read(job_id)
        except JobNotFoundError:
            return True
        except CorruptEntryError:
            await end_unreadable(self.ledger, self.now(), self.on_report)
            return True
        return await end_abandoned(self.ledger, record, self.sync_deadline, self.now(), self.on_report)


def _within_trace(identifier: str) -> contextlib.AbstractContextManager[None]:
    """Without an active span, work for the job still forms one trace, with the correlation ID as its ID."""
    if trace.get_current_span().get_span_context().is_valid:
        return contextlib.nullcontext()
    return trace_of(identifier, sampled=True)
