"""What an error means: its class, its severity, and what retry and circuit breaker make of it.

A :class:`Classifier` is a list of ordered rules. The first rule that answers decides. An exception that no rule knows
is judged by its explicit cause; an error of the program itself is permanent and says nothing about the dependency; what
is left is permanent, HIGH and flagged ``unclassified``.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from enum import Enum, StrEnum
from typing import Final, TypeVar

from otel_resilience import _validation as check
from otel_resilience import error_types, request_shown
from otel_resilience._foreign import attribute, cause_of, causes_of, is_a, leaves_of, name_of
from otel_resilience._once import Once
from otel_resilience._operations import discard
from otel_resilience._predicates import judges_errors
from otel_resilience.control_flow import CANCELLATIONS, is_control_flow, is_group

_log = logging.getLogger("otel_resilience")


class ErrorClass(StrEnum):
    """What kind of failure it is; decides whether a retry can help."""

    TRANSIENT = "transient"
    """Likely to pass soon: retried fast, with jitter."""
    TRANSIENT_SLOW = "transient_slow"
    """Heals in seconds to minutes: few tries, from a longer base delay, worth an alert."""
    THROTTLED = "throttled"
    """The dependency asked to wait: retried after the time it named, at a lower price from the budget."""
    PERMANENT = "permanent"
    """A repetition gives the same answer."""
    LOCAL = "local"
    """Our own resource is short (a connection pool): retried, and says nothing about the dependency."""
    SELF_HEAL = "self_heal"
    """The client can mend it and repeat the call once; not a failure in itself."""
    CONTROL = "control"
    """An expected outcome in the shape of an exception, such as a lock that is taken."""
    QUARANTINE = "quarantine"
    """One bad row among good ones: set aside and counted."""
    CANCELLED = "cancelled"
    """The caller gave up, or its runtime steers the program by an exception (:mod:`otel_resilience.control_flow`).
    Never retried, never counted, never reported as an error."""


@functools.total_ordering
class Severity(Enum):
    """How urgently a failure is reported. Ordered: ``LOW < MEDIUM < HIGH < CRITICAL``."""

    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"
    CRITICAL = "CRITICAL"

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Severity):
            return NotImplemented
        return _SEVERITY_ORDER[self] < _SEVERITY_ORDER[other]

    def __str__(self) -> str:
        return self.value


_SEVERITY_ORDER = {severity: rank for rank, severity in enumerate(Severity)}


class BreakerEffect(StrEnum):
    """What a result says about the health of the dependency."""

    FAILURE = "failure"
    SUCCESS = "success"
    """The dependency answered properly, if not as hoped: a well-formed 404."""
    NEUTRAL = "neutral"
    """It says nothing: throttling, our own limits, cancellation."""


_RETRIED = frozenset({ErrorClass.TRANSIENT, ErrorClass.TRANSIENT_SLOW, ErrorClass.THROTTLED, ErrorClass.LOCAL})


E = TypeVar("E", bound=Enum)


def _member(name: str, value: object, kind: type[E]) -> E:
    """The member of ``kind`` that has ``value``. Raises ``TypeError`` or ``ValueError`` naming the field."""
    if type(value) is kind:
        return value
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a member of {kind.__name__}, not {value!r}")
    try:
        return kind(value)
    except ValueError as error:
        known = ", ".join(repr(member.value) for member in kind)
        raise ValueError(f"{name} must be one of {known}, not {value!r}") from error


def _wait(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    if value != math.inf:
        check.number(name, value, minimum=0)


@dataclasses.dataclass(frozen=True, slots=True)
class Classification:
    """The verdict on one error.

    An enumeration's value is accepted as its text (``breaker="neutral"``). Raises ``TypeError`` or ``ValueError``
    naming the field where a value is none that it can have.

        Classification(ErrorClass.TRANSIENT, Severity.MEDIUM, "503", BreakerEffect.FAILURE, retry_after=2.5)
    """

    error_class: ErrorClass
    severity: Severity
    error_type: str
    """A value of the closed vocabulary (:mod:`otel_resilience.error_types`)."""
    breaker: BreakerEffect = BreakerEffect.NEUTRAL
    retry_after: float | None = None
    """Seconds that the dependency asked us to wait, from 0 to infinity; ``None`` where it did not."""
    unsent: bool = False
    """The request provably never reached the dependency, so that even a non-idempotent call may be repeated."""
    unclassified: bool = False
    """No rule knew this exception."""
    max_retries: int | None = None
    """Retries granted to this error within one call. ``None``: as many as the retry configuration allows for a class
    that is retried at all, none for the others. ``1`` on a permanent error is one confirming retry."""
    idempotent: bool | None = None
    """Whether the failed request may be repeated, where the exception itself shows it (method, idempotency key)."""
    immediate: bool = False
    """The first retry may go at once, without delay and free of charge (a keep-alive connection that was closed)."""
    retryable: bool = dataclasses.field(init=False, compare=False)
    """Whether a repetition can help at all, before budget, deadline and idempotency have their say."""
    plain: bool = dataclasses.field(init=False, compare=False, repr=False)
    """Whether it is transient and asks for nothing special: most failures are, and are decided on quickly."""

    def __post_init__(self) -> None:
        self._check()
        plain = (
            self.error_class is ErrorClass.TRANSIENT
            and self.retry_after is None
            and self.max_retries is None
            and self.idempotent is not False
            and not self.immediate
        )
        object.__setattr__(self, "plain", plain)
        object.__setattr__(self, "retryable", self.granted_retries > 0)

    def _check(self) -> None:
        if not (
            type(self.error_class) is ErrorClass
            and type(self.severity) is Severity
            and type(self.breaker) is BreakerEffect
        ):
            object.__setattr__(self, "error_class", _member("error_class", self.error_class, ErrorClass))
            object.__setattr__(self, "severity", _member("severity", self.severity, Severity))
            object.__setattr__(self, "breaker", _member("breaker", self.breaker, BreakerEffect))
        check.label("error_type", self.error_type)
        if self.retry_after is not None:
            _wait("retry_after", self.retry_after)
        if self.max_retries is not None:
            check.count("max_retries", self.max_retries, minimum=0)
        for name in ("unsent", "unclassified", "immediate", "idempotent"):
            value = getattr(self, name)
            if not (value is True or value is False or (value is None and name == "idempotent")):
                raise TypeError(f"{name} must be True or False, not {value!r}")

    @property
    def counts(self) -> bool:
        """Whether it counts as a failure for the circuit breaker of the dependency."""
        return self.breaker is BreakerEffect.FAILURE

    @property
    def granted_retries(self) -> float:
        """Retries that the verdict alone allows: ``math.inf`` where only the retry configuration limits them."""
        if self.max_retries is not None:
            return self.max_retries
        return math.inf if self.error_class in _RETRIED else 0

    def replace(self, **changes: object) -> Classification:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]  # mypy cannot see fields through **


Rule = Callable[[BaseException], Classification | None]
"""A rule looks at an exception and answers, or returns ``None`` to pass it on to the next rule."""

UNCLASSIFIED: Final = Classification(
    ErrorClass.PERMANENT, Severity.HIGH, error_types.OTHER, BreakerEffect.FAILURE, unclassified=True
)
"""The verdict on an exception that no rule knows: not repeated, but a dependency that keeps raising it is not well."""

PROGRAMMING_ERROR: Final = Classification(ErrorClass.PERMANENT, Severity.HIGH, error_types.OTHER)
"""The verdict on a mistake in the program itself: a repetition fails alike, and the dependency has no part in it."""

CANCELLED: Final = Classification(ErrorClass.CANCELLED, Severity.LOW, error_types.CANCELLED)
"""The verdict on control flow: cancellation, the exits of the interpreter, signals of a job queue."""

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

_WORST_FIRST: Final = (
    ErrorClass.PERMANENT,
    ErrorClass.QUARANTINE,
    ErrorClass.CONTROL,
    ErrorClass.SELF_HEAL,
    ErrorClass.TRANSIENT_SLOW,
    ErrorClass.THROTTLED,
    ErrorClass.LOCAL,
    ErrorClass.TRANSIENT,
    ErrorClass.CANCELLED,
)
_unknown_classes: Final = Once()
_broken_rules: Final = Once()
"""Rules that failed, and classes of exceptions that could not be looked at."""

_EFFECT_ORDER: Final = (BreakerEffect.FAILURE, BreakerEffect.NEUTRAL, BreakerEffect.SUCCESS)
_MAX_NESTING: Final = 20
"""Groups that are the cause of a member of a group that is the cause …; deeper ones are not looked at."""


def merge_verdicts(verdicts: Collection[Classification]) -> Classification | None:
    """One verdict on failures that happened together, whatever their order; ``None`` where there are none.

    Every field is that of the failure for which it matters most: the worst class and severity, the longest
    ``retry_after``, the fewest retries; a failure for the circuit breaker if any is one. A permission holds only if
    every failure gives it: ``idempotent``, ``immediate``. ``unsent`` never holds, since what succeeded beside the
    failures is not seen. Cancellation counts only where there is nothing else.
    """
    failures = [verdict for verdict in verdicts if verdict.error_class is not ErrorClass.CANCELLED]
    if not failures:
        return CANCELLED if verdicts else None
    worst = min(failures, key=badness)
    permissions = {verdict.idempotent for verdict in failures}
    limited = any(verdict.max_retries is not None for verdict in failures)
    return Classification(
        worst.error_class,
        max(verdict.severity for verdict in failures),
        worst.error_type,
        min((verdict.breaker for verdict in failures), key=_EFFECT_ORDER.index),
        retry_after=max((v.retry_after for v in failures if v.retry_after is not None), default=None),
        unclassified=any(verdict.unclassified for verdict in failures),
        max_retries=int(min(verdict.granted_retries for verdict in failures)) if limited else None,
        idempotent=False if False in permissions else None if None in permissions else True,
        immediate=all(verdict.immediate for verdict in failures),
    )


def badness(verdict: Classification) -> tuple[int, int, int, str]:
    """A sort key for verdicts, the worst first: by class, severity, effect on the circuit breaker, ``error_type``."""
    return (
        _WORST_FIRST.index(verdict.error_class),
        -_SEVERITY_ORDER[verdict.severity],
        _EFFECT_ORDER.index(verdict.breaker),
        verdict.error_type,
    )


class Classifier:
    """Ordered rules; the first that answers decides.

    An exception that no rule knows is judged by the first of these that it has: its own attribute ``classification``,
    the verdict on its explicit cause (``raise … from cause``), its being a programming error (``TypeError``,
    ``KeyError`` …: permanent, neutral for a circuit breaker). What is left is :data:`UNCLASSIFIED` and logged once per
    class. Control flow (:mod:`otel_resilience.control_flow`) is never handed to a rule. The verdicts on the members of
    an ``ExceptionGroup`` are merged by :func:`merge_verdicts`; one with control flow in it, other than cancelled tasks,
    is control flow. Where the exception or one of its explicit causes shows its request, that decides on ``idempotent``
    unless a rule does.

    ``by_type`` holds verdicts on exact types whose instances need no look. Rules added by :meth:`extended` come before
    it, the rules given here after it. Raises ``TypeError`` naming the parameter where a rule is no plain function of
    one exception: a class, an ``async def``, a generator function, a function with another number of parameters.
    """

    __slots__ = ("_by_type", "_first", "_rules")

    def __init__(self, rules: Iterable[Rule] = (), by_type: Mapping[type[BaseException], Classification] | None = None):
        self._first: tuple[Rule, ...] = ()
        self._by_type = {} if by_type is None else _checked_types(by_type)
        self._rules = _checked_rules("rules", rules)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules in the order in which they are asked."""
        return (*self._first, *self._rules)

    def extended(self, *rules: Rule) -> Classifier:
        """A new classifier that asks ``rules`` before anything else: this is how a user adds or overrides verdicts.

        A rule takes an exception and returns its :class:`Classification`, or ``None`` to pass it on:

            default_classifier().extended(lambda error: BUSY if isinstance(error, WarehouseBusy) else None)
        """
        extended = Classifier(self._rules, self._by_type)
        extended._first = (*_checked_rules("rules", rules), *self._first)
        return extended

    def classify(self, exception: BaseException) -> Classification:
        """The verdict on ``exception``. Never raises an ``Exception``, whatever a rule or the exception itself does."""
        try:
            if not self._first:
                verdict = self._by_type.get(type(exception))
                if verdict is not None and cause_of(exception) is None:
                    return verdict
            return self._judge(exception, {}, _MAX_NESTING) or UNCLASSIFIED
        except Exception as broken:  # noqa: BLE001  # nothing may take the place of the error that is looked at
            name, problem = _name(exception), _name(broken)
            if _broken_rules.first(f"{name} {problem}"):
                _log.warning("an exception of class %s could not be classified: %s", name, problem)
            return UNCLASSIFIED

    def _judge(
        self, exception: BaseException, groups: dict[int, Classification | None], nesting: int
    ) -> Classification | None:
        """The verdict; ``None`` for a group that is being looked at already, or too deep to be looked at."""
        if is_group(exception):
            return self._judge_group(exception, groups, nesting)
        if is_control_flow(exception):
            return CANCELLED
        verdict = self._known(exception)
        causes = () if cause_of(exception) is None else tuple(causes_of(exception))
        if verdict is None:
            verdict = self._by_cause(causes, groups, nesting)
        if verdict is None:
            mistake = any(is_a(each, _PROGRAMMING_ERRORS) for each in (exception, *causes))
            verdict = PROGRAMMING_ERROR if mistake else _unclassified(exception)
        if verdict.idempotent is None:
            shown = _shown_request((exception, *causes))
            if shown is not None:
                return verdict.replace(idempotent=shown)
        return verdict

    def _known(self, exception: BaseException) -> Classification | None:
        return (
            _first_answer(self._first, exception)
            or self._by_type.get(type(exception))
            or _first_answer(self._rules, exception)
            or self_described(exception)
        )

    def _by_cause(
        self, causes: tuple[BaseException, ...], groups: dict[int, Classification | None], nesting: int
    ) -> Classification | None:
        """The verdict on the nearest cause that is known. Control flow that an exception was made of says nothing."""
        for cause in causes:
            if is_group(cause):
                verdict = self._judge_group(cause, groups, nesting)
            else:
                verdict = None if is_control_flow(cause) else self._known(cause)
            if verdict is not None and verdict.error_class is not ErrorClass.CANCELLED:
                return verdict
        return None

    def _judge_group(
        self, group: BaseExceptionGroup[BaseException], groups: dict[int, Classification | None], nesting: int
    ) -> Classification | None:
        key = id(group)
        if key in groups or not nesting:
            return groups.get(key)
        groups[key] = None  # so that a member whose cause is this group does not lead back into it
        leaves = leaves_of(group)
        if any(is_control_flow(leaf) and not is_a(leaf, CANCELLATIONS) for leaf in leaves):
            verdict: Classification | None = CANCELLED  # it must reach the code that it is meant for
        else:
            judged = (self._judge(leaf, groups, nesting - 1) for leaf in leaves)
            verdict = self_described(group) or merge_verdicts([each for each in judged if each is not None])
        groups[key] = verdict
        return verdict


