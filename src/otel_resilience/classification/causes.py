"""What is behind an exception: its causes, its contexts and the members of groups among them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Final

from otel_resilience._internal.foreign import args_of, bases_of, cause_of, context_of, is_a, leaves_of, name_of
from otel_resilience.classification.control_flow import is_group
from otel_resilience.classification.model import Classification, Rule, merge_verdicts

_MAX_CLASSES: Final = 512
_MAX_NODES: Final = 200
"""A longer chain is not searched further; this also bounds the recursion into groups."""


def nearest_verdict(exception: BaseException, judge: Rule) -> Classification | None:
    """The verdict of ``judge`` on the nearest exception behind ``exception`` that it knows, or ``None``.

    A cause comes before a context. The verdicts on the members of a group are merged. An earlier exception of the same
    package that is only the context (one attempt made while another failure was handled) is not considered.
    """
    return _search(exception, judge, {id(exception)})


def message_of(exception: BaseException) -> str:
    """The text that an exception was made with; empty if that is not a string. Never raises."""
    args = args_of(exception)
    first = args[0] if args else ""
    return first if type(first) is str or isinstance(first, str) else ""


def by_class_name(modules: Mapping[str, Mapping[str, Classification | Rule]]) -> Rule:
    """A rule that matches classes by module and name, so that nothing is imported; subclasses as their nearest base.

    Each class maps to the verdict on its exceptions, or to a rule that examines them. An exception whose class was
    never imported cannot exist, so the rule passes everything on if its library is not in use.
    """
    table = {f"{module}.{name}": entry for module, classes in modules.items() for name, entry in classes.items()}
    known: dict[type, Classification | Rule | None] = {}

    def of_class(exception: BaseException) -> Classification | None:
        kind: type = type(exception)
        try:
            entry = known[kind]
        except KeyError:
            if len(known) >= _MAX_CLASSES:
                known.clear()
            found = (table.get(name_of(base)) for base in bases_of(kind))
            entry = known[kind] = next((each for each in found if each is not None), None)
        if type(entry) is Classification:  # most entries are
            return entry
        return None if entry is None else entry(exception)  # type: ignore[operator]  # mypy thinks of derived classes

    of_class.__qualname__ = f"by_class_name({', '.join(modules)})"  # shown in the message about a failing rule
    return of_class


def judged_behind(judge: Rule, default: Classification, *, argument: int | None = None) -> Rule:
    """A rule that returns the verdict of ``judge`` on what is behind an exception, or else ``default``.

    ``argument``: the position of an argument of the exception that may hold the one it wraps, which is tried first.
    """

    def behind(exception: BaseException) -> Classification:
        wrapped = args_of(exception)[argument] if argument is not None and args_of(exception) else None
        known = judge(wrapped) if is_a(wrapped, BaseException) else None
        return known or nearest_verdict(exception, judge) or default

    return behind


def _search(exception: BaseException, judge: Rule, seen: set[int]) -> Classification | None:
    package = ""
    node = exception
    pending: list[BaseException] = []  # a stack: the cause comes before the context
    while True:
        context, cause = context_of(node), cause_of(node)
        if context is not None and context is not cause:
            package = package or _package_of(exception)
            if package == "builtins" or _package_of(context) != package:
                pending.append(context)
        if cause is not None:
            pending.append(cause)
        while pending:
            node = pending.pop()
            if id(node) not in seen and len(seen) < _MAX_NODES:
                break
        else:
            return None
        seen.add(id(node))
        verdict = _merged_members(node, judge, seen) if is_group(node) else judge(node)
        if verdict is not None:
            return verdict


_packages: Final = functools.lru_cache(_MAX_CLASSES)(lambda kind: name_of(kind).partition(".")[0])


def _package_of(exception: BaseException) -> str:
    return _packages(type(exception))  # type: ignore[arg-type]  # mypy does not see that classes are hashable


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
