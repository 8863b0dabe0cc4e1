"""How far a sync has come."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a running sync. Totals grow while they become known."""

    groups_done: int
    groups_total: int
    bundles: int
    """Bundles fetched so far."""
    pages_done: int
    pages_total: int
    current: str | None
    """The scope that moved last."""


OnProgress = Callable[[Progress], None]
"""Called after every page and every group, in the event loop: it must return soon and not raise."""


class ProgressTracker:
    """Adds up what the groups report and tells the listener."""

    def __init__(self, listener: OnProgress | None) -> None:
        self._listener = listener
        self._groups_done = 0
        self._groups_total = 0
        self._pages: dict[str, tuple[int, int, int]] = {}

    def begin(self, groups: int) -> None:
        """So many groups will be fetched."""
        self._groups_total = groups
        self._tell(None)

    def page(self, scope: str, done: int, total: int | None, bundles: int) -> None:
        """``scope`` stands at page ``done`` of ``total`` with ``bundles`` bundles."""
        self._pages[scope] = (done, max(done, total or 0), bundles)
        self._tell(scope)

    def group_done(self, scope: str) -> None:
        """``scope`` is over, well or badly."""
        self._groups_done += 1
        self._tell(scope)

    def _tell(self, current: str | None) -> None:
        if self._listener is None:
            return
        pages = self._pages.values()
        self._listener(
            Progress(
                self._groups_done,
                self._groups_total,
                sum(bundles for _, _, bundles in pages),
                sum(done for done, _, _ in pages),
                sum(total for _, total, _ in pages),
                current,
            )
        )
