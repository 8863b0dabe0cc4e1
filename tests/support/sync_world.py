"""The real parts of a sync for tests: simulator, redis-server, client, store and service."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from catalog_sync.domain.models import Bundle, CatalogueMeta, SyncKind, SyncReport, SyncRequest
from catalog_sync.settings.settings import Secret, Settings
from catalog_sync.store.backend import open_store
from catalog_sync.store.catalog_store import CatalogStore
from catalog_sync.store.snapshot import Snapshot
from catalog_sync.supplier.esim_go.client import EsimGoClient, open_supplier
from catalog_sync.sync.service import SyncService
from esim_go_simulator.app import SimulatorConfig
from esim_go_simulator.server import RunningSimulator, running_simulator
from support.settings import make_settings

BUNDLES = 300


@dataclasses.dataclass
class World:
    """Everything that one sync needs, with shorthand for tests."""

    settings: Settings
    simulator: RunningSimulator
    supplier: EsimGoClient
    store: CatalogStore
    snapshot: Snapshot

    def service(self, **options: Any) -> SyncService:
        return SyncService(self.settings, self.supplier, self.store, self.snapshot, **options)

    async def sync(
        self, kind: SyncKind = SyncKind.FULL, scope: str | None = None, *, force: bool = False, **options: Any
    ) -> SyncReport:
        return await self.service(**options).run(SyncRequest(kind, scope, force))

    async def meta(self) -> CatalogueMeta:
        meta = await self.store.current()
        assert meta is not None
        return meta

    async def bundles(self) -> dict[str, Bundle]:
        """The published catalogue, as readers see it."""
        meta = await self.meta()
        return {bundle.name: bundle async for bundle in self.store.iter_bundles(meta.version)}

    @contextlib.asynccontextmanager
    async def other_client(self, **changes: Any) -> AsyncIterator[World]:
        """The same world with other settings and a new client, with a new breaker and limiter."""
        settings = self.settings.changed(**changes)
        async with open_supplier(settings) as supplier:
            yield dataclasses.replace(self, settings=settings, supplier=supplier)


@contextlib.asynccontextmanager
async def world_with(redis_url: str, state_dir: Path, **simulator: Any) -> AsyncIterator[World]:
    """A new world. Keyword arguments are those of the simulator."""
    async with running_simulator(SimulatorConfig(**{"rate": 0, "bundles": BUNDLES, **simulator})) as sim:
        settings = make_settings(sim.base_url, state_dir, redis_url=redis_url, api_key=Secret(sim.api_key))
        async with open_store(settings) as store, open_supplier(settings) as supplier:
            yield World(settings, sim, supplier, store, Snapshot(settings.state_dir))
