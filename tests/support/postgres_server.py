"""A real PostgreSQL for a test: started on a free loopback port, with its data in memory if possible."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

from support.programs import missing
from support.redis_server import free_port

PASSWORD = "right"
_PLACES = ("/usr/lib/postgresql", "/usr/local/opt", "/opt/homebrew/opt")
_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=16MB", "max_connections=12")


def _program(name: str) -> str:
    found = shutil.which(name)
    for place in _PLACES:
        found = found or next((str(path) for path in sorted(Path(place).glob(f"*/bin/{name}"), reverse=True)), None)
    if found is None:
        missing(f"{name} of PostgreSQL is neither on PATH nor in {_PLACES[0]}")
    return found


def _as_user() -> dict[str, object]:
    """PostgreSQL refuses to run as root: then it runs as ``postgres``, which its package creates, or ``nobody``."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            account = pwd.getpwnam(name)
            return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    missing("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")
    raise AssertionError


class PostgresServer:
    """Its port, and its main process. The user is ``postgres``, the password :data:`PASSWORD`."""

    def __init__(self, directory: Path, user: dict[str, object]) -> None:
        self.port = free_port()
        self._user = user
        options = [part for option in _FAST for part in ("-c", option)]
        command = [
            _program("postgres"),
            "-D",
            str(directory),
            "-p",
            str(self.port),
            "-h",
            "127.0.0.1",
            "-k",
            "",
            *options,
        ]
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **user,  # type: ignore[call-overload]
        )

    @property
    def url(self) -> str:
        """The URL with the right password."""
        return self.url_with(PASSWORD)

    def url_with(self, password: str) -> str:
        """The URL with another password."""
        return f"postgresql://postgres:{password}@127.0.0.1:{self.port}/postgres"

    def wait(self) -> None:
        """Waits until it answers."""
        give_up = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.url, connect_timeout=5).close()
            except psycopg.OperationalError:
                if time.monotonic() > give_up or self._process.poll() is not None:
                    raise
                time.sleep(0.02)
            else:
                return

    def shut_down_when_idle(self) -> None:
        """Accepts no new connections; existing ones continue."""
        self._process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """Ends every connection."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(30)


@contextlib.contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A server for the tests of one file."""
    user = _as_user()
    memory = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(prefix="postgres-", dir=memory if os.access(memory, os.W_OK) else None))
    try:
        if user:
            os.chown(root, user["user"], user["group"])  # type: ignore[arg-type]
        secret, data = root / "secret", root / "data"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        subprocess.run(
            [_program("initdb"), "-D", str(data), "-U", "postgres", "--pwfile", str(secret), "-A", "scram-sha-256",
             "--no-locale", "-E", "UTF8", "--no-sync"],
            check=True,
            stdout=subprocess.DEVNULL,
            **user,  # type: ignore[call-overload]
        )  # fmt: skip
        server = PostgresServer(data, user)
        try:
            server.wait()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(root, ignore_errors=True)
