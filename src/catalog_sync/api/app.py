"""The ASGI application: endpoints and the layers around them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from catalog_sync.api.catalogue import LiveCatalogue
from catalog_sync.api.context import RequestContext
from catalog_sync.api.events import Hub
from catalog_sync.api.guards import Access, Gate
from catalog_sync.api.health import Health
from catalog_sync.api.openapi import document
from catalog_sync.api.page import Page
from catalog_sync.api.parameters import no_parameters
from catalog_sync.api.ports import Alerts, Protection
from catalog_sync.api.reads import Reads
from catalog_sync.api.syncs import Syncs
from catalog_sync.jobs import Jobs
from catalog_sync.observability.traces import TraceStore
from catalog_sync.settings.settings import Settings


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
    """What the API serves."""

    live: LiveCatalogue
    jobs: Jobs
    traces: TraceStore
    alerts: Alerts
    protection: Protection


class Api:
    """The application. ``wall_clock`` tells the time of day in seconds since the epoch.

    It neither opens nor closes its parts; :attr:`hub` has to be run beside it (:meth:`Hub.listen`).
    """

    def __init__(self, settings: Settings, parts: Parts, *, wall_clock: Callable[[], float] = time.time) -> None:
        api = settings.api
        access = Access(api.token, open_reads=api.open_reads)
        self.health = Health(parts.live, parts.alerts, parts.protection, wall_clock)
        syncs = Syncs(
            parts.jobs,
            parts.traces,
            parts.live,
            self.health,
            settings.alerts,
            max_body_bytes=api.max_body_bytes,
            wall_clock=wall_clock,
        )
        self.hub = Hub(parts.jobs, syncs.document, max_streams=api.max_streams)
        # A version that was published here is served at once, not with the next poll.
        self.hub.on_change(lambda job: parts.live.look() if job.status.ended else None)
        reads = Reads(parts.live, wall_clock, shared=api.open_reads)
        page = Page()
        self.routes = [
            Route("/bundles", reads.bundles),
            Route("/bundles/{name:path}", reads.bundle),
            Route("/countries", reads.countries),
            Route("/groups", reads.groups),
            _by_method("/syncs", GET=syncs.listing, POST=syncs.submit),
            _by_method("/syncs/{id}", GET=syncs.one, DELETE=syncs.cancel),
            Route("/syncs/{id}/events", self.hub.one),
            Route("/events", self.hub.all),
            Route("/traces", syncs.traces),
            Route("/traces/{trace_id}", syncs.trace),
            Route("/overview", self.health.overview),
            Route("/health", self.health.health),
            Route("/health/live", self.health.is_live),
            Route("/health/ready", self.health.is_ready),
            Route("/openapi.json", _openapi),
            Route("/", page.index),
            Route("/static/{name}", page.static),
        ]
        router = Router(self.routes, redirect_slashes=False)
        gate = Gate(router, access, max_concurrency=api.max_concurrency)
        self._app = RequestContext(gate, access, trace_from_any=api.trace_from == "any")

    def drain(self) -> None:
        """The process is about to end: ready no more, no new syncs, streams end."""
        self.health.draining = True
        self.hub.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        scope["app"] = self  # so that the router raises what it would otherwise answer in plain text
        await self._app(scope, receive, send)


def _by_method(path: str, **endpoints: Callable[[Request], Awaitable[Response]]) -> Route:
    """One route for a path, so that an answer about a wrong method names all that are offered."""

    async def chosen(request: Request) -> Response:
        return await endpoints["GET" if request.method == "HEAD" else request.method](request)

    return Route(path, chosen, methods=list(endpoints))


async def _openapi(request: Request) -> Response:
    no_parameters(request.scope["query_string"])
    return JSONResponse(document(), headers={"Cache-Control": "no-cache"})
