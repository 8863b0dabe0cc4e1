"""Progress as server-sent events: one listener to the jobs, any number of clients, none of which is waited for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from catalog_sync.api.parameters import no_parameters
from catalog_sync.api.problems import RETRY_AFTER, ProblemError
from catalog_sync.domain.errors import CatalogSyncError
from catalog_sync.jobs import Job, Jobs
from catalog_sync.jobs.watching import Watcher, Watchers
from catalog_sync.sync.reporting import error_info

HEARTBEAT: Final = 15.0
"""Seconds of silence after which a comment is sent, so that proxies keep the connection."""
LISTEN_AGAIN: Final = 1.0
"""Seconds after which the jobs are listened to again when that failed."""
RECONNECT_MS: Final = 2000
"""Milliseconds after which a browser connects again."""

_log = logging.getLogger(__name__)


class Hub:
    """Listens to the jobs once and tells every client. At most ``max_streams`` clients."""

    def __init__(self, jobs: Jobs, document: Callable[[Job], Mapping[str, Any]], *, max_streams: int) -> None:
        self._jobs = jobs
        self._document = document
        self._max = max_streams
        self._clients = Watchers()
        self._on_change: list[Callable[[Job], object]] = []

    def on_change(self, listener: Callable[[Job], object]) -> None:
        """Call ``listener`` with every change, in the event loop."""
        self._on_change.append(listener)

    async def listen(self) -> None:
        """Hand on what the jobs tell, until cancelled; again where that fails."""
        while True:
            try:
                async for job in self._jobs.changes():
                    self._clients.notify(job)
                    for listener in self._on_change:
                        listener(job)
            except CatalogSyncError as error:
                _log.warning("the jobs cannot be listened to: %s", error_info(error).message)
            else:
                return
            await asyncio.sleep(LISTEN_AGAIN)

    def close(self) -> None:
        """End all streams."""
        self._clients.close()

    async def all(self, request: Request) -> Response:
        """``GET /events``: every sync that changes."""
        no_parameters(request.scope["query_string"])
        return self._stream(None)

    async def one(self, request: Request) -> Response:
        """``GET /syncs/{id}/events``: one sync, from how it stands now until it has ended."""
        no_parameters(request.scope["query_string"])
        job_id: str = request.path_params["id"]
        await self._jobs.get(job_id)
        return self._stream(job_id)

    def _stream(self, job_id: str | None) -> Response:
        if len(self._clients) >= self._max:
            raise ProblemError(
                503, "overloaded", "Too many streams are open.", headers={"Retry-After": str(5 * RETRY_AFTER)}
            )
        return _EventStream(self._clients, self._jobs, self._document, job_id)


class _EventStream(Response):
    """An answer that goes on until the client leaves, the sync ends or the process stops."""

    media_type = "text/event-stream"

    def __init__(
        self, clients: Watchers, jobs: Jobs, document: Callable[[Job], Mapping[str, Any]], job_id: str | None
    ) -> None:
        super().__init__(None, 200, {"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._clients = clients
        self._jobs = jobs
        self._document = document
        self._job_id = job_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        watcher = self._clients.add()
        gone = asyncio.create_task(_wait_until_gone(receive, watcher))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if scope["method"] != "HEAD":
                async with contextlib.aclosing(self._events(watcher)) as events:
                    async for text in events:
                        await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._clients.remove(watcher)
            gone.cancel()

    async def _events(self, watcher: Watcher) -> AsyncGenerator[str, None]:
        yield f"retry: {RECONNECT_MS}\n\n"
        if self._job_id is not None:
            # Read when the watcher is there already, so that no change falls in between.
            job = await self._jobs.get(self._job_id)
            yield self._event(job)
            if job.status.ended:
                return
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT):
                    job = await anext(watcher)
            except TimeoutError:
                yield ": still here\n\n"
                continue
            except StopAsyncIteration:
                return
            if self._job_id in {None, job.id}:
                yield self._event(job)
                if self._job_id is not None and job.status.ended:
                    return

    def _event(self, job: Job) -> str:
        return f"event: sync\ndata: {json.dumps(self._document(job), ensure_ascii=False)}\n\n"


async def _wait_until_gone(receive: Receive, watcher: Watcher) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    watcher.close()
