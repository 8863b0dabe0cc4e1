"""The classifier: ordered rules, extension, groups, and rules that fail themselves."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from otel_resilience import (
    BreakerEffect,
    Classification,
    Classifier,
    ErrorClass,
    Severity,
    classify,
    default_classifier,
)

OURS = "otel_resilience"
NO_VERDICT = "returned builtins.str, which is neither a Classification nor None"
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


class Unhashable(type):
    """A metaclass whose classes cannot be keys of a dictionary."""

    def __hash__(cls) -> int:
        raise TypeError("no hash")


class TestTheTableOfTypes:
    def test_it_is_asked_before_the_rules_and_only_for_the_exact_type(self) -> None:
        class Narrower(ConnectionResetError):  # noqa: N818  # a name of the tests
            pass

        other = MINE.replace(error_type="other")
        classifier = Classifier([lambda _: other], {ConnectionResetError: MINE})
        assert classifier.classify(ConnectionResetError()) is MINE
        assert classifier.classify(Narrower()) is other

    def test_an_exception_of_a_type_in_it_is_not_looked_at(self) -> None:
        looked_at: list[str] = []

        class Watched(Exception):  # noqa: N818  # a name of the tests
            def __getattr__(self, name: str) -> Any:
                looked_at.append(name)
                raise AttributeError(name)

        assert Classifier([], {Watched: MINE}).classify(Watched()) is MINE
        assert looked_at == []

    def test_but_the_request_that_its_cause_shows_counts(self) -> None:
        cause, error = ConnectionResetError(), ConnectionResetError()
        cause.method = "POST"  # type: ignore[attr-defined]
        error.__cause__ = cause
        classifier = Classifier([], {ConnectionResetError: MINE})
        assert classifier.classify(error) == MINE.replace(idempotent=False)


class TestRequestsAlongTheCauses:
    """An exception and its causes, each of which may show a request."""

    @staticmethod
    def chain(*methods: str | None) -> BaseException:
        error: BaseException | None = None
        for method in reversed(methods):
            cause, error = error, ConnectionResetError()
            error.__cause__ = cause
            if method is not None:
                error.method = method  # type: ignore[attr-defined]
        assert error is not None
        return error

    @pytest.mark.parametrize(
        ("methods", "idempotent"),
        [
            (("GET", None), True),
            ((None, "PUT"), True),
            (("GET", "PUT", None), True),
            (("GET", "POST"), False),
            (("POST", "GET"), False),
            ((None, None, "POST"), False),
            ((None, None), None),
        ],
    )
    def test_all_must_be_repeatable(self, methods: tuple[str | None, ...], idempotent: bool | None) -> None:
        verdict = Classifier([], {ConnectionResetError: MINE}).classify(self.chain(*methods))
        assert verdict == MINE.replace(idempotent=idempotent)

    @pytest.mark.parametrize("idempotent", [True, False])
    def test_do_not_change_what_the_rule_for_a_cause_says(self, idempotent: bool) -> None:
        verdict = MINE.replace(idempotent=idempotent)
        classifier = Classifier([lambda error: verdict if isinstance(error, ConnectionResetError) else None])
        wrapper = LookupError()
        wrapper.__cause__ = self.chain("POST" if idempotent else "GET")
        assert classifier.classify(wrapper) is verdict


class TestARuleThatIsBroken:
    def test_is_skipped_and_the_next_one_is_asked(self) -> None:
        def broken(error: BaseException) -> Classification | None:
            raise RuntimeError("a bug in the rule")

        assert Classifier([broken, lambda _: MINE]).classify(ValueError()) is MINE

    @pytest.mark.usefixtures("nothing_logged_yet")
    def test_is_named_in_the_log_once_for_each_problem(self, caplog: pytest.LogCaptureFixture) -> None:
        def raises(error: BaseException) -> Classification | None:
            raise error

        class Answers:
            def __call__(self, error: BaseException) -> Any:
                return "transient"

        classifier = Classifier([raises, Answers()])
        with caplog.at_level(logging.WARNING, OURS):
            for error in (ValueError("secret"), OSError(), ValueError()):
                classifier.classify(error)
        rules = [message for message in caplog.messages if "classification rule" in message]
        assert len(rules) == 3
        assert set(rules) == {
            f"the classification rule {raises.__qualname__} failed with builtins.ValueError; it is skipped",
            f"the classification rule {raises.__qualname__} failed with builtins.OSError; it is skipped",
            f"the classification rule {__name__}.{Answers.__qualname__} {NO_VERDICT}; it is skipped",
        }


def test_an_exception_that_carries_its_verdict_has_that_one_unless_a_rule_knows_it() -> None:
    class Described(Exception):  # noqa: N818  # a name of the tests
        classification = MINE

    other = MINE.replace(error_type="other")
    assert Classifier([lambda _: None]).classify(Described()) is MINE
    assert Classifier([lambda _: other]).classify(Described()) is other


class TestControlFlow:
    def test_behind_an_error_is_not_handed_to_a_rule(self) -> None:
        asked: list[BaseException] = []
        error = ValueError("interrupted")
        error.__cause__ = KeyboardInterrupt()
        Classifier([asked.append]).classify(error)
        assert asked == [error]

    def test_in_a_group_makes_the_group_control_flow(self) -> None:
        group = BaseExceptionGroup("both", [ConnectionResetError(), KeyboardInterrupt()])
        assert classify(group).error_class is ErrorClass.CANCELLED


def test_a_verdict_of_its_own_that_is_none_does_not_hide_that_on_its_cause() -> None:
    error = ValueError("mine")
    error.classification = "transient"  # type: ignore[attr-defined]
    error.__cause__ = ConnectionResetError()
    assert classify(error) == classify(ConnectionResetError())


@pytest.mark.usefixtures("nothing_logged_yet")
def test_what_cannot_be_looked_at_is_unknown_and_the_log_says_so_once_per_class(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class One(Exception, metaclass=Unhashable):  # noqa: N818  # a name of the tests
        pass

    class Two(Exception, metaclass=Unhashable):  # noqa: N818  # a name of the tests
        pass

    with caplog.at_level(logging.WARNING, OURS):
        assert all(classify(error()).unclassified for error in (One, Two, One))
    assert [record.getMessage() for record in caplog.records] == [
        f"an exception of class {__name__}.{kind.__qualname__} could not be classified: builtins.TypeError"
        for kind in (One, Two)
    ]


@pytest.mark.usefixtures("nothing_logged_yet")
class TestTheLogOfWhatNoRuleKnows:
    def test_says_what_follows_and_how_to_add_a_rule(self, caplog: pytest.LogCaptureFixture) -> None:
        class UnheardOf(Exception):  # noqa: N818  # a name of the tests
            pass

        with caplog.at_level(logging.WARNING, OURS):
            classify(UnheardOf("secret"))
        (message,) = caplog.messages
        assert message == (
            f"no rule classifies {__name__}.{UnheardOf.__qualname__}, so it is permanent and counts as a failure of "
            "its dependency. Add a rule: default_classifier().extended(lambda error: Classification(...) "
            "if isinstance(error, UnheardOf) else None), or give the class an attribute 'classification'."
        )

    def test_has_a_line_for_each_class(self, caplog: pytest.LogCaptureFixture) -> None:
        kinds = [type(f"Unheard{number}", (Exception,), {}) for number in range(5)]
        with caplog.at_level(logging.WARNING, OURS):
            for kind in kinds * 2:
                classify(kind())
        assert [message.split(",")[0].rpartition(".")[2] for message in caplog.messages] == [
            kind.__name__ for kind in kinds
        ]

    def test_has_three_lines_for_classes_of_one_name(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING, OURS):
            for _ in range(5):
                classify(type("MadeForEachClient", (Exception,), {})())
        assert len(caplog.messages) == 3


class TestAGroupThatIsACauseWithinItself:
    def test_says_nothing_of_its_members(self) -> None:
        error = KeyError("price")
        error.__cause__ = ExceptionGroup("itself", [error])
        assert classify(error.__cause__) == classify(KeyError("price"))

    def test_of_many_members_is_looked_at_once(self) -> None:
        errors = [KeyError(number) for number in range(10)]
        group = ExceptionGroup("itself", errors)
        for error in errors:
            error.__cause__ = group
        assert classify(group) == classify(KeyError("price"))

    @pytest.mark.parametrize(("depth", "seen"), [(19, True), (20, False), (2000, False)])
    def test_causes_are_followed_through_twenty_groups(self, depth: int, seen: bool) -> None:
        group = ExceptionGroup("innermost", [ConnectionResetError()])
        for _ in range(depth):
            wrapper = KeyError("wrapper")
            wrapper.__cause__ = group
            group = ExceptionGroup("around it", [wrapper])  # type: ignore[list-item]
        assert classify(group) == classify(ConnectionResetError() if seen else KeyError("wrapper"))
