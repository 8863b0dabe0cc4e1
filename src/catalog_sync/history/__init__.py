"""Records of ended syncs: their reports, the traces of those that failed, a summary of each day."""

from catalog_sync.history.days import DAYS, DaySummary
from catalog_sync.history.history import KEPT, History
from catalog_sync.history.records import SyncRecord
from catalog_sync.history.trace_files import TraceFiles

__all__ = ["DAYS", "KEPT", "DaySummary", "History", "SyncRecord", "TraceFiles"]
