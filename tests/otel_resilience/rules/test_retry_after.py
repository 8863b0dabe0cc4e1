"""How long a server asks us to wait."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_resilience.classification.retry_after import MAX_RETRY_AFTER, parse_rate_limit_reset, parse_retry_after

NOW = datetime(2026, 11, 24, 8, 0, 0, tzinfo=UTC)
MOMENTS = st.integers(31_536_000, 7_258_118_400).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


def imf(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)


def rfc850(moment: datetime) -> str:
    days = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
    return f"{days[moment.weekday()]}, {moment:%d-%b-%y %H:%M:%S} GMT"


def asctime(moment: datetime) -> str:
    return f"{moment:%a %b} {moment.day:2d} {moment:%H:%M:%S %Y}"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", 0.0), ("2", 2.0), (" 120 ", 120.0), ("007", 7.0), ("86400", 86400.0), ("0" * 9000 + "3", 3.0)],
)
def test_whole_seconds(value: str, seconds: float) -> None:
    assert parse_retry_after(value) == seconds


@pytest.mark.parametrize("value", ["1000000000000", "9" * 5000, str(2**31), str(2**63), "9999999999"])
def test_huge_values_are_cut_and_do_not_overflow(value: str) -> None:
    assert parse_retry_after(value) == MAX_RETRY_AFTER
    assert math.isfinite(MAX_RETRY_AFTER)


@pytest.mark.parametrize(
    "value",
    [
        None, "", " ", "-5", "+5", ".5", "1.", "1.5.2", "1e3", "soon", "٣", "²", "inf", "nan", "5 s", ",",
        "0x10", "a, b",
        "Mon, 32 Nov 2026 08:00:03 GMT", "Tue, 24 Foo 2026 08:00:03 GMT", "Tue, 24 Nov 2026 25:00:03 GMT",
        "Tue, 24 Nov 2026", "2026-11-24T08:00:03Z", "Tue, 24 Nov 0000 08:00:03 GMT",
    ],
)  # fmt: skip
def test_garbage_is_not_a_hint(value: str | None) -> None:
    assert parse_retry_after(value, now=NOW.timestamp()) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("1.5", 1.5), ("0.0", 0.0), ("0001.25", 1.25), ("9" * 11 + ".5", MAX_RETRY_AFTER)],
)
def test_fractions_of_seconds(value: str, seconds: float) -> None:
    assert parse_retry_after(value) == seconds


@pytest.mark.fault("L22")
def test_of_a_header_that_was_sent_more_than_once_the_longest_wait_holds() -> None:
    in_90, in_30 = (imf(NOW + timedelta(seconds=seconds)) for seconds in (90, 30))
    now = NOW.timestamp()
    assert parse_retry_after("5, 120") == 120
    assert parse_retry_after("120 ,5,soon") == 120
    assert parse_retry_after(f"{in_90}, {in_30}", now=now) == 90
    assert parse_retry_after(f"5, {in_30}", now=now) == 30
    assert parse_retry_after(f"{in_30}, 60.5", now=now) == 60.5
    assert parse_retry_after(f"{rfc850(NOW + timedelta(seconds=40))}, {in_30}", now=now) == 40


@pytest.mark.parametrize("form", [imf, rfc850, asctime])
def test_all_three_date_formats_of_http(form: object) -> None:
    assert callable(form)
    assert parse_retry_after(form(NOW + timedelta(seconds=90)), now=NOW.timestamp()) == 90
    assert parse_retry_after(form(NOW + timedelta(seconds=90)), date=form(NOW)) == 90


def test_the_examples_of_rfc_9110_are_one_moment() -> None:
    now = datetime(1994, 11, 6, 8, 49, 0, tzinfo=UTC).timestamp()
    for text in ("Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"):
        assert parse_retry_after(text, now=now) == 37


def test_a_two_digit_year_more_than_fifty_years_ahead_is_past() -> None:
    assert parse_retry_after("Sunday, 06-Nov-94 08:49:37 GMT", now=NOW.timestamp()) is None


def test_a_leap_second_is_read() -> None:
    assert parse_retry_after("Tue, 24 Nov 2026 08:00:60 GMT", now=NOW.timestamp()) == 59


@pytest.mark.parametrize("offset", [0, -1, -3600])
def test_a_date_that_is_not_in_the_future_is_not_a_hint(offset: int) -> None:
    assert parse_retry_after(imf(NOW + timedelta(seconds=offset)), now=NOW.timestamp()) is None


def test_a_date_needs_something_to_compare_it_with() -> None:
    assert parse_retry_after(imf(NOW)) is None
    assert parse_retry_after(imf(NOW), date="yesterday") is None
    assert parse_retry_after(imf(NOW), now=math.nan) is None


def test_an_unreadable_date_header_leaves_the_wall_clock() -> None:
    assert parse_retry_after(imf(NOW + timedelta(seconds=5)), date="garbage", now=NOW.timestamp()) == 5


@given(MOMENTS, st.integers(1, 10**6), st.floats(allow_nan=True, allow_infinity=True) | st.none())
@pytest.mark.fault("F18")
def test_a_wrong_local_clock_does_no_harm(server_now: datetime, wait: int, local_now: float | None) -> None:
    target = imf(server_now + timedelta(seconds=wait))
    assert parse_retry_after(target, date=imf(server_now), now=local_now) == wait


@given(
    st.text() | st.from_regex(r"[A-Za-z]{3,9}, \d{1,2}[- ][A-Za-z]{3}[- ]\d{2,4} \d\d:\d\d:\d\d GMT"),
    st.none() | st.text(),
    st.none() | st.floats(),
)
def test_never_raises_and_is_never_negative(value: str, date: str | None, now: float | None) -> None:
    for parse in (parse_retry_after, parse_rate_limit_reset):
        seconds = parse(value, date=date, now=now)
        assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER


@given(MOMENTS, st.integers(1, 10**6))
def test_an_iso_reset_is_read_like_a_date(server_now: datetime, wait: int) -> None:
    reset = server_now + timedelta(seconds=wait)
    for text in (reset.isoformat(), reset.isoformat().replace("+00:00", "Z"), reset.replace(tzinfo=None).isoformat()):
        assert parse_rate_limit_reset(text, date=imf(server_now), now=0) == wait


@pytest.mark.parametrize("value", [None, "", "5", "1795507203", "20261124", "2026-13-01T00:00:00Z", "tomorrow"])
def test_a_reset_that_is_not_a_moment_is_not_a_hint(value: str | None) -> None:
    assert parse_rate_limit_reset(value, now=NOW.timestamp()) is None


def test_a_reset_in_the_past_is_not_a_hint() -> None:
    assert parse_rate_limit_reset("2026-11-24T07:59:59Z", now=NOW.timestamp()) is None
