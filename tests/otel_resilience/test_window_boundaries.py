"""The sliding window at the edges of its buckets."""

from __future__ import annotations

import pytest

from otel_resilience.circuitbreaker.window import SlidingWindow

PERIOD = 20.0


def test_the_window_says_which_period_it_covers() -> None:
    assert SlidingWindow(PERIOD).period == PERIOD


def test_no_success_is_counted_alone_before_the_window_was_rolled() -> None:
    assert SlidingWindow(PERIOD).bucket_end < 0


@pytest.mark.parametrize(("now", "end"), [(0.0, 2.0), (1.9, 2.0), (2.0, 4.0), (7.0, 8.0)])
def test_successes_may_be_counted_alone_until_the_bucket_ends(now: float, end: float) -> None:
    window = SlidingWindow(PERIOD)
    window.roll(now)
    assert window.bucket_end == end


def test_results_around_the_zero_of_the_clock_stand_in_buckets_of_their_own() -> None:
    window = SlidingWindow(PERIOD)
    window.fail(-0.5)
    window.fail(0.5)
    window.roll(18.5)
    assert window.failures == 1


def test_the_first_bucket_of_the_clock_is_as_any_other() -> None:
    window = SlidingWindow(PERIOD)
    window.fail(0.5)
    window.roll(2.5)
    assert window.failures == 1
    window.roll(20.0)
    assert window.failures == 0


def test_several_slow_calls_of_one_bucket_expire_together() -> None:
    window = SlidingWindow(PERIOD)
    for _ in range(3):
        window.slow_call(1.0)
    assert window.slow == 3
    window.roll(20.0)
    assert window.slow == 0


@pytest.mark.parametrize("newest_first", [False, True])
def test_a_bucket_that_is_a_whole_window_old_is_not_taken_over(newest_first: bool) -> None:
    buckets = [[20, 9, 9, 9], [21, 1, 2, 0], [30, 5, 1, 1]]
    window = SlidingWindow(PERIOD)
    window.load(buckets[::-1] if newest_first else buckets)
    assert (window.successes, window.failures, window.slow) == (6, 3, 1)
