"""Asking for syncs, watching and cancelling them; and the traces of those that failed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from catalog_sync.api.catalogue import LiveCatalogue
from catalog_sync.api.health import Health
from catalog_sync.api.parameters import no_parameters, page_parameters, sync_body
from catalog_sync.api.problems import ProblemError
from catalog_sync.domain.errors import CacheConnectionError
from catalog_sync.domain.times import epoch
from catalog_sync.jobs import Job, Jobs
from catalog_sync.observability.traces import TraceStore
from catalog_sync.settings.settings import AlertSettings
from catalog_sync.sync.scopes import check_scope
from otel_resilience.correlation import is_correlation_id

MAX_PAGE: Final = 200
ANSWER_WITHIN: Final = 3.0
"""Seconds in which the records of jobs and traces, which may live in Redis, must answer."""

LATELY: Final = 10.0
"""Seconds after its end in which the version of a sync may still be on its way here."""

_NO_STORE: Final = {"Cache-Control": "no-store"}


class Syncs:
    """The endpoints of syncs and traces. ``wall_clock`` tells the time of day in seconds since the epoch."""

    def __init__(
        self,
        jobs: Jobs,
        traces: TraceStore,
        live: LiveCatalogue,
        health: Health,
        alerts: AlertSettings,
        *,
        max_body_bytes: int,
        wall_clock: Callable[[], float],
    ) -> None:
        self._jobs = jobs
        self._live = live
        self._wall_clock = wall_clock
        self._traces = traces
        self._health = health
        self._trace_url = alerts.trace_url
        self._max_body_bytes = max_body_bytes

    async def submit(self, request: Request) -> Response:
        """``POST /syncs``."""
        no_parameters(request.scope["query_string"])
        body = await sync_body(request, self._max_body_bytes)
        if self._health.draining:
            raise ProblemError(503, "stopping", "Ask again in a moment.", headers={"Retry-After": "5"})
        check_scope(body.request(), self._live.known_scopes)
        async with _in_time():
            job = await self._jobs.submit(body.request())
        document = self.document(job)
        return JSONResponse(document, 202, headers={**_NO_STORE, "Location": document["links"]["self"]})

    async def listing(self, request: Request) -> Response:
        """``GET /syncs``: newest first."""
        limit, offset = page_parameters(request.scope["query_string"], limit=50, maximum=MAX_PAGE)
        async with _in_time():
            jobs = await self._jobs.latest(limit=limit, offset=offset)
        return JSONResponse({"syncs": [self.document(job) for job in jobs]}, headers=_NO_STORE)

    async def one(self, request: Request) -> Response:
        """``GET /syncs/{id}``."""
        no_parameters(request.scope["query_string"])
        async with _in_time():
            job = await self._jobs.get(request.path_params["id"])
        version = None if job.report is None else job.report["version"]
        if version is not None and self._ended_lately(job):
            # Whoever learns here that a sync has ended finds its version in the next read.
            await self._live.catch_up(version)
        return JSONResponse(self.document(job), headers=_NO_STORE)

    async def cancel(self, request: Request) -> Response:
        """``DELETE /syncs/{id}``: 202 while it is ending, 200 where it had ended."""
        no_parameters(request.scope["query_string"])
        async with _in_time():
            job = await self._jobs.cancel(request.path_params["id"])
        return JSONResponse(self.document(job), 200 if job.status.ended else 202, headers=_NO_STORE)

    async def traces(self, request: Request) -> Response:
        """``GET /traces``: the failed ones that are kept, newest first."""
        limit, _ = page_parameters(request.scope["query_string"], limit=50, maximum=MAX_PAGE)
        async with _in_time():
            found = await self._traces.failed(limit=limit)
        return JSONResponse({"traces": [summary.to_json() for summary in found]}, headers=_NO_STORE)

    async def trace(self, request: Request) -> Response:
        """``GET /traces/{trace_id}``: its spans."""
        no_parameters(request.scope["query_string"])
        trace_id: str = request.path_params["trace_id"]
        spans = []
        if is_correlation_id(trace_id):
            async with _in_time():
                spans = list(await self._traces.get(trace_id))
        if not spans:
            raise ProblemError(404, "trace_not_found", "Only the last syncs and failures are kept here.")
        document = {
            "trace_id": trace_id,
            "link": self._trace_link(trace_id),
            "spans": [span.to_json() for span in spans],
        }
        return JSONResponse(document, headers=_NO_STORE)

    def document(self, job: Job) -> dict[str, Any]:
        """A job as the API shows it."""
        links: Mapping[str, str | None] = {
            "self": f"/syncs/{job.id}",
            "events": f"/syncs/{job.id}/events",
            "spans": f"/traces/{job.correlation_id}",
            "trace": self._trace_link(job.correlation_id),
        }
        return {**job.to_json(), "links": {name: link for name, link in links.items() if link is not None}}

    def _ended_lately(self, job: Job) -> bool:
        return job.finished_at is not None and self._wall_clock() - epoch(job.finished_at) < LATELY

    def _trace_link(self, trace_id: str) -> str | None:
        return None if self._trace_url is None else self._trace_url.replace("{trace_id}", trace_id)


@contextlib.asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    """Whatever takes longer than :data:`ANSWER_WITHIN` counts as a store that does not answer."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            yield
    except TimeoutError as error:
        raise CacheConnectionError(f"the records did not answer within {ANSWER_WITHIN:g} s") from error
