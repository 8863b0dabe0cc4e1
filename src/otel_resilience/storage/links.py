"""Connects breakers and budgets to a storage: bounded waits, one log message per outage, and reconnection.

A storage in this process or on a local disk is called directly. A remote one is called by a background thread, so that
a caller, and with it an event loop, waits for a limited time whatever the network does.
"""

from __future__ import annotations

import abc
import asyncio
import contextvars
import dataclasses
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, Protocol, TypeVar

from otel_resilience import telemetry
from otel_resilience._internal.foreign import repr_of
from otel_resilience._internal.forks import new_lock, renew_after_fork, renew_lock_after_fork
from otel_resilience.classification import error_types
from otel_resilience.classification.control_flow import pass_interruption_on
from otel_resilience.classification.defaults import classify
from otel_resilience.redaction import redact
from otel_resilience.storage.protocol import Storage, StorageError

_log = logging.getLogger("otel_resilience")

T = TypeVar("T")
Step = Callable[[], T]
Handler = Callable[[T], object]

RETRY_EVERY = 1.0
"""Seconds between two attempts to reach an unreachable storage."""


class Member(Protocol):
    """A breaker, a budget or a rate limit with shared state."""

    def refresh(self, link: Link) -> None:
        """Reports to the storage of ``link`` what it does not know yet, and adopts what other processes reported.

        Raises :class:`StorageError`.
        """


class Link(abc.ABC):
    """One storage as seen by the members in this process."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.name = storage.name
        self._lock = new_lock()
        self._down_since: float | None = None
        self._cut_off = False
        """The storage was closed while a step was running, whose failure then means nothing: redis-py raises errors
        such as ``ValueError('I/O operation on closed file.')`` if its connection is closed in the middle."""
        renew_lock_after_fork(self)
        telemetry.watch_storage(self)

    @property
    def degraded(self) -> bool:
        """Whether the members use local state."""
        return self._down_since is not None

    @abc.abstractmethod
    def call(self, step: Step[T], handler: Handler[T], late: Handler[T] | None = None) -> bool:
        """Runs a step and passes its answer to ``handler``. ``False`` if it did not come in time.

        A later answer is passed to ``late``.
        """

    async def call_async(self, step: Step[T], handler: Handler[T]) -> bool:
        """Like :meth:`call`, without blocking the event loop if the storage is remote."""
        return self.call(step, handler)

    @abc.abstractmethod
    def submit(self, step: Step[T], handler: Handler[T]) -> None:
        """Like :meth:`call`, without waiting and without reporting a failure to the caller."""

    @abc.abstractmethod
    def join(self, member: Member) -> None:
        """Refreshes ``member`` soon, and regularly if the storage is remote."""

    @abc.abstractmethod
    def refresh_every(self, seconds: float) -> None:
        """Refreshes members of a remote storage at this interval; immediately if it is shorter than before."""

    @abc.abstractmethod
    def ready(self, seconds: float) -> bool:
        """Waits until the storage was reached and every member refreshed. ``False`` if that takes longer."""

    def close(self) -> None:
        """Stops the thread, if any, and closes the storage. Members use local state from then on."""
        self._down_since = None
        self.storage.close()

    def run(self, step: Step[T]) -> T:
        """Runs a step in this thread, and measures it. Raises :class:`StorageError`."""
        started = time.monotonic()
        try:
            answer = step()
        except Exception as failure:
            pass_interruption_on(failure)
            error = StorageError("closed before it answered") if self._cut_off else failure
            telemetry.storage_step(self.name, time.monotonic() - started, _error_type(error))
            if error is not failure:
                raise error from None
            if isinstance(error, StorageError):
                raise
            raise StorageError(redact(repr_of(error))) from error
        telemetry.storage_step(self.name, time.monotonic() - started, "")
        return answer

    def refresh(self, member: Member) -> None:
        """Refreshes ``member`` in this thread."""
        try:
            member.refresh(self)
        except StorageError as error:
            self.failed(error)

    def failed(self, error: StorageError) -> None:
        """A step failed or took too long: reported once, until one succeeds again."""
        with self._lock:
            first = self._down_since is None
            if first:
                self._down_since = time.monotonic()
        if first:
            telemetry.storage_degraded(self.name, _error_type(error), str(error))

    def _recovered(self) -> None:
        with self._lock:
            since, self._down_since = self._down_since, None
        if since is not None:
            telemetry.storage_restored(self.name, time.monotonic() - since)


class DirectLink(Link):
    """Calls the storage in the caller's thread."""

    def call(self, step: Step[T], handler: Handler[T], late: Handler[T] | None = None) -> bool:
        """Runs the step immediately."""
        try:
            answer = self.run(step)
        except StorageError as error:
            self.failed(error)
            return False
        self._recovered()
        handler(answer)
        return True

    def submit(self, step: Step[T], handler: Handler[T]) -> None:
        """Like :meth:`call`."""
        self.call(step, handler)

    def join(self, member: Member) -> None:
        """Refreshes it immediately."""
        self.refresh(member)

    def refresh_every(self, seconds: float) -> None:
        """Does nothing: the members query the storage themselves."""

    def ready(self, seconds: float) -> bool:
        """Always true, unless the storage cannot be used."""
        return not self.degraded


