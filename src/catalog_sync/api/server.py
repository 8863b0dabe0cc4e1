"""The API as a running server, and its shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from catalog_sync import composition
from catalog_sync.api.app import Api, Parts
from catalog_sync.api.catalogue import LiveCatalogue
from catalog_sync.api.ports import Alerts, LocalProtection
from catalog_sync.api.protocol import MAX_CONNECTIONS, BoundedProtocol
from catalog_sync.domain.errors import CatalogSyncError, ConfigurationError
from catalog_sync.domain.models import FAILED_OUTCOMES, CatalogueMeta
from catalog_sync.jobs import Jobs
from catalog_sync.jobs.local import LocalJobs
from catalog_sync.last_run import write_last_run
from catalog_sync.observability.traces import MergedTraces
from catalog_sync.store.traces import SharedTraces
from catalog_sync.supplier.protection import note_pause, open_shared_state
from catalog_sync.sync.service import SyncService

if TYPE_CHECKING:
    from catalog_sync.domain.models import SyncReport
    from catalog_sync.history import History
    from catalog_sync.observability.traces import TraceStore
    from catalog_sync.settings.settings import Settings
    from catalog_sync.store import CatalogStore
    from catalog_sync.store.snapshot import Snapshot
    from catalog_sync.supplier.esim_go.client import EsimGoClient
    from catalog_sync.sync.progress import OnProgress
    from catalog_sync.sync.service import OnReport
    from otel_resilience.storage import SharedState

DRAIN: Final = 5
"""Seconds that running responses are given at shutdown."""
BACKLOG: Final = 2048
"""Connections that may wait to be accepted."""
ACCEPTED_AT_ONCE: Final = 64
"""Connections that are accepted in one round of the event loop; any excess is closed in the next."""
OTHER_FILES: Final = 256
"""Open files besides client connections: those to Redis and the supplier, logs, the state folder."""
SHOWN_EVERY: Final = 2.0
"""Interval in seconds of reading the breaker and the budget that workers share: here they are only shown."""
KEEP_ALIVE: Final = 30
"""Seconds for which an idle connection is kept."""

_UVICORN: Final[dict[str, Any]] = {
    "timeout_keep_alive": KEEP_ALIVE, "timeout_graceful_shutdown": DRAIN, "backlog": ACCEPTED_AT_ONCE, "ws": "none",
    "lifespan": "off", "log_config": None, "access_log": False, "server_header": False, "proxy_headers": False,
}  # fmt: skip

_log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def open_parts(
    settings: Settings, traces: TraceStore, *, alerts: Alerts, history: History, on_report: OnReport
) -> AsyncIterator[Parts]:
    """Everything that the API serves. ``on_report`` gets the reports of syncs that run in this process, and those of
    workers' abandoned syncs.

    Raises ``ConfigurationError``. A store that cannot be opened is not an error: the snapshot is read, and syncs end as
    LOCK_UNAVAILABLE.
    """
    async with contextlib.AsyncExitStack() as stack:
        policies = composition.Policies.of(settings, _shared_state(settings, stack))
        stack.push_async_callback(asyncio.to_thread, policies.close)
        store, snapshot = await stack.enter_async_context(composition.open_store_or_snapshot(settings, policies.store))
        if store is not None and store.degraded:
            _log.warning("%s", composition.IN_PROCESS_BANNER)
        live = LiveCatalogue(store, snapshot, stale_after=settings.stale_after)
        jobs: Jobs
        workers = None
        own = MergedTraces(traces, history.traces)
        if settings.jobs == "workers":
            from catalog_sync.jobs.metrics import queue_shown

            jobs, kept, workers = _workers(settings, store, own, history, on_report)
            await stack.enter_async_context(queue_shown(workers))
        else:
            supplier = await stack.enter_async_context(composition.open_client(settings, policies.supplier))
            jobs = _local_jobs(settings, policies, supplier, store, snapshot, traces, history, on_report)
            kept = own if settings.redis_url is None or store is None else MergedTraces(own, SharedTraces(store.redis))
            stack.push_async_callback(jobs.aclose)
        await live.start()
        stack.push_async_callback(live.aclose)
        yield Parts(
            live=live,
            jobs=jobs,
            traces=kept,
            history=history,
            alerts=alerts,
            protection=LocalProtection((policies.supplier, policies.store)),
            workers=workers,
        )


def _shared_state(settings: Settings, stack: contextlib.AsyncExitStack) -> SharedState | None:
    """The breaker and budget that workers share, for display."""
    if settings.jobs != "workers":
        return None
    shared = open_shared_state(settings)
    shared.rest(SHOWN_EVERY)
    stack.push_async_callback(asyncio.to_thread, shared.close)
    return shared


def _workers(
    settings: Settings, store: CatalogStore | None, traces: TraceStore, history: History, on_report: OnReport
) -> tuple[Jobs, TraceStore, Callable[[], Awaitable[Mapping[str, Any]]]]:
    """Jobs that workers run, the traces of all workers, and what the workers do."""
    from catalog_sync.jobs.ledger import JobLedger
    from catalog_sync.jobs.overview import overview
    from catalog_sync.jobs.redis import RedisJobs
    from catalog_sync.observability.sdk import instrument_celery
    from catalog_sync.store.traces import JoinedTraces
    from catalog_sync.worker.celery_app import configure
    from catalog_sync.worker.sender import CelerySender

    configure(settings)
    if store is None:
        raise ConfigurationError("CATALOG_JOBS=workers needs a store, see the line above")
    instrument_celery()
    redis = store.redis
    ledger = JobLedger(redis)
    sender = CelerySender(ledger)
    joined = JoinedTraces(traces, SharedTraces(redis))

    def abandoned(report: SyncReport, age: float | None) -> None:
        on_report(report, age)
        history.sync_ended(report)

    async def seen() -> Mapping[str, Any]:
        found, waiting = await asyncio.gather(overview(redis), sender.waiting())
        return {**found, "waiting": waiting}

    jobs = RedisJobs(
        ledger,
        sender,
        sync_deadline=settings.sync_deadline,
        on_submitted=lambda job: joined.share_soon(job.correlation_id),
        on_report=abandoned,
    )
    return jobs, joined, seen


def _local_jobs(
    settings: Settings,
    policies: composition.Policies,
    supplier: EsimGoClient,
    store: CatalogStore | None,
    snapshot: Snapshot,
    traces: TraceStore,
    history: History,
    on_report: OnReport,
) -> LocalJobs:
    def service(on_progress: OnProgress) -> SyncService:
        if store is None:
            raise CatalogSyncError("there is no store to publish into")
        return SyncService(settings, supplier, store, snapshot, on_progress=on_progress, on_report=on_report)

    async def current() -> CatalogueMeta | None:
        return None if store is None else await store.current()

    def remember(report: SyncReport) -> None:
        note_pause(policies.shared, report)
        write_last_run(settings.state_dir, report, (policies.supplier, policies.store))
        history.sync_ended(report)
        if report.outcome in FAILED_OUTCOMES:
            history.keep_trace(asyncio.run(traces.get(report.correlation_id)))

    return LocalJobs(service, current, check=settings.require_api_key, on_report=remember)


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[tuple[socket.socket, str]]:
    """A listening socket and the URL that leads to it. Raises ``ConfigurationError`` if the address is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With an explicit protocol, asyncio turns Nagle's algorithm off; otherwise bodies wait 40 ms for the client's ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"CATALOG_API_HOST={host!r} CATALOG_API_PORT={port} is not usable: {error.strerror or error}"
        ) from error
    with listener:
        listener.setblocking(False)
        name = f"[{host}]" if ":" in host else host
        yield listener, f"http://{name}:{listener.getsockname()[1]}"


