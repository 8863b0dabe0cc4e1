"""The ASGI application: endpoints and the layers around them."""

from __future__ import annotations

import dataclasses
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
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
from catalog_sync.api.guards import Access, Clients, Gate
from catalog_sync.api.health import Health
from catalog_sync.api.incidents import Incidents
from catalog_sync.api.making import Making
from catalog_sync.api.page import Page
from catalog_sync.api.pages import PageRoute, Site, negotiate
from catalog_sync.api.ports import Alerts, Protection
from catalog_sync.api.reads import Reads
from catalog_sync.api.routing import Addresses, ReadRoute, StrictRoute
from catalog_sync.api.syncs import Syncs
from catalog_sync.history import History
from catalog_sync.jobs import Jobs
from catalog_sync.observability.traces import TraceStore
from catalog_sync.settings.settings import Settings

Options = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
    """The components that the API serves."""

    live: LiveCatalogue
    jobs: Jobs
    traces: TraceStore
    history: History
    alerts: Alerts
    protection: Protection
    workers: Callable[[], Awaitable[Mapping[str, Any]]] | None = None
    """What workers do; ``None`` if this process runs the syncs itself."""


class Api:
    """The application. ``wall_clock`` returns the time of day in seconds since the epoch.

    Unless ``traces_exported``, successful reads have no spans: the traces kept here are those of failures and of syncs.

    It neither opens nor closes its components; :attr:`hub` has to run in the background (:meth:`Hub.listen`).
    """

    def __init__(
        self,
        settings: Settings,
        parts: Parts,
        *,
        traces_exported: bool = True,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        api = settings.api
        access = Access(api.token, open_reads=api.open_reads)
        self.making = Making()
        self.health = Health(parts.live, parts.alerts, parts.protection, wall_clock)
        syncs = Syncs(
            parts.jobs,
            parts.traces,
            parts.history,
            parts.live,
            self.health,
            settings.alerts,
            self.making,
            wall_clock=wall_clock,
        )
        self.hub = Hub(
            parts.jobs,
            syncs.document,
            # A version that was published here is served immediately, not with the next poll.
            lambda job: parts.live.refresh() if job.status.ended else None,
            find=syncs.job,
            max_streams=api.max_streams,
            max_per_client=api.max_streams_per_client,
        )
        self.fastapi = FastAPI(
            title="catalog-api",
            version=version("catalog-sync"),
            description=openapi.DESCRIPTION,
            license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
            openapi_url=None,
            redirect_slashes=False,
        )
        self.fastapi.state.max_body_bytes = api.max_body_bytes
        self._add_pages(Site(settings, syncs, parts.alerts, parts.protection, parts.workers, wall_clock))
        reads = Reads(parts.live, self.making, wall_clock, shared=api.open_reads)
        self._add_routes(reads, syncs, Incidents(parts.alerts), Page())
        # Without FastAPI's own layers: they would answer errors before RequestContext sees them.
        addresses = Addresses(self.fastapi.routes, AsyncExitStackMiddleware(self.fastapi.router))
        self.gate = Gate(
            addresses,
            access,
            Clients(api.trusted_proxies),
            max_concurrency=api.max_concurrency,
            max_per_client=api.max_requests_per_client,
        )
        self._app = RequestContext(
            self.gate,
            access,
            reads.cached,
            addresses.read,
            trace_from_any=api.trace_from == "any",
            trace_reads=traces_exported,
        )

    def drain(self) -> None:
        """The process is about to end: no longer ready, no new syncs, streams end."""
        self.health.draining = True
        self.hub.close()

    def close(self) -> None:
        """Stops the work for requests."""
        self.making.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self.fastapi
        negotiate(scope)
        await self._app(scope, receive, send)

    def _add_pages(self, site: Site) -> None:
        """Adds pages for people, at the same addresses that programs use."""
        for path, endpoint in (
            ("/syncs", site.syncs),
            ("/syncs/{id}", site.sync),
            ("/traces", site.traces),
            ("/traces/{trace_id}", site.trace),
            ("/incidents", site.incidents),
            ("/incidents/{id}", site.incident),
            ("/system", site.system),
            ("/find", site.find),
        ):
            route: Options = {"route_class_override": PageRoute, "include_in_schema": False, "response_model": None}
            self.fastapi.router.add_api_route(path, endpoint, **route)

    def _add_routes(self, reads: Reads, syncs: Syncs, incidents: Incidents, page: Page) -> None:
        """Adds every endpoint; ``responses`` only describe the responses."""

        def add(
            path: str,
            endpoint: Callable[..., Any],
            operation: str,
            responses: openapi.Responses,
            *,
            method: str = "GET",
            description: str = " ",
            **options: Any,
        ) -> None:
            self.fastapi.router.add_api_route(
                path,
                endpoint,
                methods=[method],
                operation_id=operation,
                summary=inspect.getdoc(endpoint),
                description=description,
                responses=responses,
                **{"route_class_override": StrictRoute, **options},
            )

        cached: Options = {
            "openapi_extra": {"parameters": [openapi.IF_NONE_MATCH]},
            "route_class_override": ReadRoute,
        }
        add("/bundles", reads.bundles, "searchBundles", openapi.read(schemas.Bundles), **cached)
        add("/bundles/{name:path}", reads.bundle, "showBundle", openapi.read(schemas.OneBundle, 404), **cached)
        add("/countries", reads.countries, "listCountries", openapi.read(schemas.Countries), **cached)
        add("/groups", reads.groups, "listGroups", openapi.read(schemas.Groups), **cached)

        result, sync = openapi.result, schemas.Sync
        token: Options = {"openapi_extra": openapi.TOKEN}
        add("/syncs", syncs.listing, "listSyncs", result(schemas.Syncs))
        add("/syncs", syncs.submit, "askForSync", openapi.submitted(sync), method="POST", status_code=202, **token)
        add("/syncs/{id}", syncs.one, "oneSync", result(sync, 404))
        add("/syncs/{id}", syncs.cancel, "cancelSync", openapi.cancelled(sync), method="DELETE", **token)
        add("/traces", syncs.traces, "listTraces", result(schemas.Traces))
        add("/traces/{trace_id}", syncs.trace, "oneTrace", result(schemas.Trace, 404))

        incident, done = dict[str, Any], openapi.acted(dict[str, Any])
        add("/incidents", incidents.listing, "listIncidents", result(incident))
        add("/incidents/{id}", incidents.one, "oneIncident", result(incident, 404))
        add("/incidents/{id}/ack", incidents.ack, "ackIncident", done, method="POST", **token)
        add("/incidents/{id}/close", incidents.close, "closeIncident", done, method="POST", **token)
        add("/incidents/{id}/silence", incidents.silence, "silenceIncident", done, method="POST", **token)
        add("/incidents/{id}/resend", incidents.resend, "resendIncident", done, method="POST", **token)

        stream: Options = {"response_class": Response, "description": openapi.EVENTS}
        add("/syncs/{id}/events", self.hub.one, "watchSync", openapi.stream(404), **stream)
        add("/events", self.hub.all, "watchSyncs", openapi.stream(), **stream)

        health, check = self.health, openapi.health(schemas.Health)
        no_token: Options = {"openapi_extra": openapi.OPEN}
        add("/overview", health.overview, "overview", result(schemas.Overview))
        add("/health", health.health, "health", check, **no_token)
        add("/health/live", health.is_live, "live", check, **no_token)
        add("/health/ready", health.is_ready, "ready", check, **no_token)
        add("/openapi.json", self._openapi, "openapi", result(dict[str, Any]))
        add("/", page.index, "page", openapi.file("text/html"), response_class=HTMLResponse, **no_token)
        add("/static/{name}", page.static, "static", openapi.file("*/*"), response_class=Response, **no_token)

    async def _openapi(self) -> Response:
        """This document."""
        return JSONResponse(openapi.describe(self.fastapi), headers={"Cache-Control": "no-cache"})
