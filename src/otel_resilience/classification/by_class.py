"""Rules whose answer follows from the class of an exception alone, so that it need not be asked for each one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from otel_resilience._internal.foreign import has_none_of
from otel_resilience.classification.model import Rule

shows_nothing: Final = has_none_of(
    {
        "classification",
        "code",
        "headers",
        "http_status",
        "method",
        "request",
        "request_info",
        "response",
        "status",
        "status_code",
    }
)
"""Whether an exception has none of the attributes that the rules of this library read from exceptions of any class."""

Decides = Callable[[type[BaseException]], bool]
_decides: Final[dict[Rule, Decides]] = {}


def decided_by_class(decides: Decides) -> Callable[[Rule], Rule]:
    """For a rule that answers alike on all exceptions of a class for which ``decides`` holds, where these have no cause
    and :func:`shows_nothing` holds for them."""

    def mark(rule: Rule) -> Rule:
        _decides[rule] = decides
        return rule

    return mark


def class_decides(rules: tuple[Rule, ...], kind: type[BaseException]) -> bool:
    """Whether that holds for all ``rules``. A rule that says nothing of the kind looks at each exception."""
    for rule in rules:
        decides = _decides.get(rule)
        if decides is None or not decides(kind):
            return False
    return True
