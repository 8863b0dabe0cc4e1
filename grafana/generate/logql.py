"""LogQL and TraceQL over the events and spans of the contract."""

from __future__ import annotations

from typing import Final

from grafana.generate.names import label

from catalog_sync.observability import contract as catalog
from otel_resilience.telemetry import contract as resilience

STREAMS: Final = '{service_name=~"catalog-.+"}'
"""Our services; Loki keeps ``service.name`` as an index label and everything else as structured metadata."""


def events(name: str, *conditions: str) -> str:
    """Events by name; conditions are label filters on their attributes."""
    return " | ".join((STREAMS, f'event_name="{name}"', *conditions))


def where(attribute: str, value: str, operator: str = "=") -> str:
    """A label filter on an attribute of an event."""
    return f'{label(attribute)}{operator}"{value}"'


def with_trace(name: str, *conditions: str) -> str:
    """Events by name, those without a trace left out."""
    return events(name, *conditions, 'trace_id!=""')


BREAKER_CHANGES: Final = events(resilience.EVENT_STATE_CHANGED)
SYNCS: Final = events(catalog.EVENT_SYNC_FINISHED)
FAILED_SYNCS: Final = events(catalog.EVENT_SYNC_FINISHED, where(catalog.OUTCOME, "FAILED|LOCK_UNAVAILABLE", "=~"))


def spans(*conditions: str) -> str:
    """A TraceQL search."""
    return "{ " + " && ".join(conditions) + " }"


def span_attribute(attribute: str, value: str, operator: str = "=") -> str:
    """A condition on an attribute of a span; names with more than letters and dots are quoted by TraceQL's rules."""
    return f'span.{attribute} {operator} "{value}"'


FAILED: Final = "status = error"


def newest(traceql: str) -> str:
    """The same search, with the newest traces first; without the hint Tempo returns those that it finds first."""
    return f"{traceql} with (most_recent=true)"
