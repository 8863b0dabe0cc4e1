"""The spans of one run, kept as they ended; they are redacted and written only if the run failed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from catalog_sync.observability.traces.records import SpanRecord, span_order
from catalog_sync.observability.traces.ring import MAX_SPANS

_FOR_ERRORS: Final = 3 / 2


class DeferredSpans:
    """Collects spans as they end; redacts and truncates them when their trace is read. Thread-safe.

    At most ``max_spans``; after that only errors are kept, up to half as many again.
    """

    def __init__(self, *, max_spans: int = MAX_SPANS) -> None:
        self._max_spans = max_spans
        self._spans: list[tuple[int, Callable[[], SpanRecord]]] = []
        self._lock = threading.Lock()

    def add(self, trace_id: int, make: Callable[[], SpanRecord], *, error: bool) -> None:
        """Adds an ended span; ``make`` returns its record, redacted."""
        room = self._max_spans * (_FOR_ERRORS if error else 1)
        with self._lock:
            if len(self._spans) < room:
                self._spans.append((trace_id, make))

    def get(self, trace_id: str) -> list[SpanRecord]:
        """The spans of a trace by start time."""
        wanted = int(trace_id, 16)
        with self._lock:
            found = [make for of, make in self._spans if of == wanted]
        return sorted((make() for make in found), key=span_order)