@dataclasses.dataclass(slots=True, eq=False)
class _Job:
    step: Step[Any]
    handler: Handler[Any]
    late: Handler[Any] | None
    handled: Future[bool] = dataclasses.field(default_factory=Future)
    """Whether the handler got an answer. A caller that stops waiting cancels it."""
    context: contextvars.Context = dataclasses.field(default_factory=contextvars.copy_context)
    """The caller's: a change of state in the answer belongs to that call's trace."""


class BackgroundLink(Link):
    """Calls the storage in a background thread, first in, first out.

    ``limit``: seconds that a caller waits. ``every``: seconds between two refreshes of the members.
    """

    def __init__(self, storage: Storage, *, limit: float, every: float) -> None:
        super().__init__(storage)
        self._limit = limit
        self._every = every
        self._retry_every = max(RETRY_EVERY, every)
        self._members: weakref.WeakSet[Member] = weakref.WeakSet()
        self._initialize()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """In the child: a new thread and a new connection, created when first needed."""
        self.storage.close()
        self._initialize()

    def _initialize(self) -> None:
        self._wake = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._thread: threading.Thread | None = None
        self._connected = False
        self._closed = self._cut_off = False
        self._due = 0.0
        self._down_since = None
        self._fresh = False
        """Every member was refreshed, or the storage was unreachable."""

    def call(self, step: Step[T], handler: Handler[T], late: Handler[T] | None = None) -> bool:
        """Waits at most ``limit`` seconds; not at all while the storage is unreachable."""
        job = self._put(step, handler, late)
        if job is None:
            return False
        try:
            wait((job.handled,), self._limit)
        except BaseException:
            job.handled.cancel()
            raise
        if not job.handled.done() and self._abandon(job):
            return False
        return job.handled.result()

    async def call_async(self, step: Step[T], handler: Handler[T]) -> bool:
        """Like :meth:`call`."""
        job = self._put(step, handler)
        if job is None:
            return False
        handled = asyncio.wrap_future(job.handled)
        try:
            await asyncio.wait((handled,), timeout=self._limit)
        except BaseException:
            handled.cancel()
            raise
        if not handled.done() and self._abandon(job):
            return False
        return await handled

    def _abandon(self, job: _Job) -> bool:
        """Stops waiting. ``False`` if the answer has arrived, and may be in the middle of being handled."""
        abandoned = job.handled.cancel()
        if abandoned:
            self.failed(StorageError(f"no answer within {self._limit:g} s"))
        return abandoned

    def submit(self, step: Step[T], handler: Handler[T]) -> None:
        """Leaves the step to the thread; dropped while the storage is unreachable."""
        self._put(step, handler)

    def join(self, member: Member) -> None:
        """Adds the member to those that are refreshed."""
        with self._wake:
            self._members.add(member)
            self._fresh = False
        self._start()

    def refresh_every(self, seconds: float) -> None:
        """Like :meth:`Link.refresh_every`."""
        with self._wake:
            if seconds < self._every:
                self._due = 0.0
            self._every = seconds
            self._wake.notify_all()

    def ready(self, seconds: float) -> bool:
        """Waits for the first contact."""
        self._start()
        with self._wake:
            self._wake.wait_for(lambda: self._fresh, seconds)
        return self._fresh and self._connected and not self.degraded

    def close(self) -> None:
        """Stops the thread."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(2 * self._limit)
            self._cut_off = thread.is_alive()
        super().close()

    def failed(self, error: StorageError) -> None:
        """Like :meth:`Link.failed`, unless the step was interrupted by :meth:`close`."""
        if not self._cut_off:
            super().failed(error)

    def _usable(self) -> bool:
        if not self._connected:
            self._start()
            return False
        return not self.degraded and not self._closed

    def _start(self) -> None:
        with self._wake:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._work, name=f"shared-state-{self.name}", daemon=True)
                self._thread.start()
            self._wake.notify_all()

    def _put(self, step: Step[T], handler: Handler[T], late: Handler[T] | None = None) -> _Job | None:
        """The step as a job for the thread; ``None`` while the storage cannot be used."""
        if not self._usable():
            return None
        job = _Job(step, handler, late)
        with self._wake:
            if self._closed:
                return None
            self._jobs.append(job)
            self._wake.notify_all()
        return job

    def _work(self) -> None:
        while True:
            with self._wake:
                while not (self._closed or self._jobs or time.monotonic() >= self._due or not self._fresh):
                    self._wake.wait(max(0.0, self._due - time.monotonic()))
                if self._closed and (self._cut_off or not self._jobs):
                    return
                job = self._jobs.popleft() if self._jobs else None
            if job is not None:
                self._execute(job)
                continue
            before = self._every
            self._refresh_all()
            with self._wake:
                if self._every >= before:
                    self._due = time.monotonic() + (self._retry_every if self.degraded else self._every)

    def _execute(self, job: _Job) -> None:
        answer, answered = None, not self.degraded
        if answered:
            try:
                answer = self.run(job.step)
            except StorageError as error:
                self.failed(error)
                answered = False
        if job.handled.set_running_or_notify_cancel():
            job.handled.set_result(answered and job.context.run(self._handle, job.handler, answer))
        elif answered and job.late is not None:
            self._handle(job.late, answer)

    def _handle(self, handler: Handler[T], answer: T) -> bool:
        try:
            handler(answer)
        except Exception as error:  # noqa: BLE001  # one defect must not stop the thread for all
            _log.error("an answer of shared state could not be handled: %s", redact(repr_of(error)))
            return False
        return True

    def _refresh_all(self) -> None:
        """Connects if the storage is not known to answer, then refreshes every member."""
        with self._wake:
            members = list(self._members)
        try:
            if self._connect():
                for member in members:
                    self._refresh_one(member)
        except StorageError as error:
            self.failed(error)
        with self._wake:
            self._fresh = self.degraded or len(members) == len(self._members)
            self._wake.notify_all()

    def _refresh_one(self, member: Member) -> None:
        try:
            member.refresh(self)
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001  # an error in one member must not stop the thread for all
            _log.error("shared state could not be refreshed: %s", redact(repr_of(error)))

    def _connect(self) -> bool:
        if self._connected and not self.degraded:
            return True
        started = time.monotonic()
        self.run(self.storage.ping)
        if self.degraded and time.monotonic() - started > self._limit:
            return False  # it answers, but too slowly to be waited for
        self._connected = True
        self._recovered()
        return True


def _error_type(error: BaseException) -> str:
    if isinstance(error, StorageError):
        return error_types.ATTEMPT_TIMEOUT if error.__cause__ is None else _error_type(error.__cause__)
    return classify(error).error_type
