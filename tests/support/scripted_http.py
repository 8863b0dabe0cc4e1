"""A real HTTP server that answers raw bytes, one connection at a time per client, so that it can break every rule."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclasses.dataclass(frozen=True)
class Request:
    """A request as received."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]


Writer = asyncio.StreamWriter
Responder = Callable[[Request, Writer], Awaitable[None]]


def answer(
    body: bytes | str | dict[str, Any] | list[Any] = b"",
    status: int = 200,
    content_type: str = "application/json",
    **headers: str,
) -> bytes:
    """A complete answer; keyword names are headers, with ``_`` for ``-``."""
    content = json.dumps(body).encode() if isinstance(body, dict | list) else body
    content = content.encode() if isinstance(content, str) else content
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(content)}", f"Content-Type: {content_type}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


class ScriptedServer:
    """Answers every request with what ``respond`` writes; keeps the requests."""

    def __init__(self, respond: Responder) -> None:
        self.requests: list[Request] = []
        self.port = 0
        self._respond = respond

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        """One connection."""
        try:
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                line, *fields = head.split("\r\n")
                target = urlsplit(line.split(" ")[1])
                headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
                query = {name: values[0] for name, values in parse_qs(target.query).items()}
                request = Request(target.path, query, headers)
                self.requests.append(request)
                await self._respond(request, writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client disconnected
        finally:
            writer.transport.abort()


@contextlib.asynccontextmanager
async def scripted_server(respond: Responder | list[bytes] | bytes) -> AsyncIterator[ScriptedServer]:
    """A server on a free port of the loopback.

    ``respond`` writes the answer, or is the answer, or the list of answers, of which the last is repeated.
    """
    if isinstance(respond, bytes):
        respond = [respond]
    if isinstance(respond, list):
        answers = respond

        async def in_turn(request: Request, writer: Writer) -> None:
            writer.write(answers.pop(0) if len(answers) > 1 else answers[0])

        respond = in_turn
    scripted = ScriptedServer(respond)
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: Writer) -> None:
        task = asyncio.ensure_future(scripted.serve(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    scripted.port = server.sockets[0].getsockname()[1]
    try:
        yield scripted
    finally:
        server.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await asyncio.sleep(0)  # lets the aborted transports close
        await server.wait_closed()
