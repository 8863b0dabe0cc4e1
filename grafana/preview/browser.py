"""The page on loopback, and a headless Chromium that takes its picture."""

from __future__ import annotations

import contextlib
import json
import mimetypes
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from grafana.preview.packages import program

WIDTH: Final = 1440
CELL: Final = 38
"""Pixels of one row of Grafana's grid, its gap included; as ``WIDTH`` it stands in page/dashboard.tsx, too."""
FRAME: Final = 110
"""Pixels above and below the panels."""
SHOT_WITHIN: Final = 180.0
FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
    "--virtual-time-budget=20000",
)


class PageFailed(RuntimeError):  # noqa: N818
    """The page did not come to its end, or something on it broke."""


class Served:
    """What the page is given, and what it told."""

    def __init__(self, roots: Mapping[str, Path], pictures: Mapping[str, Any]) -> None:
        self.url = ""
        self.told: list[list[str]] = []
        self.missed: list[str] = []
        """Paths that were asked for and are not there."""
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
        self.missed.append(path)
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

    def do_POST(self) -> None:
        self.served.told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(204)
        self.end_headers()

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


def height(dashboard: Mapping[str, Any]) -> int:
    """Pixels of a dashboard's picture."""
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    return FRAME + CELL * max(int(place["y"]) + int(place["h"]) for place in places)


def shot(served: Served, uid: str, pixels: int, target: Path) -> None:
    """Takes the picture of a dashboard.

    Raises :class:`PageFailed` where something on the page broke, :class:`ToolMissing` without a Chromium.
    """
    chromium = program("chromium", "chromium-browser", "google-chrome")
    with tempfile.TemporaryDirectory(prefix="preview-profile-") as profile:
        options = [f"--user-data-dir={profile}", f"--window-size={WIDTH},{pixels}", f"--screenshot={target}"]
        command = [chromium, *FLAGS, *options, f"{served.url}/?uid={uid}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SHOT_WITHIN, check=False)
    problems = served.told.pop() if served.told else [f"the page did not end: {done.stderr[-500:]}"]
    problems += [f"nothing at {path}" for path in served.missed if path != "/favicon.ico"]
    if problems:
        raise PageFailed("\n".join(problems))
