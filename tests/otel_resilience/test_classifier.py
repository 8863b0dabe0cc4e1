"""The classifier: ordered rules, extension, groups, and rules that fail themselves."""

from __future__ import annotations

from otel_resilience import (
    BreakerEffect,
    Classification,
    Classifier,
    ErrorClass,
    Severity,
    classify,
    default_classifier,
)

MINE = Classification(ErrorClass.TRANSIENT, Severity.LOW, "mine", BreakerEffect.NEUTRAL)


def test_an_unknown_exception_is_permanent_high_and_flagged() -> None:
    verdict = classify(LookupError("?"))
    assert (verdict.error_class, verdict.severity, verdict.error_type) == (
        ErrorClass.PERMANENT,
        Severity.HIGH,
        "_OTHER",
    )
    assert verdict.unclassified
    assert not verdict.retryable


def test_a_users_rule_comes_before_every_other() -> None:
    mine = default_classifier().extended(lambda error: MINE if isinstance(error, ConnectionResetError) else None)
    assert mine.classify(ConnectionResetError()) is MINE
    assert mine.classify(ConnectionRefusedError()) == classify(ConnectionRefusedError())
    assert classify(ConnectionResetError()) is not MINE


def test_the_rule_added_last_is_asked_first() -> None:
    other = MINE.replace(error_type="other")
    classifier = Classifier().extended(lambda _: MINE).extended(lambda _: other)
    assert classifier.classify(ValueError()).error_type == "other"


def test_a_rule_that_raises_is_skipped_and_the_error_is_still_reported() -> None:
    def broken(error: BaseException) -> Classification | None:
        raise RuntimeError("a bug in the rule")

    assert default_classifier().extended(broken).classify(TimeoutError()) == classify(TimeoutError())


def test_severities_are_ordered() -> None:
    assert Severity.LOW < Severity.MEDIUM < Severity.HIGH < Severity.CRITICAL
    assert max(Severity) is Severity.CRITICAL


def test_a_group_nested_thousands_deep_is_classified() -> None:
    group: Exception = TimeoutError()
    for _ in range(5000):
        group = ExceptionGroup("deeper", [group])
    assert classify(group).error_class is ErrorClass.TRANSIENT
