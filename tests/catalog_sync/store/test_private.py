"""The private redis-server: shared while in use, ended afterwards, found again after a crash."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from catalog_sync.store import CatalogStore, open_store
from catalog_sync.store.private import PrivateRedis
from support.published import make_bundle, publish, quick_policy, store_settings
from support.redis_server import require_redis_server

TESTS = Path(__file__).parents[2]
USER = """
import asyncio, sys
from pathlib import Path
from support.published import store_settings, quick_policy
from catalog_sync.store import open_store

async def main():
    async with open_store(store_settings(Path(sys.argv[1])), quick_policy()) as store:
        await store.ping()
        print(store.backend, flush=True)
        await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def program() -> str:
    return require_redis_server()


def other_process(state_dir: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", USER, str(state_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "private-redis\n"
    return process


def finish(process: subprocess.Popen[str], *, kill: bool = False) -> None:
    if kill:
        process.send_signal(signal.SIGKILL)
        process.wait()
    process.communicate("\n" if not kill else None, timeout=60)


async def server_pid(store: CatalogStore) -> int:
    info = await store.redis.call("info", lambda client: client.info("server"))
    return int(info["process_id"])


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


async def test_the_catalogue_outlives_its_server(tmp_path: Path) -> None:
    settings = store_settings(tmp_path)
    async with open_store(settings, quick_policy()) as store:
        assert (store.backend, store.degraded) == ("private-redis", False)
        meta = await publish(store, "v1", [make_bundle("a")])
        path = tmp_path / "redis" / "redis.sock"
        assert listens(path)
        assert (tmp_path / "redis").stat().st_mode & 0o077 == 0
    assert not listens(path)
    async with open_store(settings, quick_policy()) as store:
        assert await store.current() == meta


async def test_two_processes_share_it_and_the_last_one_shuts_it_down(tmp_path: Path) -> None:
    other = other_process(tmp_path)
    path = tmp_path / "redis" / "redis.sock"
    async with open_store(store_settings(tmp_path), quick_policy()) as store:
        before = await server_pid(store)
        await asyncio.to_thread(finish, other)
        assert await server_pid(store) == before
    assert not listens(path)


async def test_leaving_first_keeps_it_for_the_others(tmp_path: Path) -> None:
    async with open_store(store_settings(tmp_path), quick_policy()) as first:
        async with open_store(store_settings(tmp_path), quick_policy()) as second:
            assert await server_pid(first) == await server_pid(second)
        await first.ping()
    assert not listens(tmp_path / "redis" / "redis.sock")


async def test_a_server_whose_users_were_killed_is_adopted_and_shut_down(tmp_path: Path) -> None:
    other = other_process(tmp_path)
    finish(other, kill=True)
    path = tmp_path / "redis" / "redis.sock"
    assert listens(path)
    async with open_store(store_settings(tmp_path), quick_policy()) as store:
        await store.ping()
    assert not listens(path)


async def test_a_killed_server_is_started_again_by_the_next_user(tmp_path: Path) -> None:
    async with open_store(store_settings(tmp_path), quick_policy()) as store:
        meta = await publish(store, "v1", [make_bundle("a")])
        await asyncio.sleep(1.1)  # the file is synced once a second
        os.kill(await server_pid(store), signal.SIGKILL)
    async with open_store(store_settings(tmp_path), quick_policy()) as store:
        assert await store.current() == meta


async def test_a_state_directory_with_a_long_path_gets_a_short_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    async with open_store(store_settings(deep), quick_policy()) as store:
        assert store.backend == "private-redis"
        short = Path((deep / "redis" / "socket-path").read_text().strip())
        assert short.parent.stat().st_mode & 0o077 == 0
        async with open_store(store_settings(deep), quick_policy()) as again:
            assert await server_pid(again) == await server_pid(store)
    assert not short.parent.exists()


@pytest.mark.fault("F53")
async def test_f53_damaged_data_is_set_aside_and_the_start_is_empty(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "redis" / "data" / "appendonlydir"
    data.mkdir(parents=True)
    (data / "appendonly.aof.manifest").write_text("this is no manifest\n")
    async with open_store(store_settings(tmp_path), quick_policy()) as store:
        assert store.backend == "private-redis"
        assert await store.current() is None
    assert len(list((tmp_path / "redis").glob("data.damaged-*"))) == 1
    assert "could not be loaded" in caplog.text


async def test_a_server_that_cannot_start_leaves_the_store_in_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "bin" / "redis-server"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken.parent}:{os.environ['PATH']}")
    async with open_store(store_settings(tmp_path / "state"), quick_policy(10)) as store:
        assert store.degraded
    assert "could not be started" in caplog.text


def test_it_starts_and_stops_without_a_loop(tmp_path: Path, program: str) -> None:
    private = PrivateRedis(tmp_path / "redis", program)
    private.start()
    private.stop()
    private.stop()
    assert not listens(Path(private.socket_path))
