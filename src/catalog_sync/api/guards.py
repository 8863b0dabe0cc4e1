"""Authorisation, identification of clients, and the limits on concurrent requests."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import hmac
import ipaddress
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from catalog_sync.api.problems import ProblemError, overloaded, too_many
from catalog_sync.settings.values import Secret

MAX_QUERY: Final = 2048
"""Maximum bytes of a query."""

MAX_ADDRESSES: Final = 1024
"""Maximum parsed addresses that are cached."""
MAX_ADDRESS: Final = 64
"""Maximum characters of an address; anything longer is not one."""

_ALWAYS_OPEN: Final = ("/health", "/static/", "/openapi.json")
_CLIENT: Final = "catalog_sync.client"
HEADERS: Final = "catalog_sync.headers"
"""Key of a scope for its headers by name; of repeated headers, the last one."""
HIT: Final = "catalog_sync.hit"
"""Key of a scope for the cached response, if there is one."""
_IPV6_CLIENT: Final = 64
"""Bits of an IPv6 address that identify a client: it can choose the others itself."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Access:
    """Checks the bearer token. Reads need no token if ``open_reads``; writes always need it."""

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
        """Raises a problem: 403 if no token is configured, 401 if the request does not carry it."""
        path: str = scope["path"]
        reads = scope["method"] not in {"POST", "DELETE", "PUT", "PATCH"}
        if reads and (self._open_reads or path == "/" or path.startswith(_ALWAYS_OPEN)):
            return
        if self._digest is None:
            raise ProblemError(403, "forbidden", "CATALOG_API_TOKEN is not set, so writes are disabled.")
        headers: Mapping[bytes, bytes] = scope[HEADERS]
        if not self.knows(headers):
            hint = ', error="invalid_token"' if b"authorization" in headers else ""
            raise ProblemError(
                401,
                "unauthorized",
                "Send the bearer token in the Authorization header.",
                headers={"WWW-Authenticate": f'Bearer realm="catalog-api"{hint}'},
            )


class Clients:
    """Identifies clients by their address; behind ``proxies``, by the address that these report."""

    def __init__(self, proxies: Sequence[Network] = ()) -> None:
        self._proxies = proxies

    def name(self, scope: Scope) -> str:
        """Identifies the client. ``X-Forwarded-For`` counts only if written by a trusted proxy."""
        peer = scope.get("client")
        address = peer[0] if peer else ""
        if self._proxies and self._trusted(address):
            given = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
            for hop in map(str.strip, reversed(given.decode("latin-1").split(","))):
                if len(hop) > MAX_ADDRESS or not _address(hop):
                    break
                address = hop
                if not self._trusted(address):
                    break
        return _client_at(address)

    def _trusted(self, address: str) -> bool:
        parsed = _address(address)
        return parsed is not None and any(parsed in network for network in self._proxies)


class PerClient(Counter[str]):
    """Counts something per client; clients with none are forgotten."""

    def leave(self, client: str) -> None:
        """Decrements the client's count."""
        self[client] -= 1
        if not self[client]:
            del self[client]


def client_of(scope: Scope) -> str:
    """The client of a request that the :class:`Gate` has let pass."""
    name: str = scope.get(_CLIENT, "")
    return name


@functools.lru_cache(MAX_ADDRESSES)
def _client_at(address: str) -> str:
    parsed = _address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, _IPV6_CLIENT), strict=False))
    return address


@functools.lru_cache(MAX_ADDRESSES)
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return mapped or parsed


@dataclasses.dataclass(eq=False)
class Gate:
    """Access control and limits. ``max_concurrency`` bounds the requests that are being processed.

    A request leaves that count when its response starts, so that slow readers block no one. ``max_per_client`` bounds
    the requests of one client until their responses have been sent; streams of events have their own limit. If the
    scope has a cached response under :data:`HIT`, that is sent instead of calling ``app``.
    """

    app: ASGIApp
    access: Access
    clients: Clients
    _: dataclasses.KW_ONLY
    max_concurrency: int
    max_per_client: int
    active: int = 0
    _of_client: PerClient = dataclasses.field(default_factory=PerClient)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets the request pass, or raises the problem."""
        if scope["type"] != "http" or scope["path"].startswith("/health"):
            await self.app(scope, receive, send)
            return
        if len(scope["query_string"]) > MAX_QUERY:
            raise ProblemError(414, "uri_too_long", f"At most {MAX_QUERY} bytes.")
        self.access.check(scope)
        client = scope[_CLIENT] = self.clients.name(scope)
        if scope["path"].endswith("/events"):
            await self._counted(scope, receive, send)
            return
        if self._of_client[client] >= self.max_per_client:
            raise too_many(f"{self.max_per_client} requests of this client are open.")
        self._of_client[client] += 1
        try:
            # A cached response does not count: it starts immediately.
            await (scope.get(HIT) or self._counted)(scope, receive, send)
        finally:
            self._of_client.leave(client)

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.active >= self.max_concurrency:
            raise overloaded()
        counted = True
        self.active += 1

        async def counted_send(message: Message) -> None:
            nonlocal counted
            if counted:
                counted = False
                self.active -= 1
            await send(message)

        try:
            await self.app(scope, receive, counted_send)
        finally:
            if counted:
                self.active -= 1


def _digest(value: bytes) -> bytes:
    """A hash of fixed length, so that comparing it reveals nothing about the token, not even its length."""
    return hashlib.sha256(value).digest()
