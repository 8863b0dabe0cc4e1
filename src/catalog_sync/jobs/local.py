"""Sync jobs that run in the process that is asked for them: for one machine without workers."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import logging
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

from catalog_sync.domain.errors import CatalogSyncError
from catalog_sync.domain.models import CatalogueMeta, Outcome, SyncReport, SyncRequest
from catalog_sync.domain.reports import failed_report
from catalog_sync.domain.times import rfc3339, utc_now
from catalog_sync.jobs.port import Job, JobConflictError, JobNotFoundError, JobStatus
from catalog_sync.jobs.watching import Watchers
from catalog_sync.sync.progress import GroupProgress, OnProgress, Progress
from catalog_sync.sync.reporting import error_info
from otel_resilience import correlation_id

LOOK_AROUND: Final = 1.0
"""Seconds spent after a cancellation on finding out whether the version had already gone live."""
STOP_WITHIN: Final = 4.0
"""Seconds that the running sync is given to end when the process ends."""

_log = logging.getLogger(__name__)


class SyncRunner(Protocol):
    """The part of the sync service that is used."""

    def run(self, request: SyncRequest) -> Awaitable[SyncReport]:
        """Syncs once."""


@dataclasses.dataclass(eq=False)
class LocalJobs:
    """Runs one sync at a time, as a task of the event loop. Implements ``Jobs``; the records are lost with the process.

    ``service`` makes the sync service that reports to the given listener; ``current`` reads the live version; ``check``
    raises if no sync can be requested, for example without an API key; ``on_report`` is called, in a thread, with every
    report. The last ``kept`` jobs are remembered.
    """

    service: Callable[[OnProgress], SyncRunner]
    current: Callable[[], Awaitable[CatalogueMeta | None]]
    _: dataclasses.KW_ONLY
    check: Callable[[], object] = lambda: None
    on_report: Callable[[SyncReport], None] | None = None
    kept: int = 100
    now: Callable[[], datetime.datetime] = utc_now
    _jobs: OrderedDict[str, Job] = dataclasses.field(default_factory=OrderedDict)
    _running: tuple[str, asyncio.Task[None]] | None = None
    _watchers: Watchers = dataclasses.field(default_factory=Watchers)
    _closed: bool = False

    async def submit(self, request: SyncRequest) -> Job:
        """Starts a sync in the current trace. Raises :class:`JobConflictError` while another one runs."""
        if self._closed:
            raise CatalogSyncError("this process is ending; no sync is started any more")
        self.check()
        if self._running is not None and not (running := self._jobs[self._running[0]]).status.ended:
            raise JobConflictError(running)
        job = Job(
            id=secrets.token_hex(8),
            correlation_id=correlation_id(),
            kind=request.kind,
            scope=request.scope,
            force=request.force,
            status=JobStatus.QUEUED,
            created_at=rfc3339(self.now()),
            trigger=request.trigger,
        )
        task = asyncio.create_task(self._run(job.id, request), name=f"sync {job.id}")
        self._running = (job.id, task)
        task.add_done_callback(lambda ended: self._settle(job.id, ended))
        self._put(job)
        while len(self._jobs) > self.kept:
            self._jobs.popitem(last=False)
        return job

    async def get(self, job_id: str) -> Job:
        job = self._jobs.get(job_id)
        if job is None:
            raise JobNotFoundError(f"sync {job_id!r} does not exist or is no longer kept")
        return job

    async def latest(self, *, limit: int = 50, offset: int = 0) -> Sequence[Job]:
        return list(reversed(self._jobs.values()))[offset : offset + limit]

    async def cancel(self, job_id: str) -> Job:
        """Stops the job; one that has ended is not changed. Raises :class:`JobNotFoundError`."""
        job = await self.get(job_id)
        if job.status.ended or job.cancel_requested:
            return job
        job = self._change(job_id, cancel_requested=True)
        if self._running is not None and self._running[0] == job_id:
            self._running[1].cancel()
        return job

    async def changes(self) -> AsyncIterator[Job]:
        """Every job that changes from the first step of the iteration on; slow readers miss states."""
        watcher = self._watchers.add()
        try:
            async for job in watcher:
                yield job
        finally:
            self._watchers.remove(watcher)

    async def aclose(self) -> None:
        """Cancels the running sync and waits for at most :data:`STOP_WITHIN`; ends all watchers."""
        self._closed = True
        if self._running is not None:
            job_id, task = self._running
            await self.cancel(job_id)
            await asyncio.wait([task], timeout=STOP_WITHIN)
            if not task.done():
                _log.error("sync %s did not end within %g s; its lock expires by itself", job_id, STOP_WITHIN)
        self._watchers.close()

    async def _run(self, job_id: str, request: SyncRequest) -> None:
        self._change(job_id, status=JobStatus.RUNNING, started_at=rfc3339(self.now()))
        before: CatalogueMeta | None = None

        def listen(progress: Progress) -> None:
            self._change(job_id, groups=progress.scopes)

        try:
            before = await self._live()
            report = await self.service(listen).run(request)
        except asyncio.CancelledError:
            await self._stopped(job_id, before)
            raise
        except Exception as error:  # noqa: BLE001  a defect of the service must still end the job, classified
            _log.error("unexpected error during sync %s", job_id, exc_info=error)
            job = self._jobs[job_id]
            report = failed_report(
                error_info(error),
                kind=request.kind,
                scope=request.scope,
                correlation_id=job.correlation_id,
                started_at=job.started_at or job.created_at,
                trigger=request.trigger,
            )
        try:
            if self.on_report is not None:
                await asyncio.to_thread(self.on_report, report)
        finally:
            self._finish(job_id, report)

    async def _live(self) -> CatalogueMeta | None:
        """The live version, if it can be read soon."""
        try:
            async with asyncio.timeout(LOOK_AROUND):
                return await self.current()
        except (CatalogSyncError, TimeoutError) as error:
            _log.warning("the live version could not be read: %s", error_info(error).message)
            return None

    async def _stopped(self, job_id: str, before: CatalogueMeta | None) -> None:
        """A cancellation may come when the version is already live: then the job is finished, not cancelled."""
        now = await self._live()
        job = self._jobs.get(job_id)
        published = (
            now is not None
            and job is not None
            and now.correlation_id == job.correlation_id
            and (before is None or before.version != now.version)
        )
        if now is None or not published:
            return
        outcome = Outcome.PARTIAL if any(group.stale for group in now.groups.values()) else Outcome.COMPLETE
        self._change(job_id, status=JobStatus.FINISHED, outcome=outcome, finished_at=rfc3339(self.now()))

    def _settle(self, job_id: str, task: asyncio.Task[None]) -> None:
        """The task has ended, perhaps without ever having started."""
        if self._running is not None and self._running[0] == job_id:
            self._running = None
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("after sync %s: %s", job_id, error_info(error).message)
        job = self._jobs.get(job_id)
        if job is not None and not job.status.ended:
            self._change(job_id, status=JobStatus.CANCELLED, finished_at=rfc3339(self.now()))

    def _finish(self, job_id: str, report: SyncReport) -> None:
        groups = tuple(map(GroupProgress.of, report.groups))
        self._change(
            job_id,
            status=JobStatus.FINISHED,
            finished_at=rfc3339(self.now()),
            outcome=report.outcome,
            report=report.to_json(),
            groups=groups or self._jobs[job_id].groups,
        )

    def _change(self, job_id: str, **fields: Any) -> Job:
        job = dataclasses.replace(self._jobs[job_id], **fields)
        self._put(job)
        return job

    def _put(self, job: Job) -> None:
        self._jobs[job.id] = job
        self._watchers.notify(job)
