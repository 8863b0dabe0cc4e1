"""The outcome of a notification at a channel, and the context in which an alert was raised."""

from __future__ import annotations

import dataclasses

from opentelemetry import trace

from otel_resilience.alerting.model.alert import Alert, Notification
from otel_resilience.correlation import correlation_id


@dataclasses.dataclass(frozen=True, slots=True)
class Receipt:
    """The result of one notification at one channel.

    Examples:
        >>> from otel_resilience.alerting import Alert, AlertConfig, AlertService, Receipt, Route
        >>> from otel_resilience.alerting.channels import LogChannel
        >>> def on_receipt(receipt: Receipt) -> None:
        ...     print(receipt.channel, receipt.notification.title, receipt.delivered)
        >>> with AlertService(AlertConfig(), [Route(LogChannel())], on_receipt=on_receipt) as service:
        ...     service.report(Alert(kind="trouble", title="Trouble", severity=Severity.HIGH))
        log Trouble True
    """

    channel: str
    notification: Notification
    delivered: bool
    seconds: float
    """Seconds from the cause to the confirmation, or until the channel gave up."""
    error_type: str | None = None


def in_context(alert: Alert) -> Alert:
    """The alert with the correlation ID and the span of the caller, unless it has its own."""
    if alert.correlation_id is not None:
        return alert
    span = trace.get_current_span().get_span_context()
    return alert.with_clean(correlation_id=correlation_id(), span_id=f"{span.span_id:016x}" if span.is_valid else None)
