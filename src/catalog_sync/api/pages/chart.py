"""Ninety days of syncs as a small chart: outcome, duration, freshness. Every figure is also available as text."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Final

from catalog_sync.api.pages.html import Html, h
from catalog_sync.api.pages.parts import many
from catalog_sync.domain.models import Outcome
from catalog_sync.domain.times import roughly
from catalog_sync.history.days import DAY_SECONDS, DAYS, DaySummary

_COLUMN: Final = 8
_ROW: Final = 34
_GOOD: Final = (Outcome.COMPLETE, Outcome.SKIPPED_LOCKED)


@dataclasses.dataclass(slots=True)
class Day:
    """What happened on one day, UTC. Durations and ages in seconds."""

    date: dt.date
    good: int = 0
    partial: int = 0
    failed: int = 0
    longest: float = 0.0
    mean: float = 0.0
    oldest: float | None = None
    """Maximum age of the catalogue on that day; ``None`` before the first known sync."""

    @property
    def count(self) -> int:
        """Its syncs."""
        return self.good + self.partial + self.failed


def days(kept: Mapping[str, DaySummary], now: float) -> list[Day]:
    """The last :data:`DAYS` days, today last."""
    today = int(now // DAY_SECONDS)
    found = []
    renewed = None
    for number in range(today - DAYS + 1, today + 1):
        day = Day(dt.date.fromordinal(dt.date(1970, 1, 1).toordinal() + number))
        summary = kept.get(day.date.isoformat())
        end = min(now, (number + 1) * DAY_SECONDS)
        ages = []
        if summary is not None:
            day.good = sum(summary.outcomes.get(each, 0) for each in _GOOD)
            day.partial = summary.outcomes.get(Outcome.PARTIAL, 0)
            day.failed = summary.count - day.good - day.partial
            day.longest = summary.longest_s
            day.mean = summary.total_s / max(1, summary.count)
            if summary.first_renewed is not None and summary.last_renewed is not None:
                # Only full syncs renew the catalogue; until the next one it grows older.
                before = summary.first_renewed if renewed is None else renewed
                ages = [summary.longest_gap_s, summary.first_renewed - before]
                renewed = summary.last_renewed
        if renewed is not None:
            day.oldest = max(0.0, *ages, end - renewed)
        found.append(day)
    return found


def chart(kept: Mapping[str, DaySummary], now: float, *, stale_after: float) -> Html:
    """The chart with its text."""
    found = days(kept, now)
    if not any(day.count for day in found):
        return h("p", f"No sync in the last {DAYS} days is kept.", class_="quiet")
    most = max(day.count for day in found)
    longest = max(day.longest for day in found) or 1.0
    oldest = max([stale_after, *(day.oldest or 0.0 for day in found)])
    width, height = DAYS * _COLUMN, 3 * (_ROW + 8)
    columns: list[Html | None] = [
        h("rect", x=0, y=row * (_ROW + 8) + _ROW, width=width, height=1, class_="axis") for row in range(3)
    ]
    for place, day in enumerate(found):
        base = 0.0
        for count, tone in ((day.good, "good"), (day.partial, "warn"), (day.failed, "bad")):
            columns.append(_bar(place, 0, base, count / most, tone))
            base += count / most
        columns.append(_bar(place, 1, 0, day.longest / longest, "plain"))
        if day.oldest is not None:
            columns.append(_bar(place, 2, 0, day.oldest / oldest, "bad" if day.oldest > stale_after else "good"))
    said = _text(found, stale_after)
    drawing = h("svg", columns, viewBox=f"0 0 {width} {height}", role="img", aria_label=said, class_="chart")
    legend = (
        f"From {found[0].date} to {found[-1].date}, a column a day. Rows: syncs (at most {most} a day), longest"
        f" duration (at most {roughly(longest)}), greatest age of the catalogue (at most {roughly(oldest)};"
        f" red above {roughly(stale_after)})."
    )
    return h("figure", drawing, h("figcaption", h("p", said), h("p", legend, class_="hint")), _table(found))


def _bar(place: int, row: int, base: float, part: float, tone: str) -> Html | None:
    if part <= 0:
        return None
    size = max(2.0, part * _ROW)
    bottom = row * (_ROW + 8) + _ROW - base * _ROW
    return h(
        "rect", x=place * _COLUMN + 1, y=f"{bottom - size:.1f}", width=_COLUMN - 2, height=f"{size:.1f}", class_=tone
    )


def _text(found: Sequence[Day], stale_after: float) -> str:
    good, partial, failed = (sum(getattr(day, name) for day in found) for name in ("good", "partial", "failed"))
    longest = max(found, key=lambda day: day.longest)
    stale = sum((day.oldest or 0.0) > stale_after for day in found)
    return (
        f"{many(good + partial + failed, 'sync')} in {DAYS} days: {good} complete, {partial} partial, {failed} failed."
        f" The longest took {roughly(longest.longest)}, on {longest.date}."
        f" The catalogue was older than {roughly(stale_after)} on {many(stale, 'day')}."
    )


def _table(found: Sequence[Day]) -> Html:
    head = h(
        "tr",
        (h("th", name, scope="col") for name in ("day", "complete", "partial", "failed", "mean", "longest", "age")),
    )
    lines = (
        h(
            "tr",
            h("th", str(day.date), scope="row"),
            (h("td", str(count)) for count in (day.good, day.partial, day.failed)),
            (h("td", roughly(seconds)) for seconds in (day.mean, day.longest)),
            h("td", "–" if day.oldest is None else roughly(day.oldest)),
        )
        for day in reversed(found)
        if day.count
    )
    table = h("table", h("thead", head), h("tbody", lines))
    inside = h("div", table, class_="scroll", tabindex="0", role="region", aria_label="Days with syncs")
    return h("details", h("summary", "As a table"), inside)
