"""The progress of a sync on a terminal."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import ProgressColumn

    from catalog_sync.sync.progress import OnProgress, Progress

WITH_DETAILS: Final = 56
WITH_TIME: Final = 64
WITH_BAR: Final = 90
"""Terminal columns from which on details, the time and the bar are shown, with room for six digits of bundles."""


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[OnProgress | None]:
    """A bar with groups, pages and bundles on stderr; ``None`` if stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import Progress as Bar

    from catalog_sync.observability.logs import logs_to
    from catalog_sync.terminal.output import console

    out = console(sys.stderr)
    # While the bar is shown, sys.stderr prints above it; any other line would be joined to the bar.
    with Bar(*_columns(out.width), console=out, transient=True) as bar, logs_to(sys.stderr):
        task = bar.add_task(title, total=None, groups="?", bundles="0")

        def show(progress: Progress) -> None:
            bar.update(
                task,
                completed=progress.pages_done,
                total=progress.pages_total or None,
                groups=f"{progress.groups_done}/{progress.groups_total}" if progress.groups_total else "?",
                bundles=f"{progress.bundles:,}",
            )

        yield show


def _columns(width: int) -> Iterator[ProgressColumn]:
    """The columns that fit ``width`` terminal columns: rich would truncate the rest."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

    yield TextColumn("[bold]{task.description}")
    if width >= WITH_BAR:
        yield BarColumn(bar_width=24)
    yield MofNCompleteColumn()
    if width >= WITH_DETAILS:
        yield TextColumn("pages · {task.fields[groups]} groups · {task.fields[bundles]} bundles")
    if width >= WITH_TIME:
        yield TimeElapsedColumn()
