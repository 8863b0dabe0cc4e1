"""Which hosts may see trace headers, and how they are read from incoming requests.

``opentelemetry.propagate`` is imported late: it reads ``OTEL_PROPAGATORS`` on import, and raises if that is not usable.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, MutableMapping

from opentelemetry import trace
from opentelemetry.context import Context

ALWAYS_GUARDED = frozenset({"traceparent", "tracestate", "baggage"})
FOREIGN = ("catalog-sync", "foreign")
"""The entry of ``tracestate`` that marks a trace ID chosen by a caller without a token."""
_MAX_ENTRIES = 32
"""Maximum entries of ``tracestate``."""
_NUMERIC = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)")


def headers_allowed(host: str, trace_headers_to: tuple[str, ...]) -> bool:
    """Whether ``host`` may get trace headers and baggage.

    With an empty list: loopback addresses, ``localhost`` and names without a dot. ``*`` allows every host.
    """
    host = host.lower().rstrip(".").strip("[]")
    if trace_headers_to:
        return "*" in trace_headers_to or host in trace_headers_to
    if not host:
        return False
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        pass
    if host == "localhost" or host.endswith(".localhost"):
        return True
    # A bare number is an IPv4 address in disguise, which may be anywhere.
    return "." not in host and ":" not in host and not _NUMERIC.fullmatch(host)


def guarded_headers() -> frozenset[str]:
    """The headers that the configured propagators write, in lower case."""
    from opentelemetry import propagate

    return ALWAYS_GUARDED | {name.lower() for name in propagate.get_global_textmap().fields}


def inject(headers: MutableMapping[str, str]) -> None:
    """Writes the current trace context and baggage."""
    from opentelemetry import propagate

    propagate.inject(headers)


def extract_context(headers: Mapping[str, str]) -> Context:
    """The remote context of an incoming request; header names in any case."""
    from opentelemetry import propagate

    return propagate.extract({name.lower(): value for name, value in headers.items()})


def foreign(context: Context) -> Context:
    """Marks the context and all its spans: they may come from anyone, so they are no evidence of a sync."""
    parent = trace.get_current_span(context).get_span_context()
    if not parent.is_valid:
        return context
    others = [entry for entry in parent.trace_state.items() if entry[0] != FOREIGN[0]]
    marked = trace.SpanContext(
        parent.trace_id,
        parent.span_id,
        is_remote=True,
        trace_flags=parent.trace_flags,
        trace_state=trace.TraceState([FOREIGN, *others[: _MAX_ENTRIES - 1]]),
    )
    return trace.set_span_in_context(trace.NonRecordingSpan(marked), context)


def is_foreign(span_context: trace.SpanContext | None) -> bool:
    """Whether a span has that mark."""
    return span_context is not None and span_context.trace_state.get(FOREIGN[0]) == FOREIGN[1]
