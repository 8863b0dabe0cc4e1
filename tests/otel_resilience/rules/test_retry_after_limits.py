"""Retry-After at its limits: the longest wait, dates at the edge, the centuries of two digits."""

from __future__ import annotations

import datetime as dt

import pytest

from otel_resilience.classification.retry_after import MAX_RETRY_AFTER, parse_rate_limit_reset, parse_retry_after

NOW = dt.datetime(2026, 11, 24, 2, 0, 0, tzinfo=dt.UTC).timestamp()
DATE = "Tue, 24 Nov 2026 02:00:00 GMT"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("000", 0.0),
        (" 7 ", 7.0),
        ("0000000000000007", 7.0),
        ("9999999999", MAX_RETRY_AFTER),
        ("10000000000", MAX_RETRY_AFTER),
        ("9" * 400, MAX_RETRY_AFTER),
        ("-1", None),
        ("1.5", 1.5),
        ("", None),
        ("٣", None),
    ],
)
def test_whole_seconds(text: str, seconds: float | None) -> None:
    assert parse_retry_after(text) == seconds


def test_a_date_counts_from_the_date_of_the_response_and_else_from_the_clock() -> None:
    later = "Tue, 24 Nov 2026 02:00:30 GMT"
    assert parse_retry_after(later, date=DATE, now=NOW + 20) == 30.0
    assert parse_retry_after(later, date=f" {DATE} ") == 30.0
    assert parse_retry_after(later, date="yesterday", now=NOW + 20) == 10.0
    assert parse_retry_after(later, now=NOW + 20) == 10.0
    assert parse_retry_after(later) is None


def test_a_date_must_lie_ahead() -> None:
    assert parse_retry_after(DATE, now=NOW) is None
    assert parse_retry_after(DATE, now=NOW - 0.5) == 0.5
    assert parse_retry_after("Tue, 24 Nov 2099 02:00:00 GMT", now=NOW) == MAX_RETRY_AFTER


@pytest.mark.parametrize("now", [float("nan"), float("inf"), float("-inf")])
def test_a_clock_that_shows_no_time_is_none(now: float) -> None:
    assert parse_retry_after(DATE, now=now) is None


@pytest.mark.parametrize(
    "text",
    [
        "Tuesday, 24-Nov-26 02:00:30 GMT",
        "Tue Nov 24 02:00:30 2026",
        "tue, 24 nov 2026 02:00:30 gmt",
        "Tue, 24 Nov 2026 02:00:30 +0000",
    ],
)
def test_every_format_of_a_date_is_read(text: str) -> None:
    assert parse_retry_after(text, now=NOW) == 30.0


def test_a_leap_second_is_the_last_second_of_its_minute() -> None:
    assert parse_retry_after("Tue, 24 Nov 2026 02:00:60 GMT", now=NOW) == 59.0
    assert parse_retry_after("Tue, 24 Nov 2026 02:00:61 GMT", now=NOW) is None


def test_two_digits_are_at_most_fifty_years_ahead() -> None:
    assert parse_retry_after("Tuesday, 24-Nov-76 02:00:00 GMT", now=NOW) == 1_577_923_200.0
    assert parse_retry_after("Tuesday, 24-Nov-77 02:00:00 GMT", now=NOW) is None


@pytest.mark.parametrize(
    "text", ["Tue, 31 Feb 2026 02:00:00 GMT", "Tue, 24 Foo 2026 02:00:00 GMT", DATE + " " * 40 + "x"]
)
def test_what_is_no_date_says_nothing(text: str) -> None:
    assert parse_retry_after(text, now=NOW - 60) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-24T02:00:30Z", 30.0),
        (" 2026-11-24T02:00:30 ", 30.0),
        ("2026-11-24 02:00:30", 30.0),
        ("2026-11-24T04:00:30+02:00", 30.0),
        ("2026-11-24T02:00:30.500000Z", 30.5),
        ("2026-11-24T02:00:00Z", None),
        ("2026-13-24T02:00:30Z", None),
        ("30", None),
        ("1795485630", None),
    ],
)
def test_the_reset_of_a_rate_limit(text: str, seconds: float | None) -> None:
    assert parse_rate_limit_reset(text, now=NOW) == seconds


def test_nothing_says_nothing() -> None:
    assert parse_retry_after(None, now=NOW) is None
    assert parse_rate_limit_reset(None, now=NOW) is None
