"""The API within the test's process: the real application, with a catalogue in memory that can hang or fail."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime as dt
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from fastapi.dependencies import models as dependencies

from catalog_sync.api import openapi
from catalog_sync.api.app import Api, Parts
from catalog_sync.api.catalogue import LiveCatalogue
from catalog_sync.api.ports import Alerts
from catalog_sync.domain.errors import CacheConnectionError, IncidentNotFoundError
from catalog_sync.domain.index import CatalogueIndex
from catalog_sync.domain.models import Bundle, CatalogueMeta, Outcome, SyncReport, SyncRequest
from catalog_sync.history import History
from catalog_sync.jobs.local import LocalJobs
from catalog_sync.observability.contract import SERVICE_API
from catalog_sync.observability.traces import TraceRing
from catalog_sync.settings.settings import Settings
from catalog_sync.store.checksums import checksum
from catalog_sync.store.errors import VersionGoneError
from catalog_sync.store.snapshot import Snapshot
from catalog_sync.store.staging import encode
from catalog_sync.sync.progress import GroupProgress, OnProgress, Progress
from otel_resilience import correlation_id
from support.published import AS_OF, make_bundle, make_meta

TOKEN = "token-for-tests-4711"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
FETCHED = dt.datetime.fromisoformat(AS_OF).timestamp()
CATALOGUE = [
    make_bundle("esim_1GB_7D_PT_V2", description="eSIM, 1GB, 7 Days, Portugal, V2", duration_days=7),
    make_bundle("esim_3GB_30D_PT_V2", description="eSIM, 3GB, 30 Days, Portugal, V2", duration_days=30),
    make_bundle(
        "esim_ULP_7D_RNOR_V2",
        description="eSIM, Unlimited Plus, 7 Days, Nordics, V2",
        groups=("Standard - Unlimited Plus",),
        countries=("NO", "SE"),
    ),
    make_bundle("esim/odd name?_V2", countries=("US-HI",), region="North America", duration_days=3),
]


class MemoryStore:
    """The part of the store that the API copies, controlled by the test."""

    def __init__(self) -> None:
        self.versions: dict[str, tuple[CatalogueMeta, list[Bundle]]] = {}
        self.pointer: str | None = None
        self.failing = False
        self.hanging = False
        self.reads = 0
        self.released = asyncio.Event()

    def publish(self, version: str, bundles: Iterable[Bundle] = CATALOGUE, **changes: Any) -> CatalogueMeta:
        index = CatalogueIndex()
        stored = [index.add(bundle) for bundle in bundles]
        meta = dataclasses.replace(make_meta(version, index), **changes)
        self.versions[version] = (meta, stored)
        self.pointer = version
        return meta

    async def current_version(self) -> str | None:
        self.reads += 1
        await self._answer()
        return self.pointer

    async def meta(self, version: str) -> CatalogueMeta:
        await self._answer()
        if version not in self.versions:
            raise VersionGoneError("gone")
        return self.versions[version][0]

    async def iter_stored(self, version: str) -> AsyncIterator[Sequence[tuple[bytes, bytes, bytes]]]:
        for bundle in self.versions[version][1]:
            await self._answer()
            name, text = bundle.name.encode(), encode(bundle)
            yield [(name, text, checksum("bundles", name, text))]

    async def _answer(self) -> None:
        if self.hanging:
            await self.released.wait()
        if self.failing:
            raise CacheConnectionError("Redis does not answer (read pointer: refused)")


class Clock:
    """Monotonic time and time of day that tests move."""

    def __init__(self) -> None:
        self.passed = 0.0

    def monotonic(self) -> float:
        return self.passed

    def wall(self) -> float:
        return FETCHED + 60 + self.passed


class ScriptedSync:
    """Replaces the sync service: reports progress and ends on request, or waits to be cancelled."""

    def __init__(self) -> None:
        self.requests: list[SyncRequest] = []
        self.correlation_ids: list[str] = []
        self.listener: OnProgress | None = None
        self.started = asyncio.Event()
        self.may_end = asyncio.Event()
        self.ending: SyncReport | BaseException | None = None

    def service(self, on_progress: OnProgress) -> ScriptedSync:
        self.listener = on_progress
        return self

    async def run(self, request: SyncRequest) -> SyncReport:
        self.requests.append(request)
        self.correlation_ids.append(correlation_id())
        self.started.set()
        await self.may_end.wait()
        self.may_end.clear()
        self.started.clear()
        if isinstance(self.ending, BaseException):
            raise self.ending
        return self.ending or report_of(request)

    def progress(self, **groups: str) -> None:
        scopes = tuple(GroupProgress(name, status, 7) for name, status in groups.items())  # type: ignore[arg-type]
        done = sum(scope.status in {"ok", "failed"} for scope in scopes)
        assert self.listener is not None
        self.listener(Progress(done, len(scopes), 0, 0, 0, None, scopes))


def report_of(request: SyncRequest, outcome: Outcome = Outcome.COMPLETE, **changes: Any) -> SyncReport:
    plain = SyncReport(
        outcome=outcome,
        kind=request.kind,
        scope=request.scope,
        correlation_id=correlation_id(),
        version="v1",
        bundles=4,
        quarantined=0,
        groups=(),
        started_at=AS_OF,
        duration_s=1.5,
        attempts=3,
        retries=1,
    )
    return dataclasses.replace(plain, **changes)


@dataclasses.dataclass
class ApiWorld:
    """An API and everything around it."""

    settings: Settings
    store: MemoryStore
    snapshot: Snapshot
    clock: Clock
    live: LiveCatalogue
    sync: ScriptedSync
    jobs: LocalJobs
    traces: TraceRing
    history: History
    api: Api
    http: httpx.AsyncClient

    async def refresh(self) -> None:
        """Refresh the copy from the store now."""
        await self.live.refresh()

    async def ask(self, **body: Any) -> httpx.Response:
        return await self.http.post("/syncs", json=body, headers=AUTHORIZED)


class NoAlerts:
    """Alerting is not set up."""

    async def overview(self) -> Mapping[str, Any]:
        return {"set_up": False, "incidents": [], "outbox": 0, "dead_letters": 0}

    async def incident(self, identifier: str) -> Mapping[str, Any] | None:
        return None

    async def act(self, action: str, identifier: str, *, seconds: float, by: str | None, reason: str | None) -> None:
        raise IncidentNotFoundError(f"there is no open incident {identifier!r}")


class Protection:
    """The supplier's breaker, as set by a test."""

    def __init__(self) -> None:
        self.state = "CLOSED"
        self.hanging = False

    async def overview(self) -> Mapping[str, Any]:
        if self.hanging:
            await asyncio.Event().wait()
        breaker = {"dependency": "esim-go", "state": self.state, "retry_after_s": 12.5, "calls": 4, "failures": 1}
        return {"breakers": [breaker], "budgets": []}


