"""The causes of an exception: the nearest cause or context that a rule knows, and the members of groups."""

from __future__ import annotations

from typing import Any

import pytest

from otel_resilience import BreakerEffect, Classification, ErrorClass, Severity
from otel_resilience.classification import Rule
from otel_resilience.classification.causes import by_class_name, judged_behind, message_of, nearest_verdict

SLOW = Classification(ErrorClass.TRANSIENT_SLOW, Severity.MEDIUM, "slow", BreakerEffect.FAILURE)
FINAL = Classification(ErrorClass.PERMANENT, Severity.HIGH, "final", BreakerEffect.FAILURE)
KNOWN = {"slow": SLOW, "final": FINAL}
LONGEST = 200


def judge(exception: BaseException) -> Classification | None:
    """Knows an error by its text."""
    return KNOWN.get(message_of(exception))


def error(
    text: str,
    cause: BaseException | None = None,
    context: BaseException | None = None,
    kind: type[Exception] = ValueError,
) -> Exception:
    made = kind(text)
    made.__cause__, made.__context__ = cause, context
    return made


def chain(length: int, last: BaseException) -> BaseException:
    """``length`` exceptions that nobody knows, each the cause of the one before, and ``last`` behind them."""
    for _ in range(length):
        last = error("?", last)
    return last


def of_package(package: str) -> type[Exception]:
    return type("Error", (Exception,), {"__module__": f"{package}.errors"})


@pytest.mark.parametrize(
    ("behind", "expected"),
    [
        ({}, None),
        ({"cause": error("?")}, None),
        ({"cause": error("slow")}, SLOW),
        ({"context": error("slow")}, SLOW),
        ({"cause": error("slow"), "context": error("final")}, SLOW),
        ({"cause": error("?"), "context": error("final")}, FINAL),
        ({"cause": error("?", error("?", error("slow")))}, SLOW),
        ({"cause": error("?", context=error("slow")), "context": error("final")}, SLOW),
        ({"cause": error("?", error("?")), "context": error("?", error("final"))}, FINAL),
    ],
)
def test_the_nearest_known_one_decides_and_a_cause_comes_before_a_context(
    behind: dict[str, Any], expected: Classification | None
) -> None:
    assert nearest_verdict(error("final", **behind), judge) is expected


def test_an_earlier_failure_of_the_same_package_is_not_looked_at_unless_it_is_the_cause() -> None:
    ours, others = of_package("client"), of_package("transport")
    earlier = error("final", kind=ours)
    assert nearest_verdict(error("?", context=earlier, kind=ours), judge) is None
    assert nearest_verdict(error("?", context=earlier, kind=others), judge) is FINAL
    assert nearest_verdict(error("?", cause=earlier, context=earlier, kind=ours), judge) is FINAL
    behind = error("?", context=earlier, kind=others)
    assert nearest_verdict(error("?", cause=behind, kind=ours), judge) is None


def test_a_circle_ends_and_what_stands_beside_it_is_found() -> None:
    start = error("slow")
    start.__cause__ = error("?", start)
    assert nearest_verdict(start, judge) is None
    middle = error("?", context=error("final"))
    start.__cause__, middle.__cause__ = middle, start
    assert nearest_verdict(start, judge) is FINAL


def test_a_chain_is_searched_to_its_bound() -> None:
    assert nearest_verdict(chain(LONGEST - 1, error("slow")), judge) is SLOW
    assert nearest_verdict(chain(LONGEST, error("slow")), judge) is None


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([error("slow"), error("?"), error("slow")], SLOW),
        ([error("?"), error("slow"), error("final")], FINAL),
        ([error("?", error("slow")), error("?", error("final"))], FINAL),
        ([error("slow"), ExceptionGroup("inner", [error("final")])], FINAL),
        ([error("?"), error("?")], None),
    ],
)
def test_the_verdicts_on_the_members_of_a_group_are_merged(
    members: list[Exception], expected: Classification | None
) -> None:
    verdict = nearest_verdict(error("?", ExceptionGroup("several", members)), judge)
    assert (verdict and verdict.error_class) is (expected and expected.error_class)


