"""What a process keeps of its own traces, so that a failed sync can be looked at without any other tool."""

from catalog_sync.traces.records import SpanEvent, SpanLink, SpanRecord, TraceStore, TraceSummary
from catalog_sync.traces.ring import TraceRing
from catalog_sync.traces.shared import JoinedTraces, SharedTraces

__all__ = [
    "JoinedTraces",
    "SharedTraces",
    "SpanEvent",
    "SpanLink",
    "SpanRecord",
    "TraceRing",
    "TraceStore",
    "TraceSummary",
]
