"""Times as text: one writer and its inverse."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog_sync.domain.times import epoch, parse_rfc3339, rfc3339

NEPAL = datetime.timezone(datetime.timedelta(hours=5, minutes=45))


def test_a_moment_is_written_in_utc_with_milliseconds() -> None:
    moment = datetime.datetime(2026, 11, 24, 7, 45, 0, 123_999, NEPAL)
    assert rfc3339(moment) == "2026-11-24T02:00:00.123Z"
    assert rfc3339(moment.timestamp()) == "2026-11-24T02:00:00.123Z"
    assert rfc3339(moment, timespec="microseconds") == "2026-11-24T02:00:00.123999Z"
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"


@given(st.integers(0, 4_000_000_000_000))
def test_what_is_written_can_be_read(milliseconds: int) -> None:
    text = rfc3339(datetime.datetime.fromtimestamp(0, datetime.UTC) + datetime.timedelta(milliseconds=milliseconds))
    assert round(epoch(text) * 1000) == milliseconds
    assert rfc3339(parse_rfc3339(text)) == text


@pytest.mark.parametrize("text", ["", "soon", "2026-11-24", "2026-11-24T02:00:00", "24.11.2026 02:00Z"])
def test_what_is_not_a_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_rfc3339(text)
