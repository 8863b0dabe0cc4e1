"""``catalog-api`` in its own process, with workers behind it."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from support.api_server import Process, started

TOKEN = "token-of-the-tests"


class ApiProcess:
    """``with ApiProcess(directory, env) as api: api.base_url``."""

    def __init__(self, directory: Path, env: dict[str, str], *, port: int = 0, preloaded: bool = False) -> None:
        """``preloaded``: forked from a process that has the imports; not for measurements."""
        self._directory = directory
        self._preloaded = preloaded
        settings = {"CATALOG_API_PORT": str(port), "CATALOG_API_TOKEN": TOKEN, "CATALOG_JOBS": "workers"}
        self._env = {**env, **settings}
        self.process: Process
        self._out: TextIO
        self.base_url = ""

    def __enter__(self) -> Self:
        with (self._directory / "api.log").open("ab") as log:
            self.process, self._out = started(self._env, log.fileno(), preloaded=self._preloaded)
        line = self._out.readline()
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
        self._out.close()
