"""A real Prometheus to ask: one that runs already, or one that is started on a copy of a kept data folder."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
from grafana.preview.queries import TimeRange

START_WITHIN: Final = 30.0
"""Seconds until it must answer."""
FOREVER: Final = "100y"
"""Kept data may be old; nothing of the copy shall be thrown away."""


class Prometheus:
    """The parts of its API that panels and variables need. Raises :class:`httpx.HTTPError` if it does not answer."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, trust_env=False, timeout=60)

    def ready(self) -> bool:
        """Whether it answers queries."""
        try:
            return self._client.get("/-/ready").is_success
        except httpx.TransportError:
            return False

    def data_range(self) -> TimeRange:
        """From the first to the last sample of its newest part. Raises ``ValueError`` if there is none."""
        head = self._get("/api/v1/status/tsdb")["headStats"]
        if head["minTime"] > head["maxTime"]:
            raise ValueError("this Prometheus has no data")
        return TimeRange(head["minTime"] / 1000, head["maxTime"] / 1000)

    def range(self, query: str, time_range: TimeRange, step: float) -> list[dict[str, Any]]:
        """The series of a range query."""
        found = self._get("/api/v1/query_range", query=query, start=time_range.start, end=time_range.end, step=step)
        return list(found["result"])

    def instant(self, query: str, at: float) -> list[dict[str, Any]]:
        """The series of an instant query."""
        return list(self._get("/api/v1/query", query=query, time=at)["result"])

    def exemplars(self, query: str, time_range: TimeRange) -> list[dict[str, Any]]:
        """Exemplars of the series that a query asks for, each with ``labels``, ``value`` and ``timestamp``."""
        found = self._get("/api/v1/query_exemplars", query=query, start=time_range.start, end=time_range.end)
        return [exemplar for series in found for exemplar in series["exemplars"]]

    def label_values(self, label: str, selector: str | None, time_range: TimeRange) -> list[str]:
        """The values of a label."""
        match = {"match[]": selector} if selector else {}
        path = f"/api/v1/label/{label}/values"
        return list(self._get(path, **match, start=time_range.start, end=time_range.end))

    def _get(self, path: str, **parameters: Any) -> Any:
        answer = self._client.post(path, data=parameters) if "query" in parameters else self._client.get(
            path, params=parameters
        )  # fmt: skip
        if answer.status_code in {400, 422}:
            raise ValueError(f"{answer.json()['error']}: {parameters}")
        answer.raise_for_status()
        return answer.json()["data"]


@contextlib.contextmanager
def on_copy_of(data: Path, lookback: str) -> Iterator[str]:
    """A Prometheus on a copy of ``data``, which stays as it is. Yields its URL.

    Raises :class:`FileNotFoundError` if the program is missing, :class:`RuntimeError` if it does not start.
    """
    program = shutil.which("prometheus")
    if program is None:
        raise FileNotFoundError("prometheus is not on PATH")
    with tempfile.TemporaryDirectory(prefix="preview-") as name:
        folder = Path(name)
        shutil.copytree(data, folder / "data", ignore=shutil.ignore_patterns("lock", "queries.active"))
        (folder / "prometheus.yml").write_text("{}\n", encoding="utf-8")
        port = free_port()
        command = [
            program,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--storage.tsdb.retention.time={FOREVER}",
            f"--web.listen-address=127.0.0.1:{port}",
            f"--query.lookback-delta={lookback}",
            "--enable-feature=exemplar-storage",
        ]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            _until_ready(Prometheus(url), process, folder / "log")
            yield url
        finally:
            process.terminate()
            process.wait()


def _until_ready(prometheus: Prometheus, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up = time.monotonic() + START_WITHIN
    while not prometheus.ready():
        if process.poll() is not None or time.monotonic() > give_up:
            raise RuntimeError(f"prometheus did not start: {log.read_text(encoding='utf-8')[-500:]}")
        time.sleep(0.1)


def free_port() -> int:
    """A port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
