"""A summary of each day, kept long after its syncs: outcomes, durations, and when the catalogue was renewed."""

from __future__ import annotations

import dataclasses
import datetime as dt
import fcntl
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, Field

from catalog_sync.domain.json_form import JsonForm
from catalog_sync.domain.models import Outcome, SyncKind
from catalog_sync.domain.times import epoch
from catalog_sync.history.records import SyncRecord
from catalog_sync.settings.folders import make_private
from catalog_sync.store.files import write_json_atomically

DAYS: Final = 90
"""Days that are kept, today included."""
DAY_SECONDS: Final = 86_400.0
RENEWING: Final = (Outcome.COMPLETE, Outcome.PARTIAL)
"""Outcomes of full syncs after which readers have a newer catalogue."""

_END: Final = 253_402_300_800.0  # of the calendar
_MOST: Final = 10**9

_log = logging.getLogger(__name__)


def _date(text: str) -> str:
    if dt.date.fromisoformat(text).isoformat() != text:
        raise ValueError("no date as YYYY-MM-DD")
    return text


_Count = Annotated[int, Field(ge=0, le=_MOST)]
_Seconds = Annotated[float, Field(ge=0, lt=_END, allow_inf_nan=False)]


@dataclasses.dataclass(frozen=True, slots=True)
class DaySummary(JsonForm):
    """The syncs that ended on one day, UTC. A few hundred bytes, however many they were."""

    date: Annotated[str, AfterValidator(_date)]
    outcomes: Mapping[Outcome, _Count]
    """Syncs by outcome."""
    longest_s: _Seconds = 0.0
    total_s: _Seconds = 0.0
    """Total seconds of all syncs."""
    first_renewed: _Seconds | None = None
    """When the first full sync renewed the catalogue, in seconds since the epoch; ``None``: none did."""
    last_renewed: _Seconds | None = None
    longest_gap_s: _Seconds = 0.0
    """Longest time in seconds from one renewal on this day to the next."""

    @classmethod
    def of(cls, record: SyncRecord) -> Self:
        """The day with only this sync. Raises ``ValueError`` if its end is outside the calendar."""
        ended = epoch(record.ended_at)
        renewed = ended if record.kind is SyncKind.FULL and record.outcome in RENEWING else None
        return cls(
            date=dt.datetime.fromtimestamp(ended, dt.UTC).date().isoformat(),
            outcomes={record.outcome: 1},
            longest_s=record.duration_s,
            total_s=record.duration_s,
            first_renewed=renewed,
            last_renewed=renewed,
        )

    @property
    def count(self) -> int:
        """Number of syncs."""
        return sum(self.outcomes.values())

    def plus(self, other: DaySummary) -> DaySummary:
        """The sum of both, for the same day."""
        gap = max(self.longest_gap_s, other.longest_gap_s)
        earlier, later = sorted((self, other), key=lambda day: day.last_renewed or 0.0)
        if earlier.last_renewed is not None and later.first_renewed is not None:
            gap = max(gap, later.first_renewed - earlier.last_renewed)  # negative if they overlap
        return DaySummary(
            date=self.date,
            outcomes={
                each: number for each in Outcome if (number := self.outcomes.get(each, 0) + other.outcomes.get(each, 0))
            },
            longest_s=max(self.longest_s, other.longest_s),
            total_s=self.total_s + other.total_s,
            first_renewed=min((at for at in (self.first_renewed, other.first_renewed) if at is not None), default=None),
            last_renewed=later.last_renewed,
            longest_gap_s=gap,
        )


def summed(days: Iterable[DaySummary]) -> dict[str, DaySummary]:
    """By date; counts of the same day from several sources are added up."""
    found: dict[str, DaySummary] = {}
    for day in days:
        found[day.date] = found[day.date].plus(day) if day.date in found else day
    return found


def is_kept(date: str, today: dt.date) -> bool:
    """Whether a day is kept: :data:`DAYS` of them, and tomorrow, in case another clock is ahead."""
    try:
        age = (today - dt.date.fromisoformat(date)).days
    except ValueError:
        return False
    return -1 <= age < DAYS


def read_days(stored: Iterable[tuple[object, object]]) -> dict[str, DaySummary]:
    """Summaries by date, from names and JSON objects or their texts; a damaged one is logged and left out."""
    found = {}
    for name, each in stored:
        try:
            day = DaySummary.from_json_text(each) if isinstance(each, bytes) else DaySummary.from_json(each)
            if day.date != (name.decode("ascii") if isinstance(name, bytes) else name):
                raise ValueError("it is filed under another date")
        except ValueError as error:
            _log.warning("the summary of a day cannot be read: %s", error)
        else:
            found[day.date] = day
    return found


class DayFile:
    """The summaries in the state folder, used without Redis. Several processes may add to it."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "sync-days.json"

    def add(self, day: DaySummary, today: dt.date) -> None:
        """Counts a sync; removes days that are too old. Raises ``OSError``."""
        make_private(self._path.parent)
        with self._path.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            kept = summed([*self.read().values(), day])
            document = {date: each.to_json() for date, each in sorted(kept.items()) if is_kept(date, today)}
            write_json_atomically(self._path, document)

    def read(self) -> dict[str, DaySummary]:
        """The stored summaries. Raises ``OSError``; a damaged file is logged and counts as empty."""
        try:
            stored: Any = json.loads(self._path.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (ValueError, RecursionError) as error:
            _log.warning("%s cannot be read: %s", self._path.name, type(error).__name__)
            return {}
        if not isinstance(stored, dict):
            _log.warning("%s has an unexpected format", self._path.name)
            return {}
        return read_days(stored.items())
