"""Traces that a process keeps itself, so that a failed sync can be examined without any other tool."""

from catalog_sync.observability.traces.merged import MergedTraces
from catalog_sync.observability.traces.records import (
    SpanEvent,
    SpanLink,
    SpanRecord,
    TraceStore,
    TraceSummary,
    span_order,
)
from catalog_sync.observability.traces.ring import TraceRing

__all__ = [
    "MergedTraces",
    "SpanEvent",
    "SpanLink",
    "SpanRecord",
    "TraceRing",
    "TraceStore",
    "TraceSummary",
    "span_order",
]
