"""The progress of a sync on a terminal."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog_sync.sync import OnProgress, Progress


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[OnProgress | None]:
    """A bar with groups, pages and bundles on stderr; ``None`` where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    from catalog_sync.cli.output import console

    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("pages · {task.fields[groups]} groups · {task.fields[bundles]} bundles"),
        TimeElapsedColumn(),
    )
    with Bar(*columns, console=console(sys.stderr), transient=True) as bar:
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
