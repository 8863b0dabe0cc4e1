"""When the permits of a shared rate limit were given, as exactly as a process can know on a machine that may be busy.

A storage gives a permit between a question and its answer, and what was given is used at once, unless the machine lets
the process wait in between. So there are two times; on an idle machine they are milliseconds apart.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from otel_resilience.storage import RateStep, SharedRateLimiter


class Permit(NamedTuple):
    """A permit that was given between these times of ``time.monotonic``."""

    earliest: float
    latest: float


class WatchedLimiter(SharedRateLimiter):
    """Knows when the last permit of each thread was given, and how many turns it came too late for."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._asked = threading.local()
        self.missed = 0
        super().__init__(*arguments, **options)

    def permit(self) -> Permit:
        """The last one of this thread; to be called at once."""
        latest = time.monotonic()
        return Permit(min(latest, self._asked.used_at - self._asked.for_seconds), latest)

    def _own(self, now: float, cost: int) -> tuple[float, RateStep | None]:
        turn = self._turn_at
        ready, step = super()._own(now, cost)
        self.missed += turn is not None and turn <= now < ready and step is None
        return ready, step

    def _decide(self, ready: float, now: float, *rest: Any) -> float:
        self._asked.for_seconds = self._clock() - now
        return super()._decide(ready, now, *rest)

    def _use(self, now: float, cost: int) -> float:
        self._asked.used_at = now
        return super()._use(now, cost)


def most_within(seconds: float, permits: Iterable[Permit]) -> int:
    """The most of them that were certainly given in one window of that length."""
    given = sorted(permits)
    return max(
        sum(1 for each in given[index:] if each.latest < first.earliest + seconds) for index, first in enumerate(given)
    )
