"""A proxy on the loopback interface: forwarded HTTP, CONNECT, and SOCKS 5, distinguished by the first byte."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit


class LoopbackProxy:
    """Connects every client to where it asks; ``asked`` lists the requested hosts as named."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._connections: set[socket.socket] = set()
        self._cut = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    @contextlib.contextmanager
    def serving(self) -> Iterator[LoopbackProxy]:
        thread = threading.Thread(target=self._accept, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            thread.join(60)

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """Within the block every connection is closed immediately."""
        self._cut = True
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        try:
            yield
        finally:
            self._cut = False

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._guarded, args=(connection,), daemon=True).start()

    def _guarded(self, connection: socket.socket) -> None:
        self._connections.add(connection)
        try:
            with connection, contextlib.suppress(OSError):
                if not self._cut:
                    self._serve(connection)
        finally:
            self._connections.discard(connection)

    def _serve(self, connection: socket.socket) -> None:
        first = connection.recv(1)
        if first:
            beginning, host, port = self._socks(connection) if first == b"\x05" else self._http(connection, first)
            self.asked.append(host)
            # Every host is this machine, so that names work which no name server knows.
            with socket.create_connection(("127.0.0.1", port)) as target:
                target.sendall(beginning)
                back = threading.Thread(target=_relay, args=(target, connection), daemon=True)
                back.start()
                _relay(connection, target)
                back.join(60)

    def _http(self, connection: socket.socket, read: bytes) -> tuple[bytes, str, int]:
        while b"\r\n\r\n" not in read:
            more = connection.recv(65536)
            if not more:
                raise ConnectionAbortedError("the end before a request")
            read += more
        method, where, rest = read.split(b" ", 2)
        if method == b"CONNECT":
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            host, _, port = where.decode().rpartition(":")
            return b"", host, int(port)
        url = urlsplit(where.decode())
        target = url._replace(scheme="", netloc="", path=url.path or "/").geturl()
        return b" ".join((method, target.encode(), rest)), str(url.hostname), url.port or 80

    def _socks(self, connection: socket.socket) -> tuple[bytes, str, int]:
        connection.recv(connection.recv(1)[0])  # the authentication methods
        connection.sendall(b"\x05\x00")
        kind = connection.recv(4)[3]
        name = connection.recv(4) if kind == 1 else connection.recv(connection.recv(1)[0])
        port = int.from_bytes(connection.recv(2), "big")
        connection.sendall(b"\x05\x00\x00\x01" + bytes(6))
        return b"", socket.inet_ntoa(name) if kind == 1 else name.decode(), port


def _relay(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
