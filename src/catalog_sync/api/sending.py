"""Sends long bodies in parts, as fast as a client reads them, and limits how many bytes are being sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from catalog_sync.api.problems import overloaded

PART: Final = 64 * 1024
"""Bytes of a body that are handed to the server at a time; it holds one part for a client that reads slowly."""
MAX_IN_FLIGHT: Final = 64 * 1024 * 1024
"""Maximum bytes of long bodies being sent. One body counts once, however many clients it goes to."""

Headers = Sequence[tuple[bytes, bytes]]


class UncachedJson(JSONResponse):
    """A JSON object that must not be cached."""

    def __init__(self, document: Mapping[str, Any], status: int = 200, **headers: str) -> None:
        super().__init__(document, status, {"Cache-Control": "no-store", **headers})


def length_of(body: bytes) -> tuple[bytes, bytes]:
    """The Content-Length header for ``body``."""
    return b"content-length", b"%d" % len(body)


class InFlight:
    """The long bodies that are being sent. Belongs to one event loop."""

    def __init__(self, limit: int = MAX_IN_FLIGHT) -> None:
        self._limit = limit
        self._readers: dict[int, int] = {}
        self.size = 0
        """Total bytes."""

    def begin(self, body: bytes) -> None:
        """Another client gets ``body``. Raises a problem (503) if too much is being sent."""
        readers = self._readers.get(id(body), 0)
        if not readers:
            if self.size + len(body) > self._limit and self._readers:
                raise overloaded("Too many long responses are being read slowly.")
            self.size += len(body)
        self._readers[id(body)] = readers + 1

    def end(self, body: bytes) -> None:
        """It was sent, or its client has gone."""
        readers = self._readers.pop(id(body))
        if readers > 1:
            self._readers[id(body)] = readers - 1
        else:
            self.size -= len(body)


class SharedResponse(Response):
    """A response whose body others may share; ``headers`` are common to all of them, ``length`` is its own.

    ``keeps`` stays alive while it is being sent, so that other requests for the same find it.
    """

    def __init__(
        self,
        headers: Headers,
        body: bytes,
        in_flight: InFlight,
        *,
        length: tuple[bytes, bytes] | None = None,
        keeps: object = None,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.body = body
        self.raw_headers = [*headers, length or length_of(body)]
        self._in_flight = in_flight
        self._keeps = keeps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends it. Raises a problem before anything is sent if too much is being sent."""
        body = bytes(self.body)
        start_of_it = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        if len(body) <= PART or scope["method"] == "HEAD":
            await send(start_of_it)
            await send({"type": "http.response.body", "body": body})
            return
        self._in_flight.begin(body)
        try:
            await send(start_of_it)
            for start in range(0, len(body), PART):
                part = body[start : start + PART]
                await send({"type": "http.response.body", "body": part, "more_body": start + PART < len(body)})
        finally:
            self._in_flight.end(body)
