"""``python -m catalog_sync`` in processes forked from one that has the imports: they are most of a short command.

Each command is still a process of its own, with its own arguments, environment, output and end.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

PACKAGE = "catalog_sync"
_PRELOADED = (
    f"{PACKAGE}.cli.main",
    f"{PACKAGE}.cli.run",
    f"{PACKAGE}.cli.status",
    f"{PACKAGE}.cli.doctor",
    f"{PACKAGE}.cli.history",
    f"{PACKAGE}.cli.read",
    f"{PACKAGE}.cli.alerts",
    f"{PACKAGE}.composition",
)


GIVEN_UP_AFTER = 200.0
"""Seconds."""
_READ_AT_START = re.compile("OTEL_|PYTHON|LANG|LC_|PATH$|TERM|COLORTERM|NO_COLOR|FORCE_COLOR")


def may_run(changes: Iterable[str]) -> bool:
    """Whether none of these variables is read when Python starts or a module is imported."""
    return not any(_READ_AT_START.match(name) for name in changes)


def run(arguments: Sequence[str], env: Mapping[str, str]) -> tuple[int, str, str]:
    """Exit code, output and errors of ``python -m catalog_sync`` with these arguments and this environment."""
    ours, theirs = socket.socketpair()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        with theirs:
            socket.send_fds(_server(), [b"!"], [out.fileno(), errors.fileno(), theirs.fileno()])
        with ours, ours.makefile("rw") as channel:
            print(json.dumps([list(arguments), dict(env)]), file=channel, flush=True)
            ours.settimeout(GIVEN_UP_AFTER)
            pid = int(channel.readline())
            try:
                code = int(channel.readline())
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise
        out.seek(0), errors.seek(0)
        return code, out.read(), errors.read()


@functools.cache
def _server() -> socket.socket:
    """The channel to the process that has the imports; that ends with this one."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()], stdout=subprocess.DEVNULL
        )
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


def _serve(channel: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, _reap)
    while True:
        word, files, _, _ = socket.recv_fds(channel, 1, 3)
        if not word:
            return
        if os.fork():
            for file in files:
                os.close(file)
        else:
            channel.close()
            _wait_for_command(*files)
            return


def _reap(*_: object) -> None:
    """Those that waited for a command and have told how it ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _wait_for_command(stdout: int, stderr: int, answers: int) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with socket.socket(fileno=answers) as channel:
        arguments, env = json.loads(channel.makefile("r").readline())
        pid = os.fork()
        if pid:
            channel.sendall(b"%d\n" % pid)
            channel.sendall(b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            os._exit(0)
    sys.stdout = _opened(stdout, sys.stdout, buffering=-1)
    sys.stderr = _opened(stderr, sys.stderr, buffering=1)
    os.environ.clear()
    os.environ.update(env)
    sys.argv[1:] = arguments
    runpy.run_module(PACKAGE, run_name="__main__", alter_sys=True)


def _opened(file: int, stream: TextIO, buffering: int) -> TextIO:
    """``file`` in the place of a standard stream, as Python opens those."""
    number = stream.fileno()
    os.dup2(file, number)
    os.close(file)
    return open(number, "w", buffering, encoding=stream.encoding, errors=stream.errors, closefd=False)


if __name__ == "__main__":
    sys.path.remove(str(Path(__file__).parent))
    for name in _PRELOADED:
        importlib.import_module(name)
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
