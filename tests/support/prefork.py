"""Runs our programs in forks of a process that has the imports, which take most of the time of a short command.

Each still is its own process, with its own arguments, environment, output and exit code.
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
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

COMMAND = "catalog_sync"
API = "catalog_sync.api.command"
WORKER = "catalog_sync.worker"
PRELOADED = {
    COMMAND: (
        "catalog_sync.cli.main",
        "catalog_sync.cli.run",
        "catalog_sync.cli.status",
        "catalog_sync.cli.doctor",
        "catalog_sync.cli.history",
        "catalog_sync.cli.read",
        "catalog_sync.cli.alerts",
        "catalog_sync.composition",
    ),
    API: (
        "catalog_sync.alerts.overview",
        "catalog_sync.api.app",
        "catalog_sync.api.server",
        "catalog_sync.composition",
        "catalog_sync.history",
        "catalog_sync.observability.logs",
        "catalog_sync.observability.sdk",
        "catalog_sync.terminal.arguments",
    ),
    WORKER: (
        "catalog_sync.terminal.arguments",
        "catalog_sync.store.server",
        "catalog_sync.worker.celery_app",
        "catalog_sync.worker.dead_letters",
        "catalog_sync.worker.presence",
        "catalog_sync.worker.process",
        "catalog_sync.worker.transport",
        "celery.apps.worker",
        "celery.concurrency.prefork",
        "celery.worker.consumer",
    ),
}
"""The programs by module, and the modules imported in advance for each; never its own."""

GIVEN_UP_AFTER = 200.0
"""Seconds."""
_READ_AT_START = re.compile("OTEL_|PYTHON|CELERY_|LANG|LC_|PATH$|TERM|COLORTERM|NO_COLOR|FORCE_COLOR")


def may_run(changes: Iterable[str]) -> bool:
    """Whether none of these variables is read at the start of Python or on import."""
    return not any(_READ_AT_START.match(name) for name in changes)


class Started:
    """A running program, with the part of ``subprocess.Popen`` that the tests use."""

    def __init__(
        self, program: str, arguments: Sequence[str], env: Mapping[str, str], stdout: int, stderr: int,
        *, start_new_session: bool = False,
    ) -> None:  # fmt: skip
        """Output goes to the descriptors ``stdout`` and ``stderr``, which the caller closes."""
        self._channel, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(_server(program), [b"!"], [stdout, stderr, theirs.fileno()])
        order = json.dumps([list(arguments), dict(env), start_new_session])
        self._channel.sendall(order.encode() + b"\n")
        self._told = b""
        assert self._heard(1, GIVEN_UP_AFTER), "no process was forked in time"
        self.pid = int(self._told.split(b"\n")[0])
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, ``None`` before the end."""
        if self.returncode is None and self._heard(2, 0):
            self.returncode = int(self._told.split(b"\n")[1])
            self._channel.close()
        return self.returncode

    def wait(self, timeout: float) -> int:
        """The exit code, once there is one; raises ``TimeoutExpired``."""
        if self.returncode is None:
            self._heard(2, timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal; does nothing if it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _heard(self, lines: int, within: float) -> bool:
        """Whether that many lines were received: the first has the process ID, the second the exit code."""
        give_up = time.monotonic() + within
        while self._told.count(b"\n") < lines:
            ready, _, _ = select.select([self._channel], [], [], max(0.0, give_up - time.monotonic()))
            if not ready:
                return False
            part = self._channel.recv(100)
            assert part, "the process that forks has ended"
            self._told += part
        return True


def run(arguments: Sequence[str], env: Mapping[str, str]) -> tuple[int, str, str]:
    """Exit code, output and errors of ``python -m catalog_sync`` with these arguments and this environment."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        started = Started(COMMAND, arguments, env, out.fileno(), errors.fileno())
        try:
            code = started.wait(GIVEN_UP_AFTER)
        except subprocess.TimeoutExpired:
            started.kill()
            raise
        out.seek(0), errors.seek(0)
        return code, out.read(), errors.read()


@functools.cache
def _server(program: str) -> socket.socket:
    """The channel to the process with the imports of a program, which ends with this process."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, program, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdout=subprocess.DEVNULL,
        )
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


def _serve(program: str, channel: socket.socket) -> None:
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
            _wait_for(program, *files)
            return


def _reap(*_: object) -> None:
    """Reaps programs whose end was reported."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _wait_for(program: str, stdout: int, stderr: int, answers: int) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with socket.socket(fileno=answers) as channel:
        arguments, env, start_new_session = json.loads(channel.makefile("r").readline())
        pid = os.fork()
        if pid:
            channel.sendall(b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            os._exit(0)
        if start_new_session:
            os.setsid()
        channel.sendall(b"%d\n" % os.getpid())
    sys.stdout = _opened(stdout, sys.stdout, buffering=-1)
    sys.stderr = _opened(stderr, sys.stderr, buffering=1)
    os.environ.clear()
    os.environ.update(env)
    sys.argv[1:] = arguments
    runpy.run_module(program, run_name="__main__", alter_sys=True)


def _opened(file: int, stream: TextIO, buffering: int) -> TextIO:
    """``file`` as a standard stream, opened as Python opens those."""
    number = stream.fileno()
    os.dup2(file, number)
    os.close(file)
    return open(number, "w", buffering, encoding=stream.encoding, errors=stream.errors, closefd=False)


if __name__ == "__main__":
    sys.path.remove(str(Path(__file__).parent))
    for name in PRELOADED[sys.argv[1]]:
        importlib.import_module(name)
    assert threading.active_count() == 1, "a process with threads cannot be forked"
    gc.freeze()
    _serve(sys.argv[1], socket.socket(fileno=int(sys.argv[2])))
