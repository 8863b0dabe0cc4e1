"""Requesting, watching and cancelling syncs; and the traces of those that failed."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Final

from fastapi import Query, Request
from starlette.responses import Response

from catalog_sync.api.catalogue import LiveCatalogue
from catalog_sync.api.guards import client_of
from catalog_sync.api.health import Health
from catalog_sync.api.making import Making, encode, encode_with
from catalog_sync.api.parameters import MAX_PAGE, JobId, PageParameters, PathText, SyncRequest, SyncsParameters
from catalog_sync.api.ports import answering_within
from catalog_sync.api.problems import ProblemError
from catalog_sync.api.sending import UncachedJson
from catalog_sync.domain.times import epoch
from catalog_sync.history import KEPT, History, SyncRecord
from catalog_sync.jobs import GroupProgress, Job, JobNotFoundError, Jobs, JobStatus
from catalog_sync.observability.traces import TraceStore
from catalog_sync.settings.settings import AlertSettings
from catalog_sync.sync.scopes import check_scope
from otel_resilience.correlation import is_correlation_id

RECORDS_TIMEOUT: Final = 3.0
"""Timeout in seconds for the records of jobs and traces, which may be in Redis."""

RECENT: Final = 10.0
"""Seconds after the end of a sync in which its version may still be on its way here."""


@dataclasses.dataclass(eq=False)
class Syncs:
    """The endpoints of syncs and traces. ``wall_clock`` returns the time of day in seconds since the epoch."""

    jobs: Jobs
    kept: TraceStore
    history: History
    live: LiveCatalogue
    health: Health
    alerts: AlertSettings
    making: Making
    _: dataclasses.KW_ONLY
    wall_clock: Callable[[], float]

    async def submit(self, body: SyncRequest) -> Response:
        """Request a sync."""
        if self.health.draining:
            raise ProblemError(503, "stopping", "Try again in a moment.", headers={"Retry-After": "5"})
        check_scope(body.request(), self.live.known_scopes)
        async with answering_within(RECORDS_TIMEOUT, "the records"):
            job = await self.jobs.submit(body.request())
        document = self.document(job)
        return UncachedJson(document, 202, Location=document["links"]["self"])

    async def listing(self, request: Request, page: Annotated[SyncsParameters, Query()]) -> Response:
        """The last syncs, newest first, wherever they ran."""
        return await self._long(request, {}, "syncs", [self.document(job) for job in await self.latest(page)])

    async def latest(self, page: SyncsParameters) -> list[Job]:
        """The syncs of :meth:`listing`."""
        wanted = MAX_PAGE if page.filtered else page.offset + page.limit
        async with answering_within(RECORDS_TIMEOUT, "the records"):
            jobs = list(await self.jobs.latest(limit=wanted))
            found = await asyncio.to_thread(self.history.latest, KEPT if page.filtered else wanted)
        known = {job.correlation_id for job in jobs}
        others = [_ended_job(record) for record in found.syncs if record.correlation_id not in known]
        merged = sorted((*jobs, *others), key=lambda job: job.created_at, reverse=True)
        return [job for job in merged if page.accepts(job)][page.offset : page.offset + page.limit]

    async def one(self, job_id: JobId) -> Response:
        """One sync."""
        job = await self.job(job_id)
        version = None if job.report is None else job.report.get("version")
        if version is not None and self._ended_recently(job):
            # A client that learns here that a sync has ended finds its version with the next read.
            await self.live.catch_up(version)
        return UncachedJson(self.document(job))

    async def job(self, job_id: str) -> Job:
        """A job by its ID, or any sync by its correlation ID. Raises ``JobNotFoundError``."""
        async with answering_within(RECORDS_TIMEOUT, "the records"):
            try:
                return await self.jobs.get(job_id)
            except JobNotFoundError:
                found = await self._newest(job_id) if is_correlation_id(job_id) else None
                if found is None:
                    raise
                return found

    async def beginning_with(self, digits: str) -> str | None:
        """The correlation ID that starts with ``digits``: of the newest sync, else of the newest failed trace."""
        async with answering_within(RECORDS_TIMEOUT, "the records"):
            found = await self._newest(digits)
            if found is not None:
                return found.correlation_id
            kept = await self.kept.failed(limit=MAX_PAGE)
        return next((each.trace_id for each in kept if each.trace_id.startswith(digits)), None)

    async def _newest(self, beginning: str) -> Job | None:
        """The newest sync whose correlation ID starts with ``beginning``."""
        for job in await self.jobs.latest(limit=MAX_PAGE):
            if job.correlation_id.startswith(beginning):
                return job
        for record in (await asyncio.to_thread(self.history.latest)).syncs:
            if record.correlation_id.startswith(beginning):
                return _ended_job(record)
        return None

    async def cancel(self, job_id: JobId) -> Response:
        """Cancel a sync."""
        job = await self.job(job_id)
        if not job.status.ended:
            async with answering_within(RECORDS_TIMEOUT, "the records"):
                job = await self.jobs.cancel(job.id)
        return UncachedJson(self.document(job), 200 if job.status.ended else 202)

    async def traces(self, page: Annotated[PageParameters, Query()]) -> Response:
        """Failed traces that are kept, newest first."""
        async with answering_within(RECORDS_TIMEOUT, "the records"):
            found = await self.kept.failed(limit=page.limit)
        return UncachedJson({"traces": [summary.to_json() for summary in found]})

    async def trace(self, request: Request, trace_id: PathText) -> Response:
        """The spans of a kept trace."""
        spans = []
        if is_correlation_id(trace_id):
            async with answering_within(RECORDS_TIMEOUT, "the records"):
                spans = list(await self.kept.get(trace_id))
        if not spans:
            raise ProblemError(404, "trace_not_found", "Only recent syncs and failures are kept.")
        head = {"trace_id": trace_id, "link": self._trace_link(trace_id)}
        return await self._long(request, head, "spans", (span.to_json() for span in spans))

    async def _long(
        self, request: Request, head: Mapping[str, Any], name: str, rows: Iterable[Mapping[str, Any]]
    ) -> Response:
        """A list that may be long, encoded in a thread."""
        body = await self.making.make(
            object(), client_of(request.scope), lambda: encode_with(head, name, map(encode, rows))
        )
        return Response(body, headers={"Cache-Control": "no-store"}, media_type="application/json")

    def document(self, job: Job) -> dict[str, Any]:
        """A job as the API shows it."""
        links: Mapping[str, str | None] = {
            "self": f"/syncs/{job.id}",
            "events": None if job.id == job.correlation_id else f"/syncs/{job.id}/events",
            "spans": f"/traces/{job.correlation_id}",
            "trace": self._trace_link(job.correlation_id),
        }
        return {**job.to_json(), "links": {name: link for name, link in links.items() if link is not None}}

    def _ended_recently(self, job: Job) -> bool:
        return job.finished_at is not None and self.wall_clock() - epoch(job.finished_at) < RECENT

    def _trace_link(self, trace_id: str) -> str | None:
        url = self.alerts.trace_url
        return None if url is None else url.replace("{trace_id}", trace_id)


def _ended_job(record: SyncRecord) -> Job:
    """A sync that was not a job of this API, as a job: its ID is its correlation ID."""
    report = record.report
    return Job(
        id=record.correlation_id,
        correlation_id=record.correlation_id,
        kind=record.kind,
        scope=record.scope,
        force=False,
        status=JobStatus.FINISHED,
        created_at=record.started_at,
        started_at=record.started_at,
        finished_at=record.ended_at,
        outcome=record.outcome,
        groups=tuple(GroupProgress(*map(group.get, GroupProgress._fields)) for group in report.get("groups", ())),
        report=report,
        trigger=record.trigger,
    )
