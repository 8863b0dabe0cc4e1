"""``doctor`` sends an empty export over real sockets and reports the answer."""

from __future__ import annotations

import contextlib
import os
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import certifi
import grpc
import pytest

from catalog_sync.cli.checks import Check
from catalog_sync.cli.telemetry_check import telemetry
from support.certificates import loopback_certificate
from support.otlp_sink import otlp_sink

KEY = "key-of-the-collector-0815"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OTEL_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


async def checked(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Check:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = await telemetry(os.environ)
    assert KEY not in repr(found)
    return found


@contextlib.contextmanager
def http_server(
    answer: Callable[[BaseHTTPRequestHandler, bytes], None], tls: tuple[Path, Path] | None = None
) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            answer(self, self.rfile.read(int(self.headers["content-length"])))

        def log_message(self, *_: Any) -> None:
            """Silent."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Logs nothing: the tests connect with another protocol on purpose."""

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)


def status(code: int, body: bytes = b"", **headers: str) -> Callable[[BaseHTTPRequestHandler, bytes], None]:
    def answer(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.send_response(code)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@contextlib.contextmanager
def grpc_server(code: grpc.StatusCode = grpc.StatusCode.OK, details: str = "") -> Iterator[str]:
    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types here
        def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            def export(request: bytes, context: grpc.ServicerContext) -> bytes:
                del request
                if code is not grpc.StatusCode.OK:
                    context.abort(code, details)
                return b""

            return grpc.unary_unary_rpc_method_handler(export)

    server = grpc.server(ThreadPoolExecutor(3), handlers=(Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop(0).wait(60)


@pytest.mark.fault("T4")
async def test_a_receiver_gets_one_export_of_each_signal_without_content(monkeypatch: pytest.MonkeyPatch) -> None:
    with otlp_sink() as sink:
        found = await checked(
            monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT=sink.url, OTEL_EXPORTER_OTLP_HEADERS=f"x-key={KEY}"
        )
    assert found.status == "ok"
    assert all(f"{signal} by {sink.url}/v1/{signal}" in found.message for signal in ("traces", "metrics", "logs"))
    assert sink.raw == [b""] * 3


async def test_only_what_is_exported_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with otlp_sink() as sink:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_LOGS_EXPORTER": "none"}
        found = await checked(monkeypatch, **environ, OTEL_METRICS_EXPORTER="console")
    assert found.message == f"accepted: traces by {sink.url}/v1/traces"
    assert sink.requests == 1


@pytest.mark.fault("T4")
@pytest.mark.parametrize(
    ("answer", "reason", "advice"),
    [
        (status(401), "401 Unauthorized", "OTEL_EXPORTER_OTLP_HEADERS"),
        (status(403), "403 Forbidden", "OTEL_EXPORTER_OTLP_HEADERS"),
        (status(404), "404 Not Found", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (status(500), "500 Internal Server Error", "Collector"),
        (status(302, location="http://login.example/?next=1"), "302 Found to login.example", "NO_PROXY"),
        (status(200, b"<html>", content_type="text/html; charset=utf-8"), "200 OK with text/html", "NO_PROXY"),
        (status(200, b"?"), "200 OK with content of no type", "NO_PROXY"),
    ],
)
async def test_an_answer_that_is_none_of_a_receiver(
    answer: Callable[[BaseHTTPRequestHandler, bytes], None],
    reason: str,
    advice: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with http_server(answer) as url:
        found = await checked(
            monkeypatch, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=url, OTEL_EXPORTER_OTLP_HEADERS=f"x-key={KEY}"
        )
    assert found.status == "fail"
    assert found.message.startswith(f"not accepted: traces to {url}: {reason}")
    assert found.advice is not None
    assert advice in found.advice


@pytest.mark.fault("T4")
async def test_a_proxy_that_answers_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    with http_server(status(200, b"blocked by policy", content_type="text/plain")) as proxy:
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.example:4318", "http_proxy": proxy}
        found = await checked(monkeypatch, **variables)
    assert found.status == "fail"
    assert "200 OK with text/plain" in found.message


@pytest.mark.fault("T4")
async def test_a_certificate_that_is_not_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tls = loopback_certificate(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())  # the variable for OTLP comes before it
    with http_server(status(200), tls) as url:
        found = await checked(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT=url)
        trusted = await checked(monkeypatch, OTEL_EXPORTER_OTLP_CERTIFICATE=str(tls[0]))
        plain = await checked(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT=url.replace("https", "http"))
    assert "TLS: self-signed certificate" in found.message
    assert "OTEL_EXPORTER_OTLP_CERTIFICATE" in str(found.advice)
    assert trusted.status == "ok"
    assert plain.status == "fail"


@pytest.mark.fault("T4")
async def test_http_at_the_port_of_grpc_and_the_other_way_round(monkeypatch: pytest.MonkeyPatch) -> None:
    with grpc_server() as url:
        found = await checked(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT=url)
    assert found.status == "fail"
    assert "4317 for OTEL_EXPORTER_OTLP_PROTOCOL=grpc" in str(found.advice)
    with otlp_sink() as sink:
        found = await checked(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT=sink.url, OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    assert found.status == "fail"
    assert "4318 for http/protobuf" in str(found.advice)


@pytest.mark.fault("T4")
@pytest.mark.parametrize(
    ("code", "details", "advice"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, f"bad key {KEY}", "OTEL_EXPORTER_OTLP_HEADERS"),
        (grpc.StatusCode.PERMISSION_DENIED, "not you", "OTEL_EXPORTER_OTLP_HEADERS"),
        (grpc.StatusCode.UNIMPLEMENTED, "no such service", "another protocol"),
    ],
)
async def test_a_status_of_grpc_that_refuses(
    code: grpc.StatusCode, details: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from otel_resilience import redaction

    monkeypatch.setattr(redaction, "_known", {})
    monkeypatch.setattr(redaction, "_exact", None)
    redaction.register_secret(KEY)
    with grpc_server(code, details) as url:
        found = await checked(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    assert found.status == "fail"
    assert f"metrics to {url}: {code.name}: {details.replace(KEY, '***')}" in found.message
    assert advice in str(found.advice)


async def test_a_receiver_of_grpc_that_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    for compression in ("gzip", "deflate", "none"):
        with grpc_server() as url:
            variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_COMPRESSION": compression}
            found = await checked(monkeypatch, **variables, OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
        assert found.status == "ok", found


@pytest.mark.fault("T4")
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_nobody_there(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = await checked(
        monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", OTEL_EXPORTER_OTLP_PROTOCOL=protocol
    )
    assert found.status == "fail"
    assert "onnect" in found.message
    assert "start the Collector" in str(found.advice)
