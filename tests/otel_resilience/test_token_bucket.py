"""The token bucket of a retry budget: every movement, and the sizes that it accepts."""

from __future__ import annotations

import dataclasses

import pytest

from otel_resilience import RetryBudgetConfig
from otel_resilience.retries.bucket import TokenBucket

CONFIG = RetryBudgetConfig(capacity=100.0, refill_rate=0.5)


def bucket(tokens: float) -> TokenBucket:
    """A bucket at time 0 that holds that much."""
    made = TokenBucket(CONFIG, 0.0)
    assert made.take(100.0 - tokens, 0.0)
    return made


def test_taking_first_adds_what_accrued() -> None:
    held = bucket(1.0)
    assert held.take(1.25, 0.5)
    assert held.tokens == 0.0
    assert held.take(5.0, 10.5)
    assert held.tokens == 0.0


def test_what_does_not_suffice_stays_and_what_accrued_with_it() -> None:
    held = bucket(1.0)
    assert not held.take(5.0, 4.0)
    assert held.tokens == 3.0


def test_taking_never_finds_more_than_the_capacity() -> None:
    held = bucket(90.0)
    assert held.take(10.0, 1000.0)
    assert held.tokens == 90.0


def test_a_clock_that_steps_back_adds_and_takes_nothing() -> None:
    held = bucket(50.0)
    assert held.take(0.0, 10.0)
    assert held.take(0.0, 4.0)
    assert held.tokens == 55.0
    held.refill(2.0)
    assert held.tokens == 55.0


def test_a_part_of_a_second_refills_a_part_of_a_token() -> None:
    held = bucket(50.0)
    held.refill(0.5)
    assert held.tokens == 50.25
    held.refill(1000.0)
    assert held.tokens == 100.0


def test_giving_back_says_whether_the_bucket_is_full() -> None:
    held = bucket(50.0)
    assert not held.give(49.0)
    assert held.tokens == 99.0
    assert held.give(1.0)
    assert held.give(1.0)
    assert held.tokens == 100.0


def test_a_balance_found_elsewhere_is_kept_within_the_bucket_and_accrues_from_then_on() -> None:
    held = bucket(50.0)
    assert not held.set(20.0, 10.0)
    held.refill(12.0)
    assert held.tokens == 21.0
    assert not held.set(-3.0, 12.0)
    assert held.tokens == 0.0
    assert held.set(500.0, 12.0)
    assert held.tokens == 100.0
    assert held.set(100.0, 12.0)


def test_what_is_added_to_the_capacity_is_full() -> None:
    held = bucket(50.0)
    held.enlarge(120.0)
    assert held.tokens == 70.0
    assert held.give(50.0)
    assert held.tokens == 120.0


def test_the_price_of_retries_is_that_of_the_dearest_error() -> None:
    assert CONFIG.price(3) == 30.0
    assert dataclasses.replace(CONFIG, throttle_cost=20.0).price(2) == 40.0


@pytest.mark.parametrize("name", ["transient_cost", "throttle_cost", "success_credit", "refill_rate"])
def test_every_size_may_be_as_large_as_the_capacity_and_no_larger(name: str) -> None:
    sizes = {"capacity": 100.0, name: 100.0}
    assert getattr(RetryBudgetConfig(**sizes), name) == 100.0
    least = "greater than 0" if name.endswith("cost") else "at least 0"
    with pytest.raises(ValueError, match=f"{name} must be {least} and at most 100, the capacity, not 101"):
        RetryBudgetConfig(**{**sizes, name: 101.0})


@pytest.mark.parametrize("name", ["transient_cost", "throttle_cost"])
def test_a_retry_that_costs_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        RetryBudgetConfig(**{name: 0.0})


@pytest.mark.parametrize("name", ["success_credit", "refill_rate"])
def test_credit_and_refill_may_be_off(name: str) -> None:
    assert getattr(RetryBudgetConfig(**{name: 0.0}), name) == 0.0
