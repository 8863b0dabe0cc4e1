"""Metric names of the contract as Prometheus knows them.

The Collector's ``prometheus_remote_write`` exporter and Prometheus' own OTLP receiver follow the same rules
(OpenTelemetry specification, "Prometheus and OpenMetrics Compatibility"): dots become underscores, a unit becomes a
suffix, a counter ends in ``_total``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from grafana.generate import foreign
from tools.telemetry import signals

from catalog_sync.observability import contract as catalog
from otel_resilience.telemetry import contract as resilience
from otel_resilience.telemetry.contract import Metric

_UNITS: Final = {"s": "seconds", "By": "bytes"}
_HISTOGRAM_SERIES: Final = ("_bucket", "_sum", "_count")


def label(attribute: str) -> str:
    """The label of an attribute: ``error.type`` becomes ``error_type``."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", attribute)


def prometheus_name(metric: Metric) -> str:
    """The name without a histogram's suffixes.

    A unit in braces is an annotation and is dropped. The unit ``1`` gives ``_ratio`` to gauges alone: an up-down
    counter is not a ratio. Raises ``ValueError`` for a unit without a rule here.
    """
    name = label(metric.name)
    suffixes = []
    if metric.unit == "1":
        suffixes = ["ratio"] if metric.kind == "gauge" else []
    elif not metric.unit.startswith("{"):
        try:
            suffixes = [_UNITS[metric.unit]]
        except KeyError:
            raise ValueError(f"no Prometheus suffix is known for the unit {metric.unit!r} of {metric.name}") from None
    if metric.kind == "counter":
        suffixes.append("total")
    for suffix in suffixes:
        if suffix not in name.split("_"):
            name += f"_{suffix}"
    return name


def series_names(metric: Metric) -> tuple[str, ...]:
    """Every series that the metric becomes: one, or the three of a histogram."""
    name = prometheus_name(metric)
    return tuple(name + suffix for suffix in _HISTOGRAM_SERIES) if metric.kind == "histogram" else (name,)


def known_series() -> dict[str, frozenset[str]]:
    """Every series that a panel or a rule may name, with its own labels; of foreign ones only those that we use."""
    known: dict[str, frozenset[str]] = {}
    for metric in (*resilience.METRICS, *catalog.METRICS, *foreign.SDK, foreign.API_DURATION):
        labels = frozenset(map(label, metric.attributes))
        for name in series_names(metric):
            known[name] = labels | {"le"} if name.endswith("_bucket") else labels
    return known | {name: frozenset(labels) for name, labels in foreign.SERIES.items()}


def event_labels(name: str) -> frozenset[str]:
    """The fields that Loki keeps of an event of the contract, besides the standard ones. Raises ``KeyError`` for
    another name."""
    events = {event.name: event for event in (*signals.events("resilience"), *signals.events("catalog"))}
    return frozenset(map(label, events[name].attributes))


def span_names() -> Iterable[str]:
    """Names of spans that a query may ask for; those of protected calls hold the dependency and are left out."""
    return [
        span.name for span in (*signals.spans("resilience"), *signals.spans("catalog")) if not span.name.startswith("{")
    ]
