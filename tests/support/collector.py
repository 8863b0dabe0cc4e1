"""The Collector that `make collector` builds, running on free loopback ports with our configurations."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from support import loopback
from support.programs import missing
from support.redis_server import free_port

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "otel-collector"
START_TIMEOUT = 60.0


def require_collector() -> Path:
    """The binary; without it the test is skipped, but fails if ``CI=true``."""
    answer = subprocess.run([FOLDER / "build", "--path"], capture_output=True, text=True, check=True)
    binary = Path(answer.stdout.strip())
    if not binary.is_file():
        missing("the Collector is not built; run: make collector")
    return binary


def config_arguments(config: str) -> list[str]:
    """The options for ``single``, ``gateway`` or ``sampler``."""
    return [f"--config={FOLDER / name}.yaml" for name in ("common", config)]


@dataclasses.dataclass(frozen=True)
class Ports:
    """Where one Collector listens."""

    grpc: int = dataclasses.field(default_factory=free_port)
    http: int = dataclasses.field(default_factory=free_port)
    relay: int = dataclasses.field(default_factory=free_port)
    health: int = dataclasses.field(default_factory=free_port)
    own: int = dataclasses.field(default_factory=free_port)


class Collector:
    """``with Collector("single", folder, TEMPO_OTLP_ENDPOINT=...) as collector: ... collector.url``."""

    def __init__(self, config: str, folder: Path, *, through: str = "", **environment: str) -> None:
        self._binary = require_collector()
        self.folder = folder
        self.ports = Ports()
        self._command = [*filter(None, [through]), str(self._binary), *config_arguments(config)]
        self._environment = {
            "PATH": os.environ.get("PATH", ""),
            "OTELCOL_STATE_DIR": str(folder),
            "OTELCOL_GRPC_PORT": str(self.ports.grpc),
            "OTELCOL_HTTP_PORT": str(self.ports.http),
            "OTELCOL_RELAY_PORT": str(self.ports.relay),
            "OTELCOL_HEALTH_PORT": str(self.ports.health),
            "OTELCOL_SELF_PORT": str(self.ports.own),
            "OTELCOL_SPAN_METRICS_INTERVAL": "1s",
            "OTELCOL_DECISION_WAIT": "2s",
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For ``OTEL_EXPORTER_OTLP_ENDPOINT``."""
        return f"http://127.0.0.1:{self.ports.http}"

    @property
    def log(self) -> str:
        """What it wrote so far, over all starts."""
        return (self.folder / "collector.log").read_text(encoding="utf-8")

    def start(self) -> Self:
        """Returns when the health check answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "collector.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=log)
        give_up = time.monotonic() + START_TIMEOUT
        while not self.healthy():
            if self._process.poll() is not None or time.monotonic() > give_up:
                self.kill()
                raise RuntimeError(f"the Collector did not start: {self.log[-2000:]}")
            time.sleep(0.05)
        return self

    def healthy(self) -> bool:
        """What the health check says."""
        try:
            return loopback.get(f"http://127.0.0.1:{self.ports.health}").is_success
        except httpx.TransportError:
            return False

    def own_metrics(self) -> dict[str, float]:
        """Its own metrics: name to the sum over all series."""
        found: dict[str, float] = {}
        for series, value in self._own_series():
            name = series.partition("{")[0]
            found[name] = found.get(name, 0.0) + value
        return found

    def own_metric(self, name: str, **labels: str) -> float:
        """The sum over the series of one of its own metrics that have these labels; 0 if there are none."""
        wanted = [f'{label}="{text}"' for label, text in labels.items()]
        return sum(
            value
            for series, value in self._own_series()
            if series.partition("{")[0] == name and all(part in series for part in wanted)
        )

    def own_labels(self, name: str, label: str) -> set[str]:
        """The values of a label of one of its own metrics."""
        return {
            text
            for series, _ in self._own_series()
            if series.partition("{")[0] == name
            for text in re.findall(rf'\b{label}="([^"]*)"', series)
        }

    def _own_series(self) -> list[tuple[str, float]]:
        text = loopback.get(f"http://127.0.0.1:{self.ports.own}/metrics").text
        lines = [line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#")]
        return [(series, float(value)) for series, value in lines]

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """SIGTERM, and wait for the end."""
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(30)
        finally:
            self.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
