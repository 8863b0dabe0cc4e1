"""Corrects what other instrumentations emit against OpenTelemetry's semantic conventions, before it is exported.

Deprecated names are replaced by their successors; attributes without a definition are dropped, unless they contain
information that nothing else does. docs/conventions.md lists each case and its upstream status.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

_RENAMED: Final = {
    "celery.action": "messaging.operation.name",
    "celery.hostname": "messaging.client.id",
    "messaging.conversation_id": "messaging.message.conversation_id",
    "messaging.destination": "messaging.destination.name",
}
_LEFT_OUT: Final = frozenset({"exception.escaped", "messaging.destination_kind"})
_LEFT_OUT_PREFIXES: Final = ("celery.", "db.redis.")

UNWANTED_METRICS: Final = (
    "flower.task.runtime.seconds",
    "http.client.request.duration",
    "otel.sdk.metric_reader.collection.duration",
)
"""The first one has no definition and an invalid unit; the spans of the steps have the durations. The second one
duplicates ``resilience.operation.duration``, and no dashboard or rule uses the third: 17 series each in a process."""
_UNITS: Final = {"otel.sdk.processor.log.queue.size": "{log_record}"}


_NO_SCRIPT: Final = "NoScriptError"


def answered_as_expected(span: ReadableSpan) -> bool:
    """Whether another library's client span reports a failure that is not one.

    A restarted Redis does not know a script: it is sent again and retried. A request whose response the caller expected
    has the status OK.
    """
    if span.status.status_code is StatusCode.OK:
        return "error.type" in (span.attributes or {})
    return any(
        str((event.attributes or {}).get("exception.type", "")).endswith(_NO_SCRIPT) for event in span.events
    ) and "db.system.name" in (span.attributes or {})


def correct_attributes(attributes: Mapping[str, Any] | None) -> Any:
    """Attributes of a span or of an event on it; the same object if nothing changes."""
    if not attributes or not any(_wrong(key) for key in attributes):
        return attributes
    return {_RENAMED.get(key, key): value for key, value in attributes.items() if key in _RENAMED or not _left_out(key)}


def correct_metrics(data: MetricsData) -> MetricsData:
    """Units as the conventions define them."""
    return dataclasses.replace(
        data,
        resource_metrics=[
            dataclasses.replace(
                resource,
                scope_metrics=[
                    dataclasses.replace(
                        scope,
                        metrics=[
                            dataclasses.replace(metric, unit=_UNITS.get(metric.name, metric.unit))
                            for metric in scope.metrics
                        ],
                    )
                    for scope in resource.scope_metrics
                ],
            )
            for resource in data.resource_metrics
        ],
    )


def correcting(exporter: Any) -> Any:
    """A subclass of a metric exporter that runs :func:`correct_metrics` before each export."""

    class CorrectingExporter(exporter):  # type: ignore[misc]  # either of the official exporters
        def export(self, metrics_data: MetricsData, *args: Any, **kwargs: Any) -> Any:
            return super().export(correct_metrics(metrics_data), *args, **kwargs)

    return CorrectingExporter


def _wrong(key: str) -> bool:
    return key in _RENAMED or _left_out(key)


def _left_out(key: str) -> bool:
    return key in _LEFT_OUT or key.startswith(_LEFT_OUT_PREFIXES)
