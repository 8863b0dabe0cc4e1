"""The option ``--health-file`` of worker and scheduler."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def _writable(text: str) -> Path:
    """A file in a writable folder; a file that an earlier process left is removed."""
    path = Path(text)
    try:
        path.touch()
        path.unlink()
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be written: {error.strerror}") from error
    return path


HealthFile = Annotated[
    Path | None,
    typer.Option(parser=_writable, metavar="FILE", help="File that is touched as long as the process can do its work."),
]
