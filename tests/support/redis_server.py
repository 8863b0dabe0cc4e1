"""A real redis-server for a test: started on a free loopback port, killed, paused and reconfigured at will."""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from support.programs import require_program

PROGRAM = "redis-server"

_PORTS = range(15_000, 32_000)
"""Below those that the system hands out, so that no other process gets a port between the check and its use."""
_next_ports = itertools.cycle(random.SystemRandom().sample(_PORTS, len(_PORTS)))


def require_redis_server() -> str:
    """The program; without it the test is skipped, but fails if ``CI=true``."""
    return str(require_program(PROGRAM))


_BUS: Final = 10_000
"""Offset of the port on which a cluster node listens to the others."""


def free_port(*, with_bus: bool = False) -> int:
    """A loopback port that was free just now, and that no other call in this process returns. ``with_bus``: the port of
    the cluster's bus was free as well."""
    for port in _next_ports:
        if _is_free(port) and (not with_bus or (port + _BUS in _PORTS and _is_free(port + _BUS))):
            return port
    raise AssertionError("no end")


def _is_free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False


class RedisServer:
    """``with RedisServer(directory) as server: ... server.url``. Data lives in memory unless ``options`` differ."""

    def __init__(
        self, directory: Path, *options: str, password: str | None = None, program_options: tuple[str, ...] = ()
    ) -> None:
        """``program_options`` come first: a configuration file, ``--sentinel``."""
        self._program = require_redis_server()
        self._directory = directory
        self._options = options
        self._program_options = program_options
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port(with_bus="--cluster-enabled" in options)

    @property
    def url(self) -> str:
        """The value for ``REDIS_URL``, with the right password."""
        return self.url_with(self._password)

    def url_with(self, password: str | None) -> str:
        """The URL with another password."""
        return f"redis://{'' if password is None else f':{password}@'}127.0.0.1:{self.port}/0"

    def start(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        secret = () if self._password is None else ("--requirepass", self._password)
        self._process = subprocess.Popen(
            [self._program, *self._program_options, "--port", str(self.port), "--bind", "127.0.0.1",
             "--dir", str(self._directory), "--save", "", *secret, *self._options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        give_up = time.monotonic() + 30
        while time.monotonic() < give_up and self._process.poll() is None:
            try:
                with self.client() as client:
                    client.ping()
                return self
            except redis.ConnectionError:
                time.sleep(0.003)
        self.kill()
        raise RuntimeError("redis-server did not start")

    def client(self) -> redis.Redis:
        """A plain blocking client."""
        return redis.Redis(port=self.port, password=self._password, socket_timeout=5, retry=Retry(NoBackoff(), 0))

    def command(self, *parts: Any) -> Any:
        """One command."""
        with self.client() as client:
            return client.execute_command(*parts)

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def forget(self) -> None:
        """Deletes the data of a killed server on disk."""
        shutil.rmtree(self._directory / "appendonlydir", ignore_errors=True)

    def pause(self) -> None:
        """Pauses the server: it keeps its connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Ends the pause."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
