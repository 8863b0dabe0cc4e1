"""What lies behind an exception: its causes, its contexts and the members of groups among them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

from otel_resilience.classification import Classification, ErrorClass, Rule, Severity

_MAX_NODES = 200
"""A longer chain is not searched to its end; this also bounds the recursion into nested groups."""

_RANK = {severity: rank for rank, severity in enumerate(sorted(Severity))}


def nearest_verdict(exception: BaseException, judge: Rule) -> Classification | None:
    """The verdict of ``judge`` on the nearest exception behind ``exception`` that it knows, or ``None``.

    A cause comes before a context. A group counts as its worst member. An earlier exception of the same package that is
    merely the context (one attempt made while another was handled) is a failure of its own and not looked at.
    """
    return _search(exception, judge, {id(exception)})


def message_of(exception: BaseException) -> str:
    """The text that an exception was made with; empty where that is no text. Never raises."""
    first = exception.args[0] if exception.args else ""
    return first if isinstance(first, str) else ""


def by_class_name(names: Iterable[tuple[str, Classification]]) -> Callable[[BaseException], Classification | None]:
    """A rule that knows classes by ``module.name``, so that nothing is imported; a subclass is as its nearest base.

    An exception whose class was never imported cannot exist, so the rule is silent where its library is not in use.
    """
    table = dict(names)

    @functools.lru_cache(maxsize=512)
    def of_class(kind: type[BaseException]) -> Classification | None:
        for base in kind.__mro__:
            verdict = table.get(f"{base.__module__}.{base.__qualname__}")
            if verdict is not None:
                return verdict
        return None

    # mypy does not see that classes are hashable
    return lambda exception: of_class(type(exception))  # type: ignore[arg-type]


def _search(exception: BaseException, judge: Rule, seen: set[int]) -> Classification | None:
    package = _package(exception)
    pending = _behind(exception, package)
    while pending:
        node = pending.pop()
        if id(node) in seen or len(seen) >= _MAX_NODES:
            continue
        seen.add(id(node))
        verdict = _worst_member(node, judge, seen) if isinstance(node, BaseExceptionGroup) else judge(node)
        if verdict is not None:
            return verdict
        pending += _behind(node, package)
    return None


def _behind(exception: BaseException, package: str) -> list[BaseException]:
    """What stands directly behind an exception, in the order of a stack: the cause last."""
    context, cause = exception.__context__, exception.__cause__
    found = []
    if context is not None and context is not cause and (package == "builtins" or _package(context) != package):
        found.append(context)
    if cause is not None:
        found.append(cause)
    return found


def _package(exception: BaseException) -> str:
    module: object = type(exception).__module__
    return module.partition(".")[0] if isinstance(module, str) else ""


def _worst_member(group: BaseExceptionGroup[BaseException], judge: Rule, seen: set[int]) -> Classification | None:
    verdicts = []
    pending: list[BaseException] = list(group.exceptions)
    while pending:
        member = pending.pop()
        if id(member) in seen or len(seen) >= _MAX_NODES:
            continue
        seen.add(id(member))
        if isinstance(member, BaseExceptionGroup):
            pending += member.exceptions
            continue
        verdict = judge(member) or _search(member, judge, seen)
        if verdict is not None:
            verdicts.append(verdict)
    return max(verdicts, key=_badness, default=None)


def _badness(verdict: Classification) -> tuple[bool, bool, int]:
    return (
        verdict.error_class is ErrorClass.PERMANENT,
        verdict.error_class is ErrorClass.TRANSIENT_SLOW,
        _RANK[verdict.severity],
    )
