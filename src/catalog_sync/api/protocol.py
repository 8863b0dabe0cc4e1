"""The HTTP protocol of uvicorn with bounds on what a client may send before its request is complete, and on how slowly
it may read."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from catalog_sync.api.problems import MEDIA_TYPE, document
from otel_resilience.correlation import new_correlation_id

try:
    import fcntl
    import termios
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

MAX_HEAD: Final = 32 * 1024
"""Bytes of a request line and its headers."""
HEAD_TIMEOUT: Final = 10.0
"""Seconds from the opening of a connection, or the first byte of a further request, to the end of its headers."""
MAX_PIPELINED: Final = 32
"""Requests that may wait behind the one that is being answered. One packet could hold ten thousand of them."""
PROGRESS_EVERY: Final = 30.0
"""Seconds after which a client that reads more slowly than it is sent to must have taken:"""
LEAST_PROGRESS: Final = 32 * 1024
"""Bytes."""


class BoundedProtocol(HttpToolsProtocol):
    """Drops connections whose request does not arrive in time, or whose response is not read.

    Malformed HTTP is answered with a problem document.
    """

    _in_head = True
    """Whether the next bytes belong to a request line or its headers."""
    _head_bytes = 0
    _requests = 0
    _head_timer: asyncio.TimerHandle | None = None
    _send_timer: asyncio.TimerHandle | None = None
    _refused = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._cycles: list[RequestResponseCycle] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._stop_timer()
        self._stop_send_timer()
        # Uvicorn reports it to the last request only, which need not be the one that is being answered.
        for cycle in self._open_cycles():
            cycle.disconnected = True
            cycle.message_event.set()
        self._cycles.clear()
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """A part of a request."""
        if self._refused:
            return
        in_head, requests = self._in_head, self._requests
        if in_head:
            self._start_timer()
        super().data_received(data)
        if in_head and self._in_head and requests == self._requests and not self._refused:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD:
                self._refuse_head()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]
        scope["abort"] = self.transport.abort

    def on_headers_complete(self) -> None:
        """The request is known."""
        self._stop_timer()
        self._in_head, self._head_bytes = False, 0
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEAD:
            self._refuse_head()
            return
        if self._refused:
            return
        if len(self.pipeline) >= MAX_PIPELINED:
            # A response to this request would arrive before those to the others.
            self._refused = True
            self.transport.abort()
            return
        super().on_headers_complete()
        self._cycles = [*self._open_cycles(), self.cycle]

    def _open_cycles(self) -> list[RequestResponseCycle]:
        return [cycle for cycle in self._cycles if not cycle.response_complete]

    def on_body(self, body: bytes) -> None:
        """A part of a body."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The end of a request."""
        self._in_head = True
        self._requests += 1
        if not self._refused:
            super().on_message_complete()

    def pause_writing(self) -> None:
        """The client reads more slowly than it is sent to: nothing more is handed to it until it has read on."""
        super().pause_writing()
        if self._send_timer is None:
            self._expect_progress()

    def _expect_progress(self) -> None:
        self._send_timer = self.loop.call_later(PROGRESS_EVERY, self._check_progress, unsent(self.transport))

    def _check_progress(self, before: int) -> None:
        if before - unsent(self.transport) < LEAST_PROGRESS:
            self.transport.abort()
        else:
            self._expect_progress()

    def resume_writing(self) -> None:
        """The client reads on."""
        super().resume_writing()
        self._stop_send_timer()

    def send_400_response(self, msg: str) -> None:
        """Answer malformed HTTP."""
        self._refuse(400, "bad_request", msg)

    def _refuse_head(self) -> None:
        self._refuse(431, "too_large", f"Request line and headers have at most {MAX_HEAD} bytes.")

    def _refuse(self, status: int, kind: str, detail: str) -> None:
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self._stop_timer()
        identifier = new_correlation_id()
        body = json.dumps(document(kind, status, detail, identifier)).encode()
        reason = {400: "Bad Request", 431: "Request Header Fields Too Large"}[status]
        head = (
            f"HTTP/1.1 {status} {reason}\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
            f"x-correlation-id: {identifier}\r\ntraceresponse: 00-{identifier}-{identifier[:16]}-00\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()

    def _drop(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()

    def _stop_send_timer(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def _start_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT, self._drop)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def unsent(transport: asyncio.Transport) -> int:
    """Bytes that a client has not taken yet, those in the buffer of the operating system too where that tells."""
    waiting = transport.get_write_buffer_size()
    found = transport.get_extra_info("socket")
    if found is not None and fcntl is not None:
        try:
            waiting += int.from_bytes(fcntl.ioctl(found.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        except OSError:  # no such question here
            return waiting
    return waiting
