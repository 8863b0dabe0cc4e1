"""What lies behind an exception: its causes, its contexts and the members of groups among them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

from otel_resilience._internal.foreign import args_of, bases_of, cause_of, context_of, leaves_of, name_of
from otel_resilience.classification.control_flow import is_group
from otel_resilience.classification.model import Classification, Rule, merge_verdicts

_MAX_NODES = 200
"""A longer chain is not searched to its end; this also bounds the recursion into groups."""


def nearest_verdict(exception: BaseException, judge: Rule) -> Classification | None:
    """The verdict of ``judge`` on the nearest exception behind ``exception`` that it knows, or ``None``.

    A cause comes before a context. The verdicts on the members of a group are merged. An earlier exception of the same
    package that is merely the context (one attempt made while another was handled) is a failure of its own and not
    looked at.
    """
    return _search(exception, judge, {id(exception)})


def message_of(exception: BaseException) -> str:
    """The text that an exception was made with; empty where that is no text. Never raises."""
    args = args_of(exception)
    first = args[0] if args else ""
    return first if isinstance(first, str) else ""


def by_class_name(names: Iterable[tuple[str, Classification]]) -> Callable[[BaseException], Classification | None]:
    """A rule that knows classes by ``module.name``, so that nothing is imported; a subclass is as its nearest base.

    An exception whose class was never imported cannot exist, so the rule is silent where its library is not in use.
    """
    table = dict(names)

    @functools.lru_cache(maxsize=512)
    def of_class(kind: type[BaseException]) -> Classification | None:
        for base in bases_of(kind):
            verdict = table.get(name_of(base))
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
        verdict = _merged_members(node, judge, seen) if is_group(node) else judge(node)
        if verdict is not None:
            return verdict
        pending += _behind(node, package)
    return None


def _behind(exception: BaseException, package: str) -> list[BaseException]:
    """What stands directly behind an exception, in the order of a stack: the cause last."""
    context, cause = context_of(exception), cause_of(exception)
    found = []
    if context is not None and context is not cause and (package == "builtins" or _package(context) != package):
        found.append(context)
    if cause is not None:
        found.append(cause)
    return found


def _package(exception: BaseException) -> str:
    return _package_of(type(exception))  # type: ignore[arg-type]  # mypy does not see that classes are hashable


@functools.lru_cache(maxsize=512)
def _package_of(kind: type[BaseException]) -> str:
    return name_of(kind).partition(".")[0]


def _merged_members(group: BaseExceptionGroup[BaseException], judge: Rule, seen: set[int]) -> Classification | None:
    verdicts = []
    for member in leaves_of(group):
        if id(member) in seen or len(seen) >= _MAX_NODES:
            continue
        seen.add(id(member))
        verdict = judge(member) or _search(member, judge, seen)
        if verdict is not None:
            verdicts.append(verdict)
    return merge_verdicts(verdicts)
