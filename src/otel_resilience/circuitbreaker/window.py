"""A sliding window over call results: ten buckets, constant memory, pure.

Successes are by far the most frequent result, so ``succeed`` counts them without a lock. Everything else here runs
under the lock of the breaker.
"""

from __future__ import annotations

import math
from typing import Final

from otel_resilience._internal.counting import AtomicCounter

BUCKETS = 10
_SHORTEST: Final = 1e-9
"""Minimum seconds that a bucket covers: no clock distinguishes shorter times."""


class SlidingWindow:
    """Successes, failures and slow calls of the last ``period`` seconds, in steps of a tenth of it.

    A bucket expires when its start is ``period`` or more in the past.
    """

    __slots__ = ("_all_successes", "_failures", "_index", "_slow", "_successes", "bucket_end", "failures",
                 "period", "seen", "slow", "succeed", "successes", "width")  # fmt: skip

    def __init__(self, period: float) -> None:
        self.period = period
        self.width = max(period / BUCKETS, _SHORTEST)
        """Seconds that a bucket covers."""
        self.reset()

    def reset(self) -> None:
        """Forgets everything."""
        self._successes = [0] * BUCKETS
        self._failures = [0] * BUCKETS
        self._slow = [0] * BUCKETS
        self.successes = self.failures = self.slow = 0
        self._index: int | None = None
        self.bucket_end = -math.inf
        """Until this time ``succeed`` alone may count successes; afterwards :meth:`roll` comes first."""
        self.seen = 0
        """Successes since the last reset that :meth:`roll` has already counted."""
        self._all_successes = AtomicCounter()
        self.succeed = self._all_successes.add
        """Counts one success. Atomic."""

    def total_successes(self) -> int:
        """Successes since the last reset."""
        return self._all_successes.read()

    def roll(self, now: float) -> None:
        """Closes the bucket of earlier successes and drops expired buckets."""
        self._absorb()
        index = int(now // self.width)
        if self._index is None:
            self._index = index
        steps = index - self._index
        if steps > 0:
            for step in range(1, min(steps, BUCKETS) + 1):
                slot = (self._index + step) % BUCKETS
                self.successes -= self._successes[slot]
                self.failures -= self._failures[slot]
                self.slow -= self._slow[slot]
                self._successes[slot] = self._failures[slot] = self._slow[slot] = 0
            self._index = index
        self.bucket_end = (self._index + 1) * self.width

    def fail(self, now: float) -> None:
        """Counts one failure."""
        self.roll(now)
        self._failures[self._slot()] += 1
        self.failures += 1

    def slow_call(self, now: float) -> None:
        """Marks one already counted call as slow."""
        self.roll(now)
        self._slow[self._slot()] += 1
        self.slow += 1

    def add_successes(self, number: int, now: float) -> None:
        """Counts several successes that were reported together."""
        self.roll(now)
        self._successes[self._slot()] += number
        self.successes += number

    def load(self, buckets: list[list[int]]) -> None:
        """Takes over what :meth:`dump` wrote. Call it on an empty window of the same period."""
        if not buckets:
            return
        self._index = max(bucket[0] for bucket in buckets)
        for index, successes, failures, slow in buckets:
            if index > self._index - BUCKETS:
                self._successes[index % BUCKETS] = successes
                self._failures[index % BUCKETS] = failures
                self._slow[index % BUCKETS] = slow
        self.successes, self.failures, self.slow = sum(self._successes), sum(self._failures), sum(self._slow)

    def dump(self) -> list[list[int]]:
        """The non-empty buckets: number, successes, failures, slow calls."""
        self._absorb()
        if self._index is None:
            return []
        slots = ((index, index % BUCKETS) for index in range(self._index - BUCKETS + 1, self._index + 1))
        buckets = ([index, self._successes[slot], self._failures[slot], self._slow[slot]] for index, slot in slots)
        return [bucket for bucket in buckets if any(bucket[1:])]

    @property
    def calls(self) -> int:
        """Successes and failures in the window, as of the last :meth:`roll`."""
        return self.successes + self.failures

    def _absorb(self) -> None:
        total = self._all_successes.read()
        fresh = total - self.seen
        if fresh and self._index is not None:
            self._successes[self._index % BUCKETS] += fresh
            self.successes += fresh
        self.seen = total

    def _slot(self) -> int:
        return (self._index or 0) % BUCKETS
