"""A counter that counts without a lock."""

from __future__ import annotations

import itertools
from collections.abc import Callable


class AtomicCounter:
    """Counts with ``add``, the ``__next__`` of an ``itertools.count``, which is atomic.

    Reading it counts too, so reads are counted and subtracted; that needs the owner's lock.
    """

    __slots__ = ("_reads", "add")

    def __init__(self) -> None:
        self._reads = 0
        self.add: Callable[[], int] = itertools.count().__next__
        """Counts one. Atomic."""

    def read(self) -> int:
        """How often ``add`` was called. Call it under the lock of the owner."""
        total = self.add() - self._reads
        self._reads += 1
        return total
