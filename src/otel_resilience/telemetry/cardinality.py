"""Bounds on the number of distinct attribute values, so that no metric grows without limit."""

from __future__ import annotations

from typing import Final

from otel_resilience.telemetry.contract import STORAGES

MAX_DEPENDENCIES: Final = 64
"""Dependencies that metrics distinguish; further ones are ``_OTHER``."""
MAX_OPERATIONS: Final = 64
"""Operations per dependency that metrics distinguish; further ones are ``_OTHER``."""
MAX_ERROR_TYPES: Final = 256
"""Values of ``error.type`` that metrics distinguish; further ones are ``_OTHER``."""
MAX_ATTRIBUTE_SETS: Final = 4096
"""Attribute sets that are cached; further ones are created on each call."""
OTHER: Final = "_OTHER"


class BoundedNames:
    """Lets the first ``limit`` distinct names pass and calls the rest ``_OTHER``."""

    __slots__ = ("_known", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        known = self._known.get(name)
        if known is not None:
            return known
        if len(self._known) >= self._limit:
            return OTHER
        return self._known.setdefault(name, name)


bounded_dependency: Final = BoundedNames(MAX_DEPENDENCIES)
bounded_error_type: Final = BoundedNames(MAX_ERROR_TYPES)


def bounded_storage(name: str) -> str:
    """The kind of a storage, or the last of the known kinds for any other."""
    return name if name in STORAGES else STORAGES[-1]
