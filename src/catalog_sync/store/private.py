"""Our own redis-server on a unix socket, for a machine without a configured one.

Several processes share it. Each holds a shared lock on a file; the one that finds no server starts it, the last one to
leave shuts it down. A killed process releases its lock, so the next process finds its server, uses it and finally shuts
it down. Everything here blocks.
"""

from __future__ import annotations

import dataclasses
import fcntl
import logging
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from catalog_sync.settings.folders import make_private
from catalog_sync.store.errors import PrivateRedisError

log = logging.getLogger(__name__)

START_TIMEOUT = 10.0
"""Maximum seconds until a started server must answer at all."""
LOAD_TIMEOUT = 120.0
"""Maximum seconds for a server that reports that it is loading."""
STOP_TIMEOUT = 5.0
MAX_SOCKET_PATH = 100
"""Bytes; the limit of unix socket addresses is 104 on macOS, 108 on Linux."""
_POLL = 0.002


@dataclasses.dataclass(eq=False)
class PrivateRedis:
    """One process's share in the private server in ``directory``."""

    directory: Path
    program: str
    _: dataclasses.KW_ONLY
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    socket_path: str = dataclasses.field(default="", init=False)
    """The server's socket, once started."""
    _users: IO[bytes] | None = None

    def start(self) -> None:
        """Finds or starts the server. Raises :class:`PrivateRedisError` or ``OSError``."""
        make_private(self.directory)
        self.directory.chmod(0o700)
        with self._start_lock():
            users = (self.directory / "users.lock").open("ab")
            try:
                fcntl.flock(users, fcntl.LOCK_SH)
                self.socket_path = self._find_socket_path()
                if _ask(self.socket_path, b"PING") is None:
                    self._start_server()
                else:
                    self._await_answer(None)
            except BaseException:
                users.close()
                raise
            self._users = users

    def stop(self) -> None:
        """Releases the server; the last process to leave shuts it down and waits until it has ended."""
        users, self._users = self._users, None
        if users is None:
            return
        with users, self._start_lock():
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.debug("the private redis-server is still used by other processes")
                return
            if not _shut_down(self.socket_path):
                log.warning("the private redis-server did not end within %.0f s", STOP_TIMEOUT)
            self._remove_short_directory()

    def _start_lock(self) -> IO[bytes]:
        lock = (self.directory / "start.lock").open("ab")
        fcntl.flock(lock, fcntl.LOCK_EX)
        return lock

    def _find_socket_path(self) -> str:
        path = str(self.directory.absolute() / "redis.sock")
        if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
            return path
        note = self.directory / "socket-path"
        if note.exists():
            noted = Path(note.read_text(encoding="utf-8").strip())
            if _is_ours(noted.parent):
                return str(noted)
        short = Path(tempfile.mkdtemp(prefix="catalog-sync-", dir=_short_temporary_directory())) / "redis.sock"
        note.write_text(f"{short}\n", encoding="utf-8")
        return str(short)

    def _remove_short_directory(self) -> None:
        note = self.directory / "socket-path"
        if not note.exists():
            return
        note.unlink()
        shutil.rmtree(Path(self.socket_path).parent, ignore_errors=True)

    def _start_server(self) -> None:
        data = self.directory / "data"
        data.mkdir(mode=0o700, exist_ok=True)
        try:
            self._launch(data)
        except PrivateRedisError as error:
            if not any(data.iterdir()):
                raise
            # Written by another version of the server, or damaged: the catalogue can be synced again.
            aside = self.directory / f"data.damaged-{int(self.wall_clock())}"
            data.rename(aside)
            data.mkdir(mode=0o700)
            try:
                self._launch(data)
            except PrivateRedisError:
                shutil.rmtree(data)
                aside.rename(data)
                raise
            log.warning("the data of the private redis-server could not be loaded (%s); kept as %s", error, aside.name)

    def _launch(self, data: Path) -> None:
        Path(self.socket_path).unlink(missing_ok=True)
        options = {
            "--port": "0",
            "--unixsocket": self.socket_path,
            "--unixsocketperm": "700",
            "--dir": str(data.absolute()),
            "--logfile": str(self.directory.absolute() / "redis.log"),
            "--appendonly": "yes",
            "--appendfsync": "everysec",
            "--save": "",
            "--databases": "1",
            "--maxmemory-policy": "noeviction",
        }
        process = subprocess.Popen(  # noqa: S603  # the program comes from PATH, the arguments from us
            [self.program, *(part for option in options.items() for part in option)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=data,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            start_new_session=True,
        )
        try:
            self._await_answer(process)
        except BaseException:
            process.kill()
            process.wait()
            raise
        # The server may outlive this process; while this process lives, the exit status must be collected.
        threading.Thread(target=process.wait, name="private-redis-exit", daemon=True).start()

    def _await_answer(self, process: subprocess.Popen[bytes] | None) -> None:
        started = self.clock()
        while True:
            answer = _ask(self.socket_path, b"PING")
            if answer is not None and not answer.startswith(b"-LOADING"):
                return
            if process is not None and process.poll() is not None:
                raise PrivateRedisError(f"redis-server ended with status {process.returncode}; see redis.log")
            if self.clock() - started > (START_TIMEOUT if answer is None else LOAD_TIMEOUT):
                raise PrivateRedisError("redis-server does not answer; see redis.log")
            self.sleep(_POLL)


def _ask(path: str, command: bytes, timeout: float = 2.0) -> bytes | None:
    """The first bytes of the server's reply; ``None`` without one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(path)
            connection.sendall(command + b"\r\n")
            return connection.recv(256) or None
        except OSError:
            return None


def _shut_down(path: str) -> bool:
    """Whether the server has ended. It closes our connection when it exits, after its file was saved."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(STOP_TIMEOUT)
        try:
            connection.connect(path)
        except OSError:
            return True
        try:
            connection.sendall(b"SHUTDOWN\r\n")
            return connection.recv(256) == b""
        except ConnectionError:
            return True
        except OSError:
            return False


def _is_ours(directory: Path) -> bool:
    """Whether no other user can have put a socket there."""
    try:
        found = directory.lstat()
    except OSError:
        return False
    return (
        directory.is_dir() and not directory.is_symlink() and found.st_uid == os.getuid() and not found.st_mode & 0o077
    )


def _short_temporary_directory() -> str:
    usual = tempfile.gettempdir()
    return usual if len(os.fsencode(usual)) < MAX_SOCKET_PATH // 2 else "/tmp"  # noqa: S108  # mkdtemp inside is private
