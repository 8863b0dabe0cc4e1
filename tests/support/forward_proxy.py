"""A forward proxy on the loopback: tunnels by CONNECT, forwards plain requests, and keeps the request lines."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from urllib.parse import urlsplit


@dataclasses.dataclass
class ForwardProxy:
    """``credentials``: the ``user:password`` that it requires."""

    credentials: str | None = None
    asked: list[str] = dataclasses.field(default_factory=list)
    """Request lines, without the version."""
    port: int = 0

    @property
    def url(self) -> str:
        """Its address, with the credentials."""
        return f"http://{f'{self.credentials}@' if self.credentials else ''}127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        writers = [writer]
        pumps: list[asyncio.Task[None]] = []
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            line, *fields = head.decode("latin-1").split("\r\n")
            method, target, _ = line.split(" ")
            self.asked.append(f"{method} {target}")
            if self.credentials is not None:
                basic = base64.b64encode(self.credentials.encode()).decode()
                if f"proxy-authorization: basic {basic}".lower() not in [field.lower() for field in fields]:
                    writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                    return
            place = urlsplit(f"//{target}" if method == "CONNECT" else target)
            there_reads, there_writes = await asyncio.open_connection(place.hostname, place.port)
            writers.append(there_writes)
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                path = f"{place.path}?{place.query}" if place.query else place.path
                there_writes.write("\r\n".join((f"{method} {path} HTTP/1.1", *fields)).encode("latin-1"))
            pumps = [asyncio.create_task(_pump(*pair)) for pair in ((reader, there_writes), (there_reads, writer))]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # one of the two disconnected
        finally:
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for each in writers:
                each.close()
            await asyncio.sleep(0)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()


@contextlib.asynccontextmanager
async def forward_proxy(credentials: str | None = None) -> AsyncIterator[ForwardProxy]:
    """A proxy on a free port."""
    proxy = ForwardProxy(credentials)
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.create_task(proxy.serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await server.wait_closed()
