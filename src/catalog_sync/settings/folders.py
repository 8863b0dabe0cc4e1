"""Folders for state: for this user alone."""

from __future__ import annotations

from pathlib import Path


def make_private(folder: Path) -> None:
    """Makes ``folder`` and its missing parents, with mode 0700; what exists stays as it is. Raises ``OSError``.

    ``Path.mkdir`` gives its mode to the last folder alone.
    """
    missing = [each for each in folder.parents if not each.exists()]
    for each in (*reversed(missing), folder):
        each.mkdir(mode=0o700, exist_ok=True)
