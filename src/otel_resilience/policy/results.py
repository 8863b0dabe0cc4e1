"""Results that count as failures, as judged by ``retry_result``, and their verdicts."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, Final

from otel_resilience._internal.foreign import attribute, header_of, is_a, name_of
from otel_resilience._internal.operations import discard, is_awaitable
from otel_resilience._internal.predicates import judges_errors
from otel_resilience.classification import error_types
from otel_resilience.classification.control_flow import pass_interruption_on
from otel_resilience.classification.model import BreakerEffect, Classification, ErrorClass, Severity
from otel_resilience.classification.rules.carried_status import http_status
from otel_resilience.classification.rules.http_status import judge_response
from otel_resilience.errors import FailedResultError

if TYPE_CHECKING:
    from otel_resilience.policy.plan import CallPlan

RetryResult = Callable[[Any], "bool | Classification | None"]
"""Whether a result is a failure that should be retried. A :class:`Classification` is used as the verdict, which also
decides whether to retry; ``False`` or ``None``: the result is good."""

_FAILED: Final = Classification(ErrorClass.TRANSIENT, Severity.MEDIUM, error_types.FAILED_RESULT, BreakerEffect.FAILURE)


def retry_result_predicate(name: str, value: Any) -> RetryResult | None:
    """``value`` as a predicate of results. Raises ``TypeError`` naming the parameter if it cannot be one."""
    if value is None:
        return None
    if not callable(value) or isinstance(value, type):
        raise TypeError(f"{name} must be a function of the result, not {value!r}")
    judges_errors(name, value, judged="result")
    return value  # type: ignore[no-any-return]  # checked as far as can be seen


def verdict_on(result: object, max_retries: int) -> Classification:
    """The verdict on a result that should be retried: by its HTTP status, else transient.

    The predicate asked for the retry: a status that normally is not retried is granted ``max_retries``.
    """
    status = http_status(attribute(result, "status_code")) or http_status(attribute(result, "status"))
    headers = attribute(result, "headers")
    verdict = judge_response(status, functools.partial(header_of, headers)) if status else None
    if verdict is None:
        return _FAILED
    return verdict if verdict.retryable else verdict.replace(max_retries=max_retries)


def judged(
    operation: Callable[[], Any], retry_result: RetryResult, policy: CallPlan, name: str, *, asynchronous: bool
) -> Callable[[], Any]:
    """``operation``, which raises :class:`FailedResultError` if ``retry_result`` judges its result a failure."""

    def check(result: Any) -> Any:
        verdict = _verdict(result, retry_result, policy, name)
        if verdict is not None:
            raise FailedResultError(result, verdict)
        return result

    if asynchronous:

        async def attempt_async() -> Any:
            return check(await operation())

        return attempt_async

    def attempt() -> Any:
        result = operation()
        return _Judged(result, check) if is_awaitable(result) else check(result)

    return attempt


def _verdict(result: Any, retry_result: RetryResult, policy: CallPlan, name: str) -> Classification | None:
    try:
        answer = retry_result(result)
        if is_a(answer, Classification):
            return answer
        if not is_awaitable(answer):
            return verdict_on(result, policy.max_attempts) if answer else None
        discard(answer)
        problem = "returned an awaitable"
    except Exception as broken:  # noqa: BLE001  # a broken predicate must not lose the result
        pass_interruption_on(broken)
        problem = f"failed with {name_of(type(broken))}"
    policy.warn_once("retry_result", f"{name}: the predicate retry_result {problem}; the result counts as a success")
    return None


class _Judged:
    """An awaitable from a ``def``, whose result is judged. A coroutine that is never awaited is closed with it."""

    __slots__ = ("_awaitable", "_check")

    def __init__(self, awaitable: Awaitable[Any], check: Callable[[Any], Any]) -> None:
        self._awaitable = awaitable
        self._check = check

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._run().__await__()

    async def _run(self) -> Any:
        return self._check(await self._awaitable)

    def __del__(self) -> None:
        discard(self._awaitable)
