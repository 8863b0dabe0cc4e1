"""requests, urllib3, aiohttp and httpx2 against a real server, a closed port and a silent one."""

from __future__ import annotations

import contextlib
import http.client
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import aiohttp
import httpx2
import pytest
import requests
import urllib3
import urllib3.util

from otel_resilience import ErrorClass, classify
from support.error_rows import ErrorRow, check_row, closed_port, full_port, raised, raised_async, rows_of, silent_port
from support.faulty_http import FaultyServer, faulty_server

PATHS = {
    "no answer in time": "/silent",
    "closed without an answer": "/close",
    "body cut short": "/cut",
    "no HTTP": "/garbage",
    "redirects without end": "/loop",
    "body is not JSON": "/200",
}


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyServer]:
    with faulty_server() as started:
        yield started


@contextlib.contextmanager
def url_of(row: ErrorRow, server: FaultyServer) -> Iterator[str]:
    """What to ask for to meet the error of a row."""
    if row.error == "connection refused":
        with closed_port() as port:
            yield f"http://127.0.0.1:{port}/"
    elif row.error == "connect timeout":
        with full_port() as port:
            yield f"http://127.0.0.1:{port}/"
    elif row.error == "unknown host":
        yield "http://no-such-host.invalid/"
    elif row.error == "TLS with a server that has none":
        yield server.url.replace("http", "https") + "/garbage"
    elif row.error == "unusable URL":
        yield "http://"
    else:
        yield server.url + PATHS.get(row.error, "/" + row.error.split(" ")[0])


def connect_timeout(row: ErrorRow) -> float:
    return 0.1 if row.error == "connect timeout" else 30


def read_timeout(row: ErrorRow) -> float:
    return 0.1 if row.error == "no answer in time" else 30


def method_of(row: ErrorRow) -> str:
    return "POST" if "POST" in row.error else "GET"


def ask_requests(row: ErrorRow, url: str) -> Any:
    with requests.Session() as session:
        session.trust_env = False
        if "status retries" in row.error:
            retries = urllib3.util.Retry(1, backoff_factor=0, status_forcelist=[503], respect_retry_after_header=False)
            session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retries))
        answer = session.request(method_of(row), url, timeout=(connect_timeout(row), read_timeout(row)))
        answer.raise_for_status()
        return answer.json()


@pytest.mark.fault("L6")
@pytest.mark.parametrize("row", rows_of("requests"))
def test_requests(row: ErrorRow, server: FaultyServer) -> None:
    with url_of(row, server) as url:
        check_row(row, raised(lambda: ask_requests(row, url)))


def ask_urllib3(row: ErrorRow, url: str, pool: urllib3.PoolManager) -> Any:
    retries: Any = False if row.error not in ("redirects without end", "503 after status retries") else 1
    if row.error == "503 after status retries":
        retries = urllib3.util.Retry(1, status_forcelist=[503], respect_retry_after_header=False)
    timeout = urllib3.util.Timeout(connect=connect_timeout(row), read=read_timeout(row))
    answer = pool.request(method_of(row), url, retries=retries, timeout=timeout)
    return answer.json()


@pytest.mark.fault("L6")
@pytest.mark.parametrize("row", rows_of("urllib3"))
def test_urllib3(row: ErrorRow, server: FaultyServer) -> None:
    with urllib3.PoolManager(maxsize=1, block=True) as pool, url_of(row, server) as url:
        if row.error == "pool timeout":
            connections = pool.connection_from_url(url)
            held = connections.urlopen("GET", "/200", preload_content=False, retries=False)
            error = raised(lambda: connections.urlopen("GET", "/200", pool_timeout=1, retries=False))
            held.release_conn()
            held.close()
        else:
            error = raised(lambda: ask_urllib3(row, url, pool))
        check_row(row, error)


async def ask_aiohttp(row: ErrorRow, url: str) -> Any:
    timeout = aiohttp.ClientTimeout(sock_read=read_timeout(row), sock_connect=connect_timeout(row))
    if "total" in row.error:
        timeout = aiohttp.ClientTimeout(total=0.1)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.request(method_of(row), url) as answer,
    ):
        answer.raise_for_status()
        return await answer.json()


@pytest.mark.fault("L6")
@pytest.mark.parametrize("row", rows_of("aiohttp"))
async def test_aiohttp(row: ErrorRow, server: FaultyServer) -> None:
    if row.error == "pool timeout":
        async with full_pool(server) as session:
            check_row(row, await raised_async(lambda: session.get(server.url + "/200")))
        return
    with url_of(row, server) as url:
        url = server.url + "/silent" if "total" in row.error else url
        check_row(row, await raised_async(lambda: ask_aiohttp(row, url)))


@contextlib.asynccontextmanager
async def full_pool(server: FaultyServer) -> AsyncIterator[aiohttp.ClientSession]:
    """A session whose one connection is in use; its time limit for a connection counts the wait for one as well."""
    timeout = aiohttp.ClientTimeout(connect=0.05)
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1), timeout=timeout) as session,
        session.get(server.url + "/cut"),
    ):
        yield session


async def ask_httpx2(row: ErrorRow, url: str) -> Any:
    async with httpx2.AsyncClient(
        trust_env=False, timeout=httpx2.Timeout(30, read=read_timeout(row), connect=connect_timeout(row))
    ) as client:
        answer = await client.request(method_of(row), url, follow_redirects=True)
        answer.raise_for_status()
        return answer.json()


@pytest.mark.fault("L6")
@pytest.mark.parametrize("row", rows_of("httpx2"))
async def test_httpx2(row: ErrorRow, server: FaultyServer) -> None:
    with url_of(row, server) as url:
        check_row(row, await raised_async(lambda: ask_httpx2(row, url)))


@pytest.mark.fault("F05")
@pytest.mark.parametrize(
    "ask",
    [
        lambda url: requests.post(url, timeout=0.2),
        lambda url: requests.post(url, timeout=(0.2, 30)),
        lambda url: urllib3.PoolManager().request("POST", url, timeout=0.2, retries=False),
        lambda url: urllib3.PoolManager().request("POST", url, timeout=0.2, retries=0),
        lambda url: urllib.request.urlopen(url, b"order", timeout=0.2),
        lambda url: http.client.HTTPSConnection(url.split("/")[2], timeout=0.2).request("POST", "/"),
        lambda url: httpx2.post(url, timeout=0.2, trust_env=False),
    ],
    ids=["requests", "requests, connect", "urllib3", "urllib3, given up", "urllib", "http.client", "httpx2"],
)
def test_a_handshake_that_stalls_is_no_answer_that_stays_away(ask: Callable[[str], object]) -> None:
    """Sockets report both as a read that took too long; nothing was sent before the handshake is done."""
    with silent_port() as port:
        verdict = classify(raised(lambda: ask(f"https://127.0.0.1:{port}/")))
    assert (verdict.error_type, verdict.error_class, verdict.counts) == ("connect_timeout", ErrorClass.TRANSIENT, True)
    assert verdict.unsent
