"""The page on loopback, and the headless Chromium that takes its pictures."""

from __future__ import annotations

import contextlib
import json
import mimetypes
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from grafana.preview.packages import HERE, program

MOST_BYTES: Final = 250_000
"""Timeout in seconds for one picture."""
DRAWN_WITHIN: Final = 900.0
"""Seconds for all pictures."""


class PageFailed(RuntimeError):  # noqa: N818
    """The page did not come to its end, or something on it broke."""


class Served:
    """What the page is given."""

    def __init__(self, roots: Mapping[str, Path], pictures: Mapping[str, Any]) -> None:
        self.url = ""
        self._roots = roots
        self._pictures = pictures

    def content(self, path: str) -> tuple[bytes, str] | None:
        """Body and type of a path, or ``None``."""
        if path.startswith("/pictures/"):
            found = self._pictures.get(path.removeprefix("/pictures/").removesuffix(".json"))
            return None if found is None else (json.dumps(found).encode(), "application/json")
        for prefix, root in self._roots.items():
            file = (root / path.removeprefix(prefix)).resolve()
            if path.startswith(prefix) and file.is_relative_to(root.resolve()) and file.is_file():
                return file.read_bytes(), mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        return None


class _Handler(BaseHTTPRequestHandler):
    served: Served

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        found = self.served.content("/index.html" if path == "/" else path)
        body, kind = found or (b"", "text/plain")
        self.send_response(200 if found else 404)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Silent."""


@contextlib.contextmanager
def serving(roots: Mapping[str, Path], pictures: Mapping[str, Any]) -> Iterator[Served]:
    """Serves files by the prefix of their path (the longest first), and the pictures' contents, on loopback."""
    served = Served(dict(sorted(roots.items(), key=lambda root: -len(root[0]))), pictures)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"served": served}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def draw(served: Served, packages: Path, uids: Sequence[str], folder: Path) -> Iterator[tuple[Path, int]]:
    """Writes a picture of each dashboard. Yields each file with its size in bytes.

    Raises :class:`PageFailed` if something on a page broke, :class:`ToolMissing` without Node or Chromium.
    """
    chromium = program("chromium", "chromium-browser", "google-chrome")
    command = [program("node"), str(HERE / "draw.cjs"), chromium, served.url, str(folder), str(MOST_BYTES), *uids]
    environment = {**os.environ, "NODE_PATH": str(packages / "node_modules")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DRAWN_WITHIN, check=False)
    if done.returncode:
        raise PageFailed(done.stderr)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    problems = [f"{result['uid']}: {problem}" for result in results for problem in result["problems"]]
    if problems:
        raise PageFailed("\n".join(problems))
    for result in results:
        yield folder / f"{result['uid']}.png", result["bytes"]
