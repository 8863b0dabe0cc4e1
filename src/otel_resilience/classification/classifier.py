"""An ordered list of rules that classifies exceptions."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Final

from otel_resilience._internal.foreign import attribute, cause_of, causes_of, dict_of, is_a, leaves_of, name_of
from otel_resilience._internal.once import Once
from otel_resilience._internal.operations import discard
from otel_resilience._internal.predicates import judges_errors
from otel_resilience.classification.by_class import CLASSIFICATION, READ, ClassPlan, decided_by_class
from otel_resilience.classification.control_flow import CANCELLATIONS, is_control_flow
from otel_resilience.classification.model import (
    CANCELLED,
    PROGRAMMING_ERROR,
    UNCLASSIFIED,
    Classification,
    ErrorClass,
    Rule,
    flagged,
    merge_verdicts,
)
from otel_resilience.classification.request_shown import REQUEST_ATTRIBUTES, shows_idempotent

_log = logging.getLogger("otel_resilience")

_PROGRAMMING_ERRORS: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    ImportError,
    IndexError,
    KeyError,
    NameError,
    NotImplementedError,
    RecursionError,
    ReferenceError,
    SyntaxError,
    TypeError,
    UnicodeError,
    Warning,
)
"""With their subclasses. Libraries raise ``ValueError``, ``LookupError`` and ``RuntimeError`` for anything."""

_unknown_classes: Final = Once()
_broken_rules: Final = Once()
"""Rules that failed, and classes of exceptions that could not be examined."""

_MAX_CLASSES: Final = 512
"""Maximum classes of exceptions for which a classifier remembers how to judge them."""
_MAX_NESTING: Final = 20
"""Groups that are the cause of a member of a group that is the cause of a member …; deeper ones are not examined."""

_Groups = dict[int, Classification | None]
"""The verdicts on groups that were examined already, by ``id``."""


class Classifier:
    """Ordered rules; the first that returns a verdict decides.

    An exception that no rule knows is judged by the first of these that applies: its own attribute ``classification``,
    the verdict on its explicit cause (``raise … from cause``), being a programming error (``TypeError``, ``KeyError``
    …: permanent, neutral for a circuit breaker). Anything else is :data:`UNCLASSIFIED` and logged once per
    class. Control flow (:mod:`otel_resilience.classification.control_flow`) is never handed to a rule. The verdicts on
    the members of an ``ExceptionGroup`` are merged by :func:`merge_verdicts`; one with control flow in it, other than
    cancelled tasks, is control flow. Where the exception or one of its explicit causes shows its request, that decides
    on ``idempotent`` unless a rule does.

    The class of an exception is examined when its first instance is judged: a ``classification`` attribute that the
    class gets later is ignored, unlike one set on an instance.

    ``by_type`` maps exact types to verdicts without a closer look. Rules added by :meth:`extended` come before it, the
    rules given here after it. Raises ``TypeError`` naming the parameter if a rule is not a plain function of one
    exception: a class, an ``async def``, a generator function, a function with another number of parameters.

    Examples:
        >>> class WarehouseBusy(Exception):
        ...     pass
        >>> busy = Classification(ErrorClass.TRANSIENT, Severity.LOW, "unavailable")
        >>> def warehouse(error):
        ...     return busy if isinstance(error, WarehouseBusy) else None
        >>> Classifier([warehouse]).classify(WarehouseBusy()).error_type
        'unavailable'
        >>> policy = Policy("warehouse", classifier=default_classifier().extended(warehouse))
    """

    __slots__ = ("_by_class", "_by_type", "_first", "_rules")

    def __init__(self, rules: Iterable[Rule] = (), by_type: Mapping[type[BaseException], Classification] | None = None):
        self._first: tuple[Rule, ...] = ()
        self._by_class: dict[type[BaseException], ClassPlan] = {}
        """How the exceptions of a class are judged, see :mod:`otel_resilience.classification.by_class`."""
        self._by_type = {} if by_type is None else _checked_types(by_type)
        self._rules = _checked_rules("rules", rules)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules in the order in which they are tried."""
        return (*self._first, *self._rules)

    def extended(self, *rules: Rule) -> Classifier:
        """A new classifier that asks ``rules`` first: this is how to add or override verdicts.

        A rule takes an exception and returns its :class:`Classification`, or ``None`` to pass it on. Raises
        ``TypeError`` like the constructor.
        """
        extended = Classifier(self._rules, self._by_type)
        extended._first = (*_checked_rules("rules", rules), *self._first)
        return extended

    def classify(self, exception: BaseException) -> Classification:
        """The verdict on ``exception``. Never raises an ``Exception``, whatever a rule or the exception itself does."""
        try:
            plan = self._by_class.get(type(exception)) or self._plan_of(type(exception))
            verdict = plan.verdict
            if verdict is not None and cause_of(exception) is None:
                if plan.is_given:
                    return verdict
                kept = exception.__dict__  # its class is read plainly
                if not kept or READ.isdisjoint(kept):
                    return verdict
            return self._judge(exception, plan, None, _MAX_NESTING) or UNCLASSIFIED
        except Exception as broken:  # noqa: BLE001  # nothing may replace the error being judged
            name, problem = _name(exception), _name(broken)
            if _broken_rules.first(f"{name} {problem}"):
                _log.warning("an exception of class %s could not be classified: %s", name, problem)
            return UNCLASSIFIED

    def _plan_of(self, kind: type[BaseException]) -> ClassPlan:
        plan = self._by_class.get(kind)
        if plan is None:
            if len(self._by_class) >= _MAX_CLASSES:
                self._by_class.clear()
            described = () if any(rule is self_described for rule in self._rules) else (self_described,)
            plan = ClassPlan(kind, self._first, self._by_type.get(kind), (*self._rules, *described))
            self._by_class[kind] = plan
        return plan

    def _judge(
        self, exception: BaseException, plan: ClassPlan, groups: _Groups | None, nesting: int
    ) -> Classification | None:
        """The verdict; ``None`` for a group that is being judged already, or nested too deeply."""
        if plan.is_group:
            return self._judge_group(exception, groups, nesting)  # type: ignore[arg-type]  # it is a group
        if plan.is_control_flow:
            return CANCELLED
        verdict = _first_answer(exception, plan)
        if verdict is not None and verdict.idempotent is not None:
            return verdict
        causes = () if cause_of(exception) is None else tuple(causes_of(exception))
        if verdict is None:
            verdict = self._by_cause(causes, groups, nesting)
        if verdict is None:
            mistake = any(is_a(each, _PROGRAMMING_ERRORS) for each in (exception, *causes))
            verdict = PROGRAMMING_ERROR if mistake else _unclassified(exception)
        if causes:
            shown = _shown_request((exception, *causes)) if verdict.idempotent is None else None
            return verdict if shown is None else flagged(verdict, "idempotent", shown)
        if not (plan.shows_no_request and REQUEST_ATTRIBUTES.isdisjoint(dict_of(exception))):
            shown = shows_idempotent(exception)
            if shown is not None:
                return flagged(verdict, "idempotent", shown)
        if plan.decides and READ.isdisjoint(dict_of(exception)):
            plan.verdict = verdict
        return verdict

    def _by_cause(
        self, causes: tuple[BaseException, ...], groups: _Groups | None, nesting: int
    ) -> Classification | None:
        """The verdict on the nearest known cause. Control flow as a cause says nothing."""
        for cause in causes:
            plan = self._plan_of(type(cause))
            if plan.is_group:
                verdict = self._judge_group(cause, groups, nesting)  # type: ignore[arg-type]  # it is a group
            else:
                verdict = None if plan.is_control_flow else _first_answer(cause, plan)
            if verdict is not None and verdict.error_class is not ErrorClass.CANCELLED:
                return verdict
        return None

    def _judge_group(
        self, group: BaseExceptionGroup[BaseException], groups: _Groups | None, nesting: int
    ) -> Classification | None:
        key = id(group)
        if groups is None:
            groups = {}
        if key in groups or not nesting:
            return groups.get(key)
        groups[key] = None  # so that a member caused by this group does not recurse
        leaves = leaves_of(group)
        if any(is_control_flow(leaf) and not is_a(leaf, CANCELLATIONS) for leaf in leaves):
            verdict: Classification | None = CANCELLED  # it must reach the code that it is meant for
        else:
            judged = (self._judge(leaf, self._plan_of(type(leaf)), groups, nesting - 1) for leaf in leaves)
            verdict = self_described(group) or merge_verdicts([each for each in judged if each is not None])
        groups[key] = verdict
        return verdict


