"""A dependency that counts: an HTTP server that records when each request came and how many were in progress."""

from __future__ import annotations

import dataclasses
import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """One request."""

    at: float
    """``time.monotonic``."""
    status: int
    under_way: int
    """Requests in progress when it came, including itself."""


class CountingServer:
    """Answers ``status`` to everything after ``takes`` seconds."""

    def __init__(self) -> None:
        self.status = 200
        self.takes = 0.0
        self.seen: list[Seen] = []
        self._under_way = 0
        self._lock = threading.Lock()
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status = owner._came()
                time.sleep(owner.takes)
                owner._gone()
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_port}/"

    def answered(self, status: int) -> int:
        """How many requests it answered with this status."""
        with self._lock:
            return sum(each.status == status for each in self.seen)

    def _came(self) -> int:
        with self._lock:
            self._under_way += 1
            self.seen.append(Seen(time.monotonic(), self.status, self._under_way))
            return self.status

    def _gone(self) -> None:
        with self._lock:
            self._under_way -= 1


@contextmanager
def counting_server() -> Iterator[CountingServer]:
    """Runs until the block ends."""
    server = CountingServer()
    thread = threading.Thread(target=server._server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server._server.shutdown()
        server._server.server_close()
        thread.join()
