"""Merged verdicts on failures that happened together: each field separately, in either order."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from otel_resilience import BreakerEffect, Classification, ErrorClass, Severity
from otel_resilience.classification.model import CANCELLED, badness, merge_verdicts

BASE = Classification(ErrorClass.TRANSIENT, Severity.MEDIUM, "503", BreakerEffect.FAILURE)

WORST_FIRST = (
    ErrorClass.PERMANENT,
    ErrorClass.QUARANTINE,
    ErrorClass.CONTROL,
    ErrorClass.SELF_HEAL,
    ErrorClass.TRANSIENT_SLOW,
    ErrorClass.THROTTLED,
    ErrorClass.LOCAL,
    ErrorClass.TRANSIENT,
)


def merged(*verdicts: Classification) -> Classification:
    """The merger, which is the same in either order."""
    result = merge_verdicts(verdicts)
    assert result is not None
    assert merge_verdicts(verdicts[::-1]) == result
    return result


@pytest.mark.parametrize(("worse", "better"), list(itertools.pairwise(WORST_FIRST)))
def test_the_worse_class_decides_and_brings_its_error_type(worse: ErrorClass, better: ErrorClass) -> None:
    result = merged(BASE.replace(error_class=worse, error_type="w"), BASE.replace(error_class=better, error_type="b"))
    assert (result.error_class, result.error_type) == (worse, "w")


def test_of_equal_classes_the_more_severe_brings_its_error_type() -> None:
    result = merged(
        BASE.replace(severity=Severity.HIGH, error_type="z", breaker=BreakerEffect.SUCCESS),
        BASE.replace(severity=Severity.LOW, error_type="a"),
    )
    assert (result.error_type, result.severity, result.breaker) == ("z", Severity.HIGH, BreakerEffect.FAILURE)


def test_of_equal_severity_the_failure_of_the_breaker_brings_its_error_type_then_the_alphabet() -> None:
    neutral = BASE.replace(breaker=BreakerEffect.NEUTRAL, error_type="a")
    assert merged(BASE.replace(error_type="z"), neutral).error_type == "z"
    assert merged(BASE.replace(error_type="z"), BASE.replace(error_type="a")).error_type == "a"


def test_the_severity_is_the_highest_of_all_even_if_another_class_is_worse() -> None:
    permanent = BASE.replace(error_class=ErrorClass.PERMANENT, severity=Severity.LOW)
    assert merged(permanent, BASE.replace(severity=Severity.CRITICAL)).severity is Severity.CRITICAL


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [("failure", "success", "failure"), ("failure", "neutral", "failure"), ("neutral", "success", "neutral")],
)
def test_the_effect_on_the_breaker_is_the_worst(one: str, other: str, together: str) -> None:
    assert merged(BASE.replace(breaker=one), BASE.replace(breaker=other)).breaker is BreakerEffect(together)


@pytest.mark.parametrize(
    ("field", "one", "other", "together"),
    [
        ("retry_after", 3.0, 7.0, 7.0),
        ("retry_after", None, 3.0, 3.0),
        ("retry_after", None, None, None),
        ("unclassified", True, False, True),
        ("unclassified", False, False, False),
        ("unsent", True, True, False),
        ("max_retries", 1, 4, 1),
        ("max_retries", None, 4, 4),
        ("max_retries", None, None, None),
        ("idempotent", True, True, True),
        ("idempotent", True, None, None),
        ("idempotent", True, False, False),
        ("idempotent", None, False, False),
        ("immediate", True, True, True),
        ("immediate", True, False, False),
    ],
)
def test_every_other_field_is_that_of_the_failure_for_which_it_matters_most(
    field: str, one: Any, other: Any, together: Any
) -> None:
    assert getattr(merged(BASE.replace(**{field: one}), BASE.replace(**{field: other})), field) == together


def test_a_class_that_is_not_retried_allows_none_where_another_is_limited() -> None:
    assert merged(BASE.replace(error_class=ErrorClass.PERMANENT), BASE.replace(max_retries=2)).max_retries == 0


def test_cancellation_counts_only_where_there_is_nothing_else() -> None:
    assert merge_verdicts([]) is None
    assert merge_verdicts([CANCELLED, CANCELLED]) is CANCELLED
    assert merged(CANCELLED, BASE) == BASE


def test_the_worse_verdict_sorts_first() -> None:
    permanent = BASE.replace(error_class=ErrorClass.PERMANENT, severity=Severity.LOW)
    assert sorted([BASE, permanent], key=badness) == [permanent, BASE]
    high, low = BASE.replace(severity=Severity.HIGH), BASE.replace(severity=Severity.LOW)
    assert sorted([low, high], key=badness) == [high, low]
