"""The supplier's rate limit: a fixed window of one second per client address."""

from __future__ import annotations

import dataclasses
import math
from datetime import UTC, datetime, timedelta
from typing import Final

WINDOW: Final = 1.0
"""Seconds."""


@dataclasses.dataclass(frozen=True, slots=True)
class RateDecision:
    """Whether a request may pass, and the corresponding headers."""

    allowed: bool
    limit: int
    remaining: int
    reset_in: float
    """Seconds until the window ends."""
    cost: int

    def headers(self, now: datetime) -> dict[str, str]:
        """The supplier's rate-limit headers, none if there is no limit; ``now`` is the wall clock, aware."""
        if not self.limit:
            return {}
        reset = (now.astimezone(UTC) + timedelta(seconds=self.reset_in)).isoformat(timespec="milliseconds")
        return {
            "X-Ratelimit-Limit": str(self.limit),
            "X-Ratelimit-Remaining": str(self.remaining),
            "X-Ratelimit-Reset": reset.replace("+00:00", "Z"),
            "X-Ratelimit-Cost": str(self.cost),
        }


class FixedWindowLimiter:
    """Counts requests per address and window. ``rate`` is in requests per second; 0 switches the limit off.

    As with the real one, up to twice the rate can pass within a second that spans two windows.
    """

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._window = -math.inf
        self._used: dict[str, int] = {}

    def take(self, address: str, now: float, cost: int = 1) -> RateDecision:
        """Counts a request at ``now`` (seconds, monotonic). A rejected one costs nothing."""
        window = math.floor(now / WINDOW)
        if window != self._window:
            self._window = window
            self._used.clear()
        used = self._used.get(address, 0)
        reset_in = (window + 1) * WINDOW - now
        if not self.rate:
            return RateDecision(True, 0, 0, reset_in, cost)
        allowed = used + cost <= self.rate
        if allowed:
            used += cost
            self._used[address] = used
        return RateDecision(allowed, self.rate, max(self.rate - used, 0), reset_in, cost)
