"""Around every request: its trace and correlation ID, its metrics, and the handling of its errors."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from opentelemetry import baggage, metrics, trace
from opentelemetry import context as otel_context
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.http_attributes import (
    HTTP_REQUEST_METHOD,
    HTTP_RESPONSE_STATUS_CODE,
    HTTP_ROUTE,
)
from opentelemetry.semconv.attributes.url_attributes import URL_PATH, URL_QUERY, URL_SCHEME
from opentelemetry.semconv.metrics.http_metrics import HTTP_SERVER_REQUEST_DURATION
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, StatusCode, TraceFlags
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from catalog_sync import __version__
from catalog_sync.api.guards import HIT, Access
from catalog_sync.api.problems import SHOW_PROBLEM, ProblemError, problem_of, problem_response
from catalog_sync.observability import contract
from catalog_sync.observability.sdk import extract_context, foreign
from otel_resilience.classification import error_types
from otel_resilience.correlation import BAGGAGE_KEY, new_correlation_id
from otel_resilience.redaction import redact

QUIET: Final = 10.0
"""Seconds for which the same kind of outage is not logged again."""
MAX_PATH: Final = 1024
"""Characters of a path that a span keeps while it waits to be exported."""
SLOW: Final = 1.0
"""Seconds from which a slow request is logged."""

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
UNTRACED: Final = ("/health", "/static/", "/events", "/openapi.json")
"""Paths without a span: probes every few seconds, streams that last for hours, files. Also ``/`` itself."""

_SECURITY_HEADERS: Final = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_CSP: Final = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")

_log = logging.getLogger(__name__)


class RequestContext:
    """The outermost layer. Whatever is raised below it becomes a problem document; cancellations pass.

    The trace of a caller who has the token is continued, and with ``trace_from_any`` that of every caller; otherwise a
    request starts a new trace. What is kept here of a sync is written by callers with the token alone: trace IDs are
    no secret. A cached response has a span only with ``trace_cached``, where spans are exported.
    """

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        cached: Callable[[Scope], ASGIApp | None],
        *,
        trace_from_any: bool,
        trace_cached: bool,
    ) -> None:
        self._app = app
        self._cached = cached
        self._trace_cached = trace_cached
        self._access = access
        self._trace_from_any = trace_from_any
        self._logged_at: dict[str, float] = {}
        self._tracer = trace.get_tracer(contract.SCOPE, __version__, schema_url=contract.SCHEMA_URL)
        meter = metrics.get_meter(contract.SCOPE, __version__, schema_url=contract.SCHEMA_URL)
        self._duration = meter.create_histogram(HTTP_SERVER_REQUEST_DURATION, "s", "Duration of HTTP server requests.")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = dict(scope["headers"])
        scope[HIT] = self._hit(scope)
        context, span = self._begin(scope, headers)
        token = otel_context.attach(context)
        reply = _Reply(send, span.get_span_context())
        try:
            await self._respond(scope, receive, reply)
        finally:
            otel_context.detach(token)
            self._end(scope, span, reply, time.perf_counter() - started)

    def _hit(self, scope: Scope) -> ASGIApp | None:
        try:
            return self._cached(scope)
        except Exception:  # noqa: BLE001  it is met again where the response is made, recorded and answered there
            return None

    def _begin(self, scope: Scope, headers: Mapping[bytes, bytes]) -> tuple[otel_context.Context, Span]:
        parent = otel_context.Context()
        if b"traceparent" in headers:
            parent = self._continued(headers)
        above = trace.get_current_span(parent).get_span_context()
        span: Span | None = None
        path: str = scope["path"]
        unseen = scope[HIT] is not None and not self._trace_cached
        if not (unseen or path == "/" or path.startswith(UNTRACED) or path.endswith("/events")):
            span = self._start(scope, parent)
        if span is None or not (ids := span.get_span_context()).is_valid or ids.span_id == above.span_id:
            span = _unrecorded(above)
        context = trace.set_span_in_context(span, parent)
        if not span.get_span_context().trace_flags.sampled:
            # Work for an unsampled request, in this process or another, still knows its ID.
            context = baggage.set_baggage(BAGGAGE_KEY, f"{span.get_span_context().trace_id:032x}", context)
        return context, span

    def _continued(self, headers: Mapping[bytes, bytes]) -> otel_context.Context:
        context, with_baggage = otel_context.Context(), self._access.knows(headers)
        if self._trace_from_any or with_baggage:
            context = extract_context(
                {name.decode("latin-1"): text.decode("latin-1") for name, text in headers.items()}
            )
        # Baggage travels on to other services: only callers with the token may add to it.
        return context if with_baggage else foreign(baggage.clear(context))

    def _start(self, scope: Scope, parent: otel_context.Context) -> Span:
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        path = redact(scope["path"])[:MAX_PATH]
        attributes = {HTTP_REQUEST_METHOD: method, URL_PATH: path, URL_SCHEME: scope["scheme"]}
        if scope["query_string"]:
            attributes[URL_QUERY] = scope["query_string"].decode("latin-1")
        return self._tracer.start_span(
            "HTTP" if method == "_OTHER" else method,
            context=parent,
            kind=SpanKind.SERVER,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        )

    async def _respond(self, scope: Scope, receive: Receive, reply: _Reply) -> None:
        try:
            await self._app(scope, receive, reply.send)
        except Exception as error:  # noqa: BLE001  the last stop: classified, recorded, answered without its text
            problem = problem_of(error)
            if problem.status_code >= 500:
                reply.error = error
                self._log_error(scope, problem, error)
            if reply.status is not None:
                _abort(scope)
                return
            await scope.get(SHOW_PROBLEM, problem_response)(problem)(scope, receive, reply.send)

    def _log_error(self, scope: Scope, problem: ProblemError, error: Exception) -> None:
        """A defect with its traceback; an outage once every :data:`QUIET` seconds, since every request meets it."""
        if problem.status_code == 500:
            _log.error("%s %s failed", scope["method"], _route(scope), exc_info=error)
            return
        now = time.monotonic()
        if now - self._logged_at.get(problem.kind, -QUIET) >= QUIET:
            self._logged_at[problem.kind] = now
            _log.warning("%s %s: %s: %s", scope["method"], _route(scope), problem.kind, problem.detail)

    def _end(self, scope: Scope, span: Span, reply: _Reply, seconds: float) -> None:
        route = _route(scope)
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        attributes: dict[str, Any] = {HTTP_REQUEST_METHOD: method, URL_SCHEME: scope["scheme"]}
        if route is not None:
            attributes[HTTP_ROUTE] = route
        if reply.status is not None:
            attributes[HTTP_RESPONSE_STATUS_CODE] = reply.status
        failed = reply.status is None or reply.status >= 500
        if failed:
            attributes[ERROR_TYPE] = str(reply.status) if reply.status else error_types.CANCELLED
        if not scope["path"].endswith("/events"):
            self._duration.record(seconds, attributes)
        if span.is_recording():
            span.set_attributes({key: value for key, value in attributes.items() if key not in _ON_START})
            if route is not None:
                span.update_name(f"{method} {route}")
            if failed and reply.status:
                span.set_status(StatusCode.ERROR, None if reply.error is None else type(reply.error).__name__)
            span.end()
        if seconds > SLOW and not scope["path"].endswith("/events"):
            _log.warning("%s %s took %.1f s", method, route, seconds)


_ON_START = frozenset({HTTP_REQUEST_METHOD, URL_SCHEME})


class _Reply:
    """Sends the response, with the headers that every response has."""

    __slots__ = ("_ids", "_send", "error", "status")

    def __init__(self, send: Send, ids: SpanContext) -> None:
        self._send = send
        self._ids = ids
        self.status: int | None = None
        self.error: BaseException | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            ids = self._ids
            trace_id = f"{ids.trace_id:032x}".encode()
            headers = list(message["headers"])
            headers += _SECURITY_HEADERS
            if not any(name == b"content-security-policy" for name, _ in headers):
                headers.append(_CSP)
            headers.append((b"x-correlation-id", trace_id))
            headers.append((b"traceresponse", b"00-%b-%016x-%02x" % (trace_id, ids.span_id, int(ids.trace_flags))))
            await self._send({**message, "headers": headers})
            return
        await self._send(message)


def _unrecorded(above: SpanContext) -> Span:
    """A span that is not recorded, in the trace of ``above`` or a new one: it gives the reply its IDs."""
    trace_id = above.trace_id if above.is_valid else int(new_correlation_id(), 16)
    span_id = int(new_correlation_id()[:16], 16) or 1
    return NonRecordingSpan(SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(0)))


def _abort(scope: Scope) -> None:
    """Drop the connection, where the server allows it: a response that was started cannot be withdrawn."""
    abort = scope.get("abort")
    if callable(abort):
        abort()


def _route(scope: Scope) -> str | None:
    route = scope.get("route")
    path = getattr(route, "path", None)
    return path.replace(":path}", "}") if isinstance(path, str) else None
