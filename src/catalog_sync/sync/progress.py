"""How far a sync has come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple


class ScopeProgress(NamedTuple):
    """How far one group, or the country that is synced alone, has come."""

    name: str
    status: Literal["pending", "running", "ok", "failed"]
    bundles: int = 0


class Progress(NamedTuple):
    """A moment of a running sync. Totals grow while they become known."""

    groups_done: int
    groups_total: int
    bundles: int
    """Bundles fetched so far."""
    pages_done: int
    pages_total: int
    current: str | None
    """The scope that moved last."""
    scopes: tuple[ScopeProgress, ...] = ()
    """Each of those that are to be fetched; empty until they are known."""


OnProgress = Callable[[Progress], None]
"""Called after every page and every group, in the event loop: it must return soon and not raise."""


class ProgressTracker:
    """Adds up what the groups report and notifies the listener."""

    def __init__(self, listener: OnProgress | None) -> None:
        self._listener = listener
        self._ended: dict[str, bool] = {}
        self._scopes: tuple[str, ...] = ()
        self._pages: dict[str, tuple[int, int, int]] = {}

    def begin(self, scopes: Sequence[str]) -> None:
        """These will be fetched."""
        self._scopes = tuple(scopes)
        self._notify(None)

    def page(self, scope: str, done: int, total: int | None, bundles: int) -> None:
        """``scope`` stands at page ``done`` of ``total`` with ``bundles`` bundles."""
        self._pages[scope] = (done, max(done, total or 0), bundles)
        self._notify(scope)

    def group_done(self, scope: str, *, failed: bool = False) -> None:
        """``scope`` is over, well or badly."""
        self._ended[scope] = failed
        self._notify(scope)

    def _notify(self, current: str | None) -> None:
        if self._listener is None:
            return
        pages = self._pages.values()
        self._listener(
            Progress(
                len(self._ended),
                len(self._scopes),
                sum(bundles for _, _, bundles in pages),
                sum(done for done, _, _ in pages),
                sum(total for _, total, _ in pages),
                current,
                tuple(map(self._scope, self._scopes)),
            )
        )

    def _scope(self, name: str) -> ScopeProgress:
        page = self._pages.get(name)
        failed = self._ended.get(name)
        if failed is None:
            return ScopeProgress(name, "running" if page else "pending", page[2] if page else 0)
        return ScopeProgress(name, "failed" if failed else "ok", page[2] if page else 0)
