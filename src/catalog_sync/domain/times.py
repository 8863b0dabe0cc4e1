"""Moments as text: RFC 3339 in UTC, as in reports, records, logs and the API. And durations for people."""

from __future__ import annotations

import datetime
import email.utils
from typing import Annotated, Literal

from pydantic import AfterValidator


def is_moment(text: str) -> str:
    """``text``, where it is a moment as :func:`parse_rfc3339` takes it. Raises ``ValueError`` on anything else."""
    try:
        epoch(text)
    except OverflowError as error:  # a moment at the very end of the calendar, in another time zone
        raise ValueError("not a time that can be calculated with") from error
    return text


Moment = Annotated[str, AfterValidator(is_moment)]
"""A moment in a stored record, checked when it is read."""


def utc_now() -> datetime.datetime:
    """The time of day."""
    return datetime.datetime.now(datetime.UTC)


def rfc3339(
    moment: datetime.datetime | float, *, timespec: Literal["milliseconds", "microseconds"] = "milliseconds"
) -> str:
    """``2026-11-24T02:00:00.000Z``. ``moment`` has a time zone, or is in seconds since the epoch."""
    if isinstance(moment, datetime.datetime):
        moment = moment.astimezone(datetime.UTC)
    else:
        moment = datetime.datetime.fromtimestamp(moment, datetime.UTC)
    return moment.isoformat(timespec=timespec).replace("+00:00", "Z")


def parse_rfc3339(text: str) -> datetime.datetime:
    """The inverse of :func:`rfc3339`. Raises ``ValueError`` on anything else, also where the offset from UTC lacks."""
    moment = datetime.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time needs its offset from UTC")
    return moment


def epoch(text: str) -> float:
    """Seconds since the epoch of a moment as RFC 3339. Raises ``ValueError``."""
    return parse_rfc3339(text).timestamp()


def is_ahead(text: str) -> bool:
    """Whether a moment as RFC 3339 is still to come. Raises ``ValueError``."""
    return epoch(text) > utc_now().timestamp()


def http_date(text: str | None) -> float | None:
    """Seconds since the epoch of a ``Date`` header; ``None`` where it is none."""
    try:
        return None if text is None else email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def duration(seconds: float) -> str:
    """What was measured, for people: ``250 ms``, ``61.3 s``."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def roughly(seconds: float) -> str:
    """How long or how old, for people, in the largest unit of which there are two: ``5.0 s``, ``3 min``, ``2 days``."""
    if seconds < 10:
        return duration(seconds)
    units = ((86_400, "days"), (3600, "h"), (60, "min"))
    size, unit = next(((size, unit) for size, unit in units if seconds >= 2 * size), (1, "s"))
    return f"{seconds / size:.0f} {unit}"
