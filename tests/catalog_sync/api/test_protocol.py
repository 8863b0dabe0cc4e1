"""Limits on what a client may send before its request is complete, on a real socket in this process."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import resource
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from catalog_sync.api import protocol
from catalog_sync.api.protocol import BoundedProtocol, Turns
from catalog_sync.api.server import room_for_connections


class Endless:
    """An endless answer, and whether it was ended."""

    ended: asyncio.Event

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] != "/endless":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"ok"})
            return
        self.ended = asyncio.Event()
        gone = asyncio.create_task(self._gone(receive))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not gone.done():
            await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
            await asyncio.sleep(0)
        self.ended.set()

    async def _gone(self, receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass


answer = Endless()


class Scripted:
    """Sends the messages that a test has set."""

    messages: list[dict[str, Any]]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        for message in self.messages:
            await send(dict(message))


scripted = Scripted()

LONGEST_HEAD, LONGEST_SEND = protocol.HEAD_TIMEOUT, protocol.PROGRESS_EVERY
"""As they are where no test has made them shorter."""


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with serving(answer) as found:
        yield found


@pytest.fixture
async def scripted_port() -> AsyncIterator[int]:
    async with serving(scripted) as found:
        yield found


@contextlib.asynccontextmanager
async def serving(app: Any, **options: Any) -> AsyncIterator[int]:
    config = uvicorn.Config(
        app, http=BoundedProtocol, ws="none", lifespan="off", log_config=None, port=0, access_log=False, **options
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        await server.shutdown()


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def status(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(60):
        return await reader.readline()


@pytest.mark.parametrize(("limit", "drips"), [(0.05, False), (0.05, True)])
async def test_headers_must_arrive_in_time(
    port: int, monkeypatch: pytest.MonkeyPatch, limit: float, drips: bool
) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT", limit)
    sent = b"GET / HTTP/1.1\r\nX: " + b"y" * 10_000
    async with connected(port) as (reader, writer), asyncio.timeout(LONGEST_HEAD / 2):
        while not reader.at_eof():
            if drips and sent:
                writer.write(sent[:1])
                sent = sent[1:]
            with contextlib.suppress(TimeoutError, ConnectionResetError):
                assert await asyncio.wait_for(reader.read(1), 0.01) == b""


async def test_an_idle_connection_after_an_answer_is_not_dropped_by_that_limit(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT", 0.05)
    async with connected(port) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await status(reader) == b"HTTP/1.1 200 OK\r\n"
        await asyncio.sleep(0.15)
        assert not reader.at_eof()
        await reader.readuntil(b"ok")
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await status(reader) == b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize("pieces", [1, 40])
async def test_headers_are_bounded_in_size_however_they_arrive(port: int, pieces: int) -> None:
    whole = b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 8000 + b"\r\n"
    async with connected(port) as (reader, writer):
        step = -(-len(whole) // pieces)
        answer = asyncio.create_task(status(reader))
        for start in range(0, len(whole), step):
            if not answer.done():
                writer.write(whole[start : start + step])
                await asyncio.sleep(0.002)
        assert (await answer).startswith(b"HTTP/1.1 431")


async def test_a_body_does_not_count_as_headers(port: int) -> None:
    body = b"x" * 200_000
    async with connected(port) as (reader, writer):
        for _ in range(2):
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            assert await status(reader) == b"HTTP/1.1 200 OK\r\n"
            await reader.readuntil(b"ok")


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"GET / HTTP/1.1\r\nA B: c\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)
async def test_ambiguous_requests_are_refused(port: int, sent: bytes) -> None:
    async with connected(port) as (reader, writer):
        writer.write(sent)
        assert (await status(reader)).startswith(b"HTTP/1.1 400")


async def test_a_client_that_takes_nothing_of_its_answer_is_dropped(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "PROGRESS_EVERY", 0.1)
    async with connected(port) as (_, writer):
        writer.write(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(LONGEST_SEND / 2):
            while not hasattr(answer, "ended"):
                await asyncio.sleep(0.01)
            await answer.ended.wait()


async def test_a_client_that_takes_its_time_is_not(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "PROGRESS_EVERY", 1.0)
    async with connected(port) as (reader, writer):
        writer.write(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(30):
            assert await reader.read(200_000)
            await asyncio.sleep(0.05)


async def test_requests_that_are_sent_ahead_are_answered_in_turn_up_to_a_bound(port: int) -> None:
    async with connected(port) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * protocol.MAX_PIPELINED)
        async with asyncio.timeout(60):
            answers = [await reader.readuntil(b"ok") for _ in range(protocol.MAX_PIPELINED)]
        assert all(text.startswith(b"HTTP/1.1 200") for text in answers)


@pytest.mark.fault("W3")
async def test_a_packet_of_thousands_of_requests_keeps_only_a_few(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    longest = 0
    begin = BoundedProtocol.on_message_begin

    def counting(self: BoundedProtocol) -> None:
        nonlocal longest
        longest = max(longest, len(self.pipeline))
        begin(self)

    monkeypatch.setattr(BoundedProtocol, "on_message_begin", counting)
    async with connected(port) as (reader, writer):
        writer.write(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n" + b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 5000)
        with contextlib.suppress(OSError):
            async with asyncio.timeout(2):
                while await reader.read(1 << 16):
                    pass
    assert 0 < longest <= protocol.MAX_PIPELINED
    await asyncio.wait_for(answer.ended.wait(), 60)


async def test_an_answer_ends_with_its_client_even_if_more_requests_wait(port: int) -> None:
    async with connected(port) as (reader, writer):
        writer.write(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await status(reader)).startswith(b"HTTP/1.1 200")
    await asyncio.wait_for(answer.ended.wait(), 60)


START: dict[str, Any] = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-length", b"5"), (b"x-own", b"1")],
}
BODY: dict[str, Any] = {"type": "http.response.body", "body": b"hello"}
LENGTHLESS: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": []}
MESSAGES: dict[str, tuple[list[dict[str, Any]], bytes | None]] = {
    "one part": ([START, BODY], b"hello"),
    "two parts": ([START, {**BODY, "body": b"hel", "more_body": True}, {**BODY, "body": b"lo"}], b"hello"),
    "empty end": ([START, {**BODY, "more_body": True}, {**BODY, "body": b""}], b"hello"),
    "no length": ([LENGTHLESS, {**BODY, "more_body": True}, {**BODY, "body": b""}], b"5\r\nhello\r\n0\r\n\r\n"),
    "long": (
        [
            {**START, "headers": [(b"content-length", b"300000")]},
            *[{**BODY, "body": b"y" * 100_000, "more_body": n < 2} for n in range(3)],
        ],
        b"y" * 300_000,
    ),
    "nothing": ([{**START, "headers": [(b"content-length", b"0")]}, {**BODY, "body": b""}], b""),
    "304": ([{**START, "status": 304, "headers": [(b"etag", b"x")]}, {**BODY, "body": b""}], b""),
    "too long": ([START, {**BODY, "body": b"hello world"}], None),
    "too short": ([START, {**BODY, "body": b"hell"}], None),
    "broken header": ([{**START, "headers": [(b"content-length", b"5"), (b"x", b"a\r\nb: c")]}, BODY], None),
}


BOTH = [(case, method) for case in MESSAGES for method in ("GET", "HEAD") if method == "GET" or case[:3] != "too"]


@pytest.mark.parametrize(("case", "method"), BOTH)
async def test_a_response_arrives_as_it_was_given(scripted_port: int, case: str, method: str) -> None:
    scripted.messages, expected = MESSAGES[case]
    async with connected(scripted_port) as (reader, writer), asyncio.timeout(60):
        for _ in range(2):  # also from what was kept encoded
            writer.write(f"{method} / HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            if expected is None:
                found = await reader.read()
                assert b"b: c" not in found.partition(b"\r\n\r\n")[0]
                assert b" 200 " not in found or b"hello" not in found
                return
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 %d " % (304 if case == "304" else 200))
            body = b"" if method == "HEAD" else expected
            assert await reader.readexactly(len(body)) == body


async def test_a_short_response_leaves_in_one_write(scripted_port: int) -> None:
    scripted.messages = [START, BODY]
    async with connected(scripted_port) as (reader, writer), asyncio.timeout(60):
        for _ in range(3):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.read(65536)).endswith(b"\r\n\r\nhello")


async def test_an_idle_connection_is_closed_after_its_time_counted_from_the_last_answer() -> None:
    scripted.messages = [START, BODY]
    loop = asyncio.get_running_loop()
    async with (
        serving(scripted, timeout_keep_alive=1) as port,
        connected(port) as (reader, writer),
        asyncio.timeout(60),
    ):
        for _ in range(4):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"hello")
            last = loop.time()
            await asyncio.sleep(0.3)
        assert await reader.read() == b""
        assert loop.time() - last >= 0.95


async def test_the_rest_of_a_head_that_came_with_another_request_must_arrive_in_time(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT", 0.05)
    async with connected(port) as (reader, writer), asyncio.timeout(LONGEST_HEAD / 2):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTT")
        assert (await reader.read()).endswith(b"ok")


async def test_a_head_too_large_is_refused_also_behind_another_request(port: int) -> None:
    async with connected(port) as (reader, writer), asyncio.timeout(60):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n" + b"X: y\r\n" * 4000)
        await reader.readuntil(b"ok")
        writer.write(b"X: y\r\n" * 4000 + b"\r\n")
        assert (await status(reader)).startswith(b"HTTP/1.1 431")


async def test_long_writes_of_many_leave_one_in_a_round_of_the_loop() -> None:
    """Whoever else waits for the loop waits for one of them, not for all."""
    turns = Turns(asyncio.get_running_loop())
    rounds, written = 0, list[int]()
    ended = False

    async def write(parts: int) -> None:
        for _ in range(parts):
            await turns.take()
            written.append(rounds)

    async def count() -> None:
        nonlocal rounds
        while not ended:
            rounds += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    writers = [asyncio.create_task(write(10)) for _ in range(20)]
    gone = writers[3]
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(*writers, return_exceptions=True)
    ended = True
    await counting
    assert 190 <= len(written) < 200, "who has left holds nobody up"
    assert max(collections.Counter(written).values()) <= 2
    await asyncio.wait_for(write(1), 60)


async def test_a_new_connection_takes_the_place_of_what_has_been_idle_for_longest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(BoundedProtocol, "most", 4)
    done = asyncio.Event()

    async def waits(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/wait":
            await done.wait()
        await answer(scope, receive, send)

    async with serving(waits) as port, contextlib.AsyncExitStack() as stack:
        working, idle, half, used = [await stack.enter_async_context(connected(port)) for _ in range(4)]
        working[1].write(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        half[1].write(b"GET / HTTP/1.1\r\nHost:")
        used[1].write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await status(used[0]) == b"HTTP/1.1 200 OK\r\n"
        for victim in (idle, half):
            fresh = await stack.enter_async_context(connected(port))
            fresh[1].write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await status(fresh[0]) == b"HTTP/1.1 200 OK\r\n"
            with contextlib.suppress(ConnectionResetError):
                assert await status(victim[0]) == b""
        done.set()
        assert await status(working[0]) == b"HTTP/1.1 200 OK\r\n"


async def test_where_every_connection_works_a_new_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedProtocol, "most", 2)
    done = asyncio.Event()

    async def waits(scope: Any, receive: Any, send: Any) -> None:
        await done.wait()
        await answer(scope, receive, send)

    async with serving(waits) as port, contextlib.AsyncExitStack() as stack:
        both = [await stack.enter_async_context(connected(port)) for _ in range(2)]
        for _, writer in both:
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(0.05)
        more = await stack.enter_async_context(connected(port))
        with contextlib.suppress(ConnectionResetError):
            assert await status(more[0]) == b""
        done.set()
        for reader, _ in both:
            assert await status(reader) == b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("soft", "hard", "raised_to", "most"),
    [
        (1024, 1024, None, 768),
        (1024, 2048, 2048, 1792),
        (1024, 1_048_576, 4352, 4096),
        (1024, resource.RLIM_INFINITY, 4352, 4096),
        (65_536, 65_536, None, 4096),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None, 4096),
        (256, 256, None, 128),
    ],
)
def test_connections_leave_open_files_for_the_rest(
    soft: int, hard: int, raised_to: int | None, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: changed.append(limits))
    assert room_for_connections() == most
    assert changed == ([] if raised_to in (None, soft) else [(raised_to, hard)])
