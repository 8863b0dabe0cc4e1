"""LogQL and TraceQL over the events and spans of the contract."""

from __future__ import annotations

from typing import Final

from grafana.generate.names import label

from catalog_sync import contract as catalog
from otel_resilience import contract as resilience

STREAMS: Final = '{service_name=~"catalog-.+"}'
"""Our services; Loki keeps ``service.name`` as an index label and everything else as structured metadata."""


def events(name: str, *conditions: str) -> str:
    """Events by name; conditions are label filters on their attributes."""
    return " | ".join((STREAMS, f'event_name="{name}"', *conditions))


def where(attribute: str, value: str, operator: str = "=") -> str:
    """A label filter on an attribute of an event."""
    return f'{label(attribute)}{operator}"{value}"'


def latest_trace(name: str, window: str, *conditions: str, by: tuple[str, ...] = ()) -> str:
    """One series whose ``trace_id`` is that of the most frequent trace with such an event, or ``{} 0``.

    For alert rules: without the zero a quiet Loki would turn the whole rule into "no data". ``by`` must name the labels
    of the alert: Grafana joins the two only where one has all labels of the other.
    """
    labels = ", ".join(("trace_id", *map(label, by)))
    counted = f"sum by ({labels}) (count_over_time({events(name, *conditions)} [{window}]))"
    return f"topk(1, {counted} or vector(0))"


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
