"""Values and rules of a wrong type are refused where they are passed, with the parameter's name."""

from __future__ import annotations

import functools
import logging
import math
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from otel_resilience import (
    BreakerEffect,
    Classification,
    Classifier,
    ErrorClass,
    Policy,
    RetryConfig,
    Severity,
    classify,
    default_classifier,
)
from otel_resilience._internal.once import Once
from otel_resilience.classification import classifier as classifiers
from support.resilience import Script

MINE = Classification(ErrorClass.TRANSIENT, Severity.LOW, "mine")
FIELDS: dict[str, Any] = {"error_class": ErrorClass.TRANSIENT, "severity": Severity.LOW, "error_type": "503"}


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said once in a process is not said yet."""
    monkeypatch.setattr(classifiers, "_broken_rules", Once())


@pytest.mark.fault("L17")
class TestClassification:
    def test_the_text_of_an_enumeration_is_accepted_as_its_member(self) -> None:
        verdict = Classification("throttled", "HIGH", "429", "failure")  # type: ignore[arg-type]
        assert verdict == Classification(ErrorClass.THROTTLED, Severity.HIGH, "429", BreakerEffect.FAILURE)
        assert verdict.counts
        assert verdict.retryable
        assert MINE.replace(breaker="neutral").breaker is BreakerEffect.NEUTRAL

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("error_class", "Transient"),
            ("error_class", None),
            ("error_class", BreakerEffect.FAILURE),
            ("severity", "high"),
            ("severity", 3),
            ("breaker", "no"),
            ("breaker", True),
            ("breaker", ErrorClass.TRANSIENT),
            ("error_type", 503),
            ("error_type", ""),
            ("retry_after", "7"),
            ("retry_after", True),
            ("retry_after", -1),
            ("retry_after", math.nan),
            ("retry_after", 10**400),
            ("max_retries", True),
            ("max_retries", 1.5),
            ("max_retries", -1),
            ("max_retries", "1"),
            ("unsent", None),
            ("unsent", "no"),
            ("unclassified", 1),
            ("idempotent", "yes"),
            ("idempotent", 0),
            ("immediate", "False"),
        ],
    )
    def test_any_other_value_is_refused_with_the_fields_name(self, field: str, value: object) -> None:
        with pytest.raises((TypeError, ValueError), match=f"^{field} must be "):
            Classification(**{**FIELDS, field: value})
        with pytest.raises((TypeError, ValueError), match=f"^{field} must be "):
            MINE.replace(**{field: value})

    def test_the_values_that_a_field_may_have_are_named(self) -> None:
        with pytest.raises(ValueError, match=r"^breaker must be one of 'failure', 'success', 'neutral', not 'no'$"):
            MINE.replace(breaker="no")
        with pytest.raises(TypeError, match=r"^severity must be a member of Severity, not 3$"):
            MINE.replace(severity=3)
        with pytest.raises(TypeError, match=r"^retry_after must be a number of seconds, not '7'$"):
            MINE.replace(retry_after="7")
        with pytest.raises(TypeError, match=r"^unsent must be True or False, not 1$"):
            MINE.replace(unsent=1)

    @pytest.mark.parametrize(
        ("changes", "plain"),
        [
            ({}, True),
            ({"unsent": True, "unclassified": True, "idempotent": True}, True),
            ({"breaker": BreakerEffect.FAILURE, "severity": Severity.CRITICAL}, True),
            ({"error_class": ErrorClass.TRANSIENT_SLOW}, False),
            ({"error_class": ErrorClass.PERMANENT}, False),
            ({"retry_after": 0.0}, False),
            ({"max_retries": 0}, False),
            ({"idempotent": False}, False),
            ({"immediate": True}, False),
        ],
    )
    def test_plain_is_what_is_transient_and_asks_for_nothing_special(
        self, changes: dict[str, Any], plain: bool
    ) -> None:
        assert MINE.replace(**changes).plain is plain

    def test_one_retry_that_is_granted_makes_it_retryable(self) -> None:
        assert [MINE.replace(max_retries=number).retryable for number in (0, 1)] == [False, True]

    def test_a_wait_without_end_can_be_said(self) -> None:
        assert MINE.replace(retry_after=math.inf).retry_after == math.inf


async def async_rule(_: BaseException) -> Classification | None:
    return MINE


class AsyncRule:
    async def __call__(self, _: BaseException) -> Classification | None:
        return MINE


def generator_rule(_: BaseException) -> Iterator[Classification]:
    yield MINE


async def async_generator_rule(_: BaseException) -> AsyncIterator[Classification]:
    yield MINE


NO_RULES: list[Any] = [
    3, "rule", None, MINE, ConnectionError, Classification, async_rule, AsyncRule(), functools.partial(async_rule),
    functools.partial(AsyncRule()), lambda error: async_rule(error),
    generator_rule, async_generator_rule, lambda: MINE, lambda one, two: MINE, lambda *, error: MINE,
]  # fmt: skip


@pytest.mark.fault("L17")
class TestRules:
    @pytest.mark.parametrize("rule", NO_RULES)
    def test_what_is_not_a_rule_is_refused(self, rule: Any) -> None:
        with pytest.raises(TypeError, match=r"^rules\[1\] must "):
            Classifier([lambda _: None, rule])
        with pytest.raises(TypeError, match=r"^rules\[0\] must "):
            default_classifier().extended(rule)

    @pytest.mark.parametrize("rules", [3, None, "rules", lambda _: MINE, {ValueError: MINE}])
    def test_what_is_not_a_series_of_rules_is_refused(self, rules: Any) -> None:
        with pytest.raises(TypeError, match=r"^rules must be "):
            Classifier(rules)

    @pytest.mark.parametrize(
        "by_type", [3, 0, "", [], [ValueError], {"ValueError": MINE}, {ValueError: "transient"}, {int: MINE}]
    )
    def test_what_is_not_a_table_of_verdicts_is_refused(self, by_type: Any) -> None:
        with pytest.raises(TypeError, match=r"^by_type"):
            Classifier((), by_type)

    def test_callables_of_any_kind_are_rules(self) -> None:
        class Rules:
            def __call__(self, _: BaseException) -> Classification | None:
                return MINE

            def method(self, _: BaseException, severity: Severity = Severity.LOW) -> Classification | None:
                return MINE

        for rule in (
            Rules(),
            Rules().method,
            functools.partial(Rules().method, severity=Severity.HIGH),
            lambda *_: MINE,
        ):
            assert Classifier([rule]).classify(ValueError()) is MINE

    @pytest.mark.parametrize("answer", [True, "transient", ErrorClass.TRANSIENT, (MINE,), object()])
    def test_a_rule_that_answers_with_something_else_is_passed_over_and_said_once(
        self, answer: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken_rule(_: BaseException) -> Any:
            return answer

        broken_rule.__qualname__ = f"broken_rule_{answer!r}"
        classifier = default_classifier().extended(broken_rule)
        with caplog.at_level(logging.WARNING, "otel_resilience"):
            assert {classifier.classify(TimeoutError()) for _ in range(5)} == {classify(TimeoutError())}
        (record,) = caplog.records
        assert broken_rule.__qualname__ in record.getMessage()

    def test_what_is_added_comes_before_the_rules_and_keeps_the_table_of_types(self) -> None:
        theirs = MINE.replace(error_type="theirs")
        classifier = Classifier([], {KeyError: theirs}).extended(lambda error: MINE if type(error) is OSError else None)
        assert (classifier.classify(OSError()), classifier.classify(KeyError())) == (MINE, theirs)

    def test_a_rule_that_hides_a_coroutine_leaves_none_unawaited(self) -> None:
        classifier = default_classifier().extended(lambda error: async_rule(error) or None)  # type: ignore[arg-type,return-value]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert classifier.classify(TimeoutError()) == classify(TimeoutError())

    def test_a_rule_that_raises_never_takes_the_place_of_the_users_error(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def raising_rule(_: BaseException) -> Classification | None:
            raise RuntimeError("a bug in the rule")

        policy = Policy("s", retry=RetryConfig(base_delay=0), classifier=default_classifier().extended(raising_rule))
        error = ConnectionResetError()
        script = Script(error)
        with caplog.at_level(logging.WARNING, "otel_resilience"), pytest.raises(ConnectionResetError) as caught:
            policy.execute(script.play)
        assert caught.value is error
        assert script.calls == 3
        messages = [record.getMessage() for record in caplog.records if record.name == "otel_resilience"]
        assert len(messages) == 1


@pytest.mark.parametrize("exception", ["timeout", None, TimeoutError])
def test_what_is_not_an_exception_is_not_classified(exception: Any) -> None:
    with pytest.raises(TypeError, match=r"^exception must be "):
        classify(exception)
    with pytest.raises(TypeError, match=r"^classifier must be "):
        classify(TimeoutError(), default_classifier)  # type: ignore[arg-type]
