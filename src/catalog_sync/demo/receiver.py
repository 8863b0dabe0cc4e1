"""A small OTLP/HTTP receiver on the loopback interface, in threads so that exporters never wait for an event loop."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, Final

from catalog_sync.demo.loopback import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog_sync.demo.trace_store import TelemetryStore

MAX_BODY: Final = 64 * 1024 * 1024
"""Maximum bytes of one export."""


@contextlib.contextmanager
def running_receiver(store: TelemetryStore) -> Iterator[str]:
    """Receives into ``store`` until the block ends; yields the value for ``OTEL_EXPORTER_OTLP_ENDPOINT``."""

    class Handler(_Handler):
        telemetry = store

    with serving(Handler, "otlp-receiver") as url:
        yield url


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    telemetry: TelemetryStore

    def do_POST(self) -> None:  # the name that http.server calls
        try:
            length = int(self.headers.get("Content-Length", ""))
            if not 0 <= length <= MAX_BODY:
                raise ValueError("too large")
            body = self.rfile.read(length)
            if self.headers.get("Content-Encoding", "").strip().lower() == "gzip":
                body = gzip.decompress(body)
            self.telemetry.add(self.path.removeprefix("/v1/"), body)
        except (ValueError, EOFError, OSError, zlib.error):
            self.close_connection = True
            self._answer(400)
        else:
            self._answer(200)

    def _answer(self, status: int) -> None:
        # An empty body is an empty protobuf response: everything was accepted.
        self.send_response(status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name of the base class
        """Logs nothing: exports are routine."""
