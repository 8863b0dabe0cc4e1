"""The API as users run it: in its own process, on a free port."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TextIO

import httpx

from support import prefork
from support.cli import API_KEY, Supplier

Process = subprocess.Popen[bytes] | prefork.Started
TOKEN = "api-test-token-0815"


class ApiProcess:
    """A running ``catalog-api``."""

    def __init__(self, process: Process, base_url: str, errors: Path) -> None:
        self.process = process
        self.base_url = base_url
        self._errors = errors
        self.http = httpx.Client(base_url=base_url, trust_env=False, timeout=60)

    @property
    def logs(self) -> list[dict[str, Any]]:
        """What it has logged, without a line that is still being written."""
        complete = self._errors.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in complete.splitlines()]

    def ask(self, **body: Any) -> httpx.Response:
        """Ask for a sync."""
        return self.http.post("/syncs", json=body, headers=AUTHORIZED)

    def finish(self, response: httpx.Response, seconds: float = 60.0) -> dict[str, Any]:
        """Waits until the requested sync has ended and returns it."""
        assert response.status_code == 202, response.text
        give_up = time.monotonic() + seconds
        while True:
            job: dict[str, Any] = self.http.get(response.headers["location"]).json()
            if job["status"] in {"finished", "cancelled"}:
                return job
            assert time.monotonic() < give_up, f"the sync did not end: {job}"
            time.sleep(0.02)

    def read_soon(self, path: str, version: str | None, seconds: float = 60.0) -> httpx.Response:
        """Repeats a read until it is answered from ``version``."""
        give_up = time.monotonic() + seconds
        while True:
            answer = self.http.get(path)
            if answer.status_code == 200 and answer.json()["version"] == version:
                return answer
            assert time.monotonic() < give_up, f"the version did not come: {answer.text[:300]}"
            time.sleep(0.01)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Sends a signal. Returns how many seconds the process took to end."""
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(30)
        return time.monotonic() - began

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()


AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


@contextmanager
def running_api(directory: Path, supplier: Supplier | None, **environment: str) -> Iterator[ApiProcess]:
    """An API with its state in ``directory``; ``environment`` changes the defaults, empty for unset."""
    directory.mkdir(parents=True, exist_ok=True)
    settings = {
        "CATALOG_API_PORT": "0",
        "CATALOG_API_TOKEN": TOKEN,
        "CATALOG_STATE_DIR": str(directory / "state"),
        "CATALOG_SUPPLIER_RATE_PER_S": "0",
        "CATALOG_ATTEMPT_TIMEOUT_MS": "5000",
        "ERROR_RETRY_BASE_DELAY": "1",
        "ERROR_RETRY_MAX_ATTEMPTS": "3",
        "ESIM_GO_API_KEY": API_KEY,
        "ESIM_GO_BASE_URL": supplier.base_url if supplier else "http://127.0.0.1:9/v2.5",
        **environment,
    }
    own = ("ESIM_GO_", "REDIS_URL", "CATALOG_", "ERROR_", "OTEL_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    errors = directory / "stderr"
    env = {**kept, **{name: value for name, value in settings.items() if value}}
    with errors.open("w") as stderr:
        process, out = started(env, stderr.fileno(), preloaded=prefork.may_run(environment))
    try:
        line = out.readline()
        assert line, errors.read_text()
        with ApiProcess(process, json.loads(line)["base_url"], errors) as api:
            yield api
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(60)
        out.close()


def started(env: Mapping[str, str], stderr: int, *, preloaded: bool) -> tuple[Process, TextIO]:
    """The process and its output; ``preloaded``: forked from a process that has the imports."""
    reading, writing = os.pipe()
    out = os.fdopen(reading, encoding="utf-8")
    with os.fdopen(writing, "wb") as stdout:
        if preloaded:
            return prefork.Started(prefork.API, ["--json"], env, stdout.fileno(), stderr), out
        command = [sys.executable, "-m", prefork.API, "--json"]
        return subprocess.Popen(command, stdout=stdout, stderr=stderr, env=env), out