@contextlib.asynccontextmanager
async def api_world(
    directory: Path,
    *,
    catalogue: bool = True,
    traces: TraceRing | None = None,
    alerts: Alerts | None = None,
    **environ: str,
) -> AsyncIterator[ApiWorld]:
    """An API over a published catalogue. ``environ`` changes its settings."""
    settings = Settings.from_env(
        {"CATALOG_STATE_DIR": str(directory), "CATALOG_API_TOKEN": TOKEN, "ESIM_GO_API_KEY": "key-4711", **environ}
    )
    store, clock, sync, traces = MemoryStore(), Clock(), ScriptedSync(), traces or TraceRing()
    if catalogue:
        store.publish("v1")
    snapshot = Snapshot(settings.state_dir)
    live = LiveCatalogue(
        store, snapshot, stale_after=settings.stale_after, clock=clock.monotonic, wall_clock=clock.wall
    )

    async def current() -> CatalogueMeta | None:
        return None if store.pointer is None else store.versions[store.pointer][0]

    jobs = LocalJobs(sync.service, current)
    history = History(settings, SERVICE_API)
    parts = Parts(live, jobs, traces, history, alerts or NoAlerts(), Protection())
    api = Api(settings, parts, wall_clock=clock.wall)
    await live.start()
    listening = asyncio.create_task(api.hub.listen())
    transport = httpx.ASGITransport(api, raise_app_exceptions=False)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as http:
            await asyncio.sleep(0)
            yield ApiWorld(settings, store, snapshot, clock, live, sync, jobs, traces, history, api, http)
    finally:
        store.released.set()
        api.drain()
        await jobs.aclose()
        await live.aclose()
        history.__exit__(None, None, None)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        _forget_endpoints()


def _forget_endpoints() -> None:
    """FastAPI caches thousands of endpoints, and with them the whole API of each test: half a million
    objects that every later collection would walk."""
    for each in vars(dependencies).values():
        if hasattr(each, "cache_clear"):
            each.cache_clear()


def openapi_document() -> dict[str, Any]:
    """The OpenAPI document; nothing is started for it."""
    settings = Settings.from_env({"CATALOG_API_TOKEN": TOKEN})
    live = LiveCatalogue(None, Snapshot(settings.state_dir), stale_after=1)
    jobs = LocalJobs(ScriptedSync().service, lambda: asyncio.sleep(0, None))
    parts = Parts(live, jobs, TraceRing(), History(settings, SERVICE_API), NoAlerts(), Protection())
    return openapi.describe(Api(settings, parts).fastapi)
