"""What an error means: its class, its severity, and its effect on retries and circuit breakers.

A :class:`Classifier` is an ordered list of rules. The first rule that returns a verdict decides. An exception that no
rule knows is judged by its explicit cause; a programming error is permanent and says nothing about the dependency;
anything else is permanent, HIGH and flagged ``unclassified``.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Collection
from enum import Enum, StrEnum
from typing import Final, TypeVar

from otel_resilience._internal import validation as check
from otel_resilience.classification import error_types


class ErrorClass(StrEnum):
    """What kind of failure it is; decides whether a retry can help.

    Examples:
        >>> classify(ConnectionResetError()).error_class
        <ErrorClass.TRANSIENT: 'transient'>
    """

    TRANSIENT = "transient"
    """Likely to pass soon: retried fast, with jitter."""
    TRANSIENT_SLOW = "transient_slow"
    """Heals in seconds to minutes: few retries, with a longer base delay, worth an alert."""
    THROTTLED = "throttled"
    """The dependency asked to wait: retried after the time it named, at a lower price from the budget."""
    PERMANENT = "permanent"
    """A repetition would give the same result."""
    LOCAL = "local"
    """A local resource is exhausted (a connection pool): retried; says nothing about the dependency."""
    SELF_HEAL = "self_heal"
    """The client can fix the cause and repeat the call once; not a failure in itself."""
    CONTROL = "control"
    """An expected outcome in the form of an exception, such as a lock that is taken."""
    QUARANTINE = "quarantine"
    """One bad row among good ones: set aside and counted."""
    CANCELLED = "cancelled"
    """The caller gave up, or its runtime uses the exception for control flow
    (:mod:`otel_resilience.classification.control_flow`). Never retried, never counted, never reported as an error."""


@functools.total_ordering
class Severity(Enum):
    """How urgently a failure is reported. Ordered: ``LOW < MEDIUM < HIGH < CRITICAL``.

    Examples:
        >>> Severity.LOW < Severity.HIGH
        True
        >>> classify(ConnectionResetError()).severity
        <Severity.MEDIUM: 'MEDIUM'>
    """

    LOW = "LOW"
    """Counted; not reported by itself."""
    MEDIUM = "MEDIUM"
    """Worth a look if it is frequent."""
    HIGH = "HIGH"
    """A person should look at it soon."""
    CRITICAL = "CRITICAL"
    """A person is notified immediately."""

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Severity):
            return NotImplemented
        return _SEVERITY_ORDER[self] < _SEVERITY_ORDER[other]

    def __str__(self) -> str:
        return self.value


_SEVERITY_ORDER = {severity: rank for rank, severity in enumerate(Severity)}


class BreakerEffect(StrEnum):
    """What a result says about the health of the dependency.

    Examples:
        >>> classify(ConnectionResetError()).breaker
        <BreakerEffect.FAILURE: 'failure'>
    """

    FAILURE = "failure"
    """The dependency is unhealthy: counts against it."""
    SUCCESS = "success"
    """The dependency answered properly, even if not as hoped: a well-formed 404."""
    NEUTRAL = "neutral"
    """Says nothing about it: throttling, our own limits, cancellation."""


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

    Enumerations are also accepted as their values (``breaker="neutral"``), though not by type checkers. Raises
    ``TypeError`` or ``ValueError`` naming the field if a value is not allowed.

    Examples:
        >>> busy = Classification("transient", "MEDIUM", "503", breaker="failure", retry_after=2.5)
        >>> busy.retryable, busy.counts
        (True, True)
        >>> Classification("transient", "MEDIUM", "503", retry_after=-1)
        Traceback (most recent call last):
            ...
        ValueError: retry_after must be at least 0, not -1
    """

    error_class: ErrorClass
    """What kind of failure it is; decides whether a retry can help."""
    severity: Severity
    """How urgently it is reported."""
    error_type: str
    """A value of the closed vocabulary (:mod:`otel_resilience.classification.error_types`)."""
    breaker: BreakerEffect = BreakerEffect.NEUTRAL
    """What it says about the health of the dependency."""
    retry_after: float | None = None
    """Seconds that the dependency asked us to wait, from 0 to infinity; ``None`` if it did not."""
    unsent: bool = False
    """The request provably never reached the dependency, so that even a non-idempotent call may be repeated."""
    unclassified: bool = False
    """No rule knew this exception."""
    max_retries: int | None = None
    """Retries granted to this error within one call. ``None``: as many as the retry configuration allows for a
    retryable class, none for the others. ``1`` on a permanent error is one confirming retry."""
    idempotent: bool | None = None
    """Whether the failed request may be repeated, if the exception itself shows it (method, idempotency key)."""
    immediate: bool = False
    """The first retry may go immediately and free of charge (a keep-alive connection that was closed)."""
    retryable: bool = dataclasses.field(init=False, compare=False)
    """Whether a repetition can help at all; budget, deadline and idempotency are checked separately."""
    plain: bool = dataclasses.field(init=False, compare=False, repr=False)
    """Whether it is transient and has no special requirements, like most failures, which are decided on quickly."""

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
        object.__setattr__(self, "error_type", check.label("error_type", self.error_type))
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
        """Retries that the verdict alone allows: ``math.inf`` if only the retry configuration limits them."""
        if self.max_retries is not None:
            return self.max_retries
        return math.inf if self.error_class in _RETRIED else 0

    def replace(self, **changes: object) -> Classification:
        """A copy with some fields changed."""
        if len(changes) == 1:
            ((name, value),) = changes.items()
            if value is True or value is False:
                return flagged(self, name, value)
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]  # mypy cannot see fields through **


