"""The official httpx instrumentation, with redacted URLs, templates, resend counts and a guard on trace headers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
from opentelemetry.trace import StatusCode

from catalog_sync.observability.sdk.propagation import guarded_headers, headers_allowed, inject
from catalog_sync.observability.sdk.session import tracing
from otel_resilience import current_attempt
from otel_resilience.redaction import redact_url
from otel_resilience.telemetry.providers import suppressed_instrumentation

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import Span

TEMPLATE_EXTENSION = "url_template"
"""Key of ``request.extensions`` for the path with placeholders instead of values."""


EXPECTED_EXTENSION = "expected_statuses"
"""Key of ``request.extensions`` for the error statuses that the caller expects."""


class HeaderGuard(httpx.AsyncBaseTransport):
    """Removes trace headers and baggage from requests to hosts that must not see them.

    The instrumentation writes them for every host, so this is placed between it and the network. Without an
    instrumentation it writes them itself if they are allowed.
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        trace_headers_to: tuple[str, ...],
        *,
        inject: bool,
        on_response: Callable[[httpx.Response], object] | None,
    ) -> None:
        self._transport = transport
        self._allowed = trace_headers_to
        self._inject = inject
        self._on_response = on_response
        self._guarded = guarded_headers()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends the request with the headers that its host may see."""
        if not headers_allowed(request.url.host, self._allowed):
            for name in self._guarded:
                request.headers.pop(name, None)
        elif self._inject:
            inject(request.headers)
        with suppressed_instrumentation():
            response = await self._transport.handle_async_request(request)
        if self._on_response is not None:
            self._on_response(response)
        return response

    async def aclose(self) -> None:
        """Closes the inner transport."""
        await self._transport.aclose()


def traced(
    transport: httpx.AsyncBaseTransport,
    trace_headers_to: tuple[str, ...],
    on_response: Callable[[httpx.Response], object] | None,
) -> httpx.AsyncBaseTransport:
    """See :func:`catalog_sync.observability.sdk.traced_transport`."""
    spans = tracing()
    guard = HeaderGuard(transport, trace_headers_to, inject=not spans, on_response=on_response)
    if not spans:
        return guard
    from opentelemetry.instrumentation.httpx import AsyncOpenTelemetryTransport  # only if there are spans

    return AsyncOpenTelemetryTransport(guard, request_hook=_describe_request, response_hook=_judge_response)


async def _describe_request(span: Span, request: Any) -> None:
    if not span.is_recording():
        return
    span.set_attribute("url.full", redact_url(str(request.url)))
    template = (request.extensions or {}).get(TEMPLATE_EXTENSION)
    if template:
        span.set_attribute("url.template", template)
        span.update_name(f"{request.method.decode('ascii', 'replace')} {template}")
    resends = current_attempt() - 1
    if resends > 0:
        span.set_attribute("http.request.resend_count", resends)


async def _judge_response(span: Span, request: Any, response: Any) -> None:
    """An expected response is not an error; the conventions leave this decision to the application."""
    if response.status_code in (request.extensions or {}).get(EXPECTED_EXTENSION, ()):
        span.set_status(StatusCode.OK)
