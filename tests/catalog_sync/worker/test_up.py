"""``make up``: everything starts, works, is restarted when it dies, and has ended after Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.redis_server import RedisServer, free_port, require_redis_server
from support.worker_world import GIVEN_UP_AFTER, process_environment

TOKEN = "token-of-up-4711"


class Up:
    """A running ``python -m catalog_sync.up``."""

    def __init__(self, directory: Path, **changes: str) -> None:
        self.port = free_port()
        self.state = directory / "state"
        self.log = directory / "up.log"
        env = {
            **process_environment(),
            "CATALOG_API_PORT": str(self.port),
            "CATALOG_API_TOKEN": TOKEN,
            "CATALOG_STATE_DIR": str(self.state),
            **changes,
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "catalog_sync.up"], env=env, stdout=log, stderr=log, start_new_session=True
            )

    def said(self) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if line.startswith("up: ")]

    def descendants(self) -> dict[int, str]:
        """Everything that was started, by process ID: known by the state folder in its environment."""
        found = {}
        marker = f"CATALOG_STATE_DIR={self.state}".encode()
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and marker in (entry / "environ").read_bytes().split(b"\0"):
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    if command:
                        found[int(entry.name)] = command
        return found

    def redis_servers(self) -> list[str]:
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes().decode()
                if (
                    entry.name.isdigit()
                    and "redis-server" in command
                    and str(self.state) in str((entry / "cwd").readlink())
                ):
                    found.append(command)
        return found

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(GIVEN_UP_AFTER)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    require_redis_server()
    running = Up(tmp_path)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.stop(signal.SIGTERM)


def wait_until(condition: Callable[[], Any], up: Up, seconds: float = GIVEN_UP_AFTER) -> Any:
    give_up = time.monotonic() + seconds
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if result := condition():
                return result
        assert time.monotonic() < give_up, up.log.read_text()[-4000:]
        time.sleep(0.1)


def sync(client: httpx.Client, up: Up) -> dict[str, Any]:
    wanted = {"kind": "country", "scope": "PT"}

    def accepted() -> httpx.Response | None:
        answer = client.post("/syncs", json=wanted, headers={"Authorization": f"Bearer {TOKEN}"})
        return None if answer.status_code == 409 else answer  # the scheduler's own sync is under way

    answer: httpx.Response = wait_until(accepted, up)
    assert answer.status_code == 202, answer.text
    link = answer.json()["links"]["self"]

    def ended() -> dict[str, Any] | None:
        job: dict[str, Any] = client.get(link).json()
        return job if job["status"] == "finished" else None

    job: dict[str, Any] = wait_until(ended, up)
    return job


def test_everything_starts_works_comes_back_and_ends(up: Up) -> None:
    wait_until(lambda: any("Ctrl-C" in line for line in up.said()), up)
    assert TOKEN not in up.log.read_text()
    with httpx.Client(base_url=f"http://127.0.0.1:{up.port}", trust_env=False, timeout=60) as client:
        first = sync(client, up)
        assert first["outcome"] == "COMPLETE", first["report"]
        api = next(pid for pid, command in up.descendants().items() if "catalog_sync.api.command" in command)
        os.kill(api, signal.SIGKILL)
        wait_until(lambda: client.get("/health/live").status_code == 200, up)
        workers = [pid for pid, command in up.descendants().items() if "--name worker-" in command]
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        second = sync(client, up)
        assert second["outcome"] == "COMPLETE", second["report"]
    assert len(up.redis_servers()) == 1
    assert up.stop(signal.SIGINT) == 0
    assert up.descendants() == {}
    assert up.redis_servers() == []


@pytest.mark.fault("U10")
def test_nothing_is_left_when_it_is_killed(up: Up) -> None:
    wait_until(lambda: any("Ctrl-C" in line for line in up.said()), up)
    assert len(up.redis_servers()) == 1
    assert up.stop(signal.SIGKILL) == -signal.SIGKILL
    wait_until(lambda: not up.descendants() and not up.redis_servers(), up)


@pytest.mark.fault("U10")
@pytest.mark.parametrize("seconds", [0.2, 1.0, 3.0])
def test_it_ends_without_a_word_of_error_whenever_it_is_stopped(tmp_path: Path, seconds: float) -> None:
    """While modules are loaded, while Redis and the simulator start, and later."""
    require_redis_server()
    up = Up(tmp_path)
    time.sleep(seconds)  # there is nothing to wait for: any moment will do
    assert up.stop(signal.SIGINT) == 0, up.log.read_text()
    assert "Traceback" not in up.log.read_text()
    assert up.descendants() == {}
    assert up.redis_servers() == []


@pytest.mark.fault("U10")
def test_a_worker_that_finishes_its_work_has_the_supplier_until_then(tmp_path: Path) -> None:
    """Ctrl-C in the middle of a sync: what is finished is not failed by the end of the simulator."""
    require_redis_server()
    up = Up(tmp_path)
    wait_until(lambda: "scopes are fetched" in up.log.read_text(), up)
    assert up.stop(signal.SIGINT) == 0
    log = up.log.read_text()
    assert "connection_error" not in log, log[-3000:]
    assert up.descendants() == {}


def test_the_help_starts_nothing(tmp_path: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "catalog_sync.up", "--help"],
        env={**process_environment(), "CATALOG_STATE_DIR": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        timeout=GIVEN_UP_AFTER,
        check=True,
    )
    assert "Ctrl-C" in shown.stdout
    assert list(tmp_path.iterdir()) == []


def test_it_says_what_is_wrong_and_starts_nothing(tmp_path: Path) -> None:
    up = Up(tmp_path, ESIM_GO_BASE_URL="http://127.0.0.1:9/v2.5")
    assert up.process.wait(GIVEN_UP_AFTER) == 2
    assert "ESIM_GO_API_KEY" in up.said()[0]
    assert up.descendants() == {}


def test_what_is_set_to_nothing_is_not_set(tmp_path: Path) -> None:
    require_redis_server()
    up = Up(tmp_path, ESIM_GO_BASE_URL=" ", CATALOG_API_TOKEN="\t", REDIS_URL=" ", CATALOG_WORKERS="1")
    try:
        wait_until(lambda: any(line.startswith("up: token for requests") for line in up.said()), up)
    finally:
        up.stop(signal.SIGTERM)
    assert up.said()[0].startswith("up: no ESIM_GO_BASE_URL: a simulator of the supplier at http://127.0.0.1:")
    [token] = [line.rpartition(" ")[2] for line in up.said() if line.startswith("up: token for requests")]
    assert len(token) >= 12


def test_a_port_that_is_taken_ends_it_with_everything_it_started(tmp_path: Path) -> None:
    require_redis_server()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        up = Up(tmp_path, CATALOG_API_PORT=str(port), CATALOG_WORKERS="1")
        assert up.process.wait(GIVEN_UP_AFTER) == 2
    assert "CATALOG_API_PORT" in up.log.read_text()
    assert up.said()[-1] == "up: api cannot use a setting; see its message"
    assert up.descendants() == {}
    assert up.redis_servers() == []


@pytest.mark.fault("W1")
def test_a_part_that_cannot_use_a_setting_ends_everything_with_2(tmp_path: Path) -> None:
    """Nothing is started again that would end so again: only a worker finds that the password is wrong."""
    with RedisServer(tmp_path / "redis", password="right-0815") as server:
        up = Up(tmp_path, REDIS_URL=server.url_with("wrong-0815"))
        assert up.process.wait(GIVEN_UP_AFTER) == 2
    log = up.log.read_text()
    assert "REDIS_URL=*** is not usable" in log
    assert "wrong-0815" not in log
    assert "restarting it" not in log
    assert "Traceback" not in log
    assert up.said()[-1] in {
        f"up: {name} cannot use a setting; see its message" for name in ("worker-1", "worker-2", "beat")
    }
    assert up.descendants() == {}
