"""A real HTTP server in a thread that answers as configured, and keeps the requests."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import threading
from collections.abc import Iterator


@dataclasses.dataclass(frozen=True)
class Reply:
    """One answer; without ``status`` the connection is closed."""

    status: int | None = 200
    body: bytes = b"ok"
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    hangs: bool = False
    """Nothing is sent until the server ends."""
    cut: int | None = None
    """Bytes of the body after which the connection is closed."""
    drips: bool = False
    """The body is sent byte by byte, one every 20 ms, until the client disconnects."""


@dataclasses.dataclass(frozen=True)
class Arrived:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    """Names are in lower case."""
    body: bytes


class AnsweringServer:
    """Gives each request the next of ``replies``, and 200 if there are none."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.arrived: list[Arrived] = []
        self.connections = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                with owner._lock:
                    owner.connections += 1

            def do_GET(self) -> None:
                owner._serve(self)

            do_POST = do_PUT = do_HEAD = do_DELETE = do_GET  # noqa: N815  # names of the standard library

            def log_message(self, *_: object) -> None: ...

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: object) -> None: ...  # a client that closes early

        self._server = Server(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def methods(self) -> list[str]:
        """The methods of the requests received."""
        return [each.method for each in self.arrived]

    def _serve(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        headers = {name.lower(): value for name, value in handler.headers.items()}
        body = _chunks(handler) if "transfer-encoding" in headers else None
        if body is None:
            body = handler.rfile.read(int(headers.get("content-length", 0)))
        with self._lock:
            self.arrived.append(Arrived(handler.command, handler.path, headers, body))
            reply = self.replies.pop(0) if self.replies else Reply()
        if reply.hangs:
            self._ended.wait()
        if reply.status is None or reply.hangs:
            handler.close_connection = True
            return
        handler.send_response(reply.status)
        chunked = reply.headers.get("Transfer-Encoding") == "chunked"
        for name, value in ({} if chunked else {"Content-Length": str(len(reply.body))} | reply.headers).items():
            handler.send_header(name, value)
        if chunked:
            handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        if chunked:
            handler.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(reply.body), reply.body))
        elif reply.drips:
            self._drip(handler, reply.body)
        elif handler.command != "HEAD":
            handler.wfile.write(reply.body[: reply.cut])
        handler.close_connection = handler.close_connection or reply.cut is not None

    def _drip(self, handler: http.server.BaseHTTPRequestHandler, body: bytes) -> None:
        for byte in body:
            handler.wfile.write(bytes([byte]))
            if self._ended.wait(0.02):
                break

    def __enter__(self) -> AnsweringServer:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _chunks(handler: http.server.BaseHTTPRequestHandler) -> bytes:
    body = b""
    while size := int(handler.rfile.readline(), 16):
        body += handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()
    return body


@contextlib.contextmanager
def answering_server(*replies: Reply) -> Iterator[AnsweringServer]:
    """Runs until the block ends."""
    with AnsweringServer() as server:
        server.replies.extend(replies)
        yield server
