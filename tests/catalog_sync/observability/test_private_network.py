"""A collector behind a private authority and a proxy: every program reaches it by the standard variables."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import certifi
import pytest

from support.certificates import loopback_certificate
from support.cli import Cli
from support.forward_proxy import forward_proxy


@contextlib.contextmanager
def tls_collector(certificate: Path, key: Path) -> Iterator[tuple[int, list[str]]]:
    """Its port, and the paths of the requests that it received."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            paths.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    class Server(ThreadingHTTPServer):
        def finish_request(self, request: Any, client_address: Any) -> None:
            with context.wrap_socket(request, server_side=True) as wrapped:
                super().finish_request(wrapped, client_address)

        def shutdown_request(self, request: Any) -> None:
            self.close_request(request)

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server.server_address[1], paths
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.fault("S12")
@pytest.mark.parametrize("through_proxy", [False, True])
async def test_telemetry_reaches_a_collector_behind_a_private_authority_and_a_proxy(
    tmp_path: Path, *, through_proxy: bool
) -> None:
    certificate, key = loopback_certificate(tmp_path)
    cli = Cli(tmp_path / "state", None, None)
    with tls_collector(certificate, key) as (port, paths):
        async with forward_proxy() as proxy:
            cli.env |= {
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"https://localhost:{port}",
                "OTEL_EXPORTER_OTLP_CERTIFICATE": str(certificate),
                "HTTPS_PROXY": proxy.url if through_proxy else "",
                "NO_PROXY": "",
                "REQUESTS_CA_BUNDLE": certifi.where(),  # meant for every program, and no reason to refuse this one
            }
            result = await asyncio.to_thread(cli, "run", "--json", ERROR_RETRY_MAX_ATTEMPTS="1")
            assert result.json["outcome"] == "FAILED", "there is no supplier; the trace says so"
            assert "/v1/traces" in paths, result.err
            assert ({f"CONNECT localhost:{port}"} if through_proxy else set()) == set(proxy.asked)
