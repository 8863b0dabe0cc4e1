"""The first barrier against secrets in telemetry: spans and log records are redacted before they are exported.

Errors of other instrumentations are corrected, too. An ended span cannot be changed, so a copy is exported if something
had to be redacted.

The user's length limits are applied here, too: the SDK would truncate a secret before it can be recognised.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from opentelemetry.sdk._logs import LogRecordProcessor, ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, SpanLimits, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.trace import Link, Status

from catalog_sync.observability.logs import redact_value
from catalog_sync.observability.sdk.corrections import answered_as_expected, correct_attributes
from otel_resilience.redaction import redact, redact_url

_URL_ATTRIBUTES = frozenset({"url.full", "http.url"})
_Record = TypeVar("_Record", ReadableLogRecord, ReadWriteLogRecord)


class HandsOn:
    """Common code of exporters and processors that pass data on to another one."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def shutdown(self) -> None:
        """Shuts the inner one down."""
        self._target.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flushes the inner one, if it can."""
        flush = getattr(self._target, "force_flush", None)
        return True if flush is None else bool(flush(timeout_millis))


class _RedactingExporter(HandsOn):
    """Passes a batch to another exporter, redacted."""

    def __init__(self, target: Any, redact_one: Callable[[Any], Any]) -> None:
        super().__init__(target)
        self._redact_one = redact_one

    def export(self, batch: Sequence[Any]) -> Any:
        """Redacts in the exporting thread, away from the application."""
        return self._target.export([self._redact_one(each) for each in batch])


class RedactingSpanExporter(_RedactingExporter, SpanExporter):
    """Passes redacted spans to another exporter."""

    def __init__(self, target: SpanExporter, limits: SpanLimits) -> None:
        super().__init__(target, functools.partial(redact_span, limits=limits))


class RedactingSpanProcessor(HandsOn, SpanProcessor):
    """Passes redacted spans to another processor."""

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        """Passes the started span."""
        self._target.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Passes the ended span, redacted.

        A processor with a method ``wants`` is not called for spans that it would not take. One with a method ``defer``
        gets the redaction as a function and calls it when it releases the span.
        """
        wants = getattr(self._target, "wants", None)
        if wants is not None and not wants(span):
            return
        defer = getattr(self._target, "defer", None)
        if defer is None:
            self._target.on_end(redact_span(span))
        else:
            defer(span, functools.partial(redact_span, span))


class RedactingLogExporter(_RedactingExporter, LogRecordExporter):
    """Passes redacted log records to another exporter."""

    def __init__(self, target: LogRecordExporter, longest: int | None) -> None:
        super().__init__(target, functools.partial(redacted, longest=longest))


class RedactingLogProcessor(HandsOn, LogRecordProcessor):
    """Passes redacted log records to another processor."""

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Passes a redacted copy."""
        self._target.on_emit(redacted(log_record))


class _RedactedSpan(ReadableSpan):
    """A copy that keeps the counts of what the SDK's limits dropped."""

    original: ReadableSpan

    @property
    def dropped_attributes(self) -> int:
        return self.original.dropped_attributes

    @property
    def dropped_events(self) -> int:
        return self.original.dropped_events

    @property
    def dropped_links(self) -> int:
        return self.original.dropped_links


def redact_span(span: ReadableSpan, limits: SpanLimits | None = None) -> ReadableSpan:
    """The span itself if it contains no secret and needs no correction, else a corrected copy."""
    name = redact(span.name)
    expected = answered_as_expected(span)
    longest, longest_elsewhere = (
        (None, None) if limits is None else (limits.max_span_attribute_length, limits.max_attribute_length)
    )
    attributes = _redact_attributes(correct_attributes(span.attributes), longest)
    events = [_redact_event(event, longest_elsewhere) for event in span.events]
    links = [_redact_link(link, longest_elsewhere) for link in span.links]
    description = span.status.description
    status = span.status if description is None else Status(span.status.status_code, redact(description))
    if expected:
        attributes = {key: value for key, value in attributes.items() if key != "error.type"}
        events, status = [], Status()
    if (
        not expected
        and name == span.name
        and attributes is span.attributes
        and all(new is old for new, old in zip(events, span.events, strict=True))
        and all(new is old for new, old in zip(links, span.links, strict=True))
        and status.description == description
    ):
        return span
    changed = _RedactedSpan(
        name=name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=attributes,
        events=events,
        links=links,
        kind=span.kind,
        status=status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )
    changed.original = span
    return changed


def _redact_event(event: Event, longest: int | None) -> Event:
    attributes = _redact_attributes(correct_attributes(event.attributes), longest)
    return event if attributes is event.attributes else Event(event.name, attributes, event.timestamp)


def _redact_link(link: Link, longest: int | None) -> Link:
    attributes = _redact_attributes(link.attributes, longest)
    return link if attributes is link.attributes else Link(link.context, attributes)


def _redact_attributes(attributes: Mapping[str, Any] | None, longest: int | None) -> Any:
    """The same object if nothing changes."""
    if not attributes:
        return attributes
    changed = {key: _cut(_redact_attribute(key, value), longest) for key, value in attributes.items()}
    return (
        attributes
        if all(changed[key] is value or changed[key] == value for key, value in attributes.items())
        else changed
    )


def _redact_attribute(key: str, value: Any) -> Any:
    if isinstance(value, bytes):
        masked = redact(value.decode("latin-1"))
        return value if masked == value.decode("latin-1") else masked.encode("latin-1", "replace")
    if key in _URL_ATTRIBUTES and isinstance(value, str):
        return redact_url(value)
    masked = redact_value(key, value)
    if isinstance(value, tuple) and isinstance(masked, list):
        return tuple(masked)
    return masked


def _cut(value: Any, longest: int | None) -> Any:
    if longest is None:
        return value
    if isinstance(value, str):
        return value[:longest]
    if isinstance(value, list | tuple):
        return type(value)(_cut(item, longest) for item in value)
    if isinstance(value, Mapping):
        return {key: _cut(item, longest) for key, item in value.items()}
    return value


def redacted(record: _Record, longest: int | None = None) -> _Record:
    """A copy without secrets, its attributes cut to ``longest`` characters."""
    inner = copy.copy(record.log_record)
    inner.body = _redact_attribute("", inner.body)
    inner.attributes = _redact_attributes(inner.attributes, longest)
    return dataclasses.replace(record, log_record=inner)
