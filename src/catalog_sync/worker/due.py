"""When a sync that did not complete may be tried again.

For whether one is due at all, see :mod:`catalog_sync.domain.schedule`.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from catalog_sync.domain.freshness import TOLERATED_SKEW
from catalog_sync.domain.models import SyncKind
from catalog_sync.domain.times import parse_rfc3339

if TYPE_CHECKING:
    from catalog_sync.jobs import Job

AGAIN_AFTER: Final = 1 / 24
"""Share of the interval between the end of a full sync and the next one; at least :data:`LEAST_AGAIN_AFTER`."""
LEAST_AGAIN_AFTER: Final = 300.0
"""Seconds."""


def just_tried(jobs: Sequence[Job], every: float, now: datetime.datetime) -> bool:
    """Whether a full sync ended recently, whatever its outcome. ``jobs``: the last ones, newest first.

    A sync that ended in the future, because a clock was wrong, is ignored.
    """
    last = next((job.finished_at for job in jobs if job.kind is SyncKind.FULL and job.finished_at is not None), None)
    if last is None:
        return False
    pause = datetime.timedelta(seconds=max(LEAST_AGAIN_AFTER, every * AGAIN_AFTER))
    since = now - parse_rfc3339(last)
    return -datetime.timedelta(seconds=TOLERATED_SKEW) <= since < pause
