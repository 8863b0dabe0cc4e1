"""Which bundle was seen in which group: pure bookkeeping, one dictionary entry per bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Membership:
    """The groups under which each bundle was fetched, stored as bits."""

    def __init__(self) -> None:
        self._bits: dict[str, int] = {}
        self._groups: dict[int, tuple[str, ...]] = {}
        self._seen: dict[str, int] = {}

    def __contains__(self, name: object) -> bool:
        return bool(self._seen.get(name, 0)) if isinstance(name, str) else False

    def join(self, group: str, name: str) -> bool:
        """Records that ``name`` is in ``group``. Returns whether that is new."""
        bit = self._bit(group)
        before = self._seen.get(name, 0)
        if before & bit:
            return False
        self._seen[name] = before | bit
        return True

    def leave(self, group: str, name: str) -> None:
        """Records that ``name`` is not in ``group`` after all."""
        left = self._seen.get(name, 0) & ~self._bit(group)
        if left:
            self._seen[name] = left
        else:
            self._seen.pop(name, None)

    def names(self, group: str) -> Iterator[str]:
        """The bundles of ``group``."""
        bit = self._bit(group)
        return (name for name, bits in self._seen.items() if bits & bit)

    def groups(self, name: str) -> tuple[str, ...]:
        """The groups of ``name``, in the order in which they were first seen."""
        bits = self._seen.get(name, 0)
        groups = self._groups.get(bits)
        if groups is None:
            groups = self._groups[bits] = tuple(group for group, bit in self._bits.items() if bits & bit)
        return groups

    def same_in(self, groups: Iterable[str]) -> bool:
        """Whether all these groups have exactly the same bundles, and at least one."""
        every = 0
        for group in groups:
            every |= self._bit(group)
        return {bits & every for bits in self._seen.values()} - {0} == {every}

    def _bit(self, group: str) -> int:
        bit = self._bits.get(group)
        if bit is None:
            bit = self._bits[group] = 1 << len(self._bits)
        return bit
