"""``python -m catalog_sync.up``: what ``make up`` runs. Ctrl-C stops everything."""

from __future__ import annotations

import signal
import sys
from typing import Any

from catalog_sync import exit_codes


def main() -> int:
    """See :func:`catalog_sync.up.command.main`; 0 if a signal comes before anything runs."""
    # Importing takes a second, and longer on a busy machine: a Ctrl-C meanwhile is not an error either.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    from catalog_sync.up import command

    return command.main()


def _end(*_: Any) -> None:
    sys.exit(exit_codes.OK)


if __name__ == "__main__":
    sys.exit(main())