_MAX_CHANGED: Final = 1024
_changed: Final[dict[tuple[int, str, bool], tuple[Classification, Classification]]] = {}
"""By the ``id`` of a verdict, a flag and its new value: the verdict, kept alive so that its ``id`` stays taken, and the
changed copy."""


def flagged(verdict: Classification, name: str, value: bool) -> Classification:  # internal
    """``verdict`` with one flag changed. Rules do this on each error for few verdicts: copies are reused."""
    key = id(verdict), name, value
    known = _changed.get(key)
    if known is not None:
        return known[1]
    changed = dataclasses.replace(verdict, **{name: value})  # type: ignore[arg-type]  # mypy cannot see fields through **
    if verdict.retry_after is None:  # with one, there would be too many verdicts
        if len(_changed) >= _MAX_CHANGED:
            _changed.clear()
        _changed[key] = verdict, changed
    return changed


Rule = Callable[[BaseException], Classification | None]
"""A rule looks at an exception and returns a verdict, or ``None`` to pass it on to the next rule."""

UNCLASSIFIED: Final = Classification(
    ErrorClass.PERMANENT, Severity.HIGH, error_types.OTHER, BreakerEffect.FAILURE, unclassified=True
)
"""The verdict on an exception that no rule knows: not retried, but a dependency that keeps raising it is unhealthy."""

PROGRAMMING_ERROR: Final = Classification(ErrorClass.PERMANENT, Severity.HIGH, error_types.OTHER)
"""The verdict on a programming error: a repetition fails the same way, and the dependency is not involved."""

CANCELLED: Final = Classification(ErrorClass.CANCELLED, Severity.LOW, error_types.CANCELLED)
"""The verdict on control flow: cancellation, interpreter exits, signals of a job queue."""


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

_EFFECT_ORDER: Final = (BreakerEffect.FAILURE, BreakerEffect.NEUTRAL, BreakerEffect.SUCCESS)


def merge_verdicts(verdicts: Collection[Classification]) -> Classification | None:
    """One verdict on failures that happened together, whatever their order; ``None`` if there are none.

    Each field comes from the failure for which it matters most: the worst class and severity, the longest
    ``retry_after``, the fewest retries; a failure for the circuit breaker if any is one. A permission (``idempotent``,
    ``immediate``) holds only if every failure gives it. ``unsent`` never holds, since operations that succeeded next to
    the failures are not seen. Cancellation counts only if there is nothing else.
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
