"""A bounded store of traces: those that failed, and the most recent ones of syncs, whatever their outcome."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from catalog_sync.observability.traces.records import SpanRecord, TraceSummary, span_order

MAX_SPANS: Final = 2000
"""Spans of one trace; after that only errors are kept, up to half as many again."""
MAX_TOTAL: Final = 20_000
"""Maximum spans of all traces together."""
MAX_BYTES: Final = 32 * 1024 * 1024
"""Maximum bytes of memory for all of them."""
MAX_TRACE_BYTES: Final = 8 * 1024 * 1024
"""Maximum bytes of memory for the spans of one trace; later ones are dropped."""


class _Trace:
    __slots__ = ("failed", "of_sync", "size", "spans")

    def __init__(self) -> None:
        self.spans: list[SpanRecord] = []
        self.size = 0
        self.failed = False
        self.of_sync = False


class TraceRing:
    """Collects spans as they end and drops the oldest traces. Thread-safe; implements ``TraceStore``.

    Keeps at most ``syncs`` failed traces of syncs, ``others`` other failed ones, and ``recent`` ones that are running
    or succeeded, so that a flood of failed reads displaces no sync; and at most ``max_bytes`` in total.
    """

    def __init__(
        self,
        *,
        syncs: int = 40,
        others: int = 10,
        recent: int = 32,
        max_spans: int = MAX_SPANS,
        max_total: int = MAX_TOTAL,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._bounds = {"syncs": syncs, "others": others, "recent": recent}
        self._max_spans = max_spans
        self._max_total = max_total
        self._max_bytes = max_bytes
        self._max_trace_bytes = min(MAX_TRACE_BYTES, max_bytes // 2)
        self._traces: dict[str, OrderedDict[str, _Trace]] = {name: OrderedDict() for name in self._bounds}
        self._total = 0
        self._size = 0
        self._lock = threading.Lock()

    def add(self, span: SpanRecord) -> None:
        with self._lock:
            shelf, trace = self._find(span.trace_id) or ("recent", _Trace())
            room = self._max_spans if span.status != "error" else self._max_spans * 3 // 2
            size = span.size
            if len(trace.spans) < room and trace.size + size <= self._max_trace_bytes:
                trace.spans.append(span)
                trace.size += size
                self._total += 1
                self._size += size
            trace.failed = trace.failed or span.failed
            trace.of_sync = trace.of_sync or span.of_sync
            self._traces[shelf].pop(span.trace_id, None)
            shelf = "recent" if not trace.failed else "syncs" if trace.of_sync else "others"
            self._traces[shelf][span.trace_id] = trace
            self._forget(shelf)

    async def failed(self, *, limit: int = 50) -> Sequence[TraceSummary]:
        with self._lock:
            kept = [list(trace.spans) for shelf in ("syncs", "others") for trace in self._traces[shelf].values()]
        return sorted(map(TraceSummary.of, kept), key=lambda summary: summary.end, reverse=True)[:limit]

    async def get(self, trace_id: str) -> Sequence[SpanRecord]:
        with self._lock:
            found = self._find(trace_id)
            spans = list(found[1].spans) if found else []
        return sorted(spans, key=span_order)

    def _find(self, trace_id: str) -> tuple[str, _Trace] | None:
        for name, shelf in self._traces.items():
            trace = shelf.get(trace_id)
            if trace is not None:
                return name, trace
        return None

    def _forget(self, grown: str) -> None:
        while len(self._traces[grown]) > self._bounds[grown]:
            self._drop_oldest(grown)
        while self._total > self._max_total or self._size > self._max_bytes:
            # The trace that has just grown is the newest in its group: it stays.
            names = [name for name in ("recent", "others", "syncs") if len(self._traces[name]) > (name == grown)]
            if not names:
                return
            self._drop_oldest(names[0])

    def _drop_oldest(self, name: str) -> None:
        dropped = self._traces[name].popitem(last=False)[1]
        self._total -= len(dropped.spans)
        self._size -= dropped.size
