"""Retry-After at its limits: the longest wait, dates at the edge, the centuries of two digits."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from typing import Any

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
def test_what_is_not_a_date_says_nothing(text: str) -> None:
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


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"value": 5}, "^value must be "),
        ({"value": "5", "date": 5}, "^date must be "),
        ({"value": "5", "now": "5"}, "^now must be a number, not '5'$"),
        ({"value": "5", "now": True}, "^now must be a number, not True$"),
    ],
)
def test_what_is_not_text_or_number_is_refused_by_name(given: dict[str, Any], message: str) -> None:
    for parse in (parse_retry_after, parse_rate_limit_reset):
        with pytest.raises(TypeError, match=message):
            parse(**given)


def test_ten_values_of_a_header_are_looked_at() -> None:
    assert parse_retry_after(", ".join(["1"] * 11 + ["9"])) == 1
    assert parse_retry_after(", ".join(["1"] * 9 + ["9"])) == 9


def test_the_longest_wait_is_given_to_the_second() -> None:
    assert parse_retry_after("2147483647") == 2_147_483_647
    assert parse_retry_after("2147483648.5") == MAX_RETRY_AFTER
    assert parse_retry_after("9" * 10) == MAX_RETRY_AFTER


def test_two_digits_are_of_this_century_where_no_clock_says_otherwise() -> None:
    year = "Tuesday, 24-Nov-{:02} 02:00:00 GMT".format
    assert parse_retry_after(year(70), date="Tue, 24 Nov 2069 02:00:00 GMT") == 365 * 86_400.0
    assert parse_retry_after(year(71), date="Tue, 24 Nov 2069 02:00:00 GMT") is None
    assert parse_retry_after(year(71), date="Tue, 24 Nov 1970 02:00:00 GMT", now=float(2**60)) == 365 * 86_400.0


@pytest.mark.parametrize("name", ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"])
def test_every_month_has_its_number(name: str) -> None:
    month = dt.datetime.strptime(name, "%b").replace(year=2027, tzinfo=dt.UTC)
    assert parse_retry_after(f"Fri, 01 {name} 2027 00:00:00 GMT", now=month.timestamp() - 5) == 5


def test_a_text_that_is_longer_than_any_date_is_not_read() -> None:
    moment = "2026-11-24T02:00:30."
    assert parse_rate_limit_reset(moment.ljust(64, "0"), now=NOW) == 30.0
    assert parse_rate_limit_reset(moment.ljust(65, "0"), now=NOW) is None


def test_nor_is_a_date_with_that_many_spaces() -> None:
    date = "Tue Nov{}24 02:00:30 2026".format
    assert parse_retry_after(date(" " * (64 - len(date("")))), now=NOW) == 30.0
    assert parse_retry_after(date(" " * (65 - len(date("")))), now=NOW) is None


def test_two_digits_in_the_date_of_a_response_are_read_by_the_clock_too() -> None:
    response = "Sunday, 24-Nov-75 02:00:00 GMT"
    assert parse_retry_after("Sun, 24 Nov 2075 02:00:05 GMT", date=response, now=NOW) == 5.0


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine that does not stand at Greenwich."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("in_tokyo")
class TestWhereverTheMachineStands:
    def test_a_time_without_an_offset_is_utc(self) -> None:
        assert parse_rate_limit_reset("2026-11-24T02:00:30", now=NOW) == 30.0

    def test_a_date_of_http_is_utc(self) -> None:
        assert parse_retry_after("Tue Nov 24 02:00:30 2026", now=NOW) == 30.0

    def test_so_is_the_year_that_two_digits_are_compared_with(self) -> None:
        last_evening = dt.datetime(2026, 12, 31, 20, tzinfo=dt.UTC).timestamp()
        assert parse_retry_after("Thursday, 31-Dec-76 20:00:00 GMT", now=last_evening) is not None
        assert parse_retry_after("Friday, 31-Dec-77 20:00:00 GMT", now=last_evening) is None
