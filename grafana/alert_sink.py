"""The default receiver of alerts in the bundled stack: takes what Grafana posts, shows it, and serves the runbook.

``python alert_sink.py [--host H] [--port P] [--runbook FILE]``. POST to any path is kept and answered with 200;
``GET /`` lists what came, newest first, as JSON; ``GET /runbook`` is docs/alerts.md; ``GET /health`` says that it runs.
Each message is also a line of JSON on stdout. It keeps the last 200 in memory, and nothing on disk.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import html
import json
import re
import signal
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

KEPT = 200
MAX_BODY = 1024 * 1024
"""Bytes; no notification is longer."""
TIMEOUT = 10.0
"""Seconds that a client may be silent."""


class Sink(ThreadingHTTPServer):
    """The server and what it has received."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], runbook: Path | None) -> None:
        super().__init__(address, _Handler)
        self.runbook = runbook
        self.received: collections.deque[dict[str, Any]] = collections.deque(maxlen=KEPT)
        self._lock = threading.Lock()

    def take(self, path: str, body: bytes) -> None:
        """Keeps one message and prints it."""
        try:
            content: Any = json.loads(body)
        except ValueError:
            content = body.decode(errors="replace")
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        message = {"received": now, "path": path, "body": content}
        with self._lock:
            self.received.appendleft(message)
            sys.stdout.write(json.dumps(message) + "\n")
            sys.stdout.flush()

    def messages(self) -> list[dict[str, Any]]:
        """What came, newest first."""
        with self._lock:
            return list(self.received)


class _Handler(BaseHTTPRequestHandler):
    server: Sink
    timeout = TIMEOUT

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MAX_BODY:
            self.close_connection = True
            self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "text/plain", b"a Content-Length up to 1 MiB is needed\n")
            return
        self.server.take(self.path, self.rfile.read(int(length)))
        # PagerDuty's Events API answers so, and Grafana's other integrations take any 2xx.
        self._answer(HTTPStatus.OK, "application/json", b'{"status": "success", "dedup_key": "sink"}\n')

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/health":
            self._answer(HTTPStatus.OK, "text/plain", b"ok\n")
        elif path == "/":
            self._answer(HTTPStatus.OK, "application/json", json.dumps(self.server.messages(), indent=1).encode())
        elif path == "/runbook" and self.server.runbook is not None and self.server.runbook.is_file():
            page = as_html(self.server.runbook.read_text(encoding="utf-8"))
            self._answer(HTTPStatus.OK, "text/html; charset=utf-8", page.encode())
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"not found\n")

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # named by the base class
        """Logs nothing: what requests bring is printed."""


def as_html(markdown: str) -> str:
    """The text as it stands, with headings that a link can lead to and links between them."""
    lines = []
    for line in markdown.splitlines():
        heading = re.fullmatch(r"(#{1,3}) (.+)", line)
        if heading:
            level, title = len(heading[1]), html.escape(heading[2])
            lines.append(f'</pre><h{level} id="{title.lower().replace(" ", "-")}">{title}</h{level}><pre>')
        else:
            lines.append(re.sub(r"\[([^\]]+)\]\((#[^)]+)\)", r'<a href="\2">\1</a>', html.escape(line)))
    style = "body{max-width:60rem;margin:2rem auto;font-family:sans-serif}pre{white-space:pre-wrap;font:inherit}"
    return f"<!doctype html><title>Runbook</title><style>{style}</style><pre>" + "\n".join(lines) + "</pre>"


def main() -> int:
    """Serves until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description="Receives and shows alerts.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8025)
    parser.add_argument("--runbook", type=Path)
    options = parser.parse_args()
    server = Sink((options.host, options.port), options.runbook)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    with server:
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
