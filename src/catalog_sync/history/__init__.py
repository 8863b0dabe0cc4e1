"""What is kept of syncs that have ended: their reports, and the traces of those that failed."""

from catalog_sync.history.history import KEPT, History
from catalog_sync.history.records import SyncRecord
from catalog_sync.history.trace_files import TraceFiles

__all__ = ["KEPT", "History", "SyncRecord", "TraceFiles"]
