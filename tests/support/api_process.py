"""``catalog-api`` as a process of its own, with workers behind it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

TOKEN = "token-of-the-tests"


class ApiProcess:
    """``with ApiProcess(directory, env) as api: api.base_url``."""

    def __init__(self, directory: Path, env: dict[str, str], *, port: int = 0) -> None:
        self._directory = directory
        settings = {"CATALOG_API_PORT": str(port), "CATALOG_API_TOKEN": TOKEN, "CATALOG_JOBS": "workers"}
        self._env = {**env, **settings}
        self.process: subprocess.Popen[bytes]
        self.base_url = ""

    def __enter__(self) -> Self:
        with (self._directory / "api.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "catalog_sync.api.command", "--json"],
                env=self._env,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, (self._directory / "api.log").read_text()[-2000:]
        self.base_url = json.loads(line)["base_url"]
        return self

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self._gone()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.process.terminate()
        self._gone()

    def _gone(self) -> None:
        self.process.wait(60)
        if self.process.stdout is not None:
            self.process.stdout.close()
