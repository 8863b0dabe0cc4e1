"""The composition root: combines settings, telemetry, policies, store, supplier and sync service in one place."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Final

from catalog_sync.domain.errors import ConfigurationError, UnknownVariableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    import httpx

    from catalog_sync.alerts import CatalogAlerts
    from catalog_sync.history import TraceFiles
    from catalog_sync.observability.sdk import Telemetry
    from catalog_sync.observability.traces import TraceStore
    from catalog_sync.observability.traces.deferred import DeferredSpans
    from catalog_sync.settings.settings import Settings
    from catalog_sync.store import CatalogStore
    from catalog_sync.store.client import GuardedRedis
    from catalog_sync.store.reader import CatalogReader
    from catalog_sync.store.snapshot import Snapshot
    from catalog_sync.supplier.esim_go.client import EsimGoClient
    from catalog_sync.sync.progress import OnProgress
    from catalog_sync.sync.service import OnReport, SyncService
    from otel_resilience import Policy
    from otel_resilience.storage import SharedState

FIRST_CONTACT: Final = 1.0
"""Seconds to wait at the start for the Redis that shares breaker and budget."""
FIRST_ANSWER: Final = 1.5
"""Timeout in seconds for the first answer of a store that was silent when this process started: a person may be
waiting. Once it has answered, its policy's timeout applies."""
TELEMETRY_END: Final = 2.0
"""Maximum seconds for shutting down telemetry, so that a stopped command ends within its limit."""

_log = logging.getLogger(__name__)

_silent = False
"""Whether :func:`check_redis` got no answer."""

IN_PROCESS_BANNER: Final = (
    "No Redis: the catalogue is kept inside this process and in its snapshot on disk; other processes read that one."
    " Install redis-server, or set REDIS_URL."
)


@contextlib.contextmanager
def observed(*, quiet: bool = False, silent: bool = False, keep: DeferredSpans | None = None) -> Iterator[Telemetry]:
    """Logs on stderr and telemetry to where ``OTEL_*`` says, under one correlation ID, until the block ends.

    JSON lines if stderr is not a terminal, else short lines from WARNING on. ``quiet``: only errors on a terminal, for
    commands that answer immediately. ``silent``: nothing at all on stderr. ``keep`` gets every span that ends.

    Raises ``ConfigurationError`` if an ``OTEL_*`` variable cannot be used.
    """
    from catalog_sync.observability.contract import SERVICE_SYNC
    from catalog_sync.observability.logs import setup_logging
    from catalog_sync.observability.sdk import defer_spans, setup_telemetry
    from otel_resilience import correlation_scope

    terminal = sys.stderr.isatty()
    handler = setup_logging(stream=sys.stderr, json_lines=not terminal)
    if silent:
        handler.setLevel(logging.CRITICAL)
    else:
        warn_of_unknown_variables()
    if terminal and not silent:
        handler.setLevel(logging.ERROR if quiet else logging.WARNING)
    keeper = None if keep is None else defer_spans(keep)
    telemetry = setup_telemetry(SERVICE_SYNC, os.environ, extra_span_processor=keeper)
    try:
        with correlation_scope():
            yield telemetry
    finally:
        telemetry.shutdown(timeout=TELEMETRY_END)


def read_settings(*, strict: bool = False, ask_redis: bool = True) -> Settings:
    """The settings of this process, including checks of those of OpenTelemetry. Raises ``ConfigurationError``.

    They come from the environment and, with lower priority, from the file ``.env``. ``strict``: rejects unknown
    variables with one of our prefixes, and a Redis that cannot be used here, unless the caller checks that
    (``ask_redis``). Call it before importing anything of OpenTelemetry's SDK or its propagators.
    """
    from catalog_sync.settings.env_file import load_env_file
    from catalog_sync.settings.otel import tidy_otel
    from catalog_sync.settings.settings import Settings
    from catalog_sync.settings.unknown import unknown_variables

    load_env_file(os.environ)
    tidy_otel(os.environ)
    settings = Settings.from_env(os.environ)
    if ask_redis:
        check_redis(settings)
    if strict and (unknown := list(unknown_variables(os.environ))):
        raise UnknownVariableError("; ".join(unknown))
    return settings


def check_redis(settings: Settings, *, publishes: bool = False) -> None:
    """See :func:`catalog_sync.store.server.check_server`. ``publishes``: for a program that publishes.

    If Redis is silent now, connections opened later in this process wait no longer than :data:`FIRST_ANSWER` for it.
    """
    global _silent
    _silent = False
    if settings.redis_url is not None:
        from catalog_sync.store.server import check_server

        _silent = not check_server(settings, publishes=publishes)


def first_answer() -> float | None:
    """Timeout in seconds for the first answer of the store; ``None``: that of the policy."""
    return FIRST_ANSWER if _silent else None


def warn_of_unknown_variables() -> None:
    """Logs the variables that a ``strict`` :func:`read_settings` would reject. For programs, once logs are set up."""
    from catalog_sync.settings.unknown import unknown_variables

    for sentence in unknown_variables(os.environ):
        _log.warning("%s", sentence)


@contextlib.contextmanager
def alerting(settings: Settings, service_name: str = "catalog-sync") -> Iterator[CatalogAlerts]:
    """Alerts within the block, sent to where the settings say; at its end what is due is flushed, for a limited time.

    Raises ``ConfigurationError`` if the configuration of a channel is not usable.
    """
    from catalog_sync.alerts import CatalogAlerts

    with CatalogAlerts(settings, service_name=service_name) as alerts:
        yield alerts


