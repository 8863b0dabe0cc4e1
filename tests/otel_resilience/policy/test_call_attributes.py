"""Attributes of calls: CPython shares the names of a few among all instances, and the usual ones must be among them."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from otel_resilience import CircuitBreakerConfig, ConcurrencyLimit, Policy, RetryConfig
from otel_resilience._internal.nesting import enclosing
from otel_resilience.policy.call import _ATTRIBUTES, Call
from otel_resilience.testing import RecordedTelemetry

MOST = 30
"""Names that CPython 3.11 to 3.14 shares."""
PARTS = {
    "usual": {},
    "time limits": {"deadline": 30.0, "attempt_timeout": 10.0},
    "slots": {"deadline": 30.0, "max_concurrency": ConcurrencyLimit(3)},
}


class Operation:
    """Fails so often, then succeeds; keeps the call that it runs in."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.call: Call | None = None

    def __call__(self) -> int:
        inner = enclosing.get()
        while inner is not None and not isinstance(inner, Call):
            inner = inner.outer
        self.call = inner
        self.failures -= 1
        if self.failures >= 0:
            raise ConnectionResetError
        return 42


def test_there_is_room_for_them() -> None:
    assert len(set(_ATTRIBUTES)) == len(_ATTRIBUTES) <= MOST


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("failures", [0, 1, 3], ids=["success", "one retry", "failure"])
@pytest.mark.parametrize("recorded", [False, True], ids=["no SDK", "recorded"])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["def", "async def"])
def test_no_usual_call_has_any_other(
    parts: dict[str, float], failures: int, *, recorded: bool, asynchronous: bool
) -> None:
    policy = Policy("supplier", retry=RetryConfig(base_delay=0), breaker=CircuitBreakerConfig(), **parts)  # type: ignore[arg-type]
    operation = Operation(failures)

    async def fetch() -> int:
        return operation()

    telemetry = RecordedTelemetry().recording() if recorded else contextlib.nullcontext()
    with telemetry, contextlib.suppress(ConnectionResetError):
        asyncio.run(policy.execute(fetch)) if asynchronous else policy.execute(operation)

    assert operation.call is not None
    assert vars(operation.call).keys() - set(_ATTRIBUTES) == set()
