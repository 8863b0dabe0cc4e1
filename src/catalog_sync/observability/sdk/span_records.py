"""Converts ended spans of the SDK to plain records, for the stores in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

from catalog_sync.observability.sdk.propagation import is_foreign
from catalog_sync.observability.traces.deferred import DeferredSpans
from catalog_sync.observability.traces.records import SpanEvent, SpanLink, SpanRecord, Status, Value

MAX_TEXT: Final = 1000
"""Maximum characters of a text."""
MAX_ATTRIBUTES: Final = 64
MAX_EVENTS: Final = 32
MAX_SPAN: Final = 16_000
"""Maximum characters of all texts of a span, attributes before events, later events before earlier ones."""

_NANOS: Final = 1e9
_STATUSES: Final[Mapping[StatusCode, Status]] = {
    StatusCode.UNSET: "unset",
    StatusCode.OK: "ok",
    StatusCode.ERROR: "error",
}


class SpanRecords(SpanProcessor):
    """Passes every ended span to ``keep``, which must be quick and not raise.

    Successful requests that only read are ignored: there are thousands of them and nothing to see. So are spans that a
    caller without a token adds to a trace that it names, which may be that of a sync.
    """

    def __init__(self, keep: Callable[[SpanRecord], None]) -> None:
        self._keep = keep

    def wants(self, span: ReadableSpan) -> bool:
        """Whether ``span`` is worth keeping, called before it is redacted."""
        return not is_foreign(span.context) and (
            span.kind is not SpanKind.SERVER
            or span.status.status_code is StatusCode.ERROR
            or (span.attributes or {}).get("http.request.method") not in {"GET", "HEAD"}
        )

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        """Does nothing."""

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None and self.wants(span):
            self._keep(record_of(span))

    def shutdown(self) -> None:
        """Does nothing: what was kept stays readable."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is buffered."""
        del timeout_millis
        return True


class DeferredSpanRecords(SpanRecords):
    """Keeps the same spans as :class:`SpanRecords`; they are redacted and converted only when they are read."""

    def __init__(self, spans: DeferredSpans) -> None:
        super().__init__(lambda record: spans.add(int(record.trace_id, 16), lambda: record, error=record.failed))
        self._spans = spans

    def defer(self, span: ReadableSpan, redacted: Callable[[], ReadableSpan]) -> None:
        """Keeps a wanted span; ``redacted`` returns the version that may be shown."""
        if span.context is not None:
            error = span.status.status_code is StatusCode.ERROR
            self._spans.add(span.context.trace_id, lambda: record_of(redacted()), error=error)


def record_of(span: ReadableSpan) -> SpanRecord:
    """The record of a redacted span with a context, truncated to a limited size."""
    context = span.get_span_context()
    if context is None:
        raise ValueError("the span has no context")
    start = span.start_time or 0
    message = span.status.description
    room = _Room(MAX_SPAN)
    return SpanRecord(
        trace_id=f"{context.trace_id:032x}",
        span_id=f"{context.span_id:016x}",
        parent_id=None if span.parent is None else f"{span.parent.span_id:016x}",
        name=span.name[:MAX_TEXT],
        kind=span.kind.name,
        service=str(span.resource.attributes.get("service.name", "")),
        start=start / _NANOS,
        end=(span.end_time or start) / _NANOS,
        status=_STATUSES[span.status.status_code],
        message=None if message is None else message[:MAX_TEXT],
        attributes=_attributes(span.attributes, room),
        events=_events(span, room),
        links=tuple(
            SpanLink(f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}")
            for link in span.links[:MAX_EVENTS]
        ),
    )


class _Room:
    """Characters left for the texts of one span."""

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self, text: str) -> str:
        """As much of ``text`` as may be kept."""
        kept = text[: max(0, min(MAX_TEXT, self.left))]
        self.left -= len(kept)
        return kept


def _events(span: ReadableSpan, room: _Room) -> tuple[SpanEvent, ...]:
    kept = [
        SpanEvent(room.take(event.name), event.timestamp / _NANOS, _attributes(event.attributes, room))
        for event in reversed(span.events[-MAX_EVENTS:])
        if room.left > 0
    ]
    return tuple(reversed(kept))


def _attributes(given: Mapping[str, Any] | None, room: _Room) -> dict[str, Value]:
    items = list((given or {}).items())[:MAX_ATTRIBUTES]
    return {room.take(key): _value(value, room) for key, value in items if room.left > 0}


def _value(value: Any, room: _Room) -> Value:
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [item if isinstance(item, bool | int | float) else room.take(str(item)) for item in value[:MAX_EVENTS]]
    return room.take(str(value))
