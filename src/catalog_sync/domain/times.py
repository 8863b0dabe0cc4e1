"""Times as text: RFC 3339 in UTC, as in reports, records, logs and the API; and durations for people."""

from __future__ import annotations

import datetime
import email.utils
from typing import Annotated, Literal

from pydantic import AfterValidator


def is_moment(text: str) -> str:
    """``text``, if :func:`parse_rfc3339` can parse it. Raises ``ValueError`` otherwise."""
    try:
        epoch(text)
    except OverflowError as error:  # a time at the very end of the calendar, in another time zone
        raise ValueError("not a time that can be calculated with") from error
    return text


Moment = Annotated[str, AfterValidator(is_moment)]
"""A time in a stored record, checked when it is read."""


def utc_now() -> datetime.datetime:
    """The current time."""
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
    """The inverse of :func:`rfc3339`. Raises ``ValueError`` on anything else, such as a time without an offset."""
    moment = datetime.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time needs its offset from UTC")
    return moment


def epoch(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time. Raises ``ValueError``."""
    return parse_rfc3339(text).timestamp()


def is_ahead(text: str) -> bool:
    """Whether a moment as RFC 3339 is still to come. Raises ``ValueError``."""
    return epoch(text) > utc_now().timestamp()


def http_date(text: str | None) -> float | None:
    """Seconds since the epoch of a ``Date`` header; ``None`` if it is not one."""
    try:
        return None if text is None else email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def duration(seconds: float) -> str:
    """A measured duration, for people: ``250 ms``, ``61.3 s``."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def roughly(seconds: float) -> str:
    """A rough duration or age, in the largest unit that gives at least two: ``5.0 s``, ``3 min``, ``2 days``."""
    if seconds < 10:
        return duration(seconds)
    units = ((86_400, "days"), (3600, "h"), (60, "min"))
    size, unit = next(((size, unit) for size, unit in units if seconds >= 2 * size), (1, "s"))
    return f"{seconds / size:.0f} {unit}"
