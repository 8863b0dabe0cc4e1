"""When a call is slow enough to be hedged: after fixed seconds, or above a percentile of recent latencies. Pure."""

from __future__ import annotations

import math
import re
from collections import deque
from typing import Final

from otel_resilience._internal import validation as check

WINDOW: Final = 100
"""How many of the most recent latencies are remembered."""
MINIMUM: Final = 20
"""Latencies that must be known before a percentile means anything."""

_PERCENTILE: Final = re.compile(r"p([1-9]\d?)", re.ASCII)


class HedgeDelay:
    """The wait before a second attempt, from ``hedge_after``. Thread-safe.

    Raises ``TypeError`` or ``ValueError`` naming the parameter.
    """

    def __init__(self, hedge_after: float | str) -> None:
        self._percentile = 0
        self._seconds = 0.0
        if isinstance(hedge_after, str):
            found = _PERCENTILE.fullmatch(hedge_after)
            if found is None:
                raise ValueError(f"hedge_after must be seconds or a percentile from p1 to p99, not {hedge_after!r}")
            self._percentile = int(found[1])
        else:
            self._seconds = check.seconds("hedge_after", hedge_after, zero=True)
        self._latencies: deque[float] = deque(maxlen=WINDOW)

    def add(self, seconds: float) -> None:
        """Records the duration of an attempt."""
        if self._percentile:
            self._latencies.append(seconds)

    def seconds(self) -> float | None:
        """Seconds to wait; ``None`` while too few latencies are known."""
        if not self._percentile:
            return self._seconds
        known = sorted(self._latencies.copy())
        return known[math.ceil(len(known) * self._percentile / 100) - 1] if len(known) >= MINIMUM else None
