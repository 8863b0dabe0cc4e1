"""What follows from an exception's class alone, so that it is computed once per class: often the verdict, otherwise
which rules to ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from otel_resilience._internal.foreign import class_has_none_of, reads_plainly
from otel_resilience.classification.control_flow import is_control_flow_class
from otel_resilience.classification.model import Classification, Rule
from otel_resilience.classification.request_shown import REQUEST_ATTRIBUTES

STATUS_ATTRIBUTES: Final = frozenset({"code", "headers", "http_status", "response", "status", "status_code"})
"""Attributes in which an exception may carry an HTTP status."""
CLASSIFICATION: Final = frozenset({"classification"})
"""The attribute in which it may carry its own verdict."""
READ: Final = STATUS_ATTRIBUTES | CLASSIFICATION | REQUEST_ATTRIBUTES
"""All attributes that the rules of this library read from exceptions of any class."""

Decides = Callable[[type[BaseException]], bool]
Parts = Callable[[type[BaseException]], tuple[Rule, ...]]


class _Known(NamedTuple):
    """What is known about a rule."""

    decides: Decides = lambda kind: False
    reads: frozenset[str] = frozenset()
    parts: Parts | None = None
    rule: Rule | None = None
    """The rule itself, kept alive so that no other rule gets its ``id``."""


_NOTHING: Final = _Known()
_known: Final[dict[int, _Known]] = {}
"""By the ``id`` of each marked rule, since a user's rule may not be hashable."""


def decided_by_class(
    decides: Decides, *, reads: frozenset[str] = frozenset(), parts: Parts | None = None
) -> Callable[[Rule], Rule]:
    """For a rule that returns the same for all exceptions of a class for which ``decides`` is true, if they have no
    cause and none of the attributes in :data:`READ`.

    ``reads``: the rule passes on an exception without these attributes. ``parts``: the rules that it asks in turn about
    exceptions of a class.
    """

    def mark(rule: Rule) -> Rule:
        _known[id(rule)] = _Known(decides, reads, parts, rule)
        return rule

    return mark


class ClassPlan:
    """How the rules of one classifier judge the exceptions of exactly one class."""

    __slots__ = ("decides", "is_control_flow", "is_given", "is_group", "reads_plainly", "rules", "shows_no_request",
                 "verdict")  # fmt: skip

    def __init__(
        self, kind: type[BaseException], first: tuple[Rule, ...], given: Classification | None, rules: tuple[Rule, ...]
    ) -> None:
        """``given``: the verdict on all of them, before which only the rules ``first`` are asked."""
        self.is_group = issubclass(kind, BaseExceptionGroup)
        self.is_control_flow = is_control_flow_class(kind)  # type: ignore[arg-type]  # mypy does not see that classes are hashable
        self.is_given = given is not None and not first
        asked = first
        for rule in rules if given is None else (lambda _: given,):
            parts = _known.get(id(rule), _NOTHING).parts
            asked += (rule,) if parts is None else parts(kind)
        reads = (_known.get(id(rule), _NOTHING).reads for rule in asked)
        self.rules = tuple(
            (rule, names if names and class_has_none_of(kind, names) else None)
            for rule, names in zip(asked, reads, strict=True)
        )
        """Each with the attributes of which the exception must have one, or else the rule passes it on; ``None``: it is
        always asked."""
        self.reads_plainly = reads_plainly(kind)
        self.shows_no_request = class_has_none_of(kind, REQUEST_ATTRIBUTES)
        """If the exception itself has no such attribute."""
        self.decides = class_has_none_of(kind, READ) and all(
            _known.get(id(rule), _NOTHING).decides(kind) for rule in (*first, *rules)
        )
        """Whether the class determines the verdict, without a cause and the attributes in :data:`READ`."""
        self.verdict = None if first else given
        """That verdict, once known; the given one if no rule is asked before it."""
