"""Skips the waits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from otel_resilience.policy.policy import Policy


@contextlib.contextmanager
def no_waits(*policies: Policy) -> Iterator[list[float]]:
    """Within the block these policies do not sleep; yields the list of the waits that they asked for."""
    waits: list[float] = []
    saved = [(policy, policy.sleep, policy.async_sleep) for policy in policies]

    async def skip(seconds: float) -> None:
        waits.append(seconds)

    for policy in policies:
        policy.sleep = waits.append
        policy.async_sleep = skip
    try:
        yield waits
    finally:
        for policy, sleep, async_sleep in saved:
            policy.sleep = sleep
            policy.async_sleep = async_sleep
