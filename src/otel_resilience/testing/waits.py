"""No waits: policies continue immediately instead of sleeping."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from otel_resilience.policy.policy import Policy
from otel_resilience.testing.substitution import ASYNC_SLEEP, SLEEP, Substitution


@contextlib.contextmanager
def no_waits(*policies: Policy) -> Iterator[list[float]]:
    """Within the block these policies do not sleep; yields the list of the requested waits, in seconds.

    Without arguments it applies to all policies of the process: existing ones, and those created within the block.

    Examples:
        >>> from otel_resilience.testing import no_waits
        >>> policy = Policy("supplier", retry=RetryConfig(base_delay=10, jitter="none"))
        >>> def fetch():
        ...     if current_attempt() < 3:
        ...         raise ConnectionResetError
        >>> with no_waits(policy) as waits:
        ...     policy.execute(fetch)
        >>> waits
        [10.0, 20.0]
    """
    waits: list[float] = []

    async def skip(seconds: float) -> None:
        waits.append(seconds)

    with Substitution({SLEEP: waits.append, ASYNC_SLEEP: skip}, only=policies):
        yield waits
