"""One worker process: its own event loop, connections and telemetry, all created after the fork."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import mmap
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from celery import signals

from catalog_sync import exit_codes
from catalog_sync.composition import (
    Policies,
    alerting,
    open_catalogue,
    open_client,
    read_settings,
    warn_of_unknown_variables,
)
from catalog_sync.domain.errors import CatalogSyncError, ConfigurationError
from catalog_sync.history import History
from catalog_sync.jobs.ledger import JobLedger
from catalog_sync.observability import contract
from catalog_sync.observability.logs import setup_logging
from catalog_sync.observability.sdk import instrument_celery, keep_spans, setup_telemetry, untraced
from catalog_sync.observability.traces import SpanRecord
from catalog_sync.programs import complain
from catalog_sync.store.traces import SharedTraces
from catalog_sync.supplier.protection import open_shared_state
from catalog_sync.sync.reporting import error_info
from catalog_sync.worker.celery_app import run_steps_with
from catalog_sync.worker.sender import CelerySender
from catalog_sync.worker.steps import LOOK_EVERY, Worker

if TYPE_CHECKING:
    from catalog_sync.domain.models import SyncReport
    from catalog_sync.observability.sdk import Telemetry
    from catalog_sync.settings.settings import Settings
    from catalog_sync.sync.service import OnReport

T = TypeVar("T")

PROGRAM: Final = "catalog-worker"

MAX_BUFFERED = 16 * 1024 * 1024
"""Bytes of memory for spans that wait to be sent to the API."""
SHARED_STATE_WITHIN = 1.0
"""Seconds that a new process waits for the shared state of the supplier."""
PROBE_LIMIT = 2.0
"""Timeout in seconds of Redis for the probe of an idle process."""
PUSH_LIMIT = 1.0
"""Maximum seconds for sending spans to the API."""
TELEMETRY_END = 2.0
"""Maximum seconds for shutting down telemetry when the process ends."""

_log = logging.getLogger(__name__)


class SpanBuffer:
    """The spans that ended since they were last taken, the newest :data:`MAX_BUFFERED` bytes. Thread-safe."""

    def __init__(self) -> None:
        self._spans: deque[SpanRecord] = deque()
        self._size = 0
        self._lock = threading.Lock()

    def add(self, span: SpanRecord) -> None:
        with self._lock:
            self._spans.append(span)
            self._size += span.size
            while self._size > MAX_BUFFERED:
                self._size -= self._spans.popleft().size

    def take(self) -> list[SpanRecord]:
        """All of them, oldest first; the buffer is empty afterwards."""
        with self._lock:
            taken, self._spans, self._size = list(self._spans), deque(), 0
        return taken


class WorkerProcess:
    """What a process of the pool needs to run steps, one at a time."""

    def __init__(
        self, settings: Settings, telemetry: Telemetry, spans: SpanBuffer, health_file: Path | None = None
    ) -> None:
        self._telemetry = telemetry
        self._spans = spans
        self._health_file = health_file
        self._loop = asyncio.new_event_loop()
        self._stack = contextlib.AsyncExitStack()
        self._alerting = contextlib.ExitStack()
        alerts = self._alerting.enter_context(alerting(settings, contract.SERVICE_WORKER))
        history = self._alerting.enter_context(History(settings, contract.SERVICE_WORKER))

        def on_report(report: SyncReport, age: float | None) -> None:
            alerts.sync_ended(report, age)
            history.sync_ended(report)

        self._worker, self._traces = self._loop.run_until_complete(
            self._stack.enter_async_context(open_worker(settings, on_report, self.show_health))
        )

    def run(self, step: Callable[[Worker], Awaitable[T]]) -> T:
        """Runs a step to its end, in the context of the message that requested it."""

        async def body() -> T:
            return await step(self._worker)

        return self._loop.run_until_complete(self._loop.create_task(body(), context=contextvars.copy_context()))

    def show_health(self) -> None:
        """Touches the health file: something that needs this process, its event loop and Redis has just been done."""
        if self._health_file is None:
            return
        try:
            self._health_file.touch()
        except OSError as error:
            _log.warning("the health file cannot be written: %s", error.strerror)

    def probe(self) -> None:
        """What an idle process does instead of a step: it queries Redis, and shows its health if that answers."""

        async def ask() -> None:
            with untraced():
                async with asyncio.timeout(PROBE_LIMIT):
                    await self._traces.ping()

        try:
            self._loop.run_until_complete(ask())
        except (CatalogSyncError, TimeoutError) as error:
            _log.warning("the health file is not updated, Redis does not answer: %s", error_info(error).message)
        else:
            self.show_health()

    def push_spans(self, **_: Any) -> None:
        """Sends the spans of the step that has ended to the API. Spans that cannot be sent soon are dropped."""
        spans = self._spans.take()
        if spans:
            self._loop.run_until_complete(self._push(spans))

    async def _push(self, spans: list[SpanRecord]) -> None:
        try:
            with untraced():
                async with asyncio.timeout(PUSH_LIMIT):
                    await self._traces.push(spans)
        except (CatalogSyncError, TimeoutError) as error:
            _log.warning("%d spans were not stored for the API: %s", len(spans), error_info(error).message)

    def close(self) -> None:
        """Closes connections, sends the alerts that are due and the remaining telemetry."""
        try:
            self._loop.run_until_complete(self._stack.aclose())
        finally:
            self._loop.close()
            self._alerting.close()
            self._telemetry.shutdown(timeout=TELEMETRY_END)


@contextlib.asynccontextmanager
async def open_worker(
    settings: Settings, on_report: OnReport | None = None, on_sign_of_life: Callable[[], object] | None = None
) -> AsyncIterator[tuple[Worker, SharedTraces]]:
    """A worker with its connections. All workers share the supplier's breaker, retry budget and rate limit."""
    shared = open_shared_state(settings)
    try:
        policies = Policies.of(settings, shared)
        async with (
            open_catalogue(settings, policies.store) as (store, snapshot),
            open_client(settings, policies.supplier) as supplier,
        ):
            shared.ready(SHARED_STATE_WITHIN)
            shared.rest(LOOK_EVERY)
            ledger = JobLedger(store.redis)
            worker = Worker(
                settings,
                supplier,
                store,
                snapshot,
                ledger,
                CelerySender(ledger),
                shared,
                on_report=on_report,
                on_sign_of_life=on_sign_of_life,
            )
            yield worker, SharedTraces(store.redis)
    finally:
        await asyncio.to_thread(shared.close)


