"""Real faults provoked over loopback with real clients, then classified."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import ssl
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from otel_resilience import Classification, Severity, classify
from support.programs import require_program
from support.verdict_rows import assert_verdict

OPTIONS: dict[str, Any] = {"trust_env": False, "timeout": 30}


@contextlib.asynccontextmanager
async def answering(data: bytes | None, *, read: bool = True, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server that reads a little, answers ``data`` and closes; with ``None`` it stays silent. Yields its port."""
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            if read:
                await reader.read(65_536)
            if data is None:
                await done.wait()
            else:
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            done.set()
            await asyncio.sleep(0)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is bound, so that nobody else takes it, but on which nobody listens."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.fixture
def two_addresses(monkeypatch: pytest.MonkeyPatch) -> str:
    """A name with two addresses, both of this machine."""
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host in {"two.test", b"two.test"}:
            address = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
            return [(*address, ("127.0.0.1", port)), (*address, ("127.0.0.2", port))]
        return real(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return "two.test"


async def verdict_of(url: str, client: httpx.AsyncClient | None = None, **request: Any) -> Classification:
    async with client or httpx.AsyncClient(**OPTIONS) as used:
        try:
            response = await used.get(url, **request)
        except Exception as error:
            return classify(error)
    pytest.fail(f"answered {response.status_code}")


@pytest.mark.fault("F01")
async def test_refused(closed_port: int) -> None:
    verdict = await verdict_of(f"http://127.0.0.1:{closed_port}/")
    assert_verdict(verdict, "T", "yes", "connection_error", unsent=True, idempotent=True)


async def test_refused_by_name(closed_port: int) -> None:
    assert_verdict(await verdict_of(f"http://localhost:{closed_port}/"), "T", "yes", "connection_error", unsent=True)


async def test_refused_on_two_addresses(closed_port: int, two_addresses: str) -> None:
    url = f"http://{two_addresses}:{closed_port}/"
    assert_verdict(await verdict_of(url), "T", "yes", "connection_error", unsent=True)


def test_refused_for_the_synchronous_clients(closed_port: int) -> None:
    url = f"http://127.0.0.1:{closed_port}/"
    with pytest.raises(httpx.ConnectError) as caught:
        httpx.post(url, **OPTIONS)
    assert_verdict(classify(caught.value), "T", "yes", "connection_error", unsent=True, idempotent=False)
    with pytest.raises(OSError, match="refused") as plain:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url)
    assert_verdict(classify(plain.value), "T", "yes", "connection_error", unsent=True)


@pytest.mark.fault("F12")
async def test_closed_without_response() -> None:
    async with answering(b"") as port:
        verdict = await verdict_of(f"http://127.0.0.1:{port}/")
        assert_verdict(verdict, "T", "yes", "response_ended", immediate=True)
        with pytest.raises(http.client.RemoteDisconnected) as caught:
            await asyncio.to_thread(_plain_get, port)
    assert_verdict(classify(caught.value), "T", "yes", "response_ended", immediate=True)


def _plain_get(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        connection.getresponse()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("data", "kind", "error_type", "max_retries"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", "T", "response_ended", None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "T", "response_ended", None),
        (b"\x00\x01garbage\r\n\r\n", "T", "invalid_response", None),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", "P", "invalid_response", 1),
    ],
    ids=["truncated body", "truncated chunk", "garbage", "bad gzip"],
)
@pytest.mark.fault("F11")
async def test_broken_answers(data: bytes, kind: str, error_type: str, max_retries: int | None) -> None:
    async with answering(data) as port:
        verdict = await verdict_of(f"http://127.0.0.1:{port}/")
    assert_verdict(verdict, kind, "yes", error_type, max_retries=max_retries)


@pytest.mark.fault("F10")
async def test_reset_in_mid_body() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
        await writer.drain()
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        verdict = await verdict_of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    assert_verdict(verdict, "T", "yes", "response_ended")


@pytest.mark.fault("F07")
async def test_read_timeout() -> None:
    client = httpx.AsyncClient(trust_env=False, timeout=httpx.Timeout(30, read=0.2))
    async with answering(None) as port:
        verdict = await verdict_of(f"http://127.0.0.1:{port}/", client)
    assert_verdict(verdict, "T", "yes", "read_timeout", idempotent=True)


