"""The ASGI application: endpoints and the layers around them."""

from __future__ import annotations

import dataclasses
import inspect
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import Receive, Scope, Send

from catalog_sync.api import openapi, schemas
from catalog_sync.api.catalogue import LiveCatalogue
from catalog_sync.api.context import RequestContext
from catalog_sync.api.events import Hub
from catalog_sync.api.guards import Access, Gate
from catalog_sync.api.health import Health
from catalog_sync.api.page import Page
from catalog_sync.api.ports import Alerts, Protection
from catalog_sync.api.reads import Reads
from catalog_sync.api.routing import StrictRoute
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
    """The application. ``wall_clock`` returns the time of day in seconds since the epoch.

    It neither opens nor closes its parts; :attr:`hub` has to run in the background (:meth:`Hub.listen`).
    """

    def __init__(self, settings: Settings, parts: Parts, *, wall_clock: Callable[[], float] = time.time) -> None:
        api = settings.api
        access = Access(api.token, open_reads=api.open_reads)
        self.health = Health(parts.live, parts.alerts, parts.protection, wall_clock)
        syncs = Syncs(parts.jobs, parts.traces, parts.live, self.health, settings.alerts, wall_clock=wall_clock)
        self.hub = Hub(parts.jobs, syncs.document, max_streams=api.max_streams)
        # A version that was published here is served at once, not with the next poll.
        self.hub.on_change(lambda job: parts.live.refresh() if job.status.ended else None)
        self.fastapi = FastAPI(
            title="catalog-api",
            version=version("catalog-sync"),
            description=openapi.DESCRIPTION,
            license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
            openapi_url=None,
            redirect_slashes=False,
        )
        self.fastapi.state.max_body_bytes = api.max_body_bytes
        self._add_reads(Reads(parts.live, wall_clock, shared=api.open_reads))
        self._add_syncs(syncs)
        self._add_rest(Page())
        # Without FastAPI's own layers: they would answer errors before RequestContext sees them.
        self.gate = Gate(AsyncExitStackMiddleware(self.fastapi.router), access, max_concurrency=api.max_concurrency)
        self._app = RequestContext(self.gate, access, trace_from_any=api.trace_from == "any")

    def drain(self) -> None:
        """The process is about to end: not ready any more, no new syncs, streams end."""
        self.health.draining = True
        self.hub.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        scope["app"] = self.fastapi
        await self._app(scope, receive, send)

    def _add_reads(self, reads: Reads) -> None:
        route_class, extra = reads.route_class(), {"parameters": [openapi.IF_NONE_MATCH]}
        for path, endpoint, operation, responses in (
            ("/bundles", reads.bundles, "searchBundles", openapi.read(schemas.Bundles)),
            ("/bundles/{name:path}", reads.bundle, "showBundle", openapi.read(schemas.OneBundle, 404)),
            ("/countries", reads.countries, "listCountries", openapi.read(schemas.Countries)),
            ("/groups", reads.groups, "listGroups", openapi.read(schemas.Groups)),
        ):
            self._add(path, endpoint, operation, responses, route_class=route_class, openapi_extra=extra)

    def _add_syncs(self, syncs: Syncs) -> None:
        answer, sync = openapi.answer, schemas.Sync
        self._add("/syncs", syncs.listing, "listSyncs", answer(schemas.Syncs))
        self._add(
            "/syncs",
            syncs.submit,
            "askForSync",
            openapi.submitted(sync),
            method="POST",
            status_code=202,
            openapi_extra=openapi.TOKEN,
        )
        self._add("/syncs/{id}", syncs.one, "oneSync", answer(sync, 404))
        self._add(
            "/syncs/{id}",
            syncs.cancel,
            "cancelSync",
            openapi.cancelled(sync),
            method="DELETE",
            openapi_extra=openapi.TOKEN,
        )
        for path, events, operation, responses in (
            ("/syncs/{id}/events", self.hub.one, "watchSync", openapi.stream(404)),
            ("/events", self.hub.all, "watchSyncs", openapi.stream()),
        ):
            self._add(
                path,
                events,
                operation,
                responses,
                response_class=Response,
                description="Events of type `sync`; their data is the object of `GET /syncs/{id}`.",
            )
        self._add("/traces", syncs.traces, "listTraces", answer(schemas.Traces))
        self._add("/traces/{trace_id}", syncs.trace, "oneTrace", answer(schemas.Trace, 404))

    def _add_rest(self, page: Page) -> None:
        self._add("/overview", self.health.overview, "overview", openapi.answer(schemas.Overview))
        for path, check, operation in (
            ("/health", self.health.health, "health"),
            ("/health/live", self.health.is_live, "live"),
            ("/health/ready", self.health.is_ready, "ready"),
        ):
            self._add(path, check, operation, openapi.health(schemas.Health), openapi_extra=openapi.OPEN)
        self._add("/openapi.json", self._openapi, "openapi", openapi.answer(dict[str, Any]))
        html, any_file = openapi.file("text/html"), openapi.file("*/*")
        self._add("/", page.index, "page", html, response_class=HTMLResponse, openapi_extra=openapi.OPEN)
        self._add(
            "/static/{name}", page.static, "static", any_file, response_class=Response, openapi_extra=openapi.OPEN
        )

    def _add(
        self,
        path: str,
        endpoint: Callable[..., Any],
        operation: str,
        responses: openapi.Responses,
        *,
        method: str = "GET",
        route_class: type[StrictRoute] = StrictRoute,
        **options: Any,
    ) -> None:
        """One route; ``responses`` describe what the endpoint answers, they check nothing."""
        self.fastapi.router.add_api_route(
            path,
            endpoint,
            methods=[method],
            operation_id=operation,
            summary=inspect.getdoc(endpoint),
            responses=responses,
            route_class_override=route_class,
            **{"description": " ", **options},
        )

    async def _openapi(self) -> Response:
        """This document."""
        return JSONResponse(openapi.describe(self.fastapi), headers={"Cache-Control": "no-cache"})
