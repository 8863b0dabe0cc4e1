"""Authorisation and the limit on concurrent requests."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from catalog_sync.api.problems import RETRY_AFTER, ProblemError
from catalog_sync.settings.values import Secret

MAX_QUERY: Final = 2048
"""Maximum bytes of a query."""

_ALWAYS_OPEN: Final = ("/health", "/static/", "/openapi.json")


class Access:
    """The bearer token. Reads need no token where ``open_reads``; writes always need the token."""

    def __init__(self, token: Secret | None, *, open_reads: bool) -> None:
        self._digest = _digest(token.reveal().encode()) if token else None
        self._open_reads = open_reads

    def knows(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether the request carries the token."""
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if self._digest is None or scheme.lower() != b"bearer":
            return False
        return hmac.compare_digest(_digest(given.strip()), self._digest)

    def check(self, scope: Scope) -> None:
        """Raises a problem: 403 where no token is configured, 401 where the request does not carry it."""
        path: str = scope["path"]
        reads = scope["method"] not in {"POST", "DELETE", "PUT", "PATCH"}
        if reads and (self._open_reads or path == "/" or path.startswith(_ALWAYS_OPEN)):
            return
        if self._digest is None:
            raise ProblemError(403, "forbidden", "CATALOG_API_TOKEN is not set, so writes are disabled.")
        headers = dict(scope["headers"])
        if not self.knows(headers):
            hint = ', error="invalid_token"' if b"authorization" in headers else ""
            raise ProblemError(
                401,
                "unauthorized",
                "Send it as Authorization: Bearer.",
                headers={"WWW-Authenticate": f'Bearer realm="catalog-api"{hint}'},
            )


class Gate:
    """Access and limits. ``max_concurrency`` bounds the requests that are being worked on.

    A request leaves the count when its response starts, so that slow readers block no one.
    """

    def __init__(self, app: ASGIApp, access: Access, *, max_concurrency: int) -> None:
        self._app = app
        self._access = access
        self._max = max_concurrency
        self.active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request pass, or raise the problem."""
        if scope["type"] != "http" or scope["path"].startswith("/health"):
            await self._app(scope, receive, send)
            return
        if len(scope["query_string"]) > MAX_QUERY:
            raise ProblemError(414, "uri_too_long", f"At most {MAX_QUERY} bytes.")
        self._access.check(scope)
        if self.active >= self._max:
            raise ProblemError(503, "overloaded", "Try again in a moment.", headers={"Retry-After": str(RETRY_AFTER)})
        counted = True
        self.active += 1

        async def counted_send(message: Message) -> None:
            nonlocal counted
            if counted:
                counted = False
                self.active -= 1
            await send(message)

        try:
            await self._app(scope, receive, counted_send)
        finally:
            if counted:
                self.active -= 1


def _digest(value: bytes) -> bytes:
    """Equal lengths, so that a comparison reveals nothing about the token, not even its length."""
    return hashlib.sha256(value).digest()
