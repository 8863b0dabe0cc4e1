"""``python -m catalog_sync.worker.beat``: the scheduler's program."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from catalog_sync.programs import run_program
from catalog_sync.worker.health_file import health_file

PROGRAM: Final = "catalog-beat"


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT, then 0. 2 where a setting cannot be used, 1 where anything else ends it."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Asks the workers whether a sync is due.")
    parser.add_argument(
        "--health-file", type=health_file, metavar="FILE", help="file that is touched while the scheduler is well"
    )
    return run_program(PROGRAM, lambda: _run(parser.parse_args(arguments)))


def _run(args: argparse.Namespace) -> int:
    from catalog_sync.worker.scheduler import serve  # loads Celery

    return serve(args.health_file)


if __name__ == "__main__":
    sys.exit(main())
