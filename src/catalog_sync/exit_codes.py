"""The exit codes of the commands."""

from __future__ import annotations

from typing import Final

OK: Final = 0
FAILED: Final = 1
"""A failed sync, a failing check, no such bundle, or something unexpected."""
USAGE: Final = 2
"""Wrong arguments or wrong settings; also a group, country or bundle that does not exist."""
PARTIAL: Final = 3
SKIPPED_LOCKED: Final = 4
LOCK_UNAVAILABLE: Final = 5
NO_CATALOGUE: Final = 6
"""There is no catalogue to read."""
BROKEN_PIPE: Final = 141
"""The reader of the output has gone; the code that a shell reports for a process killed by SIGPIPE."""

OF_OUTCOME: Final = {
    "COMPLETE": OK,
    "FAILED": FAILED,
    "PARTIAL": PARTIAL,
    "SKIPPED_LOCKED": SKIPPED_LOCKED,
    "LOCK_UNAVAILABLE": LOCK_UNAVAILABLE,
}
"""By the outcome of a sync."""


def of_signal(number: int) -> int:
    """129 for SIGHUP, 130 for SIGINT, 143 for SIGTERM: what a shell reports for a process ended by it."""
    return 128 + number
