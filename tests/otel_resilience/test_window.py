"""The sliding window counts what happened within its period, to the nearest tenth of it."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from otel_resilience.circuitbreaker.window import BUCKETS, SlidingWindow

PERIOD = 10.0
WIDTH = PERIOD / BUCKETS

steps = st.lists(
    st.tuples(st.sampled_from(["success", "failure", "slow success"]), st.integers(0, 60).map(lambda n: n / 4)),
    max_size=60,
)


def alive(at: float, now: float) -> bool:
    """A bucket expires when its start is a period or more in the past."""
    start = at // WIDTH * WIDTH
    return now - start < PERIOD


@given(steps, st.integers(0, 10**9).map(lambda n: n / 4))
def test_counts_equal_those_of_a_naive_list(script: list[tuple[str, float]], start: float) -> None:
    window = SlidingWindow(PERIOD)
    happened: list[tuple[str, float]] = []
    now = start
    for kind, pause in script:
        now += pause
        if kind == "failure":
            window.fail(now)
        else:
            window.roll(now)
            window.succeed()
            if kind == "slow success":
                window.slow_call(now)
        happened.append((kind, now))
        window.roll(now)
        living = [kind for kind, at in happened if alive(at, now)]
        assert window.failures == living.count("failure")
        assert window.successes == len(living) - living.count("failure")
        assert window.slow == living.count("slow success")
        assert window.calls == len(living)


@given(steps)
def test_total_successes_never_expire(script: list[tuple[str, float]]) -> None:
    window = SlidingWindow(PERIOD)
    now, expected = 0.0, 0
    for kind, pause in script:
        now += pause
        window.roll(now)
        if kind == "failure":
            window.fail(now)
        else:
            window.succeed()
            expected += 1
        assert window.total_successes() == expected
        assert window.total_successes() == expected  # reading counts nothing


def test_a_clock_that_steps_back_loses_nothing() -> None:
    window = SlidingWindow(PERIOD)
    window.fail(100.0)
    window.roll(95.0)
    assert window.failures == 1
    window.fail(95.0)
    window.roll(100.0)
    assert window.failures == 2


def test_reset_forgets_everything() -> None:
    window = SlidingWindow(PERIOD)
    window.fail(1.0)
    window.succeed()
    window.slow_call(1.0)
    window.reset()
    window.roll(1.0)
    assert (window.calls, window.failures, window.slow, window.total_successes()) == (0, 0, 0, 0)


def test_memory_is_constant() -> None:
    window = SlidingWindow(PERIOD)
    for second in range(1000):
        window.fail(float(second))
    assert len(window._failures) == len(window._successes) == len(window._slow) == BUCKETS


def test_successes_of_many_threads_are_all_counted() -> None:
    window = SlidingWindow(PERIOD)
    window.roll(1.0)

    def work() -> None:
        for _ in range(2000):
            window.succeed()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    window.roll(1.0)
    assert window.successes == 8000