@pytest.mark.fault("F31")
async def test_pool_timeout() -> None:
    timeout = httpx.Timeout(5, pool=0.05)
    async with (
        answering(None) as port,
        httpx.AsyncClient(trust_env=False, timeout=timeout, limits=httpx.Limits(max_connections=1)) as client,
    ):
        holder = asyncio.create_task(client.get(f"http://127.0.0.1:{port}/"))
        await asyncio.sleep(0.05)
        with pytest.raises(httpx.PoolTimeout) as caught:
            await client.get(f"http://127.0.0.1:{port}/")
        holder.cancel()
        with pytest.raises(asyncio.CancelledError):
            await holder
    assert_verdict(classify(caught.value), "local", "no", "pool_exhausted", unsent=True)


async def test_an_answer_that_asks_to_wait() -> None:
    data = b"HTTP/1.1 429 Slow down\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n"
    async with answering(data) as port, httpx.AsyncClient(**OPTIONS) as client:
        response = await client.get(f"http://127.0.0.1:{port}/")
    with pytest.raises(httpx.HTTPStatusError) as caught:
        response.raise_for_status()
    assert_verdict(classify(caught.value), "RateLimit", "no", "429", retry_after=3, idempotent=True)


@pytest.mark.fault("F28")
async def test_a_loop_of_redirects() -> None:
    data = b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    async with answering(data) as port:
        verdict = await verdict_of(f"http://127.0.0.1:{port}/", follow_redirects=True)
    assert_verdict(verdict, "P", "no", "too_many_redirects")


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("http://127.0.0.1:{port}/", {"X-API-Key": "a\nb"}),
        ("ftp://127.0.0.1/", {}),
        ("http://[::1/", {}),
        ("http://127.0.0.1:{port}0000/", {}),
    ],
    ids=["newline in a header value", "unsupported protocol", "invalid URL", "port out of range"],
)
async def test_misuse(url: str, headers: dict[str, str]) -> None:
    async with answering(b"") as port:
        assert_verdict(await verdict_of(url.format(port=port), headers=headers), "P", "no", "_OTHER")


async def test_a_closed_client() -> None:
    client = httpx.AsyncClient(**OPTIONS)
    await client.aclose()
    with pytest.raises(RuntimeError) as caught:
        await client.get("http://127.0.0.1/")
    assert_verdict(classify(caught.value), "P", "no", "_OTHER")


async def test_a_proxy_that_wants_a_password() -> None:
    data = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    async with answering(data) as port:
        client = httpx.AsyncClient(proxy=f"http://127.0.0.1:{port}", **OPTIONS)
        verdict = await verdict_of("https://supplier.test/", client)
    assert_verdict(verdict, "P", "no", "407", unsent=True)


async def test_https_to_an_http_port() -> None:
    async with answering(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") as port:
        verdict = await verdict_of(f"https://127.0.0.1:{port}/")
    assert_verdict(verdict, "P", "no", "secure_connection_error", unsent=True)


async def test_closed_during_the_handshake() -> None:
    async with answering(b"") as port:
        verdict = await verdict_of(f"https://127.0.0.1:{port}/")
    assert_verdict(verdict, "T", "yes", "secure_connection_error", unsent=True)


@pytest.mark.fault("F05")
async def test_a_handshake_that_stalls() -> None:
    async with answering(None) as port:
        client = httpx.AsyncClient(trust_env=False, timeout=httpx.Timeout(5, connect=0.2))
        verdict = await verdict_of(f"https://127.0.0.1:{port}/", client)
    assert_verdict(verdict, "T", "yes", "connect_timeout", unsent=True)


@pytest.mark.fault("F04")
async def test_a_self_signed_certificate(tmp_path: Path) -> None:
    openssl = require_program("openssl")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = (
        f"{openssl} req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -keyout {key} -out {certificate}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with answering(b"HTTP/1.1 200 OK\r\n\r\n", tls=context) as port:
        verdict = await verdict_of(f"https://127.0.0.1:{port}/")
    assert_verdict(
        verdict, "P", "no", "secure_connection_error", unsent=True, severity=Severity.CRITICAL, retryable=False
    )
