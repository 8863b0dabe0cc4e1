"""Rules for exceptions of Python itself and of its standard library, and for pydantic's, none of which is imported."""

from __future__ import annotations

from typing import Final

from otel_resilience._internal.foreign import attribute, is_a
from otel_resilience.classification import error_types
from otel_resilience.classification.by_class import decided_by_class
from otel_resilience.classification.causes import by_class_name, message_of, nearest_verdict
from otel_resilience.classification.model import Classification, Severity
from otel_resilience.classification.request_shown import is_idempotent
from otel_resilience.classification.requests_seen import seen_in_frames
from otel_resilience.classification.rules import os_errors, verdicts
from otel_resilience.classification.rules.carried_status import classify_carried_status

_TIMED_OUT: Final = verdicts.transient(error_types.ATTEMPT_TIMEOUT)
_SCHEMA: Final = verdicts.permanent(error_types.SCHEMA_MISMATCH)

_CLIENT_MISUSE: Final = (
    "client has been closed",
    "different loop",
    "different event loop",
    "Event loop is closed",
    "no running event loop",
    "port must be 0-65535",
    "raised StopIteration",
    "raised StopAsyncIteration",
)

_KAFKA_QUEUE: Final = "Local: Queue full"
"""confluent-kafka's message about a full producer queue."""


def _os_error(exception: BaseException) -> Classification | None:
    if is_a(exception, TimeoutError):
        return os_errors.judge(exception) or _TIMED_OUT
    if type(exception).__module__ == "urllib.error":
        return _url_error(exception) if attribute(exception, "code") is None else _http_error(exception)
    return os_errors.judge(exception)


def _http_error(exception: BaseException) -> Classification | None:
    if "infinite loop" in str(attribute(exception, "msg")):
        return verdicts.TOO_MANY_REDIRECTS
    verdict = classify_carried_status(exception)
    # urllib keeps the method of the request only in the response.
    method = attribute(attribute(exception, "fp"), "_method")
    if verdict is None or not isinstance(method, str):
        return verdict
    # Only urllib's frames have an idempotency key.
    return verdict.replace(idempotent=is_idempotent(method) or seen_in_frames(exception) is True)


def _url_error(exception: BaseException) -> Classification:
    """Raised while connecting or sending; a string instead of an exception means an unusable URL."""
    reason = attribute(exception, "reason")
    if not is_a(reason, BaseException):
        return verdicts.MISUSE
    if is_a(reason, TimeoutError) and os_errors.errno_of(reason) is None:
        return os_errors.handshake(reason) or verdicts.transient(error_types.CONNECT_TIMEOUT)
    return os_errors.judge(reason) or nearest_verdict(reason, os_errors.judge) or os_errors.BROKEN


def _misuse(exception: BaseException) -> Classification | None:
    text = message_of(exception)
    return verdicts.MISUSE if any(part in text for part in _CLIENT_MISUSE) else None


def _buffer(exception: BaseException) -> Classification | None:
    return verdicts.POOL if message_of(exception) == _KAFKA_QUEUE else None


_by_name: Final = by_class_name(
    {
        "builtins": {
            "OSError": _os_error,
            "RuntimeError": _misuse,
            "OverflowError": _misuse,
            "BufferError": _buffer,
            "UnicodeDecodeError": verdicts.CONFIRM_ONCE,
            "MemoryError": verdicts.permanent(error_types.RESOURCE_EXHAUSTED, Severity.CRITICAL),
            "RecursionError": verdicts.permanent(error_types.OTHER, Severity.CRITICAL),
        },
        "http.client": {
            "RemoteDisconnected": verdicts.KEEP_ALIVE_RACE,
            "IncompleteRead": verdicts.ENDED,
            "InvalidURL": verdicts.MISUSE,
            "ImproperConnectionState": verdicts.MISUSE,
            "UnknownProtocol": verdicts.MISUSE,
            "HTTPException": verdicts.GARBAGE,
        },
        "urllib.error": {"ContentTooShortError": verdicts.ENDED},
        "asyncio.exceptions": {"IncompleteReadError": verdicts.ENDED},
        "json.decoder": {"JSONDecodeError": verdicts.CONFIRM_ONCE},
        "gzip": {"BadGzipFile": verdicts.CONFIRM_ONCE},
        "zlib": {"error": verdicts.CONFIRM_ONCE},
        "pydantic_core._pydantic_core": {"ValidationError": _SCHEMA},
        "pydantic.error_wrappers": {"ValidationError": _SCHEMA},
        "pydantic.v1.error_wrappers": {"ValidationError": _SCHEMA},
    }
)


@decided_by_class(lambda kind: not issubclass(kind, (OSError, RuntimeError, OverflowError, BufferError)))
def classify_stdlib(exception: BaseException) -> Classification | None:
    """The verdict on exceptions of Python and its standard library; ``None`` for others, such as a ``ValueError``."""
    return _by_name(exception)