@dataclasses.dataclass(frozen=True, slots=True)
class Policies:
    """The policies of one process."""

    supplier: Policy
    store: Policy
    shared: SharedState
    """Where the supplier's breaker and budget are kept."""
    owned: bool = True
    """Whether :meth:`close` closes it."""

    @classmethod
    def of(cls, settings: Settings, shared: SharedState | None = None) -> Policies:
        """The supplier's circuit and budget as left by earlier runs and other processes; new ones for the store.

        Without ``shared`` it opens that state itself, waits a little for a Redis that shares it, unless that was silent
        when :func:`check_redis` asked, and closes it at the end. Raises ``ConfigurationError``.
        """
        from catalog_sync.store.backend import redis_policy
        from catalog_sync.supplier.esim_go.policy import supplier_policy
        from catalog_sync.supplier.protection import open_shared_state

        state = open_shared_state(settings) if shared is None else shared
        policies = cls(supplier_policy(settings, state), redis_policy(settings), state, owned=shared is None)
        # One that was silent at the start is waited for where the store is asked: what answers there answers here too.
        if shared is None and not _silent:
            state.ready(FIRST_CONTACT)
        return policies

    def close(self) -> None:
        """Writes what is pending to the shared state, and closes it, if it was opened here."""
        if self.owned:
            self.shared.close()


@contextlib.asynccontextmanager
async def open_catalogue(settings: Settings, policy: Policy) -> AsyncIterator[tuple[CatalogStore, Snapshot]]:
    """The store and the snapshot. Raises ``CatalogSyncError`` or ``OSError`` if the store cannot be opened."""
    from catalog_sync.observability.sdk import instrument_redis
    from catalog_sync.store.backend import open_store
    from catalog_sync.store.snapshot import Snapshot

    async with open_store(settings, policy, instrument=instrument_redis, first_answer=first_answer()) as store:
        yield store, Snapshot(settings.state_dir)


@contextlib.asynccontextmanager
async def open_store_or_snapshot(
    settings: Settings, policy: Policy
) -> AsyncIterator[tuple[CatalogStore | None, Snapshot]]:
    """Like :func:`open_catalogue`; only the snapshot if the store cannot be opened. Raises ``ConfigurationError``."""
    from catalog_sync.domain.errors import CatalogSyncError
    from catalog_sync.store.snapshot import Snapshot

    async with contextlib.AsyncExitStack() as stack:
        found: tuple[CatalogStore | None, Snapshot]
        try:
            found = await stack.enter_async_context(open_catalogue(settings, policy))
        except ConfigurationError:
            raise
        except (CatalogSyncError, OSError) as error:
            _log.warning("there is no store, the snapshot is read: %s", error)
            found = None, Snapshot(settings.state_dir)
        yield found


@contextlib.asynccontextmanager
async def open_client(
    settings: Settings, policy: Policy, *, on_response: Callable[[httpx.Response], object] | None = None
) -> AsyncIterator[EsimGoClient]:
    """The supplier's client, traced. ``on_response`` is called with each response, before its body is read."""
    from catalog_sync.observability.sdk import traced_transport
    from catalog_sync.supplier.esim_go.client import open_supplier

    def wrap(transport: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        return traced_transport(transport, settings.trace_headers_to, on_response=on_response)

    async with open_supplier(settings, policy=policy, wrap=wrap) as supplier:
        yield supplier


@contextlib.asynccontextmanager
async def open_sync(
    settings: Settings, policies: Policies, on_progress: OnProgress, on_report: OnReport
) -> AsyncIterator[SyncService]:
    """A sync service with its connections. Raises what :func:`open_catalogue` raises."""
    from catalog_sync.sync.service import SyncService

    async with (
        open_catalogue(settings, policies.store) as (store, snapshot),
        open_client(settings, policies.supplier) as supplier,
    ):
        yield SyncService(settings, supplier, store, snapshot, on_progress=on_progress, on_report=on_report)


@contextlib.asynccontextmanager
async def open_kept_traces(settings: Settings, files: TraceFiles) -> AsyncIterator[TraceStore]:
    """The traces that all processes have kept, in the state folder and, if configured, in Redis."""
    if settings.redis_url is None:
        yield files
        return
    from catalog_sync.observability.traces import MergedTraces
    from catalog_sync.store.traces import SharedTraces

    async with open_redis(settings) as redis:
        yield MergedTraces(files, SharedTraces(redis))


@contextlib.asynccontextmanager
async def open_redis(settings: Settings) -> AsyncIterator[GuardedRedis]:
    """The Redis of ``REDIS_URL`` without the catalogue, and without spans."""
    from catalog_sync.store.backend import redis_policy
    from catalog_sync.store.client import GuardedRedis, connect_url

    client, policy = connect_url(settings.redis_url or ""), redis_policy(settings)
    redis = GuardedRedis(client, policy, prefix=settings.key_prefix, first_answer=first_answer())
    try:
        yield redis
    finally:
        await redis.aclose()


@contextlib.asynccontextmanager
async def open_reader(settings: Settings) -> AsyncIterator[CatalogReader]:
    """A reader of the store, or of only the snapshot if the store cannot be opened. Raises ``ConfigurationError``."""
    from catalog_sync.store.backend import redis_policy
    from catalog_sync.store.reader import CatalogReader

    async with open_store_or_snapshot(settings, redis_policy(settings)) as (store, snapshot):
        yield CatalogReader(store, snapshot, stale_after=settings.stale_after, clock=time.time)
