"""What the library reports, as text for a terminal: each call as a tree, then the metrics."""

from __future__ import annotations

import contextlib
import operator
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TextIO

from otel_resilience.telemetry import contract
from otel_resilience.testing.telemetry import Point, RecordedTelemetry

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.trace import ReadableSpan

LEAST_WIDTH: Final = 40
"""Minimum columns; a narrower terminal wraps lines itself."""
_UNITS: Final = {metric.name: metric.unit.strip("{}") for metric in contract.METRICS}


class _Strokes(NamedTuple):
    """How a branch of the tree is drawn."""

    branch: str
    last: str
    trunk: str


_DRAWN: Final = _Strokes("├─ ", "└─ ", "│  ")
_PLAIN: Final = _Strokes("|- ", "`- ", "|  ")
_INDENT: Final = "   "


@contextlib.contextmanager
def print_telemetry(file: TextIO | None = None, *, width: int | None = None) -> Iterator[RecordedTelemetry]:
    """Records what the library emits within the block, and prints it at its end: each call as a tree, then the metrics.

    For experiments: it applies to the whole process, and nothing reaches the providers of the application. It prints
    even if the block raises. ``file`` is standard output by default; the tree is drawn in ASCII if the file cannot
    encode more. ``width`` is in columns, at least 40; by default that of the terminal. Raises ``ImportError`` if
    ``opentelemetry-sdk`` is missing.

    Examples:
        >>> from otel_resilience.testing import print_telemetry
        >>> with print_telemetry(width=60):
        ...     Policy("supplier").execute(lambda: "plans", name="list plans")
        'plans'
        supplier list plans: ok, ... s
        `- attempt 1: ok, ... s
        <BLANKLINE>
        Metrics
        ...
    """
    telemetry = RecordedTelemetry()
    try:
        with telemetry.recording():
            yield telemetry
    finally:
        target = sys.stdout if file is None else file
        if target is not None:  # standard output may be closed
            encoding = target.encoding or "ascii"
            strokes = _DRAWN if b"?" not in "".join(_DRAWN).encode(encoding, "replace") else _PLAIN
            text = "\n".join(_lines(telemetry, max(width or shutil.get_terminal_size().columns, LEAST_WIDTH), strokes))
            target.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def _lines(telemetry: RecordedTelemetry, width: int, strokes: _Strokes) -> Iterator[str]:
    items = [*map(_span, telemetry.spans), *map(_event, telemetry.events)]
    known = {item.id for item in items}
    for root in sorted((item for item in items if item.parent not in known), key=_time):
        yield from _wrapped(root.text, width)
        yield from _below(root, items, strokes, width)
    yield ""
    yield "Metrics"
    for point in telemetry.points():
        yield from _wrapped(_measured(point), width, first="  ", further="    ")


class _Item(NamedTuple):
    """A span or an event."""

    time: int
    id: int
    """The ID of a span; 0 for an event."""
    parent: int | None
    text: str
    wait: float = 0.0
    """Seconds before it."""


_time = operator.attrgetter("time")


def _span(span: ReadableSpan) -> _Item:
    attributes: dict[str, Any] = dict(span.attributes or {})
    number = attributes.get(contract.ATTEMPT_NUMBER)
    name = span.name if number is None else f"{span.name} {number}"
    result = attributes.get(contract.OUTCOME) or attributes.get(contract.ERROR_TYPE) or "ok"
    details = [str(attributes[each]) for each in (contract.ERROR_CLASS, contract.ERROR_SEVERITY) if each in attributes]
    if details:
        result += f" ({', '.join(details)})"
    started, ended = span.start_time or 0, span.end_time or 0
    context = span.get_span_context()
    return _Item(
        started,
        0 if context is None else context.span_id,
        None if span.parent is None else span.parent.span_id,
        f"{name}: {result}, {(ended - started) / 1e9:.3f} s",
        attributes.get(contract.RETRY_DELAY, 0.0),
    )


def _event(event: ReadableLogRecord) -> _Item:
    record = event.log_record
    attributes = dict(record.attributes or {})
    about = f"{attributes.get(contract.DEPENDENCY)} {attributes.get(contract.OPERATION)}: "
    text = f"{record.event_name}: {str(record.body).removeprefix(about)}"
    return _Item(record.timestamp or record.observed_timestamp or 0, 0, record.span_id or None, text)


def _below(item: _Item, items: Iterable[_Item], strokes: _Strokes, width: int, indent: str = "") -> Iterator[str]:
    children = sorted((each for each in items if item.id and each.parent == item.id), key=_time)
    for child in children:
        last = child is children[-1]
        further = indent + (_INDENT if last else strokes.trunk)
        if child.wait:
            yield f"{indent}{strokes.trunk}wait {child.wait:.3f} s"
        yield from _wrapped(child.text, width, indent + (strokes.last if last else strokes.branch), further)
        yield from _below(child, items, strokes, width, further)


def _measured(point: Point) -> str:
    unit = _UNITS.get(point.metric, "")
    value = f"{point.value:.3f}" if isinstance(point.value, float) else str(point.value)
    shown = f"{point.metric} {value} {unit if unit != '1' else ''}".rstrip()
    recorded = f" in {point.count} recordings" if point.count > 1 else ""
    return f"{shown}{recorded}: {', '.join(f'{name}={value}' for name, value in point.attributes.items())}"


def _wrapped(text: str, width: int, first: str = "", further: str = _INDENT) -> list[str]:
    return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=further, break_on_hyphens=False)
