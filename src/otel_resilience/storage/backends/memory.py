"""Shared state inside one process: several policies for one dependency act as one."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import TypeVar

from otel_resilience._internal import validation as check
from otel_resilience._internal.forks import new_lock, renew_lock_after_fork
from otel_resilience.storage.backends.base import DocumentStorage
from otel_resilience.storage.documents import Document

T = TypeVar("T")


class MemoryStorage(DocumentStorage):
    """A :class:`~otel_resilience.storage.Storage` that lasts as long as the process. Thread-safe.

    ``clock`` gives monotonic seconds. Raises ``TypeError`` if it is not a function.

    Examples:
        >>> from otel_resilience.storage import MemoryStorage, SharedState
        >>> shared = SharedState(MemoryStorage())
        >>> one, other = (Policy("supplier", breaker=CircuitBreakerConfig(), shared=shared) for _ in range(2))
        >>> one.breaker.force_open()
        >>> other.breaker.state.name
        'FORCED_OPEN'
    """

    name = "memory"
    remote = False

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.documents: defaultdict[tuple[str, str], Document] = defaultdict(dict)
        """By kind and key."""
        check.def_function("clock", clock)
        self._clock = clock
        self._lock = new_lock()
        renew_lock_after_fork(self)

    def ping(self) -> None:
        """Always succeeds."""

    def close(self) -> None:
        """Nothing to close."""

    def _step(self, kind: str, key: str, change: Callable[[Document, float], T]) -> T:
        with self._lock:
            return change(self.documents[kind, key], self._clock())
