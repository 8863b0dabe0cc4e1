"""When the next sync is due: pure, the same for ``run --if-due`` and for a scheduler."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
from typing import TYPE_CHECKING, Any, Final, Literal

from catalog_sync.domain.freshness import from_future
from catalog_sync.domain.times import epoch, parse_rfc3339, rfc3339
from otel_resilience.classification import error_types

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog_sync.domain.models import CatalogueMeta, ErrorInfo, SyncReport

JITTER: Final = 0.1
"""A catalogue is due up to this share of its age earlier, so that not all installations sync in the same minute."""
LONGEST_PAUSE: Final = 86_400.0
"""Seconds: a supplier that asks for a longer pause is asked again after a day."""


Reason = Literal["never_synced", "old", "future", "young", "paused", "damaged", "unreadable"]
"""Why a sync is due, or is not. ``future``: what is published claims to have been fetched in the future, so its age is
unknown. ``paused``: the supplier asked to come back later. ``damaged``: a part of what is published is lost, and only a
full sync repairs it. ``unreadable``: the store does not answer, so the age is unknown."""


@dataclasses.dataclass(frozen=True, slots=True)
class Due:
    """Whether a sync is due."""

    due: bool
    reason: Reason
    next_due_at: datetime.datetime | None = None
    """When it will be, as far as known; ``None`` if it is due now, or if that is unknown."""

    def to_json(self) -> dict[str, Any]:
        """What ``run --if-due --json`` prints if nothing is done."""
        at = self.next_due_at
        return {
            "outcome": None,
            "due": self.due,
            "reason": self.reason,
            "next_due_at": None if at is None else rfc3339(at),
        }


UNREADABLE: Final = Due(due=False, reason="unreadable")


@dataclasses.dataclass(frozen=True, slots=True)
class Pause:
    """A pause that the supplier requested, in seconds."""

    left: float = 0.0
    """What is left of the longest one that was requested."""
    asked_ago: float = 0.0
    """Since one was last requested."""

    def left_after(self, last_full_sync: str | None, now: datetime.datetime) -> float:
        """What is left of it at ``now`` where the last complete full sync ended then (RFC 3339; ``None``: never).

        A supplier that has served the whole catalogue since it asked for time has had enough of it. Only what was
        published counts, which the lock keeps in order: no late result of an old sync ends a newer pause.
        """
        moment = now.timestamp()
        if last_full_sync is None or from_future(last_full_sync, moment):
            return self.left
        return 0.0 if epoch(last_full_sync) > moment - self.asked_ago else self.left


NO_PAUSE: Final = Pause()


def decide(
    meta: CatalogueMeta | None,
    now: datetime.datetime,
    *,
    every: float,
    damaged: bool = False,
    pause: Pause = NO_PAUSE,
    place: str = "",
) -> Due:
    """Whether a full sync is due at ``now`` (with a time zone).

    ``meta``: what is published; ``None`` for nothing and if it is ``damaged``: then a sync is due immediately.
    ``every``: the age in seconds from which on it is due, less a jitter of at most :data:`JITTER` that stays the same
    until the next publication. ``pause``: the one that the supplier requested. ``place`` distinguishes installations.
    """
    paused_for = pause.left_after(None if meta is None else meta.last_full_sync, now)
    pause_ends = now + datetime.timedelta(seconds=paused_for)
    if meta is None:
        due_at = now
        reason: Reason = "damaged" if damaged else "never_synced"
    elif from_future(meta.as_of, now.timestamp()):
        due_at, reason = now, "future"
    else:
        share = 1 - JITTER * _fraction(f"{place} {meta.version}")
        due_at = parse_rfc3339(meta.as_of) + datetime.timedelta(seconds=every * share)
        reason = "old"
    if due_at > now:
        return Due(due=False, reason="young", next_due_at=max(due_at, pause_ends))
    if paused_for > 0:
        return Due(due=False, reason="paused", next_due_at=pause_ends)
    return Due(due=True, reason=reason)


def pause_after(report: SyncReport) -> float:
    """Seconds for which nothing should be started after this run: the longest wait that the supplier asked for.

    The wait for an open circuit of our own does not count: the breaker remembers it itself.
    """
    hints = [error.retry_after_s or 0.0 for error in _errors(report) if error.type != error_types.CIRCUIT_OPEN]
    return min(max(hints, default=0.0), LONGEST_PAUSE)


def _errors(report: SyncReport) -> Iterator[ErrorInfo]:
    if report.error is not None:
        yield report.error
    for group in report.groups:
        if group.error is not None:
            yield group.error


def _fraction(text: str) -> float:
    """A number in ``[0, 1)``, the same for the same text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48
