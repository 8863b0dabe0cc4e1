"""The keywords of a call, as type checkers see them; each stands once for all overloads."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from otel_resilience._internal.predicates import Retryable
    from otel_resilience.policy.results import RetryResult


class CallKeywords(TypedDict, total=False):
    """What may be said for one call, as type checkers see it: of every way to make one."""

    name: str | None
    idempotent: bool | None
    deadline: float | None
    retry_result: RetryResult | None


class ExecuteKeywords(CallKeywords, total=False):
    """Likewise of :meth:`Policy.execute`."""

    is_retryable: Retryable | None
    permits: int
