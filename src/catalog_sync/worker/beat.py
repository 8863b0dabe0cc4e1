"""``python -m catalog_sync.worker.beat``: the scheduler's program."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from catalog_sync.terminal.arguments import Version, run_single_command
from catalog_sync.worker.health_file import HealthFile

PROGRAM: Final = "catalog-beat"


def main(arguments: list[str] | None = None) -> int:
    """Runs until SIGTERM or SIGINT, then 0. 2 if a setting is not usable, 1 if anything else ends it."""
    return run_single_command(
        PROGRAM, beat, sys.argv[1:] if arguments is None else arguments, "python -m catalog_sync.worker.beat"
    )


def beat(health_file: HealthFile = None, version: Version = False) -> Callable[[], int]:
    """Run the scheduler, which asks the workers at intervals to sync if a sync is due."""
    return lambda: _run(health_file)


def _run(health_file: Path | None) -> int:
    from catalog_sync.worker.scheduler import serve  # loads Celery

    return serve(health_file)


if __name__ == "__main__":
    sys.exit(main())
