"""The demo's environment: a simulator as a second process, a telemetry receiver, a private state folder and Redis."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import secrets
import tempfile
import time
from typing import TYPE_CHECKING, Final

from catalog_sync import composition as app
from catalog_sync.demo import figures
from catalog_sync.demo.inbox import Inbox, running_inbox
from catalog_sync.demo.receiver import running_receiver
from catalog_sync.demo.trace_store import TelemetryStore
from catalog_sync.domain.models import SyncRequest
from catalog_sync.store.reader import CatalogReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from catalog_sync.alerts import CatalogAlerts
    from catalog_sync.demo.trace_store import Span
    from catalog_sync.domain.models import SyncReport
    from catalog_sync.observability.sdk import Telemetry
    from catalog_sync.settings.settings import Settings
    from catalog_sync.sync.progress import OnProgress, Progress
    from catalog_sync.sync.service import SyncService
    from esim_go_simulator.server import SimulatorProcess

RATE: Final = 50
"""Requests per second, on both sides."""

SETTLE_WITHIN: Final = 30.0
"""Maximum seconds for the telemetry of an act to arrive."""

_OWN: Final = ("ESIM_GO_", "REDIS_URL", "CATALOG_", "ERROR_", "OTEL_")


@dataclasses.dataclass(frozen=True, slots=True)
class Scale:
    """How large the demo is."""

    bundles: int
    page_size: int
    reset_timeout_ms: int

    @classmethod
    def of(cls, *, fast: bool) -> Scale:
        """The usual size, or a small one."""
        return cls(1000, 20, 3000) if fast else cls(5200, 50, 3000)

    def settings(self) -> dict[str, str]:
        """The variables that the demo sets like a user would, so that a story of minutes takes seconds."""
        return {
            "CATALOG_SUPPLIER_RATE_PER_S": str(RATE),
            "CATALOG_PAGE_SIZE": str(self.page_size),
            "CATALOG_ATTEMPT_TIMEOUT_MS": "2000",
            "CATALOG_SYNC_DEADLINE_MS": "120000",
            "ERROR_RETRY_BASE_DELAY": "200",
            "ERROR_RETRY_MAX_DELAY": "2000",
            "ERROR_CIRCUIT_BREAKER_RESET_TIMEOUT": str(self.reset_timeout_ms),
            "ERROR_CIRCUIT_BREAKER_MONITORING_PERIOD": "10000",
            "ERROR_ALERT_GROUP_WAIT_S": "0.5",
        }


@contextlib.contextmanager
def prepared(scale: Scale) -> Iterator[tuple[TelemetryStore, Inbox]]:
    """Sets the environment for this process and its children, and starts receivers for telemetry and alerts."""
    before = dict(os.environ)
    received = TelemetryStore()
    secret = secrets.token_hex(16)
    inbox = Inbox(secret)
    with (
        tempfile.TemporaryDirectory(prefix="catalog-sync-demo-") as folder,
        running_receiver(received) as endpoint,
        running_inbox(inbox) as webhook,
    ):
        for name in [name for name in os.environ if name.startswith(_OWN)]:
            del os.environ[name]
        os.environ.update(
            scale.settings(),
            CATALOG_STATE_DIR=folder,
            CATALOG_ENV_FILE="none",
            OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
            OTEL_BSP_SCHEDULE_DELAY="200",
            ERROR_ALERT_WEBHOOK_URL=webhook,
            ERROR_ALERT_WEBHOOK_SECRET=secret,
        )
        try:
            yield received, inbox
        finally:
            os.environ.clear()
            os.environ.update(before)


@dataclasses.dataclass(eq=False)
class Stage:
    """The running components, and what the acts do with them."""

    settings: Settings
    policies: app.Policies
    simulator: SimulatorProcess
    telemetry: Telemetry
    received: TelemetryStore
    inbox: Inbox
    alerts: CatalogAlerts
    listener: OnProgress | None = None
    """Called with the progress of the running sync."""
    _service: SyncService | None = None

    @property
    def service(self) -> SyncService:
        """The sync service with its store and snapshot. Raises ``RuntimeError`` before the stage is open."""
        if self._service is None:
            raise RuntimeError("the stage is not open")
        return self._service

    @property
    def reader(self) -> CatalogReader:
        """A reader as an application would use it."""
        service = self.service
        return CatalogReader(service.store, service.snapshot, stale_after=self.settings.stale_after, clock=time.time)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Stage]:
        """With open connections."""
        async with app.open_sync(self.settings, self.policies, self._on_progress, self.alerts.sync_ended) as service:
            self._service = service
            yield self

    async def sync(self) -> SyncReport:
        return await self.service.run(SyncRequest(trigger="demo"))

    async def settle(self, trace_ids: list[str]) -> list[list[Span]]:
        """The spans of these traces, once both services have sent them, or after :data:`SETTLE_WITHIN`."""
        deadline = time.monotonic() + SETTLE_WITHIN
        await asyncio.to_thread(self.telemetry.force_flush, SETTLE_WITHIN)
        while True:
            traces = [self.received.trace(trace_id) for trace_id in trace_ids]
            if time.monotonic() > deadline or not any(map(figures.unanswered, traces)):
                return traces
            await asyncio.sleep(0.05)

    def _on_progress(self, progress: Progress) -> None:
        if self.listener is not None:
            self.listener(progress)


@contextlib.asynccontextmanager
async def open_stage(
    scale: Scale, telemetry: Telemetry, received: TelemetryStore, inbox: Inbox
) -> AsyncIterator[Stage]:
    """Starts everything, and stops it at the end."""
    from esim_go_simulator.server import SimulatorProcess

    arguments = ("--bundles", str(scale.bundles), "--rate", str(RATE))
    async with SimulatorProcess.start(*arguments) as simulator:
        os.environ.update(ESIM_GO_BASE_URL=simulator.base_url, ESIM_GO_API_KEY=simulator.api_key)
        settings = app.read_settings()
        with app.alerting(settings) as alerts:
            stage = Stage(settings, app.Policies.of(settings), simulator, telemetry, received, inbox, alerts)
            async with stage.open():
                yield stage
