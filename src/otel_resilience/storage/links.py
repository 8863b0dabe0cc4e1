"""The way from a breaker or a budget to a storage: bounded waits, one word about an outage, and the way back.

A storage in this process or on this disk is asked directly. A remote one is asked by a thread of its own, so that a
caller, and with it an event loop, waits for a limited time whatever the network does.
"""

from __future__ import annotations

import abc
import contextvars
import dataclasses
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from otel_resilience import telemetry
from otel_resilience._internal.foreign import repr_of
from otel_resilience._internal.forks import renew_after_fork, renew_lock_after_fork
from otel_resilience.classification import error_types
from otel_resilience.classification.defaults import classify
from otel_resilience.redaction import redact
from otel_resilience.storage.protocol import Storage, StorageError

_log = logging.getLogger("otel_resilience")

T = TypeVar("T")
Step = Callable[[], T]
Use = Callable[[T], object]

RETRY_EVERY = 1.0
"""Seconds between two attempts to reach a storage that is gone."""


class Member(Protocol):
    """A breaker or a budget that shares its state."""

    def refresh(self, link: Link) -> None:
        """Tells the storage of ``link`` what it does not know yet, and takes over what others found out.

        Raises :class:`StorageError`.
        """


class Link(abc.ABC):
    """One storage as the members of this process see it."""

    def __init__(self, storage: Storage, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.storage = storage
        self.name = storage.name
        self._clock = clock
        self._lock = threading.Lock()
        self._down_since: float | None = None
        renew_lock_after_fork(self)
        telemetry.watch_storage(self)

    @property
    def degraded(self) -> bool:
        """Whether the members go by their own."""
        return self._down_since is not None

    @abc.abstractmethod
    def ask(self, step: Step[T], use: Use[T], late: Use[T] | None = None) -> bool:
        """Makes a step and hands its answer to ``use``. ``False`` where there was none in time.

        An answer that comes after that goes to ``late``.
        """

    @abc.abstractmethod
    def tell(self, step: Step[T], use: Use[T]) -> None:
        """As :meth:`ask`, without waiting and without a word where it fails."""

    @abc.abstractmethod
    def join(self, member: Member) -> None:
        """Refreshes ``member`` soon, and regularly where the storage is remote."""

    @abc.abstractmethod
    def ready(self, seconds: float) -> bool:
        """Waits until the storage has been reached and every member refreshed. ``False`` where that takes longer."""

    def close(self) -> None:
        """Ends the thread, if any, and gives up the storage's connection. Members go by their own from then on."""
        self._down_since = None
        self.storage.close()

    def make(self, step: Step[T]) -> T:
        """Makes a step here and now, measured. Raises :class:`StorageError`."""
        started = self._clock()
        try:
            answer = step()
        except Exception as error:
            telemetry.storage_step(self.name, self._clock() - started, _error_type(error))
            if isinstance(error, StorageError):
                raise
            raise StorageError(redact(repr_of(error))) from error
        telemetry.storage_step(self.name, self._clock() - started, "")
        return answer

    def refresh(self, member: Member) -> None:
        """Refreshes ``member`` here and now."""
        try:
            member.refresh(self)
        except StorageError as error:
            self.failed(error)

    def failed(self, error: StorageError) -> None:
        """A step was not made, or not in time: told once, until one is made again."""
        with self._lock:
            first = self._down_since is None
            if first:
                self._down_since = self._clock()
        if first:
            telemetry.storage_degraded(self.name, _error_type(error), str(error))

    def _came_up(self) -> None:
        with self._lock:
            since, self._down_since = self._down_since, None
        if since is not None:
            telemetry.storage_restored(self.name, self._clock() - since)


class DirectLink(Link):
    """Asks in the caller's thread."""

    def ask(self, step: Step[T], use: Use[T], late: Use[T] | None = None) -> bool:
        """Makes the step at once."""
        try:
            answer = self.make(step)
        except StorageError as error:
            self.failed(error)
            return False
        self._came_up()
        use(answer)
        return True

    def tell(self, step: Step[T], use: Use[T]) -> None:
        """As :meth:`ask`."""
        self.ask(step, use)

    def join(self, member: Member) -> None:
        """Refreshes it at once."""
        self.refresh(member)

    def ready(self, seconds: float) -> bool:
        """Always, unless the storage cannot be used."""
        return not self.degraded


@dataclasses.dataclass(slots=True, eq=False)
class _Job:
    step: Step[Any]
    use: Use[Any]
    late: Use[Any] | None = None
    answered: threading.Event | None = None
    """Somebody waits."""
    taken: bool = False
    abandoned: bool = False
    made: bool = False
    context: contextvars.Context = dataclasses.field(default_factory=contextvars.copy_context)
    """Of whoever asked: a change of state that the answer brings belongs to that call's trace."""


class BackgroundLink(Link):
    """Asks in a thread of its own, first in, first out.

    ``limit``: seconds that a caller waits. ``every``: seconds between two looks at what others found out.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        limit: float,
        every: float,
        retry_every: float = RETRY_EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(storage, clock=clock)
        self._limit = limit
        self._every = every
        self._retry_every = max(retry_every, every)
        self._members: weakref.WeakSet[Member] = weakref.WeakSet()
        self._begin()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """In the child: a thread and a connection of its own, begun when first needed."""
        self.storage.close()
        self._begin()

    def _begin(self) -> None:
        self._wake = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._thread: threading.Thread | None = None
        self._connected = False
        self._closed = False
        self._down_since = None
        self._fresh = False
        """Every member was refreshed, or the storage was found to be gone."""

    def ask(self, step: Step[T], use: Use[T], late: Use[T] | None = None) -> bool:
        """Waits at most ``limit`` seconds; not at all while the storage is gone."""
        if not self._usable():
            return False
        job = _Job(step, use, late, threading.Event())
        answered = job.answered
        if answered is None or not self._put(job):
            return False
        if not answered.wait(self._limit):
            with self._wake:
                job.abandoned = not job.taken
            if job.abandoned:
                self.failed(StorageError(f"no answer within {self._limit:g} s"))
                return False
            answered.wait()  # the answer is being used at this moment
        return job.made

    def tell(self, step: Step[T], use: Use[T]) -> None:
        """Leaves the step to the thread; dropped while the storage is gone."""
        if self._usable():
            self._put(_Job(step, use))

    def join(self, member: Member) -> None:
        """From now on."""
        with self._wake:
            self._members.add(member)
            self._fresh = False
        self._start()

    def ready(self, seconds: float) -> bool:
        """Waits for the first contact."""
        self._start()
        with self._wake:
            self._wake.wait_for(lambda: self._fresh, seconds)
        return self._fresh and self._connected and not self.degraded

    def close(self) -> None:
        """Ends the thread."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(2 * self._limit)
        super().close()

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

    def _put(self, job: _Job) -> bool:
        with self._wake:
            if self._closed:
                return False
            self._jobs.append(job)
            self._wake.notify_all()
        return True

    def _work(self) -> None:
        due = 0.0
        while True:
            with self._wake:
                while not (self._closed or self._jobs or self._clock() >= due or not self._fresh):
                    self._wake.wait(max(0.0, due - self._clock()))
                if self._closed and not self._jobs:
                    return
                job = self._jobs.popleft() if self._jobs else None
            if job is not None:
                self._execute(job)
                continue
            self._look_around()
            due = self._clock() + (self._retry_every if self.degraded else self._every)

    def _execute(self, job: _Job) -> None:
        if self.degraded:
            self._finish(job)
            return
        try:
            answer = self.make(job.step)
        except StorageError as error:
            self.failed(error)
            self._finish(job)
            return
        with self._wake:
            job.taken = not job.abandoned
        if job.taken:
            job.made = job.context.run(self._use, job.use, answer)
        elif job.late is not None:
            self._use(job.late, answer)
        self._finish(job)

    def _finish(self, job: _Job) -> None:
        if job.answered is not None:
            job.answered.set()

    def _use(self, use: Use[T], answer: T) -> bool:
        try:
            use(answer)
        except Exception as error:  # noqa: BLE001  # the thread serves all members: a defect in one is told, not fatal
            _log.error("an answer of shared state could not be used: %s", redact(repr_of(error)))
            return False
        return True

    def _look_around(self) -> None:
        """Reaches the storage where it is not known to answer, then refreshes every member."""
        with self._wake:
            members = list(self._members)
        try:
            if self._reached():
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
        except Exception as error:  # noqa: BLE001  # as above: one defect must not take the thread from all
            _log.error("shared state could not be refreshed: %s", redact(repr_of(error)))

    def _reached(self) -> bool:
        if self._connected and not self.degraded:
            return True
        started = self._clock()
        self.make(self.storage.ping)
        if self.degraded and self._clock() - started > self._limit:
            return False  # it answers, but too slowly to be waited for
        self._connected = True
        self._came_up()
        return True


def _error_type(error: BaseException) -> str:
    if isinstance(error, StorageError):
        return error_types.ATTEMPT_TIMEOUT if error.__cause__ is None else _error_type(error.__cause__)
    return classify(error).error_type
