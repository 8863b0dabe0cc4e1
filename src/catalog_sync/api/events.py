"""Progress as server-sent events: one listener to the jobs, any number of clients, none of which is waited for."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Final

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from catalog_sync.api.parameters import JobId
from catalog_sync.api.problems import RETRY_AFTER, ProblemError
from catalog_sync.domain.errors import CatalogSyncError
from catalog_sync.jobs import Job, Jobs
from catalog_sync.jobs.watching import Watcher, Watchers
from catalog_sync.sync.reporting import error_info

HEARTBEAT: Final = 15.0
"""Seconds between two comments, which keep proxies from closing a silent connection."""
LISTEN_AGAIN: Final = 1.0
"""Seconds after which the jobs are listened to again when that failed."""
RECONNECT_MS: Final = 2000
"""Milliseconds after which a browser connects again."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass(eq=False)
class Hub:
    """Listens to the jobs once and notifies every client. At most ``max_streams`` clients."""

    jobs: Jobs
    document: Callable[[Job], Mapping[str, Any]]
    _: dataclasses.KW_ONLY
    max_streams: int
    _clients: Watchers = dataclasses.field(default_factory=Watchers)
    _on_change: list[Callable[[Job], object]] = dataclasses.field(default_factory=list)

    def on_change(self, listener: Callable[[Job], object]) -> None:
        """Call ``listener`` with every change, in the event loop."""
        self._on_change.append(listener)

    async def listen(self) -> None:
        """Hand on the changes of jobs, until cancelled; again where that fails."""
        while True:
            try:
                async for job in self.jobs.changes():
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

    async def all(self) -> Response:
        """Every sync that changes."""
        return self._stream(None)

    async def one(self, job_id: JobId) -> Response:
        """One sync, from its present state until it has ended."""
        await self.jobs.get(job_id)
        return self._stream(job_id)

    def _stream(self, job_id: str | None) -> Response:
        if len(self._clients) >= self.max_streams:
            raise ProblemError(
                503, "overloaded", "Too many streams are open.", headers={"Retry-After": str(5 * RETRY_AFTER)}
            )
        return _EventStream(self._clients, functools.partial(self._events, job_id))

    async def _events(self, job_id: str | None, watcher: Watcher) -> AsyncGenerator[ServerSentEvent, None]:
        yield ServerSentEvent(retry=RECONNECT_MS, sep="\n")
        if job_id is not None:
            # Read when the watcher is there already, so that no change falls in between.
            job = await self.jobs.get(job_id)
            yield self._event(job)
            if job.status.ended:
                return
        async for job in watcher:
            if job_id in {None, job.id}:
                yield self._event(job)
                if job_id is not None and job.status.ended:
                    return

    def _event(self, job: Job) -> ServerSentEvent:
        return ServerSentEvent(json.dumps(self.document(job), ensure_ascii=False), event="sync", sep="\n")


class _EventStream(EventSourceResponse):
    """A response that goes on until the client leaves, the sync ends or the process stops."""

    def __init__(self, clients: Watchers, events: Callable[[Watcher], AsyncGenerator[ServerSentEvent, None]]) -> None:
        self._clients = clients
        self._watcher = clients.add()
        super().__init__(events(self._watcher), ping=HEARTBEAT, ping_message_factory=_comment)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._clients.remove(self._watcher)


def _comment() -> ServerSentEvent:
    return ServerSentEvent(comment="keep-alive", sep="\n")
