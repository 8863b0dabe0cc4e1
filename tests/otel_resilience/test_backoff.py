"""Backoff: within its bounds for every jitter, capped, and safe from overflow."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from otel_resilience import BreakerEffect, Classification, ErrorClass, Jitter, RetryConfig, Severity
from otel_resilience.retries.backoff import ceiling, spread

bases = st.floats(min_value=0, max_value=1e6, allow_nan=False)
exponents = st.floats(min_value=1, max_value=1e6)
caps = st.floats(min_value=0, max_value=1e9)
retries = st.integers(0, 10**6)
fractions = st.floats(min_value=0, max_value=1, exclude_max=True)

TRANSIENT = Classification(ErrorClass.TRANSIENT, Severity.MEDIUM, "503", BreakerEffect.FAILURE)
THROTTLED = Classification(ErrorClass.THROTTLED, Severity.LOW, "429")
SLOW = Classification(ErrorClass.TRANSIENT_SLOW, Severity.HIGH, "redis_loading")


@given(bases, exponents, retries, caps)
@example(base=5e-324, exponent=2.0, retry=2000, cap=20.0)
@example(base=0.05, exponent=2.0, retry=10**6, cap=20.0)
@example(base=1.0, exponent=1.0, retry=10**6, cap=20.0)
def test_the_ceiling_is_capped_and_never_overflows(base: float, exponent: float, retry: int, cap: float) -> None:
    longest = ceiling(base, exponent, retry, cap)
    assert 0 <= longest <= cap
    assert math.isfinite(longest)


@given(bases, exponents, st.integers(0, 500), caps)
def test_the_ceiling_never_shrinks(base: float, exponent: float, retry: int, cap: float) -> None:
    assert ceiling(base, exponent, retry + 1, cap) >= ceiling(base, exponent, retry, cap) * (1 - 1e-12)


@given(st.integers(0, 20))
def test_the_ceiling_grows_by_the_exponential_base(retry: int) -> None:
    assert ceiling(0.05, 2.0, retry, 1e9) == pytest.approx(0.05 * 2**retry)


@given(st.floats(0, 1e6), fractions)
def test_full_jitter_lies_between_zero_and_the_ceiling(longest: float, fraction: float) -> None:
    assert 0 <= spread(Jitter.FULL, longest, 0.05, 0.0, 1e9, fraction) <= longest


@given(st.floats(0, 1e6), fractions)
def test_equal_jitter_lies_in_the_upper_half(longest: float, fraction: float) -> None:
    assert longest / 2 <= spread(Jitter.EQUAL, longest, 0.05, 0.0, 1e9, fraction) <= longest


@given(st.floats(0, 1e3), st.floats(0, 1e6), st.floats(0, 1e6), fractions)
def test_decorrelated_jitter_lies_between_the_base_and_three_times_the_last_wait(
    base: float, previous: float, cap: float, fraction: float
) -> None:
    wait = spread(Jitter.DECORRELATED, 0.0, base, previous, cap, fraction)
    assert min(base, cap) * (1 - 1e-12) <= wait <= min(cap, 3 * max(previous, base)) * (1 + 1e-12)


@given(st.floats(0, 1e6), fractions)
def test_no_jitter_is_the_ceiling_itself(longest: float, fraction: float) -> None:
    assert spread(Jitter.NONE, longest, 0.05, 0.0, 1e9, fraction) == longest


def test_full_jitter_is_spread_over_its_whole_range() -> None:
    rng = random.Random(1)
    waits = [spread(Jitter.FULL, 1.0, 0.05, 0.0, 20.0, rng.random()) for _ in range(2000)]
    assert [sum(low <= wait < low + 0.25 for wait in waits) for low in (0, 0.25, 0.5, 0.75)] == pytest.approx(
        [500] * 4, rel=0.15
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, Jitter.FULL),
        (False, Jitter.NONE),
        ("full", Jitter.FULL),
        ("equal", Jitter.EQUAL),
        (Jitter.NONE, Jitter.NONE),
    ],
)
def test_jitter_reads_names_and_bools(value: object, expected: Jitter) -> None:
    assert Jitter.of(value) is expected  # type: ignore[arg-type]


def test_an_unknown_jitter_is_refused_with_the_names_that_exist() -> None:
    with pytest.raises(ValueError, match="jitter must be one of full, equal, decorrelated, none or a bool, not 'some'"):
        Jitter.of("some")


@given(
    st.sampled_from([TRANSIENT, THROTTLED, SLOW]),
    st.sampled_from(list(Jitter)),
    st.integers(0, 2000),
    st.floats(0, 100),
    fractions,
    st.none() | st.floats(0, 1e12),
)
def test_the_servers_hint_is_a_lower_bound_of_every_delay(
    verdict: Classification, jitter: Jitter, retry: int, previous: float, fraction: float, hint: float | None
) -> None:
    config = RetryConfig(jitter=jitter)
    delay = config.delay(verdict.replace(retry_after=hint), retry, previous, lambda: fraction)
    assert delay >= min(hint or 0.0, 2.0**31)
    assert delay <= max(config.max_delay, hint or 0.0)


def test_each_class_starts_from_its_own_base() -> None:
    config = RetryConfig(jitter="none")
    assert [config.delay(TRANSIENT, retry, 0, random.random) for retry in range(3)] == [0.05, 0.1, 0.2]
    assert [config.delay(THROTTLED, retry, 0, random.random) for retry in range(3)] == [1, 2, 4]
    assert [config.delay(SLOW, retry, 0, random.random) for retry in range(3)] == [5, 10, 20]


def test_a_slowly_healing_error_never_waits_less_than_its_base() -> None:
    assert RetryConfig().delay(SLOW, 0, 0.0, lambda: 0.0) == 5.0


def test_a_base_of_zero_waits_only_where_the_server_asks() -> None:
    config = RetryConfig(base_delay=0.0)
    assert config.delay(TRANSIENT, 5, 0.0, lambda: 0.9) == 0.0
    assert config.delay(TRANSIENT.replace(retry_after=3.0), 5, 0.0, lambda: 0.9) == 3.0
