"""Ends what ``up`` has started if ``up`` itself was killed: a separate process that waits for that.

``python -m catalog_sync.up.guardian [FOLDER]`` reads ``+PID`` and ``-PID`` from a pipe, one per line. When the pipe is
closed, ``up`` has ended; the remaining processes are ended, and with them the private Redis in ``FOLDER``, which the
guardian holds until then.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from catalog_sync.store.private import PrivateRedis

STOP_WITHIN: Final = 15.0
"""Seconds that the processes are given to end by themselves."""
_LOOK_EVERY: Final = 0.1


def main(arguments: list[str]) -> int:
    """Waits for the end of ``up``, then ends the rest. Ignores signals: ``up`` handles them and closes the pipe."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    private = None
    program = shutil.which("redis-server")
    if arguments and program is not None:
        private = PrivateRedis(Path(arguments[0]), program)
        private.start()
    try:
        end(running(sys.stdin))
    finally:
        if private is not None:
            private.stop()
    return 0


def running(lines: Iterable[str]) -> set[int]:
    """The processes still running when the lines end."""
    found: set[int] = set()
    for line in lines:
        (found.add if line.startswith("+") else found.discard)(int(line[1:]))
    return found


def end(
    processes: set[int], *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Asks the processes to end; after :data:`STOP_WITHIN` kills the rest, with everything they have started."""
    left = {process for process in processes if _signal(os.kill, process, signal.SIGTERM)}
    give_up = clock() + STOP_WITHIN
    while left and clock() < give_up:
        sleep(_LOOK_EVERY)
        left = {process for process in left if _signal(os.kill, process, 0)}
    for process in processes:
        _signal(os.killpg, process, signal.SIGKILL)


def _signal(send: Callable[[int, int], None], process: int, number: int) -> bool:
    """Whether the process, or its group, exists."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        send(process, number)
        return True
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