def _unclassified(exception: BaseException) -> Classification:
    """The verdict on an unknown exception; logs once per class how to classify it."""
    name = _name(exception)
    if _unknown_classes.first(name, type(exception)):
        _log.warning(
            "no rule classifies %s, so it is permanent and counts as a failure of its dependency. Add a rule: "
            "default_classifier().extended(lambda error: Classification(...) if isinstance(error, %s) else None), "
            "or give the class an attribute 'classification'.",
            name,
            type(exception).__name__,
        )
    return UNCLASSIFIED


def _report_rule(rule: Rule, problem: str) -> None:
    name = _rule_name(rule)
    if _broken_rules.first(f"{name} {problem}"):
        _log.warning("the classification rule %s %s; it is skipped", name, problem)


def _rule_name(rule: object) -> str:
    name = attribute(rule, "__qualname__")
    return name if isinstance(name, str) else name_of(type(rule))


def _name(exception: BaseException) -> str:
    return name_of(type(exception))


def _checked_types(by_type: object) -> dict[type[BaseException], Classification]:
    if not isinstance(by_type, Mapping):
        raise TypeError(f"by_type must map exception types to classifications, not {by_type!r}")
    for kind, verdict in by_type.items():
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(f"by_type must have exception types as keys, not {kind!r}")
        if not isinstance(verdict, Classification):
            raise TypeError(f"by_type[{kind.__name__}] must be a Classification, not {verdict!r}")
    return dict(by_type)


