"""Writes events that go to OpenTelemetry as log lines, too: a person at the terminal sees what the collector gets."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord

from catalog_sync.observability import contract, logs
from otel_resilience.telemetry import contract as library_contract

_SCOPES: Final = frozenset((contract.SCOPE, library_contract.SCOPE))
_LEVELS: Final = (
    (SeverityNumber.ERROR, logging.ERROR),
    (SeverityNumber.WARN, logging.WARNING),
    (SeverityNumber.INFO, logging.INFO),
)


class EventLines(LogRecordProcessor):
    """Writes the events of library and application with :func:`catalog_sync.observability.logs.write_event`."""

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Writes it in the thread and the context of the event."""
        record, scope = log_record.log_record, log_record.instrumentation_scope
        if record.event_name is None or scope is None or scope.name not in _SCOPES:
            return
        attributes = record.attributes if isinstance(record.attributes, Mapping) else {}
        severity = (record.severity_number or SeverityNumber.UNSPECIFIED).value
        level = next((level for least, level in _LEVELS if severity >= least.value), logging.DEBUG)
        logs.write_event(f"{scope.name}.events", level, str(record.body), record.event_name, attributes)

    def shutdown(self) -> None:
        """Nothing is buffered."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is buffered."""
        return True
