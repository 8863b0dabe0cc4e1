"""The structured log: the channel that needs no receiver, and the last resort."""

from __future__ import annotations

import logging
from typing import Any, Final

from otel_resilience.alerting.channels._text import occurrences, readable
from otel_resilience.alerting.model.alert import Notification, Status, format_duration
from otel_resilience.classification.model import Severity
from otel_resilience.telemetry import contract

LOGGER: Final = "otel_resilience.alerts"

_LEVELS: Final = {
    Severity.LOW: logging.INFO,
    Severity.MEDIUM: logging.WARNING,
    Severity.HIGH: logging.ERROR,
    Severity.CRITICAL: logging.CRITICAL,
}
_NAMES: Final = {
    "severity": contract.ALERT_SEVERITY,
    "status": contract.ALERT_STATUS,
    "fingerprint": contract.ALERT_FINGERPRINT,
    "dependency": contract.DEPENDENCY,
    "error_type": contract.ERROR_TYPE,
    "error_class": contract.ERROR_CLASS,
    "correlation_id": contract.CORRELATION_ID,
}


class LogChannel:
    """Writes one record per notification to the logger ``otel_resilience.alerts``.

    Its level follows the severity: INFO, WARNING, ERROR, CRITICAL; resolved ones are INFO. Its fields are in ``extra``
    under ``otel.attributes``, like those of the library's events. A record that no handler takes is lost silently: the
    application has to set up logging.

    Examples:
        >>> from otel_resilience.alerting import AlertConfig, AlertService, Route
        >>> from otel_resilience.alerting.channels import LogChannel
        >>> service = AlertService(AlertConfig(), [Route(LogChannel())])
    """

    min_interval = 0.0
    coalesce_from = None
    keeps_incidents = False

    def __init__(self, name: str = "log") -> None:
        self.name = name
        self._log = logging.getLogger(LOGGER)

    def deliver(self, notification: Notification, *, timeout: float) -> None:
        """Writes it; ``timeout``, in seconds, is ignored."""
        resolved = notification.status is Status.RESOLVED
        level = logging.INFO if resolved else _LEVELS[notification.severity]
        self._log.log(level, "%s", _line(notification), extra={"otel.attributes": attributes(notification)})

    def close(self) -> None:
        """Nothing to close."""


def _line(notification: Notification) -> str:
    title = readable(notification.title)
    if notification.status is Status.RESOLVED:
        return f"alert resolved after {format_duration(notification.duration)}: {title}"
    return f"alert {notification.severity}: {title} ({occurrences(notification)})"


def attributes(notification: Notification) -> dict[str, Any]:
    """The fields of a record, named as in the telemetry contract."""
    data = notification.to_json()
    links, context = data.pop("links"), data.pop("context")
    found = {
        _NAMES.get(name, f"{contract.PREFIX}alert.{name}"): value
        for name, value in data.items()
        if value not in (None, "", {})
    }
    found |= {f"{contract.PREFIX}alert.link.{name}": url for name, url in links.items() if url is not None}
    if context:
        found[f"{contract.PREFIX}alert.context"] = context
    return found
