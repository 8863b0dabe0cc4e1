"""Which objects of a kind are in use, without keeping them alive."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class InUse(Generic[T]):
    """Objects by identity, once each, for as long as something else refers to them. Safe for threads."""

    def __init__(self) -> None:
        self._objects: weakref.WeakValueDictionary[int, T] = weakref.WeakValueDictionary()

    def add(self, each: T) -> None:
        """Call it when ``each`` is made."""
        self._objects[id(each)] = each

    def __iter__(self) -> Iterator[T]:
        """The objects in use at this moment: a copy, since other threads may add to them meanwhile."""
        return (each for reference in self._objects.valuerefs() if (each := reference()) is not None)
