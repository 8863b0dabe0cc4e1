"""The local receiver of everything that leaves: Alertmanager's notifications, the application's, and heartbeats."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from drill.judge import Message, from_alertmanager, from_application

APPLICATION = {"/webhook": "webhook", "/fallback": "fallback"}
BEAT = "/beat"


class Receiver:
    """What came, in order. A path in ``down`` is answered with 503 and not recorded."""

    def __init__(self) -> None:
        self.url = ""
        self.down: set[str] = set()
        self._messages: list[Message] = []
        self._beats: list[float] = []
        self._lock = threading.Lock()

    def take(self, path: str, body: bytes) -> int:
        """Handles one request. The HTTP status."""
        now = time.time()
        if path in self.down:
            return 503
        with self._lock:
            if path == BEAT:
                self._beats.append(now)
            else:
                self._messages.append(_message(path, now, json.loads(body)))
        return 200

    def messages(self) -> list[Message]:
        """All so far."""
        with self._lock:
            return list(self._messages)

    def beats(self) -> list[float]:
        """When the application gave a sign of life."""
        with self._lock:
            return list(self._beats)


def _message(path: str, at: float, body: dict[str, Any]) -> Message:
    if path in APPLICATION:
        return from_application(APPLICATION[path], at, body)
    return from_alertmanager(path.removeprefix("/"), at, body)


class _Handler(BaseHTTPRequestHandler):
    receiver: Receiver
    timeout = 10

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("content-length", "0"))))

    def do_GET(self) -> None:
        self._answer(b"")

    def _answer(self, body: bytes) -> None:
        status = self.receiver.take(self.path, body)
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Silent."""


@contextlib.contextmanager
def running_receiver() -> Iterator[Receiver]:
    """A receiver that runs during the block."""
    receiver = Receiver()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"receiver": receiver}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
