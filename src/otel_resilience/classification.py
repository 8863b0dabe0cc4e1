"""What an error means: its class, its severity, and what retry and circuit breaker make of it.

A :class:`Classifier` is a list of ordered rules. The first rule that answers decides; an exception that no rule knows
is permanent, HIGH and flagged ``unclassified``.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
from collections.abc import Callable, Iterable, Mapping
from enum import Enum, StrEnum

from otel_resilience import error_types

_log = logging.getLogger("otel_resilience")


class ErrorClass(StrEnum):
    """What kind of failure it is; decides whether a retry can help."""

    TRANSIENT = "transient"
    """Likely to pass soon: retried fast, with jitter."""
    TRANSIENT_SLOW = "transient_slow"
    """Heals in seconds to minutes: few tries, from a longer base delay, worth an alert."""
    THROTTLED = "throttled"
    """The dependency asked to wait: retried as told, at a lower price from the budget."""
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
    """The caller gave up. Never retried, never counted, never reported as an error."""


@functools.total_ordering
class Severity(Enum):
    """How loudly a failure is told. Ordered: ``LOW < MEDIUM < HIGH < CRITICAL``."""

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


@dataclasses.dataclass(frozen=True, slots=True)
class Classification:
    """The verdict on one error."""

    error_class: ErrorClass
    severity: Severity
    error_type: str
    """A value of the closed vocabulary (:mod:`otel_resilience.error_types`)."""
    breaker: BreakerEffect = BreakerEffect.NEUTRAL
    retry_after: float | None = None
    """Seconds that the dependency asked us to wait; ``None`` where it did not."""
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
        plain = (
            self.error_class is ErrorClass.TRANSIENT
            and self.retry_after is None
            and self.max_retries is None
            and self.idempotent is not False
            and not self.immediate
        )
        object.__setattr__(self, "plain", plain)
        granted = self.error_class in _RETRIED if self.max_retries is None else self.max_retries > 0
        object.__setattr__(self, "retryable", granted)

    @property
    def counts(self) -> bool:
        """Whether it counts as a failure for the circuit breaker of the dependency."""
        return self.breaker is BreakerEffect.FAILURE

    def replace(self, **changes: object) -> Classification:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]  # mypy cannot see fields through **


Rule = Callable[[BaseException], Classification | None]
"""A rule looks at an exception and answers, or returns ``None`` to pass it on to the next rule."""

UNCLASSIFIED = Classification(
    ErrorClass.PERMANENT, Severity.HIGH, error_types.OTHER, BreakerEffect.FAILURE, unclassified=True
)
"""The verdict on an exception that no rule knows: not repeated, but a dependency that keeps raising it is not well."""

CANCELLED = Classification(ErrorClass.CANCELLED, Severity.LOW, error_types.CANCELLED)
"""The verdict on cancellation and on the exits of the interpreter."""

_NEVER_CLASSIFIED = (asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit)

_WORST_FIRST = (
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


class Classifier:
    """Ordered rules; the first that answers decides.

    Cancellation and interpreter exits are never handed to a rule. An ``ExceptionGroup`` is as bad as its worst leaf and
    transient only if every leaf is; cancelled leaves are dropped.

    ``by_type`` holds verdicts on exact types whose instances need no look. Rules added by :meth:`extended` come before
    it, the rules given here after it.
    """

    __slots__ = ("_by_type", "_first", "_rules")

    def __init__(self, rules: Iterable[Rule] = (), by_type: Mapping[type[BaseException], Classification] | None = None):
        self._first: tuple[Rule, ...] = ()
        self._by_type = dict(by_type or {})
        self._rules = tuple(rules)

    @property
    def by_type(self) -> Mapping[type[BaseException], Classification]:
        """Verdicts that hold whatever the rules would say: on exact types, while no rule comes before them."""
        if self._first:
            return {}
        return {kind: verdict for kind, verdict in self._by_type.items() if not verdict.unclassified}

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules in the order in which they are asked."""
        return (*self._first, *self._rules)

    def extended(self, *rules: Rule) -> Classifier:
        """A new classifier that asks ``rules`` before anything else: this is how a user adds or overrides verdicts."""
        extended = Classifier(self._rules, self._by_type)
        extended._first = (*rules, *self._first)
        return extended

    def classify(self, exception: BaseException) -> Classification:
        """The verdict on ``exception``."""
        if not self._first:
            verdict = self._by_type.get(type(exception))
            if verdict is not None:
                return (self_described(exception) or verdict) if verdict.unclassified else verdict
        if isinstance(exception, _NEVER_CLASSIFIED):
            return CANCELLED
        if isinstance(exception, BaseExceptionGroup):
            return self._worst_leaf(exception)
        return self._ask(exception)

    def _ask(self, exception: BaseException) -> Classification:
        return (
            _first_answer(self._first, exception)
            or self._by_type.get(type(exception))
            or _first_answer(self._rules, exception)
            or self_described(exception)
            or UNCLASSIFIED
        )

    def _worst_leaf(self, group: BaseExceptionGroup[BaseException]) -> Classification:
        worst = CANCELLED
        pending: list[BaseException] = [group]
        while pending:
            member = pending.pop()
            if isinstance(member, BaseExceptionGroup):
                pending.extend(reversed(member.exceptions))
                continue
            verdict = CANCELLED if isinstance(member, _NEVER_CLASSIFIED) else self._ask(member)
            worst = min(worst, verdict, key=_badness)
        return worst


def _first_answer(rules: tuple[Rule, ...], exception: BaseException) -> Classification | None:
    for rule in rules:
        try:
            verdict = rule(exception)
        except Exception as broken:  # noqa: BLE001  # a broken rule must not take the place of the error it looks at
            _log.warning("a classification rule failed with %s and was passed over", type(broken).__name__)
            continue
        if verdict is not None:
            return verdict
    return None


def _badness(verdict: Classification) -> tuple[int, int]:
    return _WORST_FIRST.index(verdict.error_class), -_SEVERITY_ORDER[verdict.severity]


def self_described(exception: BaseException) -> Classification | None:
    """Rule for exceptions that carry their own verdict in an attribute ``classification``."""
    try:
        own = getattr(exception, "classification", None)
    except Exception:  # noqa: BLE001  # a broken property says nothing; the error itself must still be told
        return None
    return own if isinstance(own, Classification) else None
