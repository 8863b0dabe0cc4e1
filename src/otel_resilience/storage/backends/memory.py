"""Shared state inside one process: several policies for one dependency act as one."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable

from otel_resilience._internal import validation as check
from otel_resilience._internal.forks import renew_lock_after_fork
from otel_resilience.storage import documents
from otel_resilience.storage.documents import Document
from otel_resilience.storage.protocol import BreakerStep, BreakerView, BudgetStep, BudgetView


class MemoryStorage:
    """A :class:`~otel_resilience.storage.Storage` that lasts as long as the process. Safe for threads."""

    name = "memory"
    remote = False

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.documents: defaultdict[tuple[str, str], Document] = defaultdict(dict)
        """By kind and key."""
        check.def_function("clock", clock)
        self._clock = clock
        self._lock = threading.Lock()
        renew_lock_after_fork(self)

    def breaker(self, key: str, step: BreakerStep) -> BreakerView:
        """A step of a circuit breaker."""
        with self._lock:
            return documents.breaker(self.documents["breaker", key], step, self._clock())

    def budget(self, key: str, step: BudgetStep) -> BudgetView:
        """A step of a retry budget."""
        with self._lock:
            return documents.budget(self.documents["budget", key], step, self._clock())

    def pause(self, key: str, seconds: float) -> float:
        """What is left of the longest pause."""
        with self._lock:
            return documents.pause(self.documents["pause", key], seconds, self._clock())

    def ping(self) -> None:
        """Always answers."""

    def close(self) -> None:
        """There is nothing to give up."""
