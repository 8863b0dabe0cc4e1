"""The spelling of groups: which spellings are equivalent, and which one is canonical."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def same_spelling(label: str) -> str:
    """A normal form, equal for labels that differ only in case, hyphens, underscores and spaces."""
    return "".join(character for character in label.casefold() if character not in "-_ ‐–")


class GroupNames:
    """The canonical spelling of each group: the one in the supplier's list.

    Spellings are equivalent as in :func:`same_spelling`, except that a listed name always stands for itself.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._listed = dict.fromkeys(names)
        self._spelling: dict[str, str] = {}
        self._known = {same_spelling(name): name for name in reversed(self._listed)}

    def spelled(self, name: str) -> str:
        """The listed spelling of ``name``; ``name`` itself if no such group is listed."""
        spelling = self._spelling.get(name)
        if spelling is None:
            spelling = self._spelling[name] = self.listed(name) or name
        return spelling

    def all(self) -> frozenset[str]:
        """The listed names."""
        return frozenset(self._listed)

    def listed(self, name: str) -> str | None:
        """The listed spelling, or ``None``."""
        return name if name in self._listed else self._known.get(same_spelling(name))