class StartFailure:
    """The exit code that a process of the pool leaves for its parent if it cannot start. Created before the fork."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 1)

    @property
    def code(self) -> int:
        """0 while none has failed."""
        return self._shared[0]

    def report(self, code: int) -> bool:
        """Sets the code. Returns whether this is the first failure."""
        first = not self._shared[0]
        self._shared[0] = code
        return first


_current: WorkerProcess | None = None
_failure: StartFailure | None = None
_health_file: Path | None = None


def current() -> WorkerProcess:
    """The worker process in this process. Raises ``RuntimeError`` if it is not one."""
    if _current is None:
        raise RuntimeError("this is not a process of a worker pool")
    return _current


def probe() -> None:
    """See :meth:`WorkerProcess.probe`. The parent sends this to its pool while no step runs."""
    current().probe()


def install(health_file: Path | None = None) -> StartFailure:
    """Makes every process that the worker in this process forks a :class:`WorkerProcess`.

    Celery only logs what its signal handlers raise, and such a process would fail every step that it takes. So a
    process that cannot start ends itself and its worker, and leaves the exit code of both in the result.
    """
    global _failure, _health_file  # one worker per process
    _failure, _health_file = StartFailure(), health_file
    run_steps_with(lambda step: current().run(step))
    signals.setup_logging.connect(_begin_logging, weak=False)
    signals.worker_process_init.connect(_begin, weak=False)
    signals.worker_process_shutdown.connect(_end, weak=False)
    return _failure


def _begin_logging(**_: Any) -> None:
    """In the parent, once."""
    _set_up_logging()
    warn_of_unknown_variables()


def _set_up_logging() -> None:
    """Replaces Celery's logging: every process of the worker logs JSON lines, or short ones on a terminal.

    Celery's lines about single messages have no correlation ID; the steps' own log lines do.
    """
    setup_logging(stream=sys.stderr, json_lines=not sys.stderr.isatty(), service=contract.SERVICE_WORKER)
    for name in ("celery.app.trace", "celery.worker.strategy", "kombu"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _begin(**_: Any) -> None:
    """After the fork: nothing was measured, connected or instrumented before, so nothing is counted twice."""
    try:
        _start_process()
    except ConfigurationError as error:
        _give_up(exit_codes.USAGE, error)
    except Exception as error:  # noqa: BLE001  whatever it is, this process cannot run steps
        _log.critical("a process of the pool cannot start: %s", type(error).__name__, exc_info=error)
        _give_up(exit_codes.FAILED, error)


def _start_process() -> None:
    global _current  # one per process
    _set_up_logging()
    spans = SpanBuffer()
    telemetry = setup_telemetry(contract.SERVICE_WORKER, os.environ, extra_span_processor=keep_spans(spans.add))
    instrument_celery()
    _current = WorkerProcess(read_settings(), telemetry, spans, _health_file)
    # After the instrumentation, so that the span of the message has ended as well.
    signals.task_postrun.connect(_current.push_spans, weak=False)


def _give_up(code: int, error: Exception) -> NoReturn:
    """Ends this process and its worker; if several fail in the same way, only the first one reports it."""
    if _failure is not None and _failure.report(code):
        complain(PROGRAM, str(error) or type(error).__name__)
        os.kill(os.getppid(), signal.SIGTERM)
    sys.stderr.flush()
    os._exit(code)


def _end(**_: Any) -> None:
    global _current  # one per process
    ended, _current = _current, None
    if ended is not None:
        ended.close()
