"""Group H: the transport of httpx against the bare client, on loopback with a server in a process of its own."""

from __future__ import annotations

import asyncio
import atexit
import multiprocessing
import weakref
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from typing import Any

import httpx

from benchmarks.measure import ANSWER, Case, Operation
from otel_resilience import CircuitBreakerConfig, Policy, RetryConfig
from otel_resilience.integrations.httpx import AsyncResilientTransport, ResilientTransport

H = "H. httpx on loopback, success"
PARTS = "retry+budget+breaker+time limits"
_BODY = str(ANSWER).encode()
_RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY)


def _policy() -> Policy:
    """The policy from the first lines of docs/clients.md."""
    return Policy("shop", retry=RetryConfig(), breaker=CircuitBreakerConfig(), deadline=20, attempt_timeout=5)


def cases() -> list[Case]:
    """``def`` and ``async def``; with ``max_body_bytes`` the body is read within the attempt."""
    url = _serve()
    makers: dict[str, dict[str, Callable[[], Any]]] = {
        "sync": {
            "bare": httpx.Client,
            f"ours: {PARTS}": lambda: httpx.Client(transport=ResilientTransport(_policy())),
            f"ours: {PARTS}, body": lambda: httpx.Client(transport=ResilientTransport(_policy(), max_body_bytes=1000)),
        },
        "async": {
            "bare": httpx.AsyncClient,
            f"ours: {PARTS}": lambda: httpx.AsyncClient(transport=AsyncResilientTransport(_policy())),
            f"ours: {PARTS}, body": lambda: httpx.AsyncClient(
                transport=AsyncResilientTransport(_policy(), max_body_bytes=1000)
            ),
        },
    }
    found = []
    for kind, of_kind in makers.items():
        for name, make in of_kind.items():
            call = _call_async(make, url) if kind == "async" else _call(make(), url)
            found.append(Case(H, f"{name} {kind}", call, Operation(), asynchronous=kind == "async"))
    return found


def _call(client: httpx.Client, url: str) -> Callable[[], int]:
    return lambda: int(client.get(url).content)


def _call_async(make: Callable[[], httpx.AsyncClient], url: str) -> Callable[[], Awaitable[int]]:
    """Uses a client for each event loop, whose connections belong to it."""
    clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = weakref.WeakKeyDictionary()

    async def call() -> int:
        loop = asyncio.get_running_loop()
        client = clients.get(loop)
        if client is None:
            client = clients[loop] = make()
        return int((await client.get(url)).content)

    return call


def _serve() -> str:
    """Starts the server; its address."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_server, args=(theirs,), daemon=True)
    server.start()
    atexit.register(server.terminate)
    return f"http://127.0.0.1:{ours.recv()}/"


def _server(address: Connection) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(_RESPONSE)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        address.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())
