"""Exceptions that control a program instead of reporting a failure: cancellation, exits, a job queue's own signals.

They pass every layer unchanged: never retried, never counted, never reported as errors, and never shown to a rule.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
from typing import Final, TypeGuard

from otel_resilience._internal.foreign import bases_of, name_of

CANCELLATIONS: Final = (asyncio.CancelledError, concurrent.futures.CancelledError)
"""In a group next to failures, they only say that the failures ended the other tasks of the group."""

_INTERRUPTIONS: Final = frozenset(
    {
        "billiard.exceptions.SoftTimeLimitExceeded",
        "rq.timeouts.BaseTimeoutException",
        "rq.worker.StopRequested",
        "rq.worker.base.StopRequested",
    }
)
"""Raised by job queues from a signal handler, and therefore in the middle of any code."""
_BY_NAME: Final = _INTERRUPTIONS | frozenset(
    {
        "builtins.StopIteration",
        "builtins.StopAsyncIteration",
        "grpc.FutureCancelledError",
        "twisted.internet.defer.CancelledError",
        "bdb.BdbQuit",
        "unittest.case.SkipTest",
        # job queues: what a task raises to be run again, to be dropped, or because its time or its worker ends
        "celery.exceptions.TaskPredicate",  # base of Retry, Ignore and Reject
        "celery.exceptions.Retry",
        "celery.exceptions.Ignore",
        "celery.exceptions.Reject",
        "dramatiq.errors.Retry",
        "dramatiq.middleware.threading.Interrupt",
        "huey.exceptions.RetryTask",
        "huey.exceptions.CancelExecution",
        "arq.worker.Retry",
        "arq.worker.RetryJob",
        "airflow.exceptions.AirflowSkipException",
        "airflow.exceptions.AirflowRescheduleException",
        # Tornado: the end of a response, the value of a coroutine
        "tornado.web.Finish",
        "tornado.gen.Return",
    }
)
"""Classes by module and name, so that nothing is imported; their subclasses count as well."""


def is_control_flow(exception: BaseException) -> bool:
    """Whether ``exception`` is control flow: a ``BaseException`` that is not an ``Exception``, and a few that are.

    A group is not, whatever its members are; see :class:`~otel_resilience.Classifier`.
    """
    return is_control_flow_class(type(exception))  # type: ignore[arg-type]  # mypy does not see that classes are hashable


def is_group(exception: BaseException) -> TypeGuard[BaseExceptionGroup[BaseException]]:
    """Whether ``exception`` is a group of others."""
    return issubclass(type(exception), BaseExceptionGroup)


@functools.lru_cache(maxsize=512)
def is_control_flow_class(kind: type[BaseException]) -> bool:
    """Like :func:`is_control_flow`, for all exceptions of exactly this class."""
    if issubclass(kind, BaseExceptionGroup):
        return False
    if not issubclass(kind, Exception) or issubclass(kind, CANCELLATIONS):
        return True
    return any(name_of(base) in _BY_NAME for base in bases_of(kind))


def pass_interruption_on(caught: Exception) -> None:
    """Raises ``caught`` if it ends a job: for code that suppresses the errors of others, and may be interrupted."""
    if any(name_of(base) in _INTERRUPTIONS for base in bases_of(type(caught))):
        raise caught
