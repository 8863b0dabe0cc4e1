"""A proxy in front of a real Redis that answers with an error for a while, like a server during a failover."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator
from typing import Any


class RedisProxy:
    """``with RedisProxy(port) as proxy: ... with proxy.answering("LOADING …"): ...``. One command, one answer.

    While the proxy answers itself, the server sees nothing, and blocked readers of the queue get the error at once. The
    client keeps its connection throughout, and with it the protocol that it agreed on.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._error: bytes | None = None
        self._waiting: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.refused = 0
        """Commands that got the error."""
        owner = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                owner._serve(self.request)

        self._listener = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler, bind_and_activate=True)
        self._listener.daemon_threads = True
        self.port = int(self._listener.server_address[1])

    @contextlib.contextmanager
    def answering(self, error: str) -> Iterator[None]:
        """Every command gets this reply within the block."""
        self._error = f"-{error}\r\n".encode()
        with self._lock:
            waiting = list(self._waiting)
        for upstream in waiting:
            with contextlib.suppress(OSError):
                upstream.shutdown(socket.SHUT_RDWR)
        try:
            yield
        finally:
            self._error = None

    def __enter__(self) -> RedisProxy:
        threading.Thread(target=self._listener.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown()
        self._listener.server_close()

    def _serve(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as commands, contextlib.suppress(OSError, EOFError):
            hello = b""
            while True:
                hello = self._forward(client, commands, hello)

    def _forward(self, client: socket.socket, commands: Any, hello: bytes) -> bytes:
        """Commands to the server and its replies back, until it answers with the error itself.

        ``hello``: the client's last HELLO, which chose the protocol. Returns the current one.
        """
        with socket.create_connection(("127.0.0.1", self._server_port)) as upstream, upstream.makefile("rb") as replies:
            if hello:
                upstream.sendall(hello)
                _message(replies)
            while True:
                command = _message(commands)
                with self._lock:
                    self._waiting.add(upstream)
                try:
                    if self._error is None:
                        upstream.sendall(command)
                        reply = _message(replies)
                        client.sendall(reply)
                        if _is_hello(command) and not reply.startswith(b"-"):
                            hello = command
                        continue
                except EOFError:
                    if self._error is None:
                        raise
                finally:
                    with self._lock:
                        self._waiting.discard(upstream)
                error = self._error
                if error is None:
                    raise EOFError
                self.refused += 1
                client.sendall(error)
                return hello


def _is_hello(command: bytes) -> bool:
    return command.split(b"\r\n", 3)[2].upper() == b"HELLO"


def _message(stream: Any) -> bytes:
    """One RESP value, whole. Raises ``EOFError`` at the end of the stream."""
    line: bytes = stream.readline()
    if not line.endswith(b"\r\n"):
        raise EOFError
    kind, rest = line[:1], line[1:-2]
    if kind in b"$=" and int(rest) >= 0:
        return line + bytes(stream.read(int(rest) + 2))
    if kind in b"*~>" and int(rest) > 0:
        return line + b"".join(_message(stream) for _ in range(int(rest)))
    if kind == b"%":
        return line + b"".join(_message(stream) for _ in range(2 * int(rest)))
    return line
