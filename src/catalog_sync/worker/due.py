"""When a sync that did not complete may be tried again.

For whether one is due at all, see :mod:`catalog_sync.domain.schedule`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from catalog_sync.domain.models import SyncKind

if TYPE_CHECKING:
    from catalog_sync.jobs import Job

AGAIN_AFTER: Final = 1 / 24
"""Share of the interval between the end of a full sync and the next one; at least :data:`LEAST_AGAIN_AFTER`."""
LEAST_AGAIN_AFTER: Final = 300.0
"""Seconds."""


def just_tried(jobs: Sequence[Job], every: float, now_ms: int) -> bool:
    """Whether a full sync ended recently, whatever its outcome. ``jobs``: the last ones, newest first.

    Judged by the clock of Redis: if that of one machine is wrong, what it publishes looks old or from the future to all
    others, and each would request the next sync at once. A sync that ended in the future is ignored.
    """
    last = next((job.ended_ms for job in jobs if job.kind is SyncKind.FULL and job.ended_ms is not None), None)
    return last is not None and 0 <= now_ms - last < 1000 * max(LEAST_AGAIN_AFTER, every * AGAIN_AFTER)
