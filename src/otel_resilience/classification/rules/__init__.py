"""Rule sets: client libraries, the standard library, and the HTTP status that an exception of any client carries.

No module here imports the library that it knows.
"""

from __future__ import annotations

from otel_resilience.classification.classifier import self_described
from otel_resilience.classification.model import Rule
from otel_resilience.classification.rules.carried_status import classify_carried_status
from otel_resilience.classification.rules.clients import classify_client
from otel_resilience.classification.rules.stdlib import classify_stdlib


def default_rules() -> tuple[Rule, ...]:
    """The rules in the order in which they must be asked.

    An exception's own classification goes first. Then client libraries, before the standard library: some of their
    exceptions derive from built-in ones. A carried status comes last: a client's own rules know more.
    """
    return (self_described, classify_client, classify_stdlib, classify_carried_status)


__all__ = ["default_rules"]
