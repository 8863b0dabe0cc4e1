"""A bounded HTTP client for measuring: a few connections that ask one after the other, or at a steady pace."""

from __future__ import annotations

import asyncio
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit


@dataclasses.dataclass(frozen=True, slots=True)
class Load:
    """What a load came to."""

    seconds: float
    took: list[float]
    """Seconds per request; at a steady pace from the moment it was due, so that waiting counts."""
    wrong: int
    """Answers with another status than 200."""

    @property
    def per_second(self) -> float:
        """Requests per second."""
        return len(self.took) / self.seconds

    def percentile(self, share: float) -> float:
        """The time, in milliseconds, that this share of the requests did not exceed."""
        ordered = sorted(self.took)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000

    @property
    def median(self) -> float:
        """Milliseconds."""
        return statistics.median(self.took) * 1000


class BrokenAnswerError(Exception):
    """The server closed the connection or sent something else than HTTP with a length."""


async def as_fast_as_possible(
    base_url: str, paths: Callable[[], Iterator[str]], *, seconds: float, connections: int
) -> Load:
    """Every connection sends its next request when the last one is answered. ``paths`` never ends."""
    until = time.perf_counter() + seconds
    began = time.perf_counter()
    parts = await asyncio.gather(*(_closed_loop(base_url, paths(), until) for _ in range(connections)))
    spent = time.perf_counter() - began
    return Load(spent, [took for part, _ in parts for took in part], sum(wrong for _, wrong in parts))


async def at_a_pace(
    base_url: str,
    paths: Callable[[], Iterator[str]],
    *,
    per_second: float,
    connections: int,
    until: Callable[[], bool],
) -> Load:
    """Requests are due at even times, whether the server is quick or not, until ``until`` says so."""
    began = time.perf_counter()
    gap = connections / per_second
    parts = await asyncio.gather(
        *(
            _open_loop(base_url, paths(), began + gap * number / connections, gap, until)
            for number in range(connections)
        )
    )
    spent = time.perf_counter() - began
    return Load(spent, [took for part, _ in parts for took in part], sum(wrong for _, wrong in parts))


async def _closed_loop(base_url: str, paths: Iterator[str], until: float) -> tuple[list[float], int]:
    async with _Connection(base_url) as connection:
        took, wrong = [], 0
        while (began := time.perf_counter()) < until:
            wrong += await connection.get(next(paths)) != 200
            took.append(time.perf_counter() - began)
        return took, wrong


async def _open_loop(
    base_url: str, paths: Iterator[str], due: float, gap: float, until: Callable[[], bool]
) -> tuple[list[float], int]:
    async with _Connection(base_url) as connection:
        took, wrong = [], 0
        while not until():
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            wrong += await connection.get(next(paths)) != 200
            took.append(time.perf_counter() - due)
            due += gap
        return took, wrong


class _Connection:
    """One connection that is kept alive."""

    def __init__(self, base_url: str) -> None:
        self._url = urlsplit(base_url)

    async def __aenter__(self) -> _Connection:
        self._reader, self._writer = await asyncio.open_connection(self._url.hostname, self._url.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def get(self, path: str) -> int:
        """Sends a request and reads the whole answer; its status."""
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: {self._url.netloc}\r\nAccept: */*\r\n\r\n".encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        at = head.lower().find(b"content-length:")
        if at < 0:
            raise BrokenAnswerError(head[:200])
        length = int(head[at + 15 : head.index(b"\r\n", at)])
        if length:
            await self._reader.readexactly(length)
        return int(head[9:12])
