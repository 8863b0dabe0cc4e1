"""The other supported versions of Python, if they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
CLASSIFIER = "Programming Language :: Python :: 3."


def supported() -> list[str]:
    """The versions listed in pyproject.toml: ``["3.11", …]``."""
    project = tomllib.loads((ROOT / "src" / "otel_resilience" / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    named = (each for each in project["classifiers"] if each.startswith(CLASSIFIER))
    return [f"3.{each.removeprefix(CLASSIFIER)}" for each in named]


def others() -> list[str]:
    """The supported versions except the running one."""
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    return [version for version in supported() if version != running]


def find(version: str) -> Path | None:
    """The interpreter of ``version``, from PATH or pyenv; ``None`` if none starts.

    A name on PATH is tried, since a shim of pyenv answers for versions that are not chosen.
    """
    on_path = shutil.which(f"python{version}")
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    by_pyenv = sorted(kept.glob(f"{version}.*/bin/python"), reverse=True)
    for candidate in ([Path(on_path)] if on_path else []) + by_pyenv:
        asked = subprocess.run(
            [candidate, "-c", "import ssl, sqlite3, venv"], capture_output=True, timeout=60, check=False
        )
        if asked.returncode == 0:
            return candidate
    return None


def main() -> None:
    """Prints the interpreters found, for the Makefile."""
    for version in others():
        found = find(version)
        if found is not None:
            print(version, found)


if __name__ == "__main__":
    main()
