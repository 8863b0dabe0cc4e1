"""What happens to machines and servers besides a killed process: for ``chaos.py`` and ``soak.py``."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from support.cli import Cli, Supplier
from support.redis_server import RedisServer
from support.worker_world import PERSISTENT

FAKETIME = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
"""Where the system's package installs it; empty if it is not installed."""


class Clock:
    """The wall clock of the processes that start with ``env``: as wrong as ``jump`` says. Needs libfaketime."""

    def __init__(self, directory: Path, library: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._file = directory / "clock"
        self.jump(0)
        self.env = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def jump(self, seconds: int) -> None:
        """Off by that much from now on, within a second."""
        replacement = self._file.with_suffix(".new")
        replacement.write_text(f"{seconds:+d}\n")
        replacement.replace(self._file)


class Neighbour:
    """Another installation on the same Redis, whose keys begin with ``PREFIX``; it does nothing after its one sync."""

    PREFIX = "other:"

    def __init__(self, directory: Path, redis: RedisServer, supplier: Supplier) -> None:
        done = Cli(directory, supplier, redis.url)("run", CATALOG_KEY_PREFIX=self.PREFIX)
        assert done.code == 0, done.err
        self._redis = redis
        with redis.client() as client:
            keys = [key for key in client.scan_iter(f"{self.PREFIX}*", 1000) if client.pttl(key) == -1]
            self._dumps = {key: client.dump(key) for key in keys}
            self._content = {key: _content(client, key) for key in keys}
        assert len(self._content) > 5

    def damage(self) -> list[str]:
        """Its keys that are not as they were."""
        with self._redis.client() as client:
            return [key.decode() for key, was in self._content.items() if _content(client, key) != was]

    def restore(self) -> None:
        """As its operator does after everything was deleted."""
        with self._redis.client() as client:
            for key, dump in self._dumps.items():
                client.restore(key, 0, dump, replace=True)


def _content(client: Any, key: bytes) -> Any:
    match client.type(key):
        case b"string":
            return client.get(key)
        case b"hash":
            return client.hgetall(key)
        case b"zset":
            return client.zrange(key, 0, -1, withscores=True)
        case b"set":
            return client.smembers(key)
        case other:
            return other


def fail_over(redis: RedisServer, directory: Path, *, lag: float) -> None:
    """A replica that has missed the last ``lag`` seconds becomes the primary, behind the same address.

    The old primary refuses writes meanwhile, and forgets what the replica has missed.
    """
    with RedisServer(directory, *PERSISTENT) as replica:
        replica.command("REPLICAOF", "127.0.0.1", redis.port)
        _follow(replica)
        replica.command("REPLICAOF", "NO", "ONE")
        time.sleep(lag)
        redis.command("REPLICAOF", "127.0.0.1", replica.port)
        try:
            _follow(redis)
        finally:
            redis.command("REPLICAOF", "NO", "ONE")


def _follow(replica: RedisServer) -> None:
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        with contextlib.suppress(OSError), replica.client() as client:
            if client.info("replication")["master_link_status"] == "up":
                return
        time.sleep(0.02)
    raise AssertionError("the replica does not follow")


@contextlib.contextmanager
def full_disk(pids: Iterable[int]) -> Iterator[None]:
    """No file of these processes can grow: every write to one fails, that of a log as well."""
    limits: dict[int, tuple[int, int]] = {}
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
            limits[pid] = soft, hard
    try:
        yield
    finally:
        for pid, limit in limits.items():
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)
