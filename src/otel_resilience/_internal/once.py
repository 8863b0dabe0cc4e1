"""Remembers what was already said, in bounded memory."""

from __future__ import annotations

import weakref
from typing import Final

from otel_resilience._internal.forks import new_lock, renew_lock_after_fork

MAX_NAMES: Final = 1_000
MAX_CLASSES_OF_A_NAME: Final = 3
"""Some libraries make new exception classes for each client; to a reader of logs those are the same."""


class Once:
    """The subjects that were seen already. Thread-safe."""

    def __init__(self) -> None:
        self._classes: weakref.WeakSet[type] = weakref.WeakSet()
        self._names: dict[str, int] = {}
        self._lock = new_lock()
        renew_lock_after_fork(self)

    def first(self, name: str, kind: type | None = None) -> bool:
        """Whether ``name`` is seen for the first time; with ``kind``, whether that class is.

        ``False`` as well after :data:`MAX_NAMES` names, and after :data:`MAX_CLASSES_OF_A_NAME` classes of one name.
        """
        if kind is not None and kind in self._classes:
            return False
        with self._lock:
            times = self._names.get(name, 0)
            if kind is not None:
                if kind in self._classes:
                    return False
                self._classes.add(kind)
            if times >= (1 if kind is None else MAX_CLASSES_OF_A_NAME) or (not times and len(self._names) >= MAX_NAMES):
                return False
            self._names[name] = times + 1
            return True
