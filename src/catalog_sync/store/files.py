"""Atomic replacement of files: a reader finds either the old or the new one, complete."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import IO, Any

from catalog_sync.settings.folders import make_private


def write_json_atomically(path: Path, document: Any) -> None:
    """Replaces ``path`` by ``document`` as JSON; missing folders are made, for this user alone. Raises ``OSError``."""
    make_private(path.parent)
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix=f"{path.name}.", suffix=".tmp", encoding="utf-8", delete=False
    ) as file:
        temporary = Path(file.name)
        try:
            json.dump(document, file)
            replace_durably(file, temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def replace_durably(file: IO[Any], temporary: Path, path: Path) -> None:
    """Moves ``file``, open at ``temporary`` in the same folder, to its final path: on disk before it is visible."""
    file.flush()
    os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
