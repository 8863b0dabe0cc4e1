"""uvicorn's HTTP protocol with limits on what a client may send before its request is complete, and on how slowly it
may read."""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.parse
from collections import deque
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from catalog_sync.api.problems import MEDIA_TYPE, document
from otel_resilience.correlation import new_correlation_id

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

try:
    import fcntl
    import termios
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

MAX_HEAD: Final = 32 * 1024
"""Maximum bytes of a request line and its headers."""
HEAD_TIMEOUT: Final = 10.0
"""Seconds from the opening of a connection, or the first byte of a further request, to the end of its headers."""
MAX_PIPELINED: Final = 32
"""Requests that may wait behind the one being answered. One packet could contain ten thousand of them."""
PROGRESS_EVERY: Final = 30.0
"""Interval in seconds in which a client that reads too slowly must have taken :data:`LEAST_PROGRESS`."""
LEAST_PROGRESS: Final = 32 * 1024
"""Bytes."""
LONG_WRITE: Final = 48 * 1024
"""Bytes from which on a write waits for its turn."""
MAX_CONNECTIONS: Final = 4096
"""Maximum open connections, if the limit of open files allows that many."""
SHED: Final = 16
"""If there are too many connections, one in this many is closed, the longest idle ones first."""
MAX_LINES: Final = 1024
"""Maximum header lines that are cached in encoded form."""

_lines: dict[tuple[bytes, bytes], bytes] = {}
"""Header lines that were validated and encoded before; most responses have the same ones."""
_OWN_LINES: Final = frozenset({b"x-correlation-id", b"traceresponse", b"location", b"set-cookie"})
"""Headers with a different value in each response."""
_WITHOUT_LENGTH: Final = frozenset({204, 304})


