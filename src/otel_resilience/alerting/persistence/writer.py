"""Writes to the disk in order in its own thread, so that no caller waits for a slow disk."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, TypeVar

T = TypeVar("T")

MAX_WAITING: Final = 10_000
"""Writes that may wait; further ones are counted as lost."""

CALL_WITHIN: Final = 30.0
"""Maximum seconds that :meth:`DiskWriter.call` takes."""

_log = logging.getLogger("otel_resilience.alerting")


class DiskWriter:
    """Runs the given writes one after the other; before :meth:`start` immediately, in the caller's thread.

    The given functions log their own errors.
    """

    def __init__(self, *, max_waiting: int = MAX_WAITING) -> None:
        self.lost = 0
        """Writes that were dropped because the disk is too slow."""
        self._max_waiting = max_waiting
        self._waiting: deque[Callable[[], object]] = deque()
        self._changed = threading.Condition()
        self._given = self._done = 0
        self._late = self._abandoned = False
        self._thread: threading.Thread | None = None
        self._closing = False

    def start(self) -> None:
        """From now on its own thread writes."""
        self._thread = threading.Thread(target=self._run, name="alerts-disk", daemon=True)
        self._thread.start()

    def submit(self, write: Callable[[], object]) -> bool:
        """Queues a write, without waiting. Returns whether it will be done."""
        if self._thread is None:
            write()
            return True
        with self._changed:
            if self._closing:
                return False
            if len(self._waiting) >= self._max_waiting:
                self._lose(1)
                return False
            self._waiting.append(write)
            self._given += 1
            self._changed.notify_all()
            return True

    def ask(self, read: Callable[[], T]) -> Future[T]:
        """What ``read`` returns or raises, after everything queued before; ``TimeoutError`` if it cannot be queued."""
        answer: Future[T] = Future()

        def answered() -> None:
            try:
                answer.set_result(read())
            except Exception as error:  # noqa: BLE001  # raised in the thread that waits for it
                answer.set_exception(error)

        if not self.submit(answered):
            answer.set_exception(TimeoutError("the disk is too slow, or the alert service has ended"))
        return answer

    def call(self, read: Callable[[], T]) -> T:
        """Like :meth:`ask`, but waits for the disk. Raises ``TimeoutError`` if that takes longer than
        :data:`CALL_WITHIN`, or the writer has ended."""
        return self.ask(read).result(CALL_WITHIN)

    def written(self, timeout: float) -> bool:
        """Waits at most ``timeout`` seconds until everything queued so far is done. Returns whether it is. After one
        timeout it does not wait again until the disk has completed something."""
        with self._changed:
            number = self._given
            if self._done < number and not self._late:
                self._late = not self._changed.wait_for(lambda: self._done >= number or self._abandoned, timeout)
            return self._done >= number

    def close(self, timeout: float) -> bool:
        """Ends within ``timeout`` seconds. Returns whether everything was done; else logs how much was not."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(max(0.0, timeout))
        with self._changed:
            left = self._given - self._done
            if left:
                self._waiting.clear()
                self._abandoned = True
                self._lose(left)
                self._changed.notify_all()
            return not left

    def _lose(self, number: int) -> None:
        self.lost += number
        _log.error("the disk is too slow: %d alert writes were dropped, %d in total", number, self.lost)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                write = self._waiting.popleft()
            try:
                write()
            except Exception as error:  # noqa: BLE001  # the thread continues
                _log.error("unexpected error while writing alerts: %s", type(error).__name__)
            with self._changed:
                self._done += 1
                self._late = False
                self._changed.notify_all()
