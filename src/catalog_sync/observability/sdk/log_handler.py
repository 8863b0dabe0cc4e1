"""Standard log records as OpenTelemetry log records. The SDK's own handler for this is deprecated."""

from __future__ import annotations

import logging
import time
import traceback
from typing import Any, Final

from opentelemetry._logs import LoggerProvider, SeverityNumber

from catalog_sync.observability.logs import EVENT_NAME, context_ids, extra_attributes, redact_value
from otel_resilience.telemetry.providers import instrumentation_is_suppressed

SKIPPED: Final = ("opentelemetry", "urllib3", "requests", "httpx", "httpcore", "grpc")
"""Loggers that are ignored: the exporter would export its own logs."""

_NUMBERS: Final = (
    (logging.CRITICAL, SeverityNumber.FATAL, "FATAL"),
    (logging.ERROR, SeverityNumber.ERROR, "ERROR"),
    (logging.WARNING, SeverityNumber.WARN, "WARN"),
    (logging.INFO, SeverityNumber.INFO, "INFO"),
    (logging.DEBUG, SeverityNumber.DEBUG, "DEBUG"),
)


class OtelLogHandler(logging.Handler):
    """Emits through the OpenTelemetry Logs API; trace and span ID are those of the current span."""

    def __init__(self, provider: LoggerProvider) -> None:
        super().__init__()
        self._provider = provider

    def emit(self, record: logging.LogRecord) -> None:
        """One record. Failures go to :meth:`logging.Handler.handleError`, as with every handler."""
        if record.name.startswith(SKIPPED) or instrumentation_is_suppressed():
            return
        try:
            number, text = _severity(record.levelno)
            self._provider.get_logger(record.name).emit(
                timestamp=int(record.created * 1e9),
                observed_timestamp=time.time_ns(),
                severity_number=number,
                severity_text=text,
                body=record.getMessage(),
                attributes=_attributes(record),
                event_name=getattr(record, EVENT_NAME, None),
            )
        except Exception:  # noqa: BLE001  # as in the standard library's handlers
            self.handleError(record)


def _severity(level: int) -> tuple[SeverityNumber, str]:
    for lowest, number, text in _NUMBERS:
        if level >= lowest:
            return number, text
    return SeverityNumber.TRACE, "TRACE"


def _attributes(record: logging.LogRecord) -> dict[str, Any]:
    attributes = {key: redact_value(key, value) for key, value in extra_attributes(record).items() if value is not None}
    identifier = context_ids().get("correlation_id")
    if identifier:
        attributes["correlation.id"] = identifier
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        attributes["exception.type"] = f"{type(error).__module__}.{type(error).__qualname__}"
        attributes["exception.message"] = str(error)
        attributes["exception.stacktrace"] = "".join(traceback.format_exception(error))
    return attributes