def _checked_rules(name: str, rules: object) -> tuple[Rule, ...]:
    if not isinstance(rules, Iterable) or isinstance(rules, (str, bytes, Mapping)):
        raise TypeError(f"{name} must be a series of functions, not {rules!r}")
    return tuple(_checked_rule(f"{name}[{at}]", rule) for at, rule in enumerate(rules))


def _checked_rule(name: str, rule: object) -> Rule:
    """``rule``, which must be a function that takes one exception and returns directly."""
    if not callable(rule) or isinstance(rule, type):
        raise TypeError(f"{name} must be a function of an exception, not {rule!r}")
    judges_errors(name, rule)
    return rule


def _shown_request(chain: tuple[BaseException, ...]) -> bool | None:
    """Whether all requests shown may be repeated; ``None`` if none is shown."""
    answer: bool | None = None
    for each in chain:
        shown = shows_idempotent(each)
        if shown is False:
            return False
        answer = answer or shown
    return answer


def _first_answer(exception: BaseException, plan: ClassPlan) -> Classification | None:
    kept = exception.__dict__ if plan.reads_plainly else None
    for rule, reads in plan.rules:
        if reads is not None and (not kept or reads.isdisjoint(kept)):
            continue
        try:
            verdict = rule(exception)
        except Exception as broken:  # noqa: BLE001  # a broken rule must not replace the error being judged
            _report_rule(rule, f"failed with {_name(broken)}")
            continue
        if verdict is None:
            continue
        if issubclass(type(verdict), Classification):
            return verdict
        discard(verdict)
        _report_rule(rule, f"returned {name_of(type(verdict))}, which is neither a Classification nor None")
    return None


@decided_by_class(lambda kind: True, reads=CLASSIFICATION)
def self_described(exception: BaseException) -> Classification | None:
    """Rule for exceptions that carry their own verdict in an attribute ``classification``."""
    described = attribute(exception, "classification")
    return described if is_a(described, Classification) else None
