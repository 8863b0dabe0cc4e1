"""The progress of a sync."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

if TYPE_CHECKING:
    from catalog_sync.domain.models import GroupReport


class GroupProgress(NamedTuple):
    """The progress of one group, or of the country that is synced alone. Stored as a JSON list."""

    name: str
    status: Literal["pending", "running", "ok", "stale", "failed"]
    bundles: int = 0
    error: dict[str, Any] | None = None
    """The ``error`` object of the command line; only once the sync has ended."""

    @classmethod
    def of(cls, group: GroupReport) -> Self:
        """The progress of a group according to the report of its sync."""
        return cls(group.name, group.status, group.bundles, group.error.to_json() if group.error else None)


class Progress(NamedTuple):
    """A snapshot of a running sync's progress. Totals grow as they become known."""

    groups_done: int
    groups_total: int
    bundles: int
    """Bundles fetched so far."""
    pages_done: int
    pages_total: int
    current: str | None
    """The scope that progressed last."""
    scopes: tuple[GroupProgress, ...] = ()
    """The progress of each scope to be fetched; empty until they are known."""


OnProgress = Callable[[Progress], None]
"""Called after every page and every group, in the event loop: it must return quickly and not raise."""


class ProgressTracker:
    """Adds up the progress of the groups and notifies the listener."""

    def __init__(self, listener: OnProgress | None) -> None:
        self._listener = listener
        self._ended: dict[str, bool] = {}
        self._scopes: dict[str, GroupProgress] = {}
        self._pages: dict[str, tuple[int, int, int]] = {}
        self._sums = (0, 0, 0)
        """Pages done, total pages and bundles: kept as sums, since a sync of many groups reports often."""

    def begin(self, scopes: Sequence[str]) -> None:
        """Sets the scopes that will be fetched."""
        self._scopes = {name: self._scope(name) for name in scopes}
        self._notify(None)

    def page(self, scope: str, done: int, total: int | None, bundles: int) -> None:
        """``scope`` has fetched page ``done`` of ``total``, with ``bundles`` bundles so far."""
        before, now = self._pages.get(scope, (0, 0, 0)), (done, max(done, total or 0), bundles)
        self._sums = (
            self._sums[0] + now[0] - before[0],
            self._sums[1] + now[1] - before[1],
            self._sums[2] + now[2] - before[2],
        )
        self._pages[scope] = now
        self._moved(scope)

    def group_done(self, scope: str, *, failed: bool = False) -> None:
        """``scope`` has ended, successfully or not."""
        self._ended[scope] = failed
        self._moved(scope)

    def _moved(self, scope: str) -> None:
        if scope in self._scopes:
            self._scopes[scope] = self._scope(scope)
        self._notify(scope)

    def _notify(self, current: str | None) -> None:
        if self._listener is None:
            return
        done, total, bundles = self._sums
        scopes = tuple(self._scopes.values())
        self._listener(Progress(len(self._ended), len(scopes), bundles, done, total, current, scopes))

    def _scope(self, name: str) -> GroupProgress:
        page = self._pages.get(name)
        bundles = page[2] if page else 0
        if name in self._ended:
            return GroupProgress(name, "failed" if self._ended[name] else "ok", bundles)
        return GroupProgress(name, "running" if page else "pending", bundles)
