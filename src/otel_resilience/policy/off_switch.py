"""The off switch: calls are made once and unprotected. Also how any intervention changes a call."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from otel_resilience import telemetry
from otel_resilience._internal import interventions
from otel_resilience._internal.operations import function_name
from otel_resilience.policy.plan import CallOptions
from otel_resilience.telemetry import contract
from otel_resilience.telemetry.event_log import WARN

P = TypeVar("P")

_announced = False


@contextlib.contextmanager
def disabled() -> Iterator[None]:
    """Within the block every protected call of the process is made once, unprotected: for tests and emergencies.

    No retry, no circuit breaker, no limit, no deadline and no fallback; the caller gets whatever the operation returns
    or raises. It applies to all calls that start within the block, in any thread, but not to running ones; blocks may
    be nested and overlap. ``OTEL_RESILIENCE_DISABLED=true`` in the environment, read when the library is imported, does
    the same for the whole process. A circuit counts nothing meanwhile, and keeps its state.

    The spans of such calls have ``resilience.disabled``, and the event ``resilience.disabled`` is emitted when the
    switch is used; if set by the variable, with the first call.

    Examples:
        >>> policy = Policy("supplier", retry=RetryConfig(), fallback="none")
        >>> def fetch():
        ...     raise ConnectionResetError(f"attempt {current_attempt()}")
        >>> with disabled():
        ...     try:
        ...         policy.execute(fetch)
        ...     except ConnectionResetError as error:
        ...         print(error)
        attempt 1
        >>> policy.execute(fetch)
        'none'
    """
    if interventions.count_off(1):
        _announce()
    try:
        yield
    finally:
        interventions.count_off(-1)


def _announce() -> None:
    global _announced  # the variable is announced once per process
    _announced = True
    message = "protected calls are made once and unprotected: the protection of otel_resilience is switched off"
    telemetry.emit(contract.EVENT_DISABLED, WARN, message, {})


def changed_call(
    policy: P,
    unprotected: Callable[[], P],
    operation: Callable[[], Any],
    options: CallOptions,
    deadline: float | None,
    *,
    asynchronous: bool,
) -> tuple[P, Callable[[], Any], CallOptions, float | None]:
    """The inputs of a call after interventions: its policy, operation, options and deadline."""
    name = options.name or function_name(operation)
    options = options.named(name)
    for wrap in interventions.wrappers:
        operation = wrap(policy, name, operation, asynchronous)
    if not interventions.off:
        return policy, operation, options, deadline
    if not _announced:
        _announce()
    return unprotected(), operation, options, None
