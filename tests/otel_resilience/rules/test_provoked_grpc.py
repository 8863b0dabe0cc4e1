"""gRPC, sync and asyncio, and google-api-core above both of its transports, against servers in this process."""

from __future__ import annotations

import concurrent.futures
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import google.api_core.exceptions
import google.api_core.grpc_helpers
import google.api_core.retry
import grpc
import grpc.aio
import pytest
import requests
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from otel_resilience import ErrorClass, classify
from support.error_rows import ErrorRow, check_row, closed_port, raised, raised_async, rows_of
from support.faulty_http import FaultyServer, faulty_server

NO_WAIT = {"timeout": 5}


class Answers(grpc.GenericRpcHandler):  # type: ignore[misc]  # gRPC has no types
    """Each method ends with the status of its name; ``Silent`` never ends, ``Broken`` raises."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        name = handler_call_details.method.rpartition("/")[2]
        if name == "Unknown":
            return None

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            if name == "Broken":
                raise ValueError("broken")
            if name == "Silent":
                finished.wait()
            if name == "Large":
                return b"x" * 5_000_000
            code, _, hint = name.partition("-")
            context.set_trailing_metadata(HINTS.get(hint, ()))
            context.abort(getattr(grpc.StatusCode, code), "said the server")
            raise AssertionError

        finished = self.finished
        return grpc.unary_unary_rpc_method_handler(answer)

    def __init__(self) -> None:
        self.finished = threading.Event()


def details() -> bytes:
    """What Google's servers send with a status that asks to wait."""
    info = any_pb2.Any()
    info.Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=6, nanos=1_000_000_000)))
    status: bytes = status_pb2.Status(code=8, message="said the server", details=[info]).SerializeToString()
    return status


HINTS: dict[str, Any] = {
    "pushback": (("grpc-retry-pushback-ms", "7000"),),
    "stop": (("grpc-retry-pushback-ms", "-1"),),
    "details": (("grpc-status-details-bin", details()),),
}
METHODS = {
    "no answer in time": "Silent",
    "server raises an exception": "Broken",
    "unknown method": "Unknown",
    "answer is too large": "Large",
    "RESOURCE_EXHAUSTED with a pushback": "RESOURCE_EXHAUSTED-pushback",
    "RESOURCE_EXHAUSTED with RetryInfo": "RESOURCE_EXHAUSTED-details",
    "UNAVAILABLE with a pushback not to retry": "UNAVAILABLE-stop",
    "CANCELLED by the server": "CANCELLED",
}


@pytest.fixture(scope="module")
def target() -> Iterator[str]:
    answers = Answers()
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        server = grpc.server(threads, handlers=[answers])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        answers.finished.set()
        server.stop(None).wait()


@pytest.fixture
def port(target: str) -> Iterator[str]:
    """Where nobody listens."""
    with closed_port() as closed:
        yield f"127.0.0.1:{closed}"


def of(row: ErrorRow, target: str, closed: str) -> tuple[str, str, float]:
    """Whom to ask, for what, and for how long."""
    where = {"connection refused": closed, "unknown host": "no-such-host.invalid:1"}.get(row.error, target)
    name = METHODS.get(row.error, row.error)
    return where, f"/shop/{name}", 0.1 if row.error == "no answer in time" else 30


def ask(row: ErrorRow, target: str, closed: str) -> Exception:
    where, method, timeout = of(row, target, closed)
    if row.error == "TLS with a server that has none":
        with grpc.secure_channel(where, grpc.ssl_channel_credentials()) as channel:
            return raised(lambda: channel.unary_unary(method)(b"", timeout=timeout))
    with grpc.insecure_channel(where) as channel:
        if row.error == "channel does not become ready":
            ready = grpc.channel_ready_future(channel)
            caught = raised(lambda: ready.result(0.0))
            ready.cancel()
            while channel._connectivity_state.polling:  # its thread must not outlive the channel
                time.sleep(0.01)
            return caught
        return raised(lambda: channel.unary_unary(method)(b"", timeout=timeout))


@pytest.mark.fault("L6")
@pytest.mark.parametrize("row", rows_of("grpc"))
def test_grpc(row: ErrorRow, target: str, port: str) -> None:
    check_row(row, ask(row, target, port))


AIO = [row for row in rows_of("grpc") if row.values[0].exception != "FutureTimeoutError"]


@pytest.mark.fault("L6")
@pytest.mark.parametrize("row", AIO)
async def test_grpc_aio(row: ErrorRow, target: str, port: str) -> None:
    where, method, timeout = of(row, target, port)
    secure = row.error.startswith("TLS")
    channel = (
        grpc.aio.secure_channel(where, grpc.ssl_channel_credentials()) if secure else grpc.aio.insecure_channel(where)
    )
    async with channel:
        error = await raised_async(lambda: channel.unary_unary(method)(b"", timeout=timeout))
    assert isinstance(error, grpc.aio.AioRpcError)
    sync = ErrorRow(row.client, row.error, "AioRpcError", row.cells)
    check_row(sync, error)


def test_a_call_that_we_cancelled_is_no_failure(target: str) -> None:
    with grpc.insecure_channel(target) as channel:
        running = channel.unary_unary("/shop/Silent").future(b"")
        running.cancel()
        verdict = classify(raised(running.result))
        assert verdict.error_class is ErrorClass.CANCELLED
        stream = channel.unary_stream("/shop/Silent")(b"")
        stream.cancel()
        assert classify(raised(lambda: next(stream))).error_class is ErrorClass.CANCELLED


def test_a_status_that_cannot_be_read_is_a_failure_of_the_server() -> None:
    verdict = classify(grpc.RpcError("odd"))
    assert (verdict.error_type, verdict.counts, verdict.unclassified) == ("server_error", True, False)


@pytest.fixture(scope="module")
def web() -> Iterator[FaultyServer]:
    with faulty_server() as started:
        started.content_type = b"application/json"
        yield started


def google_error(row: ErrorRow, target: str, closed: str, web: FaultyServer) -> Exception:
    transport, _, what = row.error.partition(": ")
    if transport == "REST":
        web.body = json.dumps({"error": {"message": "said the server"}}).encode()
        with requests.Session() as session:
            session.trust_env = False
            error: Exception = google.api_core.exceptions.from_http_response(
                session.get(f"{web.url}/{what}", timeout=5)
            )
            return error
    where, method, timeout = of(ErrorRow(row.client, what, "", ()), target, closed)
    with grpc.insecure_channel(where) as channel:
        call = google.api_core.grpc_helpers.wrap_errors(channel.unary_unary(method))
        if transport == "own retries gave up":
            retrying = google.api_core.retry.Retry(initial=0.01, maximum=0.01, timeout=0.05)
            return raised(lambda: retrying(call)(b"", timeout=timeout))
        return raised(lambda: call(b"", timeout=timeout))


@pytest.mark.fault("L6")
@pytest.mark.parametrize("row", rows_of("google-api-core"))
def test_google_api_core(row: ErrorRow, target: str, port: str, web: FaultyServer) -> None:
    check_row(row, google_error(row, target, port, web))
