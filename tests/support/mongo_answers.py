"""A socket that speaks enough of MongoDB's protocol (OP_MSG) to answer every command as a test specifies."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import bson

_HELLO = {
    "ok": 1.0, "ismaster": True, "isWritablePrimary": True, "maxBsonObjectSize": 16_777_216, "maxWireVersion": 25,
    "minWireVersion": 0, "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000, "readOnly": False,
    "logicalSessionTimeoutMinutes": 30, "setName": "set",
}  # fmt: skip
_OP_QUERY, _OP_REPLY, _OP_MSG = 2004, 1, 2013


class MongoAnswers:
    """``answer`` is the reply to every command after the set-up; ``None`` closes, ``"silence"`` sends nothing."""

    def __init__(self, listener: socket.socket) -> None:
        self.answer: dict[str, Any] | str | None = {"ok": 1.0}
        self.kept_waiting = threading.Event()
        """Set once a command is left unanswered."""
        self.port = int(listener.getsockname()[1])
        self._listener = listener
        self._open: list[socket.socket] = []

    def serve(self) -> None:
        """Serves until the listener is closed."""
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
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _connection(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                length, request, _, operation = struct.unpack("<iiii", _exactly(connection, 16))
                body = _exactly(connection, length - 16)
                if operation == _OP_QUERY:
                    head = struct.pack("<iqii", 8, 0, 0, 1)
                    _send(connection, request, _OP_REPLY, head + bson.encode(self._hello()))
                    continue
                size = struct.unpack_from("<i", body, 5)[0]
                command = bson.decode(body[5 : 5 + size])
                answer: Any = self._hello() if next(iter(command)) in ("hello", "ismaster", "isMaster") else self.answer
                if answer is None:
                    connection.shutdown(socket.SHUT_RDWR)
                    return
                if answer == "silence":
                    self.kept_waiting.set()
                else:
                    _send(connection, request, _OP_MSG, struct.pack("<iB", 0, 0) + bson.encode(answer))

    def _hello(self) -> dict[str, Any]:
        return {**_HELLO, "me": f"127.0.0.1:{self.port}", "hosts": [f"127.0.0.1:{self.port}"]}


def _exactly(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        read = connection.recv(length - len(data))
        if not read:
            raise EOFError
        data += read
    return data


def _send(connection: socket.socket, request: int, operation: int, body: bytes) -> None:
    connection.sendall(struct.pack("<iiii", 16 + len(body), 0, request, operation) + body)


@contextlib.contextmanager
def mongo_answers() -> Iterator[MongoAnswers]:
    """Runs on a free loopback port."""
    server = MongoAnswers(socket.create_server(("127.0.0.1", 0)))
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()
