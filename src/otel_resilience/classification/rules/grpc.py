"""Rules for gRPC, sync and asyncio, and for its status codes wherever they come from. Nothing here imports it.

Not judged: ``grpc.FutureCancelledError``, which is control flow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from otel_resilience._internal.foreign import answer_of, attribute, header_of, is_a
from otel_resilience.classification.causes import by_class_name
from otel_resilience.classification.model import CANCELLED, BreakerEffect, Classification
from otel_resilience.classification.retry_after import MAX_RETRY_AFTER
from otel_resilience.classification.rules import os_errors, verdicts

_BY_STATUS: Final = {
    "CANCELLED": verdicts.ENDED.replace(breaker=BreakerEffect.NEUTRAL),
    "UNKNOWN": verdicts.SERVER_ERROR,
    "INVALID_ARGUMENT": verdicts.BAD_REQUEST,
    "DEADLINE_EXCEEDED": verdicts.READ_TIMEOUT,
    "NOT_FOUND": verdicts.NOT_FOUND,
    "ALREADY_EXISTS": verdicts.EXISTS,
    "PERMISSION_DENIED": verdicts.NOT_ALLOWED,
    "RESOURCE_EXHAUSTED": verdicts.THROTTLED,
    "FAILED_PRECONDITION": verdicts.BAD_REQUEST,
    "ABORTED": verdicts.CONFLICT,
    "OUT_OF_RANGE": verdicts.BAD_REQUEST,
    "UNIMPLEMENTED": verdicts.BAD_PROGRAM,
    "INTERNAL": verdicts.SERVER_ERROR,
    "UNAVAILABLE": verdicts.UNAVAILABLE,
    "DATA_LOSS": verdicts.BROKEN_SERVER,
    "UNAUTHENTICATED": verdicts.AUTHENTICATION,
}
_TEXTS: Final = tuple(
    (re.compile(text, re.IGNORECASE), status, verdict)
    for text, status, verdict in (
        (r"locally cancelled", "CANCELLED", CANCELLED),
        (r"message larger than max|exceeds maximum size", "RESOURCE_EXHAUSTED", verdicts.TOO_LARGE),
        (r"CERTIFICATE_VERIFY_FAILED", "UNAVAILABLE", os_errors.CERTIFICATE),
        (r"handshak(e|ing|er) failed|WRONG_VERSION_NUMBER", "UNAVAILABLE", os_errors.TLS_REFUSED.replace(unsent=True)),
        (r"domain name not found|name or service not known", "UNAVAILABLE", os_errors.NAME_UNKNOWN),
        (r"DNS resolution failed|errors resolving ", "UNAVAILABLE", os_errors.RESOLVER_BUSY),
        (r"failed to connect to all addresses", "UNAVAILABLE", os_errors.REFUSED),
        (r"socket closed|connection reset|broken pipe|GOAWAY", "UNAVAILABLE", verdicts.ENDED),
    )
)
"""Errors that the client itself reports with a code that servers use as well."""


def _answered(exception: BaseException) -> Classification:
    status = attribute(answer_of(exception, "code"), "name")
    trailers = answer_of(exception, "trailing_metadata")
    return judge_rpc(status, answer_of(exception, "details"), trailers) or verdicts.SERVER_ERROR


classify_grpc: Final = by_class_name(
    {
        "grpc": {
            "RpcError": _answered,
            "FutureTimeoutError": verdicts.CONNECT_TIMEOUT,  # of a channel that does not become ready
        },
        "grpc._cython.cygrpc": {"UsageError": verdicts.MISUSE, "BaseError": verdicts.MISUSE},
    }
)
"""The verdict on an exception of gRPC; ``None`` on any other."""


def judge_rpc(status: object, details: object, trailers: object) -> Classification | None:
    """The verdict on a status by its name, refined by the text and the trailing metadata."""
    verdict = _BY_STATUS.get(status) if is_a(status, str) else None
    if verdict is None:
        return None
    if is_a(details, str):
        verdict = next((each for text, of, each in _TEXTS if of == status and text.search(details)), verdict)
    pushback = header_of(trailers, "grpc-retry-pushback-ms")
    if pushback is not None and verdict.retryable:
        # gRFC A6: anything but a non-negative number asks not to retry at all.
        asks = pushback.isascii() and pushback.isdigit()
        return verdict.replace(retry_after=_wait(int(pushback[:12]) / 1000)) if asks else verdict.replace(max_retries=0)
    hint = _retry_info(header_of(trailers, "grpc-status-details-bin")) if verdict.retryable else None
    return verdict if hint is None else verdict.replace(retry_after=_wait(hint))


def _wait(seconds: float) -> float:
    return min(seconds, MAX_RETRY_AFTER)


def _retry_info(status: str | None) -> float | None:
    """The delay of a ``google.rpc.RetryInfo`` among the details of a serialized ``google.rpc.Status``, in seconds."""
    for number, detail in _fields((status or "").encode("latin-1", "replace")):
        if number == 3 and is_a(detail, bytes):
            message = dict(_fields(detail))
            kind, value = message.get(1), message.get(2)
            if is_a(kind, bytes) and kind.endswith(b"/google.rpc.RetryInfo") and is_a(value, bytes):
                delay = dict(_fields(value)).get(1)
                duration = dict(_fields(delay)) if is_a(delay, bytes) else {}
                seconds, nanos = duration.get(1, 0), duration.get(2, 0)
                return seconds + nanos / 1e9 if is_a(seconds, int) and is_a(nanos, int) else None
    return None


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a Protocol Buffers message: numbers and bytes, up to the first field of another kind."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        value, at = _varint(message, at)
        if tag & 7 == 2:
            yield tag >> 3, message[at : at + value]
            at += value
        elif tag & 7 == 0:
            yield tag >> 3, value
        else:
            return


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 64:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    return value, at
