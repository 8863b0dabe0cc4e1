"""gRPC, sync and asyncio, against a server in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator

import grpc
import grpc.aio
import pytest

from otel_resilience import ErrorClass, classify
from support.error_rows import ErrorRow, check_row, closed_port, raised, raised_async, rows_of
from support.grpc_answers import grpc_answers

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
    with grpc_answers() as address:
        yield address


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


def test_a_call_that_we_cancelled_is_not_a_failure(target: str) -> None:
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