class Turns:
    """Allows one long write in each round of the event loop.

    A write releases the interpreter to any waiting thread, and gets it back a moment later. A hundred of them in one
    round would delay everything else by a hundred moments, including health checks.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._taken = False

    async def take(self) -> None:
        """Waits for a turn; turns are given in the order in which they were requested."""
        if not self._taken:
            self._taken = True
            self._loop.call_soon(self._next)
            return
        turn: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(turn)
        await turn

    def _next(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # a writer that has gone needs none
                turn.set_result(None)
                self._loop.call_soon(self._next)
                return
        self._taken = False


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()


def turns_of(loop: asyncio.AbstractEventLoop) -> Turns:
    """The turns of an event loop, shared by all its connections."""
    found = _turns.get(loop)
    if found is None:
        found = _turns[loop] = Turns(loop)
    return found


class Cycle(RequestResponseCycle):
    """One request and its response. Head and body of a response of known length are sent in one write."""

    turns: Turns
    _head = b""
    """The head, until the first part of the body comes."""

    async def send(self, message: ASGISendEvent) -> None:
        if message["type"] == "http.response.body" and len(message.get("body", b"")) > LONG_WRITE:
            await self.turns.take()
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start" and not self.response_started and not self.access_log:
            headers = list(message.get("headers", ()))
            values = dict(headers)
            length = values.get(b"content-length")
            known = length is not None or message["status"] in _WITHOUT_LENGTH
            if known and b"transfer-encoding" not in values and b"connection" not in values:
                self._begin(message["status"], headers, int(length or 0))
                return
        elif self._head and message["type"] == "http.response.body":
            head, self._head = self._head, b""
            body = b"" if self.scope["method"] == "HEAD" else message.get("body", b"")
            if self.expected_content_length >= len(body) <= HIGH_WATER_LIMIT and not message.get("more_body"):
                self._end(head, body)
                return
            self.transport.write(head)
        await super().send(message)

    def _begin(self, status: int, headers: list[tuple[bytes, bytes]], length: int) -> None:
        lines = [STATUS_LINE[status]]
        lines += [_lines.get(header) or _line(header) for header in self.default_headers]
        lines += [_lines.get(header) or _line(header) for header in headers]
        lines.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        self._head = b"".join(lines)
        self.response_started, self.waiting_for_100_continue = True, False
        self.expected_content_length, self.chunked_encoding = length, False

    def _end(self, head: bytes, body: bytes) -> None:
        if self.scope["method"] != "HEAD" and len(body) != self.expected_content_length:
            raise RuntimeError("the body is shorter than its Content-Length")
        self.transport.write(head + body)
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


def _line(header: tuple[bytes, bytes]) -> bytes:
    name, value = header
    if HEADER_RE.search(name) or HEADER_VALUE_RE.search(value):
        raise RuntimeError(f"the header {name!r} is not valid HTTP")
    line = b"%b: %b\r\n" % (name.lower(), value)
    if name not in _OWN_LINES:
        if len(_lines) >= MAX_LINES:
            _lines.clear()
        _lines[header] = line
    return line


class BoundedProtocol(HttpToolsProtocol):
    """Drops connections whose request does not arrive in time, or whose response is not read.

    Malformed HTTP is answered with a problem document. If there are too many connections, the longest idle are closed.
    """

    most = MAX_CONNECTIONS
    """Maximum open connections."""
    _in_head = True
    """Whether the next bytes belong to a request line or its headers."""
    _begun = False
    """Whether a request line or header has begun to arrive."""
    _head_bytes = 0
    _before = 0
    """Bytes of earlier packets that may belong to the arriving head; an upper bound."""
    _arriving = 0
    """Bytes of the packet that is being read."""
    _requests = 0
    _idle_timer: asyncio.TimerHandle | None = None
    _idle_since: float | None = None
    _head_timer: asyncio.TimerHandle | None = None
    _send_timer: asyncio.TimerHandle | None = None
    _refused = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._cycles: list[RequestResponseCycle] = []
        self._opened = self.loop.time()
        self._turns = turns_of(self.loop)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._make_room()
        self._start_timer()

    def _make_room(self) -> None:
        others: list[Any] = [each for each in self.connections if each is not self]
        idle = sorted((each for each in others if each.is_idle), key=lambda each: each.idle_since)
        for each in idle[: 1 + self.most // SHED] or [self]:
            self.connections.discard(each)
            each.transport.abort()

    @property
    def is_idle(self) -> bool:
        """Whether no request is present or running; the head of one may be arriving."""
        return self._in_head and not self._open_cycles()

    @property
    def idle_since(self) -> float:
        """Since when, on the clock of the event loop."""
        return self._opened if self._idle_since is None else self._idle_since

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._stop_send_timer()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        # Uvicorn only notifies the last request, which need not be the one that is being answered.
        for cycle in self._open_cycles():
            cycle.disconnected = True
            cycle.message_event.set()
        self._cycles.clear()
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        in_head, requests = self._in_head, self._requests
        self._arriving = len(data)
        super().data_received(data)
        if not self._in_head or self._refused:
            self._before = 0
            return
        same = in_head and requests == self._requests
        self._before = self._before + len(data) if same else len(data)
        if same:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD:
                self._refuse_head()
                return
        if same or self._begun:
            self._start_timer()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]
        scope["abort"] = self.transport.abort
        self._begun = True

    def on_headers_complete(self) -> None:
        """The request is known: does what uvicorn does, with a :class:`Cycle`, without features not used here."""
        self._stop_timer()
        self._begun = self._in_head = False
        self._head_bytes = 0
        # Exact counting only if all bytes that may belong to this head are too many.
        if self._before + self._arriving > MAX_HEAD and self._head_size() > MAX_HEAD:
            self._refuse_head()
            return
        if self._refused:
            return
        if len(self.pipeline) >= MAX_PIPELINED:
            # A response to this request would overtake those to the earlier ones.
            self._refused = True
            self.transport.abort()
            return
        scope, version = self.scope, self.parser.get_http_version()
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        scope["http_version"] = version
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["path"] = urllib.parse.unquote(path) if "%" in path else path
        scope["raw_path"], scope["query_string"] = url.path, url.query or b""
        before = self.cycle
        self.cycle = Cycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        self.cycle.turns = self._turns
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
        self._cycles = [*self._open_cycles(), self.cycle]

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _open_cycles(self) -> list[RequestResponseCycle]:
        return [cycle for cycle in self._cycles if not cycle.response_complete]

    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head = True
        self._requests += 1
        if not self._refused:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """A response was handed over; the next request may be answered, or the keep-alive time starts."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._idle_since = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._check_idle)

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None

    def _check_idle(self) -> None:
        """One timer per connection checks its idle time at intervals, instead of a new timer for each response."""
        self._idle_timer = None
        if self._idle_since is None or self.transport.is_closing():
            return
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left <= 0:
            self.transport.close()
        else:
            self._idle_timer = self.loop.call_later(left, self._check_idle)

    def pause_writing(self) -> None:
        """The client reads more slowly than we send: nothing more is written until it has caught up."""
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
        super().resume_writing()
        self._stop_send_timer()

    def send_400_response(self, msg: str) -> None:
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
    """Bytes that a client has not taken yet, including those in the operating system's buffer if it reports them."""
    waiting = transport.get_write_buffer_size()
    found = transport.get_extra_info("socket")
    if found is not None and fcntl is not None:
        try:
            waiting += int.from_bytes(fcntl.ioctl(found.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        except OSError:  # not supported here
            return waiting
    return waiting
