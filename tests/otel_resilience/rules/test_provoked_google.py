"""google-api-core on both of its transports, against servers in this process."""

from __future__ import annotations

import json
from collections.abc import Iterator

import grpc
import pytest
import requests

from support.error_rows import ErrorRow, check_row, closed_port, raised, rows_of
from support.faulty_http import FaultyServer, faulty_server
from support.grpc_answers import grpc_answers

# It needs a newer OpenTelemetry than the oldest that the library is tested with.
exceptions = pytest.importorskip("google.api_core.exceptions")
grpc_helpers = pytest.importorskip("google.api_core.grpc_helpers")
retry = pytest.importorskip("google.api_core.retry")


@pytest.fixture(scope="module")
def target() -> Iterator[str]:
    with grpc_answers() as address:
        yield address


@pytest.fixture(scope="module")
def web() -> Iterator[FaultyServer]:
    with faulty_server() as started:
        started.content_type = b"application/json"
        yield started


def provoke(row: ErrorRow, target: str, web: FaultyServer) -> Exception:
    transport, _, what = row.error.partition(": ")
    if transport == "REST":
        web.body = json.dumps({"error": {"message": "said the server"}}).encode()
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(f"{web.url}/{what}", timeout=5)
            error: Exception = exceptions.from_http_response(answer)
            return error
    method = {"no answer in time": "Silent", "RESOURCE_EXHAUSTED with RetryInfo": "RESOURCE_EXHAUSTED-details"}
    timeout = 0.1 if what == "no answer in time" else 30
    with closed_port() as closed:
        where = f"127.0.0.1:{closed}" if what == "connection refused" else target
        return ask(where, f"/shop/{method.get(what, what)}", timeout, retrying=transport == "own retries gave up")


def ask(where: str, method: str, timeout: float, *, retrying: bool) -> Exception:
    with grpc.insecure_channel(where) as channel:
        call = grpc_helpers.wrap_errors(channel.unary_unary(method))
        if retrying:
            call = retry.Retry(initial=0.01, maximum=0.01, timeout=0.05)(call)
        return raised(lambda: call(b"", timeout=timeout))


@pytest.mark.fault("L6")
@pytest.mark.parametrize("row", rows_of("google-api-core"))
def test_google_api_core(row: ErrorRow, target: str, web: FaultyServer) -> None:
    check_row(row, provoke(row, target, web))
