"""Ended spans as plain values, their JSON form, and the port for reading stored traces."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Final, Literal, Protocol

from catalog_sync.domain.json_form import JsonForm
from catalog_sync.observability import contract

Value = str | int | float | bool | Sequence[str | int | float | bool]
Status = Literal["unset", "ok", "error"]

_EVIDENCE = frozenset({"CLIENT", "PRODUCER"})
_ATTEMPT = "attempt"


_PER_SPAN: Final = 1_024
_PER_EVENT: Final = 384
_PER_LINK: Final = 256
_PER_ATTRIBUTE: Final = 160


def _size(text: str) -> int:
    return sys.getsizeof(text)


def _size_of(attributes: Mapping[str, Value]) -> int:
    return sum(_PER_ATTRIBUTE + _size_of_value(value) for value in attributes.values())


def _size_of_value(value: Value) -> int:
    if isinstance(value, str):
        return _size(value)
    if isinstance(value, bool | int | float):
        return 0
    return 64 + sum(_PER_ATTRIBUTE // 2 + (_size(item) if isinstance(item, str) else 0) for item in value)


@dataclasses.dataclass(frozen=True, slots=True)
class SpanEvent:
    """Something that happened within a span. ``at`` in seconds since the epoch."""

    name: str
    at: float
    attributes: Mapping[str, Value]


@dataclasses.dataclass(frozen=True, slots=True)
class SpanLink:
    """Another span that is related to this one."""

    trace_id: str
    span_id: str


@dataclasses.dataclass(frozen=True, slots=True)
class SpanRecord(JsonForm):
    """An ended span, redacted. IDs are lower-case hex digits, times are seconds since the epoch."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    kind: str
    """``INTERNAL``, ``CLIENT``, ``SERVER``, ``PRODUCER`` or ``CONSUMER``."""
    service: str
    """``service.name`` of the process it comes from."""
    start: float
    end: float
    status: Status
    message: str | None
    """The description of the status of a failure."""
    attributes: Mapping[str, Value]
    events: tuple[SpanEvent, ...] = ()
    links: tuple[SpanLink, ...] = ()

    @property
    def size(self) -> int:
        """Estimated bytes of memory that it takes, rather too many than too few."""
        events = sum(_PER_EVENT + _size(event.name) + _size_of(event.attributes) for event in self.events)
        texts = _size(self.name) + _size(self.service) + _size(self.message or "")
        return _PER_SPAN + texts + _size_of(self.attributes) + events + _PER_LINK * len(self.links)

    @property
    def of_sync(self) -> bool:
        """Whether it is part of a sync."""
        return self.name.startswith(contract.SYNC_SPAN) or self.name == contract.PUBLISH_SPAN

    @property
    def failed(self) -> bool:
        """Whether it shows a failure that no retry recovered from.

        A failed attempt, or the request inside it, may have been retried successfully: enclosing spans did not fail.
        """
        return self.status == "error" and self.name != _ATTEMPT and self.kind not in _EVIDENCE


@dataclasses.dataclass(frozen=True, slots=True)
class TraceSummary(JsonForm):
    """A stored trace in one line. Times are seconds since the epoch."""

    trace_id: str
    name: str
    """Name of its first span."""
    start: float
    end: float
    spans: int
    errors: int
    """Spans with status ``error``, including retried attempts."""
    failed: bool
    services: tuple[str, ...]

    @classmethod
    def of(cls, spans: Sequence[SpanRecord]) -> TraceSummary:
        """The summary of at least one span of one trace."""
        first = min(spans, key=lambda span: span.start)
        return cls(
            trace_id=first.trace_id,
            name=first.name,
            start=first.start,
            end=max(span.end for span in spans),
            spans=len(spans),
            errors=sum(span.status == "error" for span in spans),
            failed=any(span.failed for span in spans),
            services=tuple(sorted({span.service for span in spans})),
        )


def span_order(span: SpanRecord) -> tuple[float, float]:
    """The key that sorts spans by start time, parents before children that start at the same time."""
    return span.start, -span.end


class TraceStore(Protocol):
    """Reads stored traces. Methods may raise ``CacheConnectionError`` if they are stored elsewhere."""

    async def failed(self, *, limit: int = 50) -> Sequence[TraceSummary]:
        """The last failed traces, newest first."""
        ...

    async def get(self, trace_id: str) -> Sequence[SpanRecord]:
        """The spans of a trace by start time, failed or not; empty if it is not stored (any more)."""
        ...
