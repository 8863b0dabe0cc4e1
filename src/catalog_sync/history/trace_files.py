"""The traces of failed syncs in the state folder, used without Redis."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from catalog_sync.history.files import DatedFiles
from catalog_sync.observability.traces import SpanRecord, TraceSummary, span_order

MOST: Final = 40
MAX_AGE: Final = 90 * 86_400.0
MAX_BYTES: Final = 64 * 1024 * 1024
"""Maximum bytes of all files together."""

_log = logging.getLogger(__name__)


class TraceFiles:
    """One file per trace. Implements ``TraceStore``."""

    def __init__(self, state_dir: Path) -> None:
        self._files = DatedFiles(state_dir / "traces", most=MOST, age=MAX_AGE, total=MAX_BYTES)
        self._summaries: dict[str, TraceSummary | None] = {}

    def write(self, spans: Sequence[SpanRecord]) -> None:
        """Stores the spans of one trace, at least one. Raises ``OSError``."""
        last = max(span.end for span in spans)
        self._files.write(last, spans[0].trace_id, {"spans": [span.to_json() for span in spans]})

    async def failed(self, *, limit: int = 50) -> Sequence[TraceSummary]:
        """The last traces, newest first."""
        return await asyncio.to_thread(self._failed, limit)

    async def get(self, trace_id: str) -> Sequence[SpanRecord]:
        return await asyncio.to_thread(self._get, trace_id)

    def _failed(self, limit: int) -> Sequence[TraceSummary]:
        names = self._names("")
        # Files never change: each is read only once.
        self._summaries = {name: self._summaries.get(name) or self._summary(name) for name in names}
        return [summary for summary in self._summaries.values() if summary is not None][:limit]

    def _get(self, trace_id: str) -> Sequence[SpanRecord]:
        spans = [span for name in self._names(trace_id) for span in self._spans(name)]
        return sorted({span.span_id: span for span in spans}.values(), key=span_order)

    def _names(self, trace_id: str) -> list[str]:
        try:
            return list(self._files.names(trace_id))
        except OSError as error:
            _log.warning("the traces in the state folder cannot be read: %s", error.strerror)
            return []

    def _summary(self, name: str) -> TraceSummary | None:
        spans = self._spans(name)
        return TraceSummary.of(spans) if spans else None

    def _spans(self, name: str) -> list[SpanRecord]:
        document: Any = self._files.read(name)
        if document is None:
            return []
        try:
            return [SpanRecord.from_json(span) for span in document["spans"]]
        except (ValueError, TypeError, KeyError) as error:
            _log.warning("traces/%s has an unexpected format: %s", name, type(error).__name__)
            return []
