"""The rule of the rate limit: a log of the permits in the last window.

A server counts in windows that we cannot see. Whatever they are, a client that never sends more than N requests in any
span of that length stays within N.
"""

from __future__ import annotations

import bisect
import math
from collections import deque
from collections.abc import Mapping
from typing import Any


class SlidingLog:
    """Pure: at most ``limit`` permits within any ``window`` seconds, and none while paused."""

    __slots__ = ("_given", "_limit", "_window", "paused_until")

    def __init__(self, limit: int, window: float) -> None:
        self._limit = limit
        self._window = window
        self._given: deque[float] = deque()
        """When each permit of the last window was given, the oldest first."""
        self.paused_until = -math.inf

    @classmethod
    def load(cls, document: Mapping[str, Any], limit: int, window: float) -> SlidingLog:
        """The log from a document that :meth:`dump` made, perhaps for another limit; empty from an empty document."""
        log = cls(limit, window)
        log._given.extend(document.get("given", ()))
        log.paused_until = document.get("paused_until", -math.inf)
        return log

    def dump(self) -> dict[str, Any]:
        """As a JSON object, with times of the clock by which the permits were given."""
        paused = {} if math.isinf(self.paused_until) else {"paused_until": self.paused_until}
        return {"given": list(self._given), **paused}

    def pause(self, until: float) -> None:
        """No permit before ``until``. An earlier pause that lasts longer stays in effect."""
        self.paused_until = max(self.paused_until, until)

    def ready_at(self, now: float, cost: int = 1, ahead: int = 0) -> float:
        """The earliest time at which ``cost`` permits can be given, after ``ahead`` others; never before ``now``.

        A cost above the limit counts as the whole limit.
        """
        given = self._given
        while given and given[0] + self._window <= now:
            given.popleft()
        start = max(now, self.paused_until)
        over = len(given) + ahead + min(cost, self._limit) - self._limit
        if over <= 0:
            return start
        # The permit whose expiry makes room: one already given, or one still to be given, whole windows after such a
        # one. There may be more than the limit, if the limit was higher before.
        index = over - 1
        rounds = max(0, (index - max(len(given), self._limit)) // self._limit + 1)
        index -= rounds * self._limit
        free = (given[index] if index < len(given) else start) + self._window
        return max(start, free) + rounds * self._window

    def take(self, now: float, cost: int = 1) -> None:
        """Records permits. Check :meth:`ready_at` first."""
        given = self._given
        overtaken = bool(given) and given[-1] > now
        given.extend([now] * min(cost, self._limit))
        if overtaken:  # another permit was used while this one was on its way
            self._given = deque(sorted(given))

    def give_back(self, now: float, taken: float, cost: int = 1) -> None:
        """The last permits given until ``taken`` were not used. Expired permits stay as they are."""
        end = bisect.bisect_right(self._given, taken)
        for index in range(end - 1, max(-1, end - 1 - min(cost, self._limit)), -1):
            if self._given[index] + self._window > now:
                del self._given[index]

    def use(self, now: float, taken: float, cost: int = 1) -> None:
        """The last permits given until ``taken`` are used ``now``, and count from now."""
        self.give_back(now, taken, cost)
        self.take(now, cost)
