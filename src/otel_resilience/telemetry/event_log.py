"""Events: one record each, through the Logs API of OpenTelemetry or through a standard logger."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from opentelemetry import _logs as logs_api

from otel_resilience.telemetry import providers

if TYPE_CHECKING:
    from opentelemetry.context import Context

Value = str | int | float | bool
Attributes = Mapping[str, Value]

INFO, WARN, ERROR = logging.INFO, logging.WARNING, logging.ERROR
_SEVERITIES = {
    INFO: (logs_api.SeverityNumber.INFO, "INFO"),
    WARN: (logs_api.SeverityNumber.WARN, "WARNING"),
    ERROR: (logs_api.SeverityNumber.ERROR, "ERROR"),
}
"""Numbers and names. ``logging`` may have been given other names, as painted ones for a terminal."""


_emitting: Final[ContextVar[bool]] = ContextVar("otel_resilience_emitting", default=False)
"""Whether this code is inside an event consumer, such as a log handler that sends records with a protected call, whose
failure would be an event as well."""


def hand_over(take: Callable[..., object], *details: object) -> None:
    """Calls ``take``, which passes something to consumers of events and logs, unless it is called from one."""
    if _emitting.get():
        return
    token = _emitting.set(True)
    try:
        take(*details)
    finally:
        _emitting.reset(token)


class EventLog:
    """Emits each event of one instrumentation scope as one record: through the Logs API if a logger provider is set,
    else through the standard logger ``standard``.

    ``provider`` takes precedence over the global one, which may be set later. A disabled SDK provider counts as none.
    Records of the standard logger have its name and attributes in ``otel.event.name`` and ``otel.attributes``.
    """

    def __init__(
        self,
        scope: str,
        version: str,
        schema_url: str,
        standard: logging.Logger,
        provider: logs_api.LoggerProvider | None = None,
    ) -> None:
        self._scope = scope, version, schema_url
        self._standard = standard
        self._provider = provider
        self._known: tuple[logs_api.LoggerProvider, logs_api.Logger | None] | None = None

    def emit(self, name: str, level: int, body: str, attributes: Attributes, context: Context | None = None) -> None:
        """Emits one event; ``level`` is one of :data:`INFO`, :data:`WARN`, :data:`ERROR`. An event from within an event
        consumer is dropped."""
        hand_over(self._emit, name, level, body, attributes, context)

    def _emit(self, name: str, level: int, body: str, attributes: Attributes, context: Context | None) -> None:
        logger = self._logger()
        if logger is not None:
            number, text = _SEVERITIES[level]
            logger.emit(
                severity_number=number,
                severity_text=text,
                body=body,
                attributes=dict(attributes),
                event_name=name,
                context=context,
            )
        elif self._standard.isEnabledFor(level):
            extra = {"otel.event.name": name, "otel.attributes": dict(attributes)}
            self._standard.log(level, "%s", body, extra=extra)

    def _logger(self) -> logs_api.Logger | None:
        provider = self._provider or providers.global_logger_provider()
        if provider is None:
            return None
        known = self._known
        if known is None or known[0] is not provider:
            scope, version, schema_url = self._scope
            logger = provider.get_logger(scope, version, schema_url=schema_url)
            known = self._known = provider, None if isinstance(logger, logs_api.NoOpLogger) else logger
        return known[1]
