"""The rules for a bounded number of places: who has one, and who is next."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

W = TypeVar("W")


class Places(Generic[W]):
    """Pure: ``limit`` places, first come, first served."""

    __slots__ = ("in_use", "limit", "waiting")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_use = 0
        self.waiting: OrderedDict[W, None] = OrderedDict()

    def take(self) -> bool:
        """Takes a free place that nobody is waiting for."""
        if self.in_use >= self.limit or self.waiting:
            return False
        self.in_use += 1
        return True

    def join(self, waiter: W) -> None:
        """Queues behind all who are waiting already."""
        self.waiting[waiter] = None

    def leave(self, waiter: W) -> bool:
        """Stops waiting. ``False`` if the waiter was given a place before."""
        try:
            del self.waiting[waiter]
        except KeyError:
            return False
        return True

    def give(self) -> W | None:
        """Returns a place. The result is the waiter that has it now; ``None`` if it is free."""
        if self.waiting:
            return self.waiting.popitem(last=False)[0]
        if self.in_use:
            self.in_use -= 1
        return None
