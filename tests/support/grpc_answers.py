"""A real gRPC server in this process that ends each call with the status named by its method."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2


class Answers(grpc.GenericRpcHandler):  # type: ignore[misc]  # gRPC has no types
    """Each method ends with the status of its name; ``Silent`` never ends, ``Broken`` raises. A hint may follow."""

    def __init__(self) -> None:
        self.finished = threading.Event()

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


def details() -> bytes:
    """The details that Google's servers send with a status that asks the client to wait."""
    info = any_pb2.Any()
    info.Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=6, nanos=1_000_000_000)))
    status: bytes = status_pb2.Status(code=8, message="said the server", details=[info]).SerializeToString()
    return status


HINTS: dict[str, Any] = {
    "pushback": (("grpc-retry-pushback-ms", "7000"),),
    "stop": (("grpc-retry-pushback-ms", "-1"),),
    "details": (("grpc-status-details-bin", details()),),
}


@contextlib.contextmanager
def grpc_answers() -> Iterator[str]:
    """Runs on a free loopback port; yields its address."""
    answers = Answers()
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        server = grpc.server(threads, handlers=[answers])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            answers.finished.set()
            server.stop(None).wait()
