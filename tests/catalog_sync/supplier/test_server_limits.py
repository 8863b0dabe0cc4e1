"""The pauses that follow from the rate-limit headers of an answer."""

from __future__ import annotations

import pytest

from catalog_sync.supplier import server_limits

NOW = 1_763_949_600.0  # Mon, 24 Nov 2025 02:00:00 GMT
DATE = "Mon, 24 Nov 2025 02:00:00 GMT"


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {"retry-after": "1"}, 1.0),
        (503, {"retry-after": "5"}, 5.0),
        (503, {}, 0.0),
        (500, {"retry-after": "5"}, 0.0),
        (200, {"x-ratelimit-remaining": "3", "x-ratelimit-reset": "2025-11-24T02:01:00Z"}, 0.0),
        (200, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "2025-11-24T02:01:00Z", "date": DATE}, 59.0),
        (200, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "2025-11-24T02:00:01Z", "date": DATE}, 0.0),
        (429, {"x-ratelimit-reset": "2025-11-24T02:00:04Z", "date": DATE}, 4.0),
        (429, {"retry-after": "9", "x-ratelimit-reset": "2025-11-24T02:00:04Z", "date": DATE}, 9.0),
        (429, {"retry-after": "soon", "x-ratelimit-reset": "soon"}, 0.0),
        (429, {"retry-after": "-5"}, 0.0),
        (429, {"x-ratelimit-reset": "2020-01-01T00:00:00Z"}, 0.0),
        (200, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "2099-01-01T00:00:00Z"}, 0.0),
        (429, {"retry-after": "2", "x-ratelimit-reset": "9999-12-31T23:59:59Z"}, 2.0),
        (429, {"retry-after": "9999999999"}, 86_400.0),
        (503, {"retry-after": "Wed, 24 Nov 2027 02:00:00 GMT"}, 86_400.0),
        (200, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "2025-11-25T01:00:00Z", "date": DATE}, 82_799.0),
    ],
)
def test_the_pause_that_an_answer_asks_for(status: int, headers: dict[str, str], seconds: float) -> None:
    assert server_limits.pause(status, headers, NOW) == pytest.approx(seconds)


def test_a_wrong_clock_here_does_not_change_the_pause() -> None:
    headers = {"x-ratelimit-reset": "2025-11-24T02:00:04Z", "date": DATE}

    assert [server_limits.pause(429, headers, NOW + skew) for skew in (-300, 0, 300)] == [4.0, 4.0, 4.0]


@pytest.mark.parametrize(
    ("text", "cost"), [("3", 3), ("0", None), ("-1", None), ("x", None), ("", None), ("9" * 50, None)]
)
def test_the_cost_of_an_endpoint(text: str, cost: int | None) -> None:
    assert server_limits.cost({"x-ratelimit-cost": text}) == cost