def _unclassified(exception: BaseException) -> Classification:
    """The verdict on what is not known; says so once per class, with how to change it."""
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
        _log.warning("the classification rule %s %s; it is passed over", name, problem)


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
    """``rule``, which must be a function that takes one exception and answers at once."""
    if not callable(rule) or isinstance(rule, type):
        raise TypeError(f"{name} must be a function of an exception, not {rule!r}")
    judges_errors(name, rule)
    return rule


def _shown_request(chain: tuple[BaseException, ...]) -> bool | None:
    """Whether the requests that are shown may all be repeated; ``None`` where none is shown."""
    shown = {request_shown.shows_idempotent(each) for each in chain}
    return False if False in shown else True if True in shown else None


def _first_answer(rules: tuple[Rule, ...], exception: BaseException) -> Classification | None:
    for rule in rules:
        try:
            verdict = rule(exception)
        except Exception as broken:  # noqa: BLE001  # a broken rule must not take the place of the error it looks at
            _report_rule(rule, f"failed with {_name(broken)}")
            continue
        if verdict is None:
            continue
        if is_a(verdict, Classification):
            return verdict
        discard(verdict)
        _report_rule(rule, f"returned {name_of(type(verdict))}, which is neither a Classification nor None")
    return None


def self_described(exception: BaseException) -> Classification | None:
    """Rule for exceptions that carry their own verdict in an attribute ``classification``."""
    described = attribute(exception, "classification")
    return described if is_a(described, Classification) else None
