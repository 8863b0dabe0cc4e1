"""One worker process: an event loop, connections and telemetry of its own, all made after the fork."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from celery import signals

from catalog_sync import contract
from catalog_sync.cli.app import Policies, open_catalogue, open_client, read_settings
from catalog_sync.jobs.dispatch import Dispatcher
from catalog_sync.jobs.ledger import JobLedger
from catalog_sync.logs import setup_logging
from catalog_sync.telemetry import instrument_celery, setup_telemetry
from catalog_sync.worker.steps import Worker

if TYPE_CHECKING:
    from catalog_sync.config import Settings
    from catalog_sync.telemetry import Telemetry

T = TypeVar("T")

TELEMETRY_END = 2.0
"""Seconds that the end of telemetry may take when the process ends."""

_log = logging.getLogger(__name__)


class WorkerProcess:
    """What a process of the pool needs to run steps, one at a time."""

    def __init__(self, settings: Settings, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._loop = asyncio.new_event_loop()
        self._stack = contextlib.AsyncExitStack()
        self._worker = self._loop.run_until_complete(self._stack.enter_async_context(open_worker(settings)))

    def run(self, step: Callable[[Worker], Awaitable[T]]) -> T:
        """Run a step to its end, in the context of the message that asked for it."""

        async def body() -> T:
            return await step(self._worker)

        return self._loop.run_until_complete(self._loop.create_task(body(), context=contextvars.copy_context()))

    def close(self) -> None:
        """Close connections and send what telemetry is left."""
        try:
            self._loop.run_until_complete(self._stack.aclose())
        finally:
            self._loop.close()
            self._telemetry.shutdown(timeout=TELEMETRY_END)


@contextlib.asynccontextmanager
async def open_worker(settings: Settings) -> AsyncIterator[Worker]:
    """A worker with its connections."""
    policies = Policies.of(settings)
    async with (
        open_catalogue(settings, policies.store) as (store, snapshot),
        open_client(settings, policies.supplier) as supplier,
    ):
        ledger = JobLedger(store.redis)
        yield Worker(settings, supplier, store, snapshot, ledger, Dispatcher(ledger))


_current: WorkerProcess | None = None


def current() -> WorkerProcess:
    """The worker process that this is. Raises ``RuntimeError`` elsewhere."""
    if _current is None:
        raise RuntimeError("this is no process of a worker's pool")
    return _current


def install() -> None:
    """Makes every process that the worker in this process forks a :class:`WorkerProcess`."""
    signals.setup_logging.connect(_keep_our_logging, weak=False)
    signals.worker_process_init.connect(_begin, weak=False)
    signals.worker_process_shutdown.connect(_end, weak=False)


def _keep_our_logging(**_: Any) -> None:
    """Celery sets up no logging of its own: every process of the worker logs JSON lines, or short ones on a terminal."""
    setup_logging(stream=sys.stderr, json_lines=not sys.stderr.isatty())


def _begin(**_: Any) -> None:
    """After the fork: nothing was measured, connected or instrumented before, so nothing is counted twice."""
    global _current  # one per process
    setup_logging(stream=sys.stderr, json_lines=not sys.stderr.isatty())
    telemetry = setup_telemetry(contract.SERVICE_WORKER, os.environ)
    instrument_celery()
    _current = WorkerProcess(read_settings(), telemetry)


def _end(**_: Any) -> None:
    global _current  # one per process
    ended, _current = _current, None
    if ended is not None:
        ended.close()
