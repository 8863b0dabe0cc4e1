"""Merges traces from several stores that each have a part."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from catalog_sync.domain.errors import CacheConnectionError
from catalog_sync.observability.traces.records import SpanRecord, TraceStore, TraceSummary, span_order

_log = logging.getLogger(__name__)


class MergedTraces:
    """Reads from all stores; the first ones take precedence. An unreachable store is left out.

    Implements ``TraceStore``.
    """

    def __init__(self, *stores: TraceStore) -> None:
        self._stores = stores

    async def failed(self, *, limit: int = 50) -> Sequence[TraceSummary]:
        merged: dict[str, TraceSummary] = {}
        for store in reversed(self._stores):
            try:
                merged |= {summary.trace_id: summary for summary in await store.failed(limit=limit)}
            except CacheConnectionError as error:
                _log.debug("some traces are left out: %s", error)
        return sorted(merged.values(), key=lambda summary: summary.end, reverse=True)[:limit]

    async def get(self, trace_id: str) -> Sequence[SpanRecord]:
        """All spans of a trace, by start time."""
        merged: dict[str, SpanRecord] = {}
        for store in reversed(self._stores):
            try:
                merged |= {span.span_id: span for span in await store.get(trace_id)}
            except CacheConnectionError as error:
                _log.debug("some spans of trace %s are left out: %s", trace_id, error)
        return sorted(merged.values(), key=span_order)
