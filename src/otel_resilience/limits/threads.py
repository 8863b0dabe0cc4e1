"""Threads for ``def`` attempts with a time limit: reused, bounded, and counted while they are abandoned."""

from __future__ import annotations

import contextvars
import functools
import operator
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from opentelemetry.metrics import CallbackOptions, Observation

from otel_resilience import telemetry
from otel_resilience._internal.forks import renew_after_fork
from otel_resilience._internal.in_use import InUse
from otel_resilience.errors import AttemptThreadsExhaustedError
from otel_resilience.limits import DEFAULT_MAX_THREADS
from otel_resilience.telemetry import contract
from otel_resilience.telemetry.gauges import by_dependency

IDLE: Final = 10.0
"""Seconds after which an idle thread ends."""

_pools: Final[InUse[AttemptThreads]] = InUse()


class Worker:
    """One thread, and its current work."""

    __slots__ = ("_abandoned", "_done", "_error", "_finished", "_lock", "_operation", "_result", "_threads", "_wake",
                 "thread")  # fmt: skip

    def __init__(self, threads: AttemptThreads) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self._wake = threading.Lock()
        self._wake.acquire()
        self._done = threading.Lock()
        self._done.acquire()
        self._abandoned = self._finished = False
        self._operation: Callable[[], Any] | None = None
        self._result: Any = None
        self._error: BaseException | None = None
        self.thread = threading.Thread(target=self._serve, name=f"attempt {threads.dependency}", daemon=True)

    def run(self, operation: Callable[[], Any], limit: float, on_timeout: Callable[[int | None], BaseException]) -> Any:
        """What ``operation`` returns or raises in this thread, in a copy of the current context.

        After ``limit`` seconds the thread is abandoned, and the result of ``on_timeout``, called with its ``ident``, is
        raised. If the operation has not started by then, it never does.
        """
        self._operation = functools.partial(contextvars.copy_context().run, operation)
        self._finished = self._abandoned = False
        self._wake.release()
        try:
            in_time = self._done.acquire(timeout=min(limit, threading.TIMEOUT_MAX))
        except BaseException:  # the wait was interrupted: the result is no longer wanted
            if not self._leave_behind():
                self._threads.dismiss(self)
            raise
        if not in_time:
            problem = on_timeout(self.thread.ident)
            if self._leave_behind():
                raise problem
            self._done.acquire()  # it ended at the last moment
        error, result = self._error, self._result
        self._error = self._result = None
        self.release()
        if error is not None:
            try:
                raise error
            finally:
                del error
        return result

    def release(self) -> None:
        """The worker is free for another attempt."""
        self._threads.release(self)

    def _leave_behind(self) -> bool:
        with self._lock:
            if self._finished:
                return False
            self._abandoned = True
            self._operation = None
        self._threads.abandon(self)
        return True

    def _serve(self) -> None:
        while True:
            while not self._wake.acquire(timeout=IDLE):
                if self._threads.retire(self):
                    return
            self._work()

    def _work(self) -> None:
        with self._lock:
            operation, self._operation = self._operation, None
        if operation is not None:
            try:
                self._result = operation()
            except BaseException as error:  # noqa: BLE001  # raised in the thread of the caller
                self._error = error
        del operation
        with self._lock:
            self._finished = True
            abandoned = self._abandoned
        if abandoned:
            self._error = self._result = None
            self._threads.rejoin(self)
        else:
            self._done.release()


class AttemptThreads:
    """The threads of one policy: at most ``limit``, abandoned ones included. Created when first needed."""

    def __init__(self, dependency: str, limit: int = DEFAULT_MAX_THREADS) -> None:
        self.dependency = dependency
        self.limit = limit
        self.renew_after_fork()
        renew_after_fork(self)
        _pools.add(self)

    def renew_after_fork(self) -> None:
        """Starts over: threads do not survive a fork, and the thread that forked is not one of these any more."""
        self._changed = threading.Condition(threading.Lock())
        self._idle: list[Worker] = []
        self._all: set[Worker] = set()
        self.abandoned = 0
        """Threads that run an attempt which was given up."""

    def reserve(self, wait: float) -> Worker:
        """A worker for one attempt, after at most ``wait`` seconds.

        Raises :class:`AttemptThreadsExhaustedError`, at once if every thread is abandoned or none can start.
        """
        until: float | None = None
        with self._changed:
            while not self._idle and len(self._all) >= self.limit:
                now = time.monotonic()
                until = now + min(wait, threading.TIMEOUT_MAX) if until is None else until
                if self.abandoned >= self.limit or now >= until:
                    raise AttemptThreadsExhaustedError(self.dependency, self.limit)
                self._changed.wait(until - now)
            if self._idle:
                return self._idle.pop()
            worker = Worker(self)
            self._all.add(worker)
        try:
            worker.thread.start()
        except BaseException as error:
            with self._changed:
                self._all.discard(worker)
                self._changed.notify()
            if isinstance(error, RuntimeError):
                raise AttemptThreadsExhaustedError(self.dependency, self.limit) from error
            raise
        return worker

    def release(self, worker: Worker) -> None:
        """The worker is free again."""
        with self._changed:
            if worker in self._all:
                self._idle.append(worker)
                self._changed.notify()

    def retire(self, worker: Worker) -> bool:
        """An idle worker ends. ``False`` if it was reserved meanwhile."""
        with self._changed:
            if worker in self._all and worker not in self._idle:
                return False
            if worker in self._all:
                self._idle.remove(worker)
                self._all.remove(worker)
            return True

    def dismiss(self, worker: Worker) -> None:
        """The worker has a result that nobody took; another one takes its place."""
        with self._changed:
            self._all.discard(worker)
            self._changed.notify()

    def abandon(self, worker: Worker) -> None:
        """The worker runs an attempt that was given up."""
        with self._changed:
            if worker in self._all:
                self.abandoned += 1
                self._changed.notify_all()  # waiters may now have to be refused

    def rejoin(self, worker: Worker) -> None:
        """An abandoned worker is free again."""
        with self._changed:
            if worker in self._all:
                self.abandoned -= 1
                self._idle.append(worker)
                self._changed.notify()


def _observe_abandoned(_: CallbackOptions) -> Iterable[Observation]:
    pools = ((threads.dependency, threads.abandoned) for threads in _pools)
    for attributes, number in by_dependency(pools, operator.add):
        yield Observation(number, attributes)


telemetry.observe(contract.TIMEOUT_ABANDONED, _observe_abandoned)
