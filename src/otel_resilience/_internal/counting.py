"""A counter that needs no lock to count."""

from __future__ import annotations

import itertools
from collections.abc import Callable


class AtomicCounter:
    """Counts with ``add``, the ``__next__`` of an ``itertools.count``, which is atomic.

    Reading it counts as well, which is why reads are counted too: they need the lock of the owner.
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
