"""Threads for ``def`` attempts that a time limit is to cut: reused, bounded, and counted while they are left behind."""

from __future__ import annotations

import contextvars
import operator
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Final

from opentelemetry.metrics import CallbackOptions, Observation

from otel_resilience import telemetry
from otel_resilience._internal.forks import renew_after_fork
from otel_resilience.errors import AttemptThreadsExhaustedError
from otel_resilience.limits import DEFAULT_MAX_THREADS
from otel_resilience.telemetry import contract
from otel_resilience.telemetry.gauges import by_dependency

IDLE: Final = 10.0
"""Seconds after which a thread without work ends."""

_pools: weakref.WeakSet[AttemptThreads] = weakref.WeakSet()


class Worker:
    """One thread, and the work that it has now."""

    __slots__ = ("_abandoned", "_context", "_done", "_error", "_finished", "_lock", "_operation", "_result", "_threads",
                 "_wake", "thread")  # fmt: skip

    def __init__(self, threads: AttemptThreads) -> None:
        self._threads: AttemptThreads | None = threads
        self._lock = threading.Lock()
        self._wake = threading.Lock()
        self._wake.acquire()
        self._done = threading.Lock()
        self._done.acquire()
        self._abandoned = self._finished = False
        self._operation: Callable[[], Any] | None = None
        self._context: contextvars.Context | None = None
        self._result: Any = None
        self._error: BaseException | None = None
        self.thread: threading.Thread | None = None

    def run(self, operation: Callable[[], Any], limit: float, on_timeout: Callable[[int | None], BaseException]) -> Any:
        """What ``operation`` returns or raises in this thread, in a copy of the current context.

        After ``limit`` seconds the thread is left behind, and what ``on_timeout`` makes of its ``ident`` is raised.
        """
        self._operation = operation
        self._context = contextvars.copy_context()
        self._finished = self._abandoned = False
        self._start_or_wake()
        try:
            in_time = self._done.acquire(timeout=min(limit, threading.TIMEOUT_MAX))
        except BaseException:  # an interruption of the wait: the result is no longer wanted
            self._leave_behind()
            raise
        if not in_time:
            problem = on_timeout(self.thread.ident if self.thread is not None else None)
            if self._leave_behind():
                raise problem
            self._done.acquire()  # it ended at the last moment
        error, result = self._error, self._result
        self._error = self._result = None
        threads = self._threads
        if threads is not None:
            threads.release(self)
        if error is not None:
            try:
                raise error
            finally:
                del error
        return result

    def release(self) -> None:
        """The worker was reserved and is not needed."""
        if self._threads is not None:
            self._threads.release(self)

    def _start_or_wake(self) -> None:
        if self.thread is not None:
            self._wake.release()
            return
        name = "attempt" if self._threads is None else f"attempt {self._threads.dependency}"
        self.thread = threading.Thread(target=self._serve, name=name, daemon=True)
        try:
            self.thread.start()
        except RuntimeError as error:  # the system has no more threads
            threads, self._threads, self.thread = self._threads, None, None
            self._operation = self._context = None
            if threads is None:
                raise
            threads.forget(self)
            raise AttemptThreadsExhaustedError(threads.dependency, threads.limit) from error

    def _leave_behind(self) -> bool:
        with self._lock:
            if self._finished:
                return False
            self._abandoned = True
        if self._threads is not None:
            self._threads.count_abandoned(1)
        return True

    def _serve(self) -> None:
        while True:
            self._work()
            while not self._wake.acquire(timeout=IDLE):
                if self._threads is None or self._threads.retire(self):
                    return

    def _work(self) -> None:
        operation, context = self._operation, self._context
        self._operation = self._context = None
        if operation is None or context is None:
            return
        try:
            self._result = context.run(operation)
        except BaseException as error:  # noqa: BLE001  # raised in the thread of the caller
            self._error = error
        del operation, context
        with self._lock:
            self._finished = True
            abandoned = self._abandoned
        if not abandoned:
            self._done.release()
            return
        self._error = self._result = None
        if self._threads is not None:
            self._threads.count_abandoned(-1)
            self._threads.release(self)


class AttemptThreads:
    """The threads of one policy: at most ``limit``, those left behind included. Made when first needed."""

    def __init__(self, dependency: str, limit: int = DEFAULT_MAX_THREADS) -> None:
        self.dependency = dependency
        self.limit = limit
        self.renew_after_fork()
        renew_after_fork(self)
        _pools.add(self)

    def renew_after_fork(self) -> None:
        """Starts over: threads do not survive a fork."""
        for worker in getattr(self, "_all", ()):
            worker._threads = None  # noqa: SLF001  # one unit: the thread that forked must not come back here
        self._changed = threading.Condition(threading.Lock())
        self._idle: list[Worker] = []
        self._all: set[Worker] = set()
        self.abandoned = 0
        """Threads that run an attempt which was given up."""

    def reserve(self, wait: float) -> Worker:
        """A worker for one attempt, after at most ``wait`` seconds.

        Raises :class:`AttemptThreadsExhaustedError`, at once where every thread was left behind.
        """
        until: float | None = None
        with self._changed:
            while True:
                if self._idle:
                    return self._idle.pop()
                if len(self._all) < self.limit:
                    worker = Worker(self)
                    self._all.add(worker)
                    return worker
                now = time.monotonic()
                until = now + min(wait, threading.TIMEOUT_MAX) if until is None else until
                if self.abandoned >= self.limit or now >= until:
                    raise AttemptThreadsExhaustedError(self.dependency, self.limit)
                self._changed.wait(until - now)

    def release(self, worker: Worker) -> None:
        """The worker is free again."""
        with self._changed:
            if worker in self._all:
                self._idle.append(worker)
                self._changed.notify()

    def retire(self, worker: Worker) -> bool:
        """An idle worker ends. ``False`` where it was reserved meanwhile."""
        with self._changed:
            if worker in self._all and worker not in self._idle:
                return False
            if worker in self._all:
                self._idle.remove(worker)
                self._all.remove(worker)
            return True

    def forget(self, worker: Worker) -> None:
        """The worker has no thread and never will."""
        with self._changed:
            self._all.discard(worker)
            self._changed.notify()

    def count_abandoned(self, change: int) -> None:
        """A thread was left behind (1), or came back (-1)."""
        with self._changed:
            self.abandoned += change
            if change > 0:
                self._changed.notify_all()  # those who wait for a thread may have to be refused


def _observe_abandoned(_: CallbackOptions) -> Iterable[Observation]:
    pools = ((threads.dependency, threads.abandoned) for threads in list(_pools))
    for attributes, number in by_dependency(pools, operator.add):
        yield Observation(number, attributes)


telemetry.observe(contract.TIMEOUT_ABANDONED, _observe_abandoned)
