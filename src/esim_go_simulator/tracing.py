"""The simulator's side of the trace: one SERVER span per request, continuing the caller's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlencode

from aiohttp import web
from opentelemetry import propagate, trace

from esim_go_simulator.request_log import SeenRequest
from otel_resilience.classification import error_types

FAULT_ATTRIBUTE: Final = "simulator.fault"
"""The fault that the request got; absent if there was none."""

_TRACED_PARAMETERS: Final = (
    "page", "perPage", "direction", "orderBy", "description", "group", "countries", "region", "isos", "returnAll",
)  # fmt: skip
"""Any other query parameter could be a secret sent by mistake."""


def known_query(request: web.BaseRequest) -> str:
    """The query string reduced to the API's own parameters."""
    query = request.query
    return urlencode([(name, query[name]) for name in _TRACED_PARAMETERS if name in query])


@contextmanager
def server_span(tracer: trace.Tracer, request: web.BaseRequest, seen: SeenRequest, route: str | None) -> Iterator[None]:
    """The span around a request. ``seen`` has its result when the block is left."""
    method = (
        request.method if request.method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} else "_OTHER"
    )
    host, port = _server(request.host)
    attributes: dict[str, str | int] = {
        "http.request.method": method,
        "url.path": seen.path,
        "url.scheme": "http",
        "network.protocol.version": f"{request.version.major}.{request.version.minor}",
        "server.address": host,
    }
    if port is not None:
        attributes["server.port"] = port
    if seen.query:
        attributes["url.query"] = seen.query
    if route is not None:
        attributes["http.route"] = route
    name = "HTTP" if method == "_OTHER" else method
    with tracer.start_as_current_span(
        f"{name} {route}" if route else name,
        context=propagate.extract(request.headers),
        kind=trace.SpanKind.SERVER,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield
        finally:
            _finish(span, seen)


def _finish(span: trace.Span, seen: SeenRequest) -> None:
    if seen.fault is not None:
        span.set_attribute(FAULT_ATTRIBUTE, seen.fault)
    if seen.status:
        span.set_attribute("http.response.status_code", seen.status)
        if seen.status < 500:
            return
    span.set_attribute("error.type", str(seen.status) if seen.status else error_types.CONNECTION_ERROR)
    span.set_status(trace.StatusCode.ERROR)


def _server(host: str) -> tuple[str, int | None]:
    name, colon, port = host.rpartition(":")
    if colon and port.isascii() and port.isdigit() and len(port) < 6:
        return name.strip("[]"), int(port)
    return host.strip("[]"), None