def test_a_member_counts_once_and_the_others_still_count() -> None:
    seen: list[str] = []

    def noting(exception: BaseException) -> Classification | None:
        seen.append(message_of(exception))
        return judge(exception)

    twice = error("slow")
    nearest_verdict(error("?", ExceptionGroup("several", [twice, twice, error("final")])), noting)
    assert seen == ["slow", "final"]


def test_members_end_at_the_bound_as_well() -> None:
    seen: list[BaseException] = []
    nearest_verdict(error("?", ExceptionGroup("many", [error("?") for _ in range(2 * LONGEST)])), seen.append)
    assert len(seen) == LONGEST - 2  # the exception itself and the group are among those that are looked at


def test_a_member_that_leads_back_to_its_group_ends() -> None:
    first, second = error("?"), error("final")
    group = ExceptionGroup("several", [first, second])
    first.__cause__ = second
    second.__context__ = first
    verdict = nearest_verdict(error("?", group), judge)
    assert verdict is not None
    assert verdict.error_class is ErrorClass.PERMANENT


def test_a_class_is_known_by_its_name_and_a_subclass_by_its_nearest_base() -> None:
    base = of_package("client")
    near = type("Near", (base,), {"__module__": "client.errors"})
    own = type("Own", (near,), {"__module__": "mine"})
    rule = by_class_name({"client.errors": {"Error": SLOW, "Near": FINAL}})
    assert (rule(base()), rule(near()), rule(own()), rule(ValueError())) == (SLOW, FINAL, FINAL, None)


class Text(str):
    __slots__ = ()


def test_a_rule_can_judge_the_exceptions_of_a_class_anew_each_time() -> None:
    base = of_package("client")
    table: dict[str, dict[str, Classification | Rule]] = {
        "client.errors": {"Error": lambda each: SLOW if message_of(each) == "slow" else None},
        "client.pool": {},
    }
    rule = by_class_name(table)
    assert (rule(base("slow")), rule(base("final")), rule(base("slow"))) == (SLOW, None, SLOW)
    assert rule.__qualname__ == "by_class_name(client.errors, client.pool)", "by which it is named where it fails"


def test_what_lies_behind_is_judged_or_else_the_default_holds() -> None:
    rule = judged_behind(judge, SLOW)
    assert (rule(error("?", cause=error("final"))), rule(error("final"))) == (FINAL, SLOW)


@pytest.mark.parametrize(("argument", "expected"), [(0, FINAL), (-1, SLOW)])
def test_what_an_exception_wraps_comes_before_what_lies_behind_it(argument: int, expected: Classification) -> None:
    wrapping = ValueError(error("final"), "text", error("slow"))
    default = Classification(ErrorClass.LOCAL, Severity.LOW, "default")
    rule = judged_behind(judge, default, argument=argument)
    wrapping.__cause__ = error("slow" if expected is FINAL else "final")
    assert rule(wrapping) is expected
    for each in (ValueError(), ValueError("text"), ValueError(error("?"))):
        assert rule(each) is default
        each.__cause__ = error("final")
        assert rule(each) is FINAL


@pytest.mark.parametrize(
    ("exception", "text"),
    [
        (ValueError("no", "more"), "no"),
        (ValueError(Text("no")), "no"),
        (ValueError(), ""),
        (ValueError(3), ""),
        (ValueError(b"no"), ""),
    ],
)
def test_the_message_is_the_text_that_stands_first(exception: Exception, text: str) -> None:
    assert message_of(exception) == text


def test_a_group_behind_an_exception_that_holds_it_too_speaks_for_the_others() -> None:
    itself = error("final")
    itself.__cause__ = ExceptionGroup("both", [itself, error("slow")])
    assert nearest_verdict(itself, judge) == SLOW


def test_a_context_from_another_module_of_the_same_package_is_a_failure_of_its_own() -> None:
    made = error("?", context=error("slow", kind=of_package("client.pool")), kind=of_package("client.commands"))
    assert nearest_verdict(made, judge) is None
