"""Rule sets: client libraries, the standard library, and the HTTP status that an exception of any client carries.

None of them imports the library that it knows.
"""

from __future__ import annotations

from otel_resilience.classification.classifier import self_described
from otel_resilience.classification.model import Rule
from otel_resilience.classification.rules import carried_status, clients, stdlib


def default_rules() -> tuple[Rule, ...]:
    """The rules in the order in which they must be asked.

    An exception that describes itself goes first. Then client libraries and the standard library: some exceptions of
    the former derive from built-in ones. A carried status comes last: a client's own rules know more.
    """
    return (self_described, *clients.RULES, *stdlib.RULES, *carried_status.RULES)


__all__ = ["carried_status", "clients", "default_rules", "stdlib"]
