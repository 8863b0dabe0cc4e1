"""The sync: from the supplier to a published version, with a report of what happened."""

from catalog_sync.domain.models import SyncRequest
from catalog_sync.sync.progress import OnProgress, Progress
from catalog_sync.sync.service import SyncService

__all__ = ["OnProgress", "Progress", "SyncRequest", "SyncService"]
