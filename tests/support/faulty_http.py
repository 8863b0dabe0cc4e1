"""A real HTTP server in a thread, for blocking and asynchronous clients; the path says how it answers."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

from support.error_rows import RETRY_AFTER

HEAD = b"HTTP/1.1 %d X\r\nContent-Type: %s\r\nContent-Length: %d\r\n"


class FaultyServer:
    """``/503`` answers with that status and :attr:`body`, ``/close`` not at all, ``/cut`` half, ``/garbage`` no HTTP.

    ``/loop`` redirects to itself, ``/silent`` says nothing until the end. TLS is answered by garbage.
    """

    def __init__(self, listener: socket.socket) -> None:
        self.body = b"<html>"
        self.content_type = b"text/html"
        self.headers: bytes = b""
        self.path: str | None = None
        """For clients that choose the path themselves: if set, it stands for that of every request."""
        self._listener = listener
        self._open: list[socket.socket] = []

    @property
    def port(self) -> int:
        """On the loopback."""
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        """Without a path."""
        return f"http://127.0.0.1:{self.port}"

    def serve(self) -> None:
        """Until the listener is closed."""
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                threading.Thread(target=self._connection, args=(connection,), daemon=True).start()

    def close(self) -> None:
        """Ends every connection."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            connection.close()

    def _connection(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while (head := self._head(connection)) is not None:
                path = self.path or head.split(b" ", 2)[1].decode().rpartition("/")[2]
                if path == "silent":
                    return
                connection.sendall(self._answer(path))
                if path in ("close", "cut", "garbage"):
                    break
            connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _answer(self, path: str) -> bytes:
        if path == "close":
            return b""
        if path == "garbage":
            return b"\x00\x01garbage\r\n\r\n"
        if path == "cut":
            return HEAD % (200, self.content_type, 100) + b"\r\nabc"
        if path == "loop":
            return HEAD % (302, b"text/html", 0) + b"Location: /loop\r\n\r\n"
        status = int(path) if path.isdigit() else 200
        headers = self.headers + (f"Retry-After: {RETRY_AFTER}\r\n".encode() if status in (429, 503) else b"")
        return HEAD % (status, self.content_type, len(self.body)) + headers + b"\r\n" + self.body

    @staticmethod
    def _head(connection: socket.socket) -> bytes | None:
        """The head of a request, once all of it is there; ``None`` at the end of the connection."""
        data = b""
        while b"\r\n\r\n" not in data:
            read = connection.recv(65_536)
            if not read:
                return None
            data += read
            if data.startswith(b"\x16"):  # a TLS handshake
                return b"GET /garbage HTTP/1.1"
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        while len(body) < length:
            body += connection.recv(65_536)
        if b"transfer-encoding: chunked" in head.lower():
            while not body.endswith(b"0\r\n\r\n"):
                body += connection.recv(65_536)
        return head


@contextlib.contextmanager
def faulty_server() -> Iterator[FaultyServer]:
    """One on a free port of the loopback."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = FaultyServer(listener)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()
