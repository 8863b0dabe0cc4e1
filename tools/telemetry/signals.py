"""The spans and events of the registry, as tests and the generators of dashboards ask for them.

Programs need their names alone, which stand in the generated ``contract.py``.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from tools.telemetry import registry
from tools.telemetry.registry import Entry, generation


class Span(NamedTuple):
    """One span."""

    name: str
    kind: str
    attributes: tuple[str, ...]
    description: str


class Event(NamedTuple):
    """One event: a log record with this event name."""

    name: str
    severity: str
    attributes: tuple[str, ...]
    description: str


def span_name(signal: Entry) -> str:
    """The name of a span; what it holds of a call is in braces."""
    return str(generation(signal)["name"])


@functools.cache
def spans(part: str) -> tuple[Span, ...]:
    """Those of one part of the registry: ``resilience`` or ``catalog``."""
    names = registry.load(part)
    return tuple(
        Span(span_name(each), each["kind"].upper(), tuple(ref["ref"] for ref in names.refs(each)), each["brief"])
        for each in names.spans
    )


@functools.cache
def events(part: str) -> tuple[Event, ...]:
    """Those of one part of the registry: ``resilience`` or ``catalog``."""
    names = registry.load(part)
    return tuple(
        Event(
            each["name"], each["annotations"]["severity"], tuple(ref["ref"] for ref in names.refs(each)), each["brief"]
        )
        for each in names.events
    )
