"""The outermost layer around every request: its trace and correlation ID, its metrics, and error handling."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextvars import Token
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
from catalog_sync.api.guards import HEADERS, HIT, Access
from catalog_sync.api.problems import SHOW_PROBLEM, ProblemError, problem_of, problem_response
from catalog_sync.api.routing import ReadRoute
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

_NOTHING: Final = otel_context.Context()

_log = logging.getLogger(__name__)


class RequestContext:
    """The outermost layer. Any exception raised inside becomes a problem document; cancellation passes.

    The trace of a caller with the token is continued, with ``trace_from_any`` that of every caller; otherwise a request
    starts a new trace. Only callers with the token can write to the kept trace of a sync: trace IDs are not secret.
    Reads have spans only with ``trace_reads``, if spans are exported, or if they fail.
    """

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        cached: Callable[[Scope], ASGIApp | None],
        reads: Callable[[Scope], ReadRoute | None],
        *,
        trace_from_any: bool,
        trace_reads: bool,
    ) -> None:
        self._app, self._access = app, access
        self._cached, self._reads = cached, reads
        self._trace_from_any, self._trace_reads = trace_from_any, trace_reads
        self._logged_at: dict[str, float] = {}
        self._made: dict[tuple[str, str, str | None, int | None], Mapping[str, Any]] = {}
        self._tracer = trace.get_tracer(contract.SCOPE, __version__, schema_url=contract.SCHEMA_URL)
        meter = metrics.get_meter(contract.SCOPE, __version__, schema_url=contract.SCHEMA_URL)
        self._duration = meter.create_histogram(HTTP_SERVER_REQUEST_DURATION, "s", "Duration of HTTP server requests.")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = scope[HEADERS] = dict(scope["headers"])
        hit = scope[HIT] = self._hit(scope)
        if (
            not self._trace_reads
            and b"traceparent" not in headers
            and (hit is not None or self._reads(scope) is not None)
        ):
            await self._read(scope, receive, send, started)
            return
        context, span = self._begin(scope, headers)
        token = otel_context.attach(context)
        ids = span.get_span_context()
        reply = _Reply(send, f"{ids.trace_id:032x}", f"{ids.span_id:016x}", int(ids.trace_flags))
        try:
            await self._respond(scope, receive, reply)
        finally:
            otel_context.detach(token)
            if span.is_recording():
                self._end_span(scope, span, reply)
            self._measure(scope, reply, time.perf_counter() - started, context)

    async def _read(self, scope: Scope, receive: Receive, send: Send, started: float) -> None:
        """A read from memory, when nothing exports its span: it has one only if it fails."""
        fresh = new_correlation_id()
        reply = _Reply(send, fresh, fresh[16:], 0)
        # A cached response needs no context, unless it is refused.
        token = None if scope[HIT] else _attach(fresh)
        try:
            await self._app(scope, receive, reply.send)
        except Exception as error:  # noqa: BLE001  the last stop, as in _respond
            token = token or _attach(fresh)
            await self._answer_error(scope, receive, reply, error)
        finally:
            if token is not None:
                otel_context.detach(token)
            seconds = time.perf_counter() - started
            if reply.status is None or reply.status >= 500:
                self._record_failure(scope, reply, _ids(fresh, TraceFlags.SAMPLED), seconds)
            self._measure(scope, reply, seconds, None)

    def _record_failure(self, scope: Scope, reply: _Reply, ids: SpanContext, seconds: float) -> None:
        """The span that a read would have had, in the trace that its client knows."""
        parent = trace.set_span_in_context(NonRecordingSpan(ids), _NOTHING)
        span = self._start(scope, parent, start_time=time.time_ns() - int(seconds * 1e9))
        if span.is_recording():
            self._end_span(scope, span, reply)

    def _hit(self, scope: Scope) -> ASGIApp | None:
        try:
            return self._cached(scope)
        except Exception:  # noqa: BLE001  it is raised again where the response is made, recorded and answered there
            return None

    def _begin(self, scope: Scope, headers: Mapping[bytes, bytes]) -> tuple[otel_context.Context, Span]:
        parent = otel_context.Context()
        if b"traceparent" in headers:
            parent = self._continued(headers)
        above = trace.get_current_span(parent).get_span_context()
        span: Span | None = None
        path: str = scope["path"]
        if not (path == "/" or path.startswith(UNTRACED) or path.endswith("/events")):
            span = self._start(scope, parent)
        if span is None or not (ids := span.get_span_context()).is_valid or ids.span_id == above.span_id:
            span = _unrecorded(above)
        if span.get_span_context().trace_flags.sampled:
            return trace.set_span_in_context(span, parent), span
        return _with_id(span, parent), span

    def _continued(self, headers: Mapping[bytes, bytes]) -> otel_context.Context:
        context, with_baggage = otel_context.Context(), self._access.knows(headers)
        if self._trace_from_any or with_baggage:
            context = extract_context(
                {name.decode("latin-1"): text.decode("latin-1") for name, text in headers.items()}
            )
        # Baggage is passed on to other services: only callers with the token may add to it.
        return context if with_baggage else foreign(baggage.clear(context))

    def _start(self, scope: Scope, parent: otel_context.Context, *, start_time: int | None = None) -> Span:
        method = _method(scope)
        path = redact(scope["path"])[:MAX_PATH]
        attributes = {HTTP_REQUEST_METHOD: method, URL_PATH: path, URL_SCHEME: scope["scheme"]}
        if scope["query_string"]:
            attributes[URL_QUERY] = scope["query_string"].decode("latin-1")
        return self._tracer.start_span(
            "HTTP" if method == "_OTHER" else method,
            context=parent,
            kind=SpanKind.SERVER,
            attributes=attributes,
            start_time=start_time,
            record_exception=False,
            set_status_on_exception=False,
        )

    async def _respond(self, scope: Scope, receive: Receive, reply: _Reply) -> None:
        try:
            await self._app(scope, receive, reply.send)
        except Exception as error:  # noqa: BLE001  the last stop: classified, recorded, answered without its text
            await self._answer_error(scope, receive, reply, error)

    async def _answer_error(self, scope: Scope, receive: Receive, reply: _Reply, error: Exception) -> None:
        problem = problem_of(error)
        if problem.status_code >= 500:
            reply.error = error
            self._log_error(scope, problem, error)
        if reply.status is not None:
            _abort(scope)
            return
        await scope.get(SHOW_PROBLEM, problem_response)(problem)(scope, receive, reply.send)

    def _log_error(self, scope: Scope, problem: ProblemError, error: Exception) -> None:
        """Logs a defect with its traceback; an outage only once every :data:`QUIET` seconds: every request meets it."""
        if problem.status_code == 500:
            _log.error("%s %s failed", scope["method"], _route(scope), exc_info=error)
            return
        now = time.monotonic()
        if now - self._logged_at.get(problem.kind, -QUIET) >= QUIET:
            self._logged_at[problem.kind] = now
            _log.warning("%s %s: %s: %s", scope["method"], _route(scope), problem.kind, problem.detail)

    def _measure(self, scope: Scope, reply: _Reply, seconds: float, context: otel_context.Context | None) -> None:
        """Counts the request; ``context`` holds its span, which becomes the exemplar if it is sampled."""
        if scope["path"].endswith("/events"):
            return
        self._duration.record(seconds, self._attributes(scope, reply), context)
        if seconds > SLOW:
            _log.warning("%s %s took %.1f s", _method(scope), _route(scope), seconds)

    def _end_span(self, scope: Scope, span: Span, reply: _Reply) -> None:
        attributes = self._attributes(scope, reply)
        span.set_attributes({key: value for key, value in attributes.items() if key not in _ON_START})
        if (route := attributes.get(HTTP_ROUTE)) is not None:
            span.update_name(f"{_method(scope)} {route}")
        if ERROR_TYPE in attributes and reply.status:
            span.set_status(StatusCode.ERROR, None if reply.error is None else type(reply.error).__name__)
        span.end()

    def _attributes(self, scope: Scope, reply: _Reply) -> Mapping[str, Any]:
        """The attributes of the duration; cached for each method, route and status, of which there are few."""
        key = _method(scope), scope["scheme"], _route(scope), reply.status
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = _attributes(*key)
        return found


_ON_START = frozenset({HTTP_REQUEST_METHOD, URL_SCHEME})


def _attributes(method: str, scheme: str, route: str | None, status: int | None) -> dict[str, Any]:
    attributes: dict[str, Any] = {HTTP_REQUEST_METHOD: method, URL_SCHEME: scheme}
    if route is not None:
        attributes[HTTP_ROUTE] = route
    if status is not None:
        attributes[HTTP_RESPONSE_STATUS_CODE] = status
    if status is None or status >= 500:
        attributes[ERROR_TYPE] = str(status) if status else error_types.CANCELLED
    return attributes


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in METHODS else "_OTHER"


class _Reply:
    """Sends the response, with the headers that every response has."""

    __slots__ = ("_flags", "_send", "_trace_id", "error", "span_id", "status")

    def __init__(self, send: Send, trace_id: str, span_id: str, flags: int) -> None:
        self._send = send
        self._trace_id = trace_id
        self.span_id = span_id
        self._flags = flags
        self.status: int | None = None
        self.error: BaseException | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            given = message["headers"]
            headers = [*given, *_SECURITY_HEADERS]
            if _CSP[0] not in dict(given):
                headers.append(_CSP)
            headers.append((b"x-correlation-id", self._trace_id.encode()))
            headers.append((b"traceresponse", f"00-{self._trace_id}-{self.span_id}-{self._flags:02x}".encode()))
            message = {**message, "headers": headers}
        await self._send(message)


def _with_id(span: Span, parent: otel_context.Context) -> otel_context.Context:
    """Gives the correlation ID to the work of an unsampled request, in this process or another."""
    identifier = f"{span.get_span_context().trace_id:032x}"
    return baggage.set_baggage(BAGGAGE_KEY, identifier, trace.set_span_in_context(span, parent))


def _ids(correlation_id: str, flags: int) -> SpanContext:
    return SpanContext(int(correlation_id, 16), int(correlation_id[16:], 16), True, TraceFlags(flags))


def _attach(correlation_id: str) -> Token[otel_context.Context]:
    """Makes this the correlation ID of everything that runs from here on."""
    span = NonRecordingSpan(_ids(correlation_id, TraceFlags.DEFAULT))
    return otel_context.attach(trace.set_span_in_context(span, _NOTHING))


def _unrecorded(above: SpanContext) -> Span:
    """A span that is not recorded, in the trace of ``above`` or a new one: it gives the reply its IDs."""
    trace_id = above.trace_id if above.is_valid else int(new_correlation_id(), 16)
    span_id = int(new_correlation_id()[:16], 16) or 1
    return NonRecordingSpan(SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(0)))


def _abort(scope: Scope) -> None:
    """Drops the connection, if the server allows it: a response that has started cannot be withdrawn."""
    abort = scope.get("abort")
    if callable(abort):
        abort()


def _route(scope: Scope) -> str | None:
    route = scope.get("route")
    path = getattr(route, "path", None)
    return path.replace(":path}", "}") if isinstance(path, str) else None
