"""Backoff: the exact waits for given random fractions."""

from __future__ import annotations

import pytest

from otel_resilience import Jitter
from otel_resilience.retries.backoff import spread


@pytest.mark.parametrize(
    ("jitter", "fraction", "wait"),
    [
        (Jitter.FULL, 0.0, 0.0),
        (Jitter.FULL, 0.5, 4.0),
        (Jitter.EQUAL, 0.0, 4.0),
        (Jitter.EQUAL, 0.5, 6.0),
        (Jitter.DECORRELATED, 0.0, 1.0),
        (Jitter.DECORRELATED, 0.5, 3.5),
        (Jitter.DECORRELATED, 0.99, 5.0),
        (Jitter.NONE, 0.5, 8.0),
    ],
)
def test_the_wait_for_a_fraction(jitter: Jitter, fraction: float, wait: float) -> None:
    assert spread(jitter, 8.0, 1.0, 2.0, 5.0, fraction) == wait
