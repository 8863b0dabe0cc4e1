"""Injected faults: errors and latency in calls that a policy protects, for tests and for game days.

    with faults.inject(dependency="supplier", error=lambda: ConnectionError("injected"), rate=0.2, seed=1):
        ...

Nothing is injected outside such a block. It applies to the whole process, and blocks may be nested.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

from opentelemetry import trace as trace_api

from otel_resilience import telemetry
from otel_resilience._internal import interventions
from otel_resilience._internal import validation as check
from otel_resilience.telemetry import contract

if TYPE_CHECKING:
    from otel_resilience.policy.policy import Policy

__all__ = ["Injection", "inject"]

_log = logging.getLogger("otel_resilience")


class Injection:
    """The faults of one block of :func:`inject`, which creates it.

    Examples:
        >>> from otel_resilience.testing import faults
        >>> policy = Policy("supplier", retry=RetryConfig())
        >>> with faults.inject(dependency="supplier", error=TimeoutError, times=1) as injection:
        ...     policy.execute(lambda: "plans")
        'plans'
        >>> injection.attempts, injection.injected
        (2, 1)
    """

    def __init__(
        self, dependency: str | None, operation: str | None, error: Callable[[], BaseException] | None, rate: float,
        latency: float, times: int | None, seed: int | None,
    ) -> None:  # fmt: skip
        """Like :func:`inject`; ``latency`` in seconds."""
        self.attempts = 0
        """Attempts that could have been given a fault."""
        self.injected = 0
        """Attempts that were given one."""
        self._dependency = dependency
        self._operation = operation
        self._error = error
        self._rate = rate
        self._latency = latency
        self._times = times
        self._random = random.Random(seed)  # noqa: S311  # not security-relevant
        self._lock = threading.Lock()

    def _wrap(
        self, policy: Policy, name: str, operation: Callable[[], Any], asynchronous: bool
    ) -> Callable[[], Any]:  # fmt: skip
        """The operation with these faults; unchanged if they do not apply to it."""
        if self._dependency not in (None, policy.dependency) or self._operation not in (None, name):
            return operation

        def faulty() -> Any:
            if self._draw():
                if self._latency:
                    policy.sleep(self._latency)
                self._raise()
            return operation()

        async def faulty_async() -> Any:
            if self._draw():
                if self._latency:
                    await policy.async_sleep(self._latency)
                self._raise()
            awaitable: Awaitable[Any] = operation()
            return await awaitable

        return faulty_async if asynchronous else faulty

    def _draw(self) -> bool:
        with self._lock:
            self.attempts += 1
            hit = self._random.random() < self._rate and (self._times is None or self.injected < self._times)
            self.injected += hit
        if hit:
            _mark("latency" if self._error is None else "error")
        return hit

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error()


@contextlib.contextmanager
def inject(
    *,
    dependency: str | None = None,
    operation: str | None = None,
    error: Callable[[], BaseException] | None = None,
    latency: float = 0.0,
    rate: float = 1.0,
    times: int | None = None,
    seed: int | None = None,
) -> Iterator[Injection]:
    """Within the block, injects faults into attempts of calls that a policy protects, before their operation runs.

    ``dependency`` and ``operation`` (the ``name`` of the call) select the calls, ``None``: all. First ``latency``
    seconds are waited, with the policy's ``sleep``, then the result of ``error`` is raised instead of running the
    operation. ``rate`` is the share of the attempts, 0 to 1; ``times`` the maximum number of attempts that are hit. The
    same ``seed`` hits the same attempts, counted in the order in which they start. Faults affect attempts under a
    policy's ``execute`` and its decorators, but not blocks of ``policy.attempts()``.

    The span of such an attempt has ``resilience.fault.injected``: ``error`` or ``latency``. A warning is logged when
    the block begins. Raises ``TypeError`` or ``ValueError`` naming the parameter.

    Examples:
        >>> from otel_resilience.testing import faults
        >>> policy = Policy("supplier", retry=RetryConfig())
        >>> with faults.inject(operation="list plans", error=TimeoutError, times=2) as injection:
        ...     policy.execute(lambda: "plans", name="list plans")
        'plans'
        >>> injection.injected
        2
    """
    check.optional_label("dependency", dependency)
    check.optional_label("operation", operation)
    if error is not None and not callable(error):
        raise TypeError(f"error must be a function that makes an exception, such as its class, not {error!r}")
    check.seconds("latency", latency, zero=True)
    check.number("rate", rate, minimum=0, maximum=1)
    if times is not None:
        check.count("times", times)
    if error is None and not latency:
        raise ValueError("error or latency must be given: otherwise there is no fault")
    injection = Injection(dependency, operation, error, rate, latency, times, seed)
    _log.warning(
        "faults are injected into %s of %s (rate %g)", operation or "calls", dependency or "every policy", rate
    )
    wrap = injection._wrap  # noqa: SLF001  # one unit; a bound method is a new object on each access
    interventions.add(wrap)
    try:
        yield injection
    finally:
        interventions.remove(wrap)


@telemetry.never_raise
def _mark(kind: str) -> None:
    if telemetry.active() is not None:  # otherwise the current span is not that of the attempt
        trace_api.get_current_span().set_attribute(contract.FAULT_INJECTED, kind)
