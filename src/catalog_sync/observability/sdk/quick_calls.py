"""Successful calls to Redis leave no spans: a sync makes hundreds, and metrics show their durations.

Spans of a call end from the inside out, so those of an attempt wait until the call has ended and is judged.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import StatusCode

from catalog_sync.observability.sdk.corrections import answered_as_expected
from catalog_sync.observability.sdk.redacting import HandsOn
from otel_resilience.telemetry import contract

MAX_OPEN: Final = 10_000
"""Maximum spans of running calls that are remembered. Some never end, such as that of a rejected call."""

_NANOS: Final = 1e9


class QuickCalls(HandsOn, SpanProcessor):
    """Passes spans on, except those of calls to ``dependency`` that succeeded at the first attempt within ``seconds``.

    A call that failed, was retried or was slow is passed on completely, and so is one with an error anywhere below it.
    """

    def __init__(self, target: SpanProcessor, dependency: str, seconds: float) -> None:
        super().__init__(target)
        self._dependency = dependency
        self._seconds = seconds
        self._call_of: dict[int, int] = {}
        """For each running span below a call, and for the call itself, the span of the call."""
        self._waiting: dict[int, list[ReadableSpan]] = {}
        """The ended spans of each running call."""
        self._lock = threading.Lock()

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        """Passes the span on, and records whether it belongs to a call."""
        own = span.get_span_context().span_id
        above = trace.get_current_span(parent_context).get_span_context().span_id
        with self._lock:
            call = self._call_of.get(above)
            if call is None and self._is_call(span.attributes):
                call = own
                self._waiting[own] = []
            if call is not None:
                self._call_of[own] = call
            if len(self._call_of) > MAX_OPEN:
                oldest = next(iter(self._call_of))
                del self._call_of[oldest]
                self._waiting.pop(oldest, None)
        self._target.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Passes on the spans that are worth keeping."""
        own = span.context.span_id if span.context is not None else 0
        with self._lock:
            call = self._call_of.pop(own, None)
            if call is not None and call != own and call in self._waiting:
                self._waiting[call].append(span)
                return
            below = self._waiting.pop(own, [])
        ended = [*below, span]
        if call == own and self._went_well(span, ended):
            return
        for each in ended:
            self._target.on_end(each)

    def _is_call(self, attributes: Mapping[str, Any] | None) -> bool:
        found = attributes or {}
        return found.get(contract.DEPENDENCY) == self._dependency and contract.OPERATION in found

    def _went_well(self, call: ReadableSpan, spans: Sequence[ReadableSpan]) -> bool:
        took = ((call.end_time or 0) - (call.start_time or 0)) / _NANOS
        attributes = call.attributes or {}
        return (
            took < self._seconds
            and attributes.get(contract.OUTCOME) == "ok"
            and attributes.get(contract.ATTEMPTS) == 1
            and not any(
                span.status.status_code is StatusCode.ERROR and not answered_as_expected(span) for span in spans
            )
        )
