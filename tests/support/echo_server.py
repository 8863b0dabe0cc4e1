"""A real HTTP server on loopback that keeps its requests, and a client that connects to it for every host name."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpcore
import httpx


@dataclasses.dataclass
class Received:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]


class EchoServer:
    """Answers with the statuses given, then with 200."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.statuses: list[int] = []
        self.port = 0


@contextlib.contextmanager
def echo_server() -> Iterator[EchoServer]:
    """A server that runs during the block."""
    echo = EchoServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            echo.received.append(Received(self.path, headers))
            self.send_response(echo.statuses.pop(0) if echo.statuses else 200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    echo.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield echo
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)


class _ToLoopback(httpcore.AsyncNetworkBackend):
    """Resolves every name to this machine."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return await self._backend.connect_tcp("127.0.0.1", self._port, timeout, local_address, socket_options)


def transport_to(port: int) -> httpx.AsyncBaseTransport:
    """A transport with real sockets that connects to ``port`` here, whatever host the URL names."""
    transport = httpx.AsyncHTTPTransport()
    transport._pool = httpcore.AsyncConnectionPool(network_backend=_ToLoopback(port))
    return transport
