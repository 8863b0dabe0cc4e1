"""A real Prometheus that takes remote writes, on a free loopback port."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from support import loopback
from support.programs import require_program
from support.redis_server import free_port

PROGRAM = "prometheus"
QUERY_TIMEOUT = 60.0
"""Seconds for one query, on a busy machine."""
CONFIG = """
storage:
  tsdb:
    out_of_order_time_window: 10m
"""
"""The least that a Prometheus behind our Collector needs."""


def require_prometheus() -> str:
    """The program; without it the test is skipped, but fails if ``CI=true``."""
    return str(require_program(PROGRAM))


class Prometheus:
    """``with Prometheus(folder) as prometheus: prometheus.query("up")``."""

    def __init__(self, folder: Path, config: str = CONFIG, *options: str) -> None:
        self._program = require_prometheus()
        self._folder = folder
        self._config = config
        self._options = options
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def remote_write(self) -> str:
        """The URL for remote writes."""
        return f"{self.url}/api/v1/write"

    def start(self) -> Self:
        """Returns when it is ready."""
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "prometheus.yml"
        config.write_text(self._config, encoding="utf-8")
        arguments = [
            f"--config.file={config}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--web.enable-remote-write-receiver",
            "--enable-feature=exemplar-storage",
            *self._options,
        ]
        with (self._folder / "prometheus.log").open("ab") as log:
            self._process = subprocess.Popen([self._program, *arguments], stdout=log, stderr=log)
        give_up = time.monotonic() + 60
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > give_up:
                self.kill()
                raise RuntimeError("prometheus did not start")
            time.sleep(0.05)
        return self

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The result of an instant query."""
        return list(self._get("/api/v1/query", query=expression)["result"])

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """The series of a range query, each with its ``values``; times in seconds since the epoch."""
        times = {"start": str(start), "end": str(end), "step": str(step)}
        return list(self._get("/api/v1/query_range", query=expression, **times)["result"])

    def value(self, expression: str) -> float:
        """The sum over the series of an instant query; 0 if there are none."""
        return sum(float(series["value"][1]) for series in self.query(expression))

    def alerts(self) -> list[dict[str, Any]]:
        """What is pending or firing, each with ``labels`` and ``state``.

        The series ``ALERTS`` shows less: it has no samples until the state of an earlier process was looked up, and
        alerts that fire meanwhile are sent nevertheless.
        """
        return list(self._get("/api/v1/alerts")["alerts"])

    def exemplars(self, expression: str) -> list[dict[str, Any]]:
        """The exemplars of the last hour, each with its ``labels``."""
        now = time.time()
        found = self._get("/api/v1/query_exemplars", query=expression, start=str(now - 3600), end=str(now + 60))
        return [exemplar for series in found for exemplar in series["exemplars"]]

    def series(self) -> list[dict[str, str]]:
        """The labels of every series."""
        return list(self._get("/api/v1/series", **{"match[]": '{__name__=~".+"}'}))

    def wait_for(self, expression: str, at_least: float, timeout: float = 60.0) -> float:
        """Waits until the sum over an expression is large enough."""
        give_up = time.monotonic() + timeout
        while (value := self.value(expression)) < at_least:
            assert time.monotonic() < give_up, f"{expression} is {value}, not {at_least}"
            time.sleep(0.1)
        return value

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _ready(self) -> bool:
        try:
            return loopback.get(f"{self.url}/-/ready").is_success
        except httpx.TransportError:
            return False

    def _get(self, path: str, **parameters: str) -> Any:
        answer = loopback.get(f"{self.url}{path}", params=parameters, timeout=QUERY_TIMEOUT)
        answer.raise_for_status()
        return answer.json()["data"]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
