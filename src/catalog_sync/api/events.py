"""Progress as server-sent events: one subscription to the jobs, any number of clients, none delayed by a slow one."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, Final

from fastapi import Request
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from catalog_sync.api.guards import PerClient, client_of
from catalog_sync.api.parameters import JobId
from catalog_sync.api.problems import RETRY_AFTER, overloaded, too_many
from catalog_sync.domain.errors import CatalogSyncError
from catalog_sync.jobs import Job, Jobs
from catalog_sync.jobs.watching import Watcher, Watchers
from catalog_sync.sync.reporting import error_info

HEARTBEAT: Final = 15.0
"""Seconds between two comments, which keep proxies from closing an idle connection."""
LISTEN_AGAIN: Final = 1.0
"""Seconds after which a failed subscription to the jobs is repeated."""
RECONNECT_MS: Final = 2000
"""Milliseconds after which a browser reconnects."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass(eq=False)
class Hub:
    """Subscribes to the jobs once and notifies all clients: at most ``max_streams``, ``max_per_client`` for each."""

    jobs: Jobs
    document: Callable[[Job], Mapping[str, Any]]
    on_change: Callable[[Job], object]
    """Called with every change, in the event loop."""
    _: dataclasses.KW_ONLY
    find: Callable[[str], Awaitable[Job]]
    """The sync of an ID. Raises ``JobNotFoundError``."""
    max_streams: int
    max_per_client: int = 16
    _clients: Watchers = dataclasses.field(default_factory=Watchers)
    _of_client: PerClient = dataclasses.field(default_factory=PerClient)

    async def listen(self) -> None:
        """Forwards the changes of jobs, until cancelled; repeats the subscription if it fails."""
        while True:
            try:
                async for job in self.jobs.changes():
                    self._clients.notify(job)
                    self.on_change(job)
            except CatalogSyncError as error:
                _log.warning("cannot subscribe to job changes: %s", error_info(error).message)
            else:
                return
            await asyncio.sleep(LISTEN_AGAIN)

    def close(self) -> None:
        """Ends all streams."""
        self._clients.close()

    async def all(self, request: Request) -> Response:
        """Every sync that changes."""
        return self._stream(request, None)

    async def one(self, request: Request, job_id: JobId) -> Response:
        """One sync, from its present state until it has ended."""
        job = await self.find(job_id)
        return self._stream(request, job.id)

    def _stream(self, request: Request, job_id: str | None) -> Response:
        client = client_of(request.scope)
        if self._of_client[client] >= self.max_per_client:
            raise too_many(f"{self.max_per_client} streams of this client are open.", wait=5 * RETRY_AFTER)
        if len(self._clients) >= self.max_streams:
            raise overloaded("Too many streams are open.", wait=5 * RETRY_AFTER)
        self._of_client[client] += 1
        return _EventStream(
            self._clients, functools.partial(self._events, job_id), functools.partial(self._of_client.leave, client)
        )

    async def _events(self, job_id: str | None, watcher: Watcher) -> AsyncGenerator[ServerSentEvent, None]:
        yield ServerSentEvent(retry=RECONNECT_MS, sep="\n")
        if job_id is not None:
            # Read once the watcher exists, so that no change is missed in between.
            job = await self.find(job_id)
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
    """A response that continues until the client leaves, the sync ends or the process stops."""

    def __init__(
        self,
        clients: Watchers,
        events: Callable[[Watcher], AsyncGenerator[ServerSentEvent, None]],
        ended: Callable[[], object],
    ) -> None:
        self._clients = clients
        self._ended = ended
        self._watcher = clients.add()
        super().__init__(events(self._watcher), ping=HEARTBEAT, ping_message_factory=_comment)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._clients.remove(self._watcher)
            self._ended()


def _comment() -> ServerSentEvent:
    return ServerSentEvent(comment="keep-alive", sep="\n")
