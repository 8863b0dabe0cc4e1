"""The argument ``--health-file`` of worker and scheduler."""

from __future__ import annotations

import argparse
from pathlib import Path


def health_file(text: str) -> Path:
    """An argument that names a file in a folder that can be written to; one that an earlier process left is removed."""
    path = Path(text)
    try:
        path.touch()
        path.unlink()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path} cannot be written: {error.strerror}") from error
    return path
