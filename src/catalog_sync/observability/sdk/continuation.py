"""Gives work without a current request a trace: an earlier one, or a new one."""

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
    """Runs a block as part of the trace whose ID is ``correlation_id``, whatever the current context is.

    If it is not ``sampled`` the block leaves no spans, but errors and log lines still have the trace's ID.
    """
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if sampled else trace.TraceFlags.DEFAULT)
    parent = trace.SpanContext(int(correlation_id, 16), secrets.randbits(64) or 1, is_remote=True, trace_flags=flags)
    token = otel_context.attach(trace.set_span_in_context(trace.NonRecordingSpan(parent)))
    try:
        yield
    finally:
        otel_context.detach(token)
