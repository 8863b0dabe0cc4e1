"""Work that no current request caused still has a trace: an earlier one, or one of its own."""

from __future__ import annotations

import contextlib
import secrets
from typing import TYPE_CHECKING

from opentelemetry import context as otel_context
from opentelemetry import trace

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def trace_of(correlation_id: str, *, sampled: bool) -> Iterator[None]:
    """Run a block as part of the trace whose ID is ``correlation_id``, whatever asked for the block.

    Where it is not ``sampled`` the block leaves no spans, and yet errors and log lines have the trace's ID.
    """
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if sampled else trace.TraceFlags.DEFAULT)
    parent = trace.SpanContext(int(correlation_id, 16), secrets.randbits(64) or 1, is_remote=True, trace_flags=flags)
    token = otel_context.attach(trace.set_span_in_context(trace.NonRecordingSpan(parent)))
    try:
        yield
    finally:
        otel_context.detach(token)
