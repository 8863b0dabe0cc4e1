"""A bounded memory of traces: those that failed, and the last ones of syncs whatever came of them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from catalog_sync.traces.records import SpanRecord, TraceSummary

MAX_SPANS: Final = 2000
"""Spans of one trace; of what comes later only errors are kept, up to half as many again."""
MAX_TOTAL: Final = 20_000
"""Spans of all traces together: about 30 MB."""


class _Trace:
    __slots__ = ("failed", "of_sync", "spans")

    def __init__(self) -> None:
        self.spans: list[SpanRecord] = []
        self.failed = False
        self.of_sync = False


class TraceRing:
    """Takes spans as they end and forgets the oldest traces. Safe for threads; implements ``TraceStore``.

    Three bounds: ``syncs`` failed traces of syncs, ``others`` further failed ones, and ``recent`` that are under way or
    went well. A flood of failed reads therefore pushes out no sync.
    """

    def __init__(
        self,
        *,
        syncs: int = 40,
        others: int = 10,
        recent: int = 32,
        max_spans: int = MAX_SPANS,
        max_total: int = MAX_TOTAL,
    ) -> None:
        self._bounds = {"syncs": syncs, "others": others, "recent": recent}
        self._max_spans = max_spans
        self._max_total = max_total
        self._traces: dict[str, OrderedDict[str, _Trace]] = {name: OrderedDict() for name in self._bounds}
        self._total = 0
        self._lock = threading.Lock()

    def add(self, span: SpanRecord) -> None:
        """Take in a span that has ended."""
        with self._lock:
            shelf, trace = self._find(span.trace_id) or ("recent", _Trace())
            room = self._max_spans if span.status != "error" else self._max_spans * 3 // 2
            if len(trace.spans) < room:
                trace.spans.append(span)
                self._total += 1
            trace.failed = trace.failed or span.failed
            trace.of_sync = trace.of_sync or span.of_sync
            self._traces[shelf].pop(span.trace_id, None)
            shelf = "recent" if not trace.failed else "syncs" if trace.of_sync else "others"
            self._traces[shelf][span.trace_id] = trace
            self._forget(shelf)

    async def failed(self, *, limit: int = 50) -> Sequence[TraceSummary]:
        """The last failed traces, newest first."""
        with self._lock:
            kept = [list(trace.spans) for shelf in ("syncs", "others") for trace in self._traces[shelf].values()]
        return sorted(map(TraceSummary.of, kept), key=lambda summary: summary.end, reverse=True)[:limit]

    async def get(self, trace_id: str) -> Sequence[SpanRecord]:
        """The spans of a trace by their start; empty where it is not kept."""
        with self._lock:
            found = self._find(trace_id)
            spans = list(found[1].spans) if found else []
        return sorted(spans, key=lambda span: (span.start, -span.end))

    def _find(self, trace_id: str) -> tuple[str, _Trace] | None:
        for name, shelf in self._traces.items():
            trace = shelf.get(trace_id)
            if trace is not None:
                return name, trace
        return None

    def _forget(self, grown: str) -> None:
        shelf = self._traces[grown]
        while len(shelf) > self._bounds[grown]:
            self._total -= len(shelf.popitem(last=False)[1].spans)
        while self._total > self._max_total:
            # The trace that has just grown is the newest on its shelf: it stays.
            names = [name for name in ("recent", "others", "syncs") if len(self._traces[name]) > (name == grown)]
            if not names:
                return
            self._total -= len(self._traces[names[0]].popitem(last=False)[1].spans)