def room_for_connections() -> int:
    """Maximum open connections. Raises the soft limit of open files as needed and as far as the hard limit allows:
    without free files no connection would be accepted, not even that of a health check."""
    try:
        import resource
    except ImportError:  # Windows
        return MAX_CONNECTIONS
    wanted = MAX_CONNECTIONS + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != soft < wanted:
        before, soft = soft, wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if soft > before:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(MAX_CONNECTIONS, max(soft - OTHER_FILES, soft // 2))


async def serve(api: Api, parts: Parts, listener: socket.socket, *, ready: Callable[[], None]) -> None:
    """Serves until SIGTERM or SIGINT; a second one drops running responses. Calls ``ready`` once it listens.

    At the end: not ready, streams closed, no new connections, and :data:`DRAIN` seconds for running requests.
    """

    class Protocol(BoundedProtocol):
        most = room_for_connections()

    server = _Server(uvicorn.Config(api, http=Protocol, **_UVICORN), ready)

    def stop(number: signal.Signals) -> None:
        if server.should_exit:
            server.force_exit = True
            return
        _log.info("%s: draining", number.name)
        api.drain()
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    background = [asyncio.create_task(api.hub.listen()), asyncio.create_task(parts.live.poll())]
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await asyncio.wait([serving, *background], return_when=asyncio.FIRST_COMPLETED)
        # A background task ends only because of a defect: then the process ends too, with its error.
        failed = next((task for task in background if task.done() and not task.cancelled() and task.exception()), None)
        if failed is not None:
            server.should_exit = True
            await serving
            await failed
        await serving
    finally:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        api.close()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Calls ``ready`` once it listens."""
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(BACKLOG)  # asyncio has set that to what it accepts in one round
        self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to :func:`serve`: streams have to end before connections are waited for."""
        yield
