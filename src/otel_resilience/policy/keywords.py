"""The keywords of a call for type checkers; defined once for all overloads."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from otel_resilience._internal.predicates import Retryable
    from otel_resilience.policy.results import RetryResult


class CallKeywords(TypedDict, total=False):
    """The keywords for one call, of every way to make one."""

    name: str | None
    idempotent: bool | None
    deadline: float | None
    retry_result: RetryResult | None


class ExecuteKeywords(CallKeywords, total=False):
    """The keywords of :meth:`Policy.execute`."""

    is_retryable: Retryable | None
    permits: int
