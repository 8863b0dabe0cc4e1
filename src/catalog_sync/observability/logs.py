"""Logs: JSON lines for machines, short lines for a terminal. Everything is redacted, including tracebacks."""

from __future__ import annotations

import contextlib
import json
import logging
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any, Final, TextIO

from opentelemetry import baggage
from opentelemetry.trace import get_current_span

from catalog_sync.domain.times import rfc3339
from otel_resilience import correlation_id, error_context
from otel_resilience.classification.defaults import classify
from otel_resilience.correlation import BAGGAGE_KEY
from otel_resilience.redaction import REDACTED, is_secret_name, redact

EVENT_NAME: Final = "otel.event.name"
"""Key of ``extra`` that names an event."""
EVENT_ATTRIBUTES: Final = "otel.attributes"
"""Key of ``extra`` that holds an event's attributes."""

QUIET_SECONDS: Final = 30.0
"""Repeated messages of an OpenTelemetry exporter are logged once in this time."""

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_handler: logging.Handler | None = None


def setup_logging(
    *, stream: TextIO, json_lines: bool, level: int | str = logging.INFO, service: str = "catalog-sync"
) -> logging.Handler:
    """Sends all logs to ``stream``: as JSON lines, or as lines for a person. A second call replaces the first.

    The loggers of HTTP libraries are set to WARNING: their INFO lines contain whole URLs.
    """
    global _handler  # the root logger is per process, too
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(service) if json_lines else HumanFormatter())
    handler.addFilter(_RepeatedExportFailures())
    handler.addFilter(_add_context)
    root = logging.getLogger()
    if _handler is not None:
        root.removeHandler(_handler)
    _handler = handler
    root.addHandler(handler)
    root.setLevel(level)
    for noisy in ("httpx", "httpcore", "urllib3", "aiohttp.access", "asyncio"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(capture=True)
    return handler


@contextlib.contextmanager
def logs_to(stream: TextIO) -> Iterator[None]:
    """Within the block the handler of :func:`setup_logging`, if there is one, writes to ``stream``."""
    handler = _handler
    before = handler.setStream(stream) if isinstance(handler, logging.StreamHandler) else None
    try:
        yield
    finally:
        if before is not None and isinstance(handler, logging.StreamHandler):
            handler.setStream(before)


def write_event(logger: str, level: int, body: str, name: str, attributes: Mapping[str, Any]) -> None:
    """Also writes an event that went to OpenTelemetry as a log line: only to our own handler, so that no other handler
    exports it again. Does nothing without :func:`setup_logging`."""
    handler = _handler
    if handler is None or level < handler.level or not logging.getLogger(logger).isEnabledFor(level):
        return
    record = logging.LogRecord(logger, level, "", 0, "%s", (body,), None)
    record.__dict__.update({EVENT_NAME: name, EVENT_ATTRIBUTES: dict(attributes)})
    handler.handle(record)


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line; never raises, whatever the record contains."""
        line: dict[str, Any] = {
            "timestamp": timestamp(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": redact(_message(record)),
            "service": self._service,
        }
        event = getattr(record, EVENT_NAME, None)
        if event is not None:
            line["event"] = str(event)
        line.update(getattr(record, "correlation", None) or context_ids())
        attributes = extra_attributes(record)
        if attributes:
            line["attributes"] = {key: redact_value(key, value) for key, value in attributes.items()}
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = _error(record.exc_info[1])
        elif record.exc_text:
            line["error"] = {"traceback": redact(record.exc_text)}
        if record.stack_info:
            line["stack"] = redact(record.stack_info)
        return json.dumps(line, ensure_ascii=False, default=lambda value: redact(str(value)))


class HumanFormatter(logging.Formatter):
    """Time, level, message and correlation ID; for errors their type and text, no traceback below DEBUG."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line; several when debugging."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        text = f"{clock} {record.levelname.lower():7} {redact(_message(record))}"
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            text += f" ({type(error).__name__}: {redact(str(error))})"
        # Fields that identify its subject, for example of an alert that is delivered in a separate trace.
        about = extra_attributes(record).get(BAGGAGE_KEY)
        identifier = about or (getattr(record, "correlation", None) or context_ids()).get("correlation_id")
        if identifier is not None:
            text += f" [{identifier}]"
        if record.exc_info and record.exc_info[1] is not None and logging.getLogger().isEnabledFor(logging.DEBUG):
            text += "\n" + format_traceback(record.exc_info[1])
        return text


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC, with microseconds."""
    return rfc3339(seconds, timespec="microseconds")


def context_ids() -> dict[str, str]:
    """The current trace, span and correlation ID; outside a trace at most the last one."""
    context = get_current_span().get_span_context()
    if context.is_valid:
        ids = {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
        return ids | {"correlation_id": correlation_id()}
    return {"correlation_id": correlation_id()} if baggage.get_baggage(BAGGAGE_KEY) else {}


def extra_attributes(record: logging.LogRecord) -> dict[str, Any]:
    """The fields that the caller gave as ``extra``."""
    found = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    nested = found.pop(EVENT_ATTRIBUTES, None)
    found.pop(EVENT_NAME, None)
    found.pop("correlation", None)
    if isinstance(nested, Mapping):
        found.update(nested)
    return found


def redact_value(key: str, value: Any) -> Any:
    """A value without secrets: masked if the key names one, numbers unchanged."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if is_secret_name(key):
        return REDACTED
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {str(inner): redact_value(str(inner), item) for inner, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [redact_value("", item) for item in value]
    return redact(str(value))


def format_traceback(error: BaseException) -> str:
    """The full traceback, causes included, redacted."""
    return redact("".join(traceback.format_exception(error)).rstrip())


def _error(error: BaseException) -> dict[str, Any]:
    verdict = classify(error)
    fields: dict[str, Any] = {
        "type": verdict.error_type,
        "class": verdict.error_class.value,
        "severity": verdict.severity.value,
        "exception": f"{type(error).__module__}.{type(error).__qualname__}",
        "message": redact(str(error)),
        "traceback": format_traceback(error),
    }
    context = error_context(error)
    if context is not None:
        fields["correlation_id"] = context.correlation_id
    return fields


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError) as error:
        return f"{record.msg} (its arguments do not fit: {type(error).__name__})"


def _add_context(record: logging.LogRecord) -> bool:
    """Filters run when the record is emitted, so the IDs are those of its own task."""
    record.correlation = context_ids()
    return True


class _RepeatedExportFailures(logging.Filter):
    """An unreachable collector makes its exporters warn with every batch: logged, but rarely."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("opentelemetry."):
            return True
        key = (record.name, str(record.msg)[:100])
        last = self._last.get(key)
        if last is not None and record.created - last < QUIET_SECONDS:
            return False
        if len(self._last) > 1000:
            self._last.clear()
        self._last[key] = record.created
        return True
