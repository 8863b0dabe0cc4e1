"""A bounded HTTP client for measurements: a few connections that send one request after the other, or at a steady
pace."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from urllib.parse import urlsplit


@dataclasses.dataclass(frozen=True, slots=True)
class Load:
    """The result of a load."""

    seconds: float
    took: list[float]
    """Seconds per request; at a steady pace from the moment it was due, so that waiting counts."""
    wrong: int
    """Answers with another status than 200."""
    metered: list[float] = dataclasses.field(default_factory=list)
    """The increase of the meter during each request, if there is one."""

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
    """The server closed the connection or sent something other than HTTP with a length."""


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
    meter: Callable[[], float] | None = None,
) -> Load:
    """Requests are due at even times, whether the server is quick or not, until ``until`` says so."""
    metered: list[float] = []
    began = time.perf_counter()
    gap = connections / per_second
    parts = await asyncio.gather(
        *(
            _open_loop(base_url, paths(), began + gap * number / connections, gap, until, meter, metered)
            for number in range(connections)
        )
    )
    spent = time.perf_counter() - began
    return Load(spent, [took for part, _ in parts for took in part], sum(wrong for _, wrong in parts), metered)


async def _closed_loop(base_url: str, paths: Iterator[str], until: float) -> tuple[list[float], int]:
    async with _Connection(base_url) as connection:
        took, wrong = [], 0
        while (began := time.perf_counter()) < until:
            wrong += await connection.get(next(paths)) != 200
            took.append(time.perf_counter() - began)
        return took, wrong


async def _open_loop(
    base_url: str,
    paths: Iterator[str],
    due: float,
    gap: float,
    until: Callable[[], bool],
    meter: Callable[[], float] | None,
    metered: list[float],
) -> tuple[list[float], int]:
    async with _Connection(base_url) as connection:
        took, wrong = [], 0
        while not until():
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            before = 0.0 if meter is None else meter()
            wrong += await connection.get(next(paths)) != 200
            took.append(time.perf_counter() - due)
            if meter is not None:
                metered.append(meter() - before)
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


@contextlib.asynccontextmanager
async def held_open(
    base_url: str, paths: Sequence[str], connections: int, *, at_a_time: int = 1 << 16, pause: float = 0.0
) -> AsyncIterator[list[int]]:
    """Connections that send a request and read the response, ``at_a_time`` bytes with a ``pause`` in seconds between,
    and then repeat that: streams of events, slow readers, large reads. Yields the list of the statuses so far.

    Each has its own loopback address, so that a server counts them as different clients. Connection errors end it.
    """
    statuses: list[int] = []
    url = urlsplit(base_url)

    async def read(number: int) -> None:
        own = (f"127.0.{1 + number // 200}.{1 + number % 200}", 0)
        for path in itertools.cycle([*paths[number % len(paths) :], *paths[: number % len(paths)]]):
            reader, writer = await asyncio.open_connection(url.hostname, url.port, limit=at_a_time, local_addr=own)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: close\r\n\r\n".encode())
                statuses.append(int((await reader.readline())[9:12]))
                while await reader.read(at_a_time):  # noqa: ASYNC110  it reads slowly
                    await asyncio.sleep(pause)
            finally:
                writer.close()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(read(number)) for number in range(connections)]
        try:
            yield statuses
        finally:
            for task in tasks:
                task.cancel()
