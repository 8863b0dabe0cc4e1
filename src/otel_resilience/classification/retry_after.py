"""How long a server asks us to wait: ``Retry-After`` (RFC 9110, 10.2.3) and ``X-Ratelimit-Reset``. Pure.

A date is compared with the response's own ``Date`` header if present, in case either clock is wrong.
"""

from __future__ import annotations

import functools
import math
import re
from typing import Final

from otel_resilience._internal import validation as check

MAX_RETRY_AFTER: Final = float(2**31)
"""Seconds. Longer hints are capped to this, as RFC 9111, 1.2.2 does with delta-seconds that overflow."""

_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), start=1
    )
}
_TIME: Final = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_HTTP_DATES: Final = (
    rf"[a-z]{{3}}, (?P<day>\d\d?) (?P<month>[a-z]{{3}}) (?P<year>\d{{4}}) {_TIME} (?:GMT|UTC|[+-]0000)",
    rf"[a-z]{{6,9}}, (?P<day>\d\d)-(?P<month>[a-z]{{3}})-(?P<year>\d\d) {_TIME} (?:GMT|UTC)",
    rf"[a-z]{{3}} (?P<month>[a-z]{{3}}) +(?P<day>\d\d?) {_TIME} (?P<year>\d{{4}})",
)
_SECONDS: Final = r"(?=\d)0*+(\d*+)(\.\d+)?"
_NEXT_VALUE: Final = r"\s*,\s*(?=[\d.]+\s*(?:,|$)|[a-z]{3,9},)"
"""Between the values of a header that was sent several times; not the comma within a date."""
_ISO_DATE: Final = r"\d{4}-\d\d-\d\d[T ]\d\d:"
_MOST_VALUES: Final = 10
_LONGEST: Final = 64
"""Characters; no date is longer."""


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII | re.IGNORECASE)


def parse_retry_after(value: str | None, *, date: str | None = None, now: float | None = None) -> float | None:
    """Seconds to wait, from 0 to :data:`MAX_RETRY_AFTER`, or ``None`` if ``value`` does not specify any.

    ``value`` is the header: seconds, possibly with a fraction (which HTTP does not allow but servers send), or a date
    in any of the three HTTP formats; of several values the longest wait counts. ``date`` is the response's ``Date``
    header; ``now``, used if that is missing or unreadable, is the wall clock in seconds since the epoch. Negative
    numbers, dates that are not in the future and any other text give ``None``. Raises ``TypeError`` naming the
    parameter if ``value`` or ``date`` is not a string, or ``now`` is not a number.

    Examples:
        >>> parse_retry_after("2.5")
        2.5
        >>> parse_retry_after("Wed, 21 Oct 2026 07:28:10 GMT", date="Wed, 21 Oct 2026 07:28:00 GMT")
        10.0
        >>> parse_retry_after("soon") is None
        True
    """
    _check(value, date, now)
    if value is None:
        return None
    now = _finite(now)
    waits = (_wait(text, date, now) for text in _compiled(_NEXT_VALUE).split(value.strip(), _MOST_VALUES))
    return max((wait for wait in waits if wait is not None), default=None)


def _wait(text: str, date: str | None, now: float | None) -> float | None:
    seconds = _compiled(_SECONDS).fullmatch(text)
    if seconds is None:
        return _until(_http_date(text, now), date, now)
    whole, fraction = seconds.groups(default="")
    return MAX_RETRY_AFTER if len(whole) > 10 else min(float(whole + fraction or 0), MAX_RETRY_AFTER)


def parse_rate_limit_reset(value: str | None, *, date: str | None = None, now: float | None = None) -> float | None:
    """Seconds until the moment in an ``X-Ratelimit-Reset`` header that holds an ISO 8601 date and time.

    Otherwise like :func:`parse_retry_after`. A time without an offset is UTC. Bare numbers give ``None``: for some
    servers they are seconds to wait, for others seconds since the epoch.
    """
    _check(value, date, now)
    if value is None:
        return None
    text = value.strip()
    if len(text) > _LONGEST or not _compiled(_ISO_DATE).match(text):
        return None
    import datetime  # here and below: most servers that ask to wait give seconds

    try:
        moment = datetime.datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        target = moment.timestamp()
    except (ValueError, OverflowError):
        return None
    return _until(target, date, _finite(now))


def _check(value: object, date: object, now: object) -> None:
    check.optional_text("value", value)
    check.optional_text("date", date)
    if now is not None and (isinstance(now, bool) or not isinstance(now, (int, float))):
        raise TypeError(f"now must be a number, not {now!r}")


def _until(target: float | None, date: str | None, now: float | None) -> float | None:
    if target is None:
        return None
    reference = _http_date(date.strip(), now) if date is not None else None
    if reference is None:
        reference = now
    if reference is None or target <= reference:
        return None
    return min(target - reference, MAX_RETRY_AFTER)


def _finite(now: float | None) -> float | None:
    return now if now is not None and math.isfinite(now) else None


def _http_date(text: str, now: float | None) -> float | None:
    """Seconds since the epoch, or ``None`` if ``text`` is not an HTTP-date."""
    if len(text) > _LONGEST:
        return None
    for pattern in _HTTP_DATES:
        found = _compiled(pattern).fullmatch(text)
        if found is not None:
            return _timestamp(found, now)
    return None


def _timestamp(found: re.Match[str], now: float | None) -> float | None:
    import datetime

    month = _MONTHS.get(found["month"].lower())
    year = int(found["year"])
    if month is None:
        return None
    if len(found["year"]) == 2:
        year = _full_year(year, now)
    second = min(int(found["second"]), 59) if found["second"] == "60" else int(found["second"])
    try:
        moment = datetime.datetime(
            year, month, int(found["day"]), int(found["hour"]), int(found["minute"]), second, tzinfo=datetime.UTC
        )
    except ValueError:
        return None
    return moment.timestamp()


def _full_year(two_digits: int, now: float | None) -> int:
    """A year more than 50 years ahead is in the past (RFC 9110, 5.6.7)."""
    import datetime

    try:
        current = 2020 if now is None else datetime.datetime.fromtimestamp(now, datetime.UTC).year
    except (ValueError, OverflowError, OSError):
        current = 2020
    year = current - current % 100 + two_digits
    return year - 100 if year > current + 50 else year
