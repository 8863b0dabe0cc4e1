"""The clients of OpenAI and Anthropic against a local server.

They are imported where they are asked: together they take as long as a third of the collection of all tests, in every
process that collects them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from support.error_rows import ErrorRow, check_row, closed_port, raised, rows_of
from support.faulty_http import FaultyServer, faulty_server

PATHS = {"no answer in time": "silent", "closed without an answer": "close"}


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyServer]:
    with faulty_server() as started:
        started.content_type = b"application/json"
        yield started


def ask_openai(url: str, **options: Any) -> Any:
    import openai

    with openai.OpenAI(**{"api_key": "key", "base_url": url, "max_retries": 0, **options}) as client:
        return client.models.list()


def ask_anthropic(url: str, **options: Any) -> Any:
    import anthropic

    with anthropic.Anthropic(**{"api_key": "key", "base_url": url, "max_retries": 0, **options}) as client:
        return client.models.list()


def provoke(row: ErrorRow, server: FaultyServer, ask: Any) -> Exception:
    if row.error == "connection refused":
        with closed_port() as port:
            return raised(lambda: ask(f"http://127.0.0.1:{port}"))
    if row.error == "no key":
        return raised(lambda: ask(server.url, api_key=None))
    kind = "insufficient_quota" if "quota" in row.error else "some_error"
    kind = "billing_error" if "quota" in row.error and ask is ask_anthropic else kind
    body = {"error": {"message": "said the server", "type": kind, "code": kind}}
    server.body = b"<html>" if row.error == "body is not JSON" else json.dumps(body).encode()
    status = row.error.split(" ")[0]
    server.path = PATHS.get(row.error, status if status.isdigit() else "200")
    return raised(lambda: ask(server.url, timeout=0.2 if "time" in row.error else 10))


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.fault("L6")
@pytest.mark.parametrize("row", rows_of("openai"))
def test_openai(row: ErrorRow, server: FaultyServer) -> None:
    check_row(row, provoke(row, server, ask_openai))


@pytest.mark.fault("L6")
@pytest.mark.parametrize("row", rows_of("anthropic"))
def test_anthropic(row: ErrorRow, server: FaultyServer) -> None:
    check_row(row, provoke(row, server, ask_anthropic))
