"""elasticsearch, sync and asyncio, against a local server that answers like Elasticsearch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import elasticsearch
import pytest

from support.error_rows import ErrorRow, check_row, closed_port, raised, raised_async, rows_of
from support.faulty_http import FaultyServer, faulty_server

PATHS = {"no answer in time": "silent", "closed without an answer": "close"}
OPTIONS: dict[str, Any] = {"max_retries": 0, "retry_on_timeout": False}


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyServer]:
    with faulty_server() as started:
        started.headers = b"X-Elastic-Product: Elasticsearch\r\n"
        started.content_type = b"application/vnd.elasticsearch+json;compatible-with=9"
        yield started


def prepare(row: ErrorRow, server: FaultyServer) -> None:
    body = {"error": {"type": "some_exception", "reason": "said the server"}, "status": 400}
    server.body = b"<html>" if row.error == "body is not JSON" else json.dumps(body).encode()
    server.path = PATHS.get(row.error, row.error if row.error.isdigit() else "200")


def ask(row: ErrorRow, url: str) -> Any:
    timeout = 0.2 if "time" in row.error else 10
    with elasticsearch.Elasticsearch(url, request_timeout=timeout, **OPTIONS) as client:
        return client.perform_request("GET", "/stock", headers={"Accept": "application/json"})


@pytest.mark.fault("L6")
@pytest.mark.parametrize("row", rows_of("elasticsearch"))
def test_elasticsearch(row: ErrorRow, server: FaultyServer) -> None:
    prepare(row, server)
    with closed_port() as closed:
        urls = {"connection refused": f"http://127.0.0.1:{closed}", "unknown host": "http://no-such-host.invalid:1"}
        check_row(row, raised(lambda: ask(row, urls.get(row.error, server.url))))


IN_ASYNCIO = ("connection refused", "no answer in time", "429")
ASYNC = [row for row in rows_of("elasticsearch") if row.values[0].error in IN_ASYNCIO]


@pytest.mark.parametrize("row", ASYNC)
async def test_the_asynchronous_client(row: ErrorRow, server: FaultyServer) -> None:
    prepare(row, server)
    with closed_port() as closed:
        url = f"http://127.0.0.1:{closed}" if row.error == "connection refused" else server.url
        timeout = 0.2 if "time" in row.error else 10
        async with elasticsearch.AsyncElasticsearch(url, request_timeout=timeout, **OPTIONS) as client:
            check_row(row, await raised_async(lambda: client.perform_request("GET", "/stock")))
