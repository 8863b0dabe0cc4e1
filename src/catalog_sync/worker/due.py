"""When a full sync is due: by the age of the catalogue, never because something cannot be read."""

from __future__ import annotations

import datetime
import hashlib
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from catalog_sync.models import SyncKind

if TYPE_CHECKING:
    from catalog_sync.jobs import Job
    from catalog_sync.models import CatalogueMeta

JITTER: Final = 0.1
"""Share of the interval by which a sync may be later, so that many installations do not ask at once."""
AGAIN_AFTER: Final = 1 / 24
"""Share of the interval that passes before a sync that did not complete is tried again, and at least:"""
LEAST_AGAIN_AFTER: Final = 300.0
"""Seconds."""

_log = logging.getLogger(__name__)


def due_at(meta: CatalogueMeta | None, jobs: Sequence[Job], every: float, now: datetime.datetime) -> datetime.datetime:
    """When the next full sync may begin; in the past where it is due. ``every`` in seconds.

    ``meta`` is what readers see, ``None`` where nothing was ever published; ``jobs`` are the last ones, newest first.
    The jitter follows from the version, so that asking again gives the same answer.
    """
    earliest = now
    if meta is not None and meta.last_full_sync is not None:
        late = int.from_bytes(hashlib.sha256(meta.version.encode()).digest()[:4]) / 2**32 * JITTER
        earliest = datetime.datetime.fromisoformat(meta.last_full_sync) + datetime.timedelta(seconds=every * (1 + late))
    last = next((job.finished_at for job in jobs if job.kind is SyncKind.FULL and job.finished_at is not None), None)
    if last is not None:
        pause = datetime.timedelta(seconds=max(LEAST_AGAIN_AFTER, every * AGAIN_AFTER))
        earliest = max(earliest, datetime.datetime.fromisoformat(last) + pause)
    return earliest
