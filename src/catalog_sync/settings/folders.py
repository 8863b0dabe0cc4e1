"""Folders for state: for this user alone."""

from __future__ import annotations

from pathlib import Path


def make_private(folder: Path) -> None:
    """Makes ``folder`` and its missing parents, with mode 0700; what exists stays as it is. Raises ``OSError``.

    ``Path.mkdir`` gives its mode to the last folder alone.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except FileNotFoundError:
        if folder.parent == folder:
            raise
        make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
