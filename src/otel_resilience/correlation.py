"""Correlation IDs: the trace ID, or without a trace an ID of the same form.

The ID is also carried as baggage, so that it survives a process whose trace is not sampled or not recorded at all.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
from collections.abc import Iterator

from opentelemetry import context, trace

from otel_resilience._internal import validation as check

__all__ = [
    "BAGGAGE_KEY",
    "correlation_id",
    "correlation_scope",
    "is_correlation_id",
    "new_correlation_id",
]

BAGGAGE_KEY = "correlation.id"
"""The baggage entry that carries the ID."""

_HEX = frozenset("0123456789abcdef")
_made: contextvars.ContextVar[str | None] = contextvars.ContextVar("otel_resilience_correlation_id", default=None)


def correlation_id() -> str:
    """The current correlation ID: 32 lower-case hex digits.

    In this order: the trace ID of the current span, the ID in baggage, the ID created here earlier in this context. If
    there is none, one is created and kept for the rest of the context.

    Examples:
        >>> correlation_id() == correlation_id()
        True
        >>> len(correlation_id())
        32
    """
    span_context = trace.get_current_span().get_span_context()
    if span_context.trace_id:
        return f"{span_context.trace_id:032x}"
    from opentelemetry import baggage  # here and below: few calls run without a span

    carried = baggage.get_baggage(BAGGAGE_KEY)
    if isinstance(carried, str) and is_correlation_id(carried):
        return carried
    made = _made.get()
    if made is None:
        made = new_correlation_id()
        _made.set(made)
    return made


def new_correlation_id() -> str:
    """A fresh ID in the form of a trace ID: 32 lower-case hex digits, never all zeros.

    Examples:
        >>> new_correlation_id() == new_correlation_id()
        False
    """
    while True:
        candidate = os.urandom(16).hex()
        if candidate.strip("0"):
            return candidate


def is_correlation_id(text: str) -> bool:
    """Whether ``text`` has the form of a trace ID, the only check made on IDs from outside.

    Examples:
        >>> from otel_resilience.correlation import is_correlation_id
        >>> is_correlation_id(new_correlation_id()), is_correlation_id("my request")
        (True, False)
    """
    return len(text) == 32 and _HEX.issuperset(text) and bool(text.strip("0"))


@contextlib.contextmanager
def correlation_scope(identifier: str | None = None) -> Iterator[str]:
    """Runs a block under one correlation ID, carried as baggage into everything it calls.

    Without an identifier the current one is pinned. Raises ``ValueError`` if it is not 32 lower-case hex digits.

    Examples:
        >>> with correlation_scope("0af7651916cd43dd8448eb211c80319c"):
        ...     correlation_id()
        '0af7651916cd43dd8448eb211c80319c'
        >>> with correlation_scope("my request"):
        ...     pass
        Traceback (most recent call last):
            ...
        ValueError: ...
    """
    if identifier is None:
        identifier = correlation_id()
    elif not is_correlation_id(check.text("identifier", identifier)):
        raise ValueError("identifier: a correlation ID is 32 lower-case hex digits, not all zero")
    from opentelemetry import baggage

    token = context.attach(baggage.set_baggage(BAGGAGE_KEY, identifier))
    try:
        yield identifier
    finally:
        context.detach(token)
