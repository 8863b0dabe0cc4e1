"""Rules for PyMongo (also asynchronous) and for Motor, by the error codes of MongoDB. Nothing here imports them."""

from __future__ import annotations

import re
from typing import Any, Final

from otel_resilience._internal.foreign import answer_of, attribute, is_a
from otel_resilience.classification.causes import by_class_name, judged_behind, message_of
from otel_resilience.classification.model import Classification
from otel_resilience.classification.rules import os_errors, verdicts

_GROUPS: Final = (
    (verdicts.AUTHENTICATION.replace(unsent=True), (11, 18, 8000)),
    (verdicts.NOT_ALLOWED, (13, 31, 33)),
    (verdicts.CONSTRAINT, (121, 11000, 11001, 12582)),
    (verdicts.SERIALIZATION, (112, 225, 251)),
    (verdicts.LOCKED, (24, 46)),
    (verdicts.READ_TIMEOUT, (50, 89, 202, 262)),
    # stepping down, shutting down, recovering, not a primary, stale routing
    (
        verdicts.UNAVAILABLE,
        (6, 7, 63, 64, 91, 133, 150, 189, 234, 9001, 10058, 10107, 11600, 11602, 13388, 13435, 13436),
    ),
    (verdicts.CONFLICT, (43, 237)),
    (verdicts.OVERLOADED, (39, 146, 292)),
    (verdicts.THROTTLED, (16500, 462)),
    (verdicts.WRITES_PAUSED, (14031,)),
    (verdicts.NOT_FOUND, (26,)),
    (verdicts.EXISTS, (48, 68)),
    (verdicts.BAD_PROGRAM, (2, 4, 9, 14, 20, 59, 85, 86, 10334, 17280)),
)
_BY_CODE: Final = {code: verdict for verdict, codes in _GROUPS for code in codes}
_PASSING: Final = ("TransientTransactionError", "RetryableWriteError")
_ERRNO: Final = re.compile(r"\[Errno (-?\d+)\]")


def _by_code(code: object) -> Classification | None:
    return _BY_CODE.get(code) if is_a(code, int) else None


def _answered(exception: BaseException) -> Classification:
    known = _by_code(attribute(exception, "code"))
    return known or (verdicts.UNAVAILABLE if _passes(exception) else verdicts.SERVER_ERROR)


def _passes(exception: BaseException) -> bool:
    """Whether the server or the client has labelled the error as one to repeat."""
    return any(answer_of(exception, "has_error_label", label) is True for label in _PASSING)


def _bulk(exception: BaseException) -> Classification:
    """By the first write that failed, else by the write concern error; some writes may have been done."""
    details: Any = attribute(exception, "details")
    if is_a(details, dict):
        for name in ("writeErrors", "writeConcernErrors"):
            errors = details.get(name)
            if is_a(errors, list) and errors and is_a(errors[0], dict):
                return _by_code(errors[0].get("code")) or verdicts.BAD_REQUEST
    return _by_code(attribute(exception, "code")) or verdicts.BAD_REQUEST


def _no_server(exception: BaseException) -> Classification:
    """For each server that was unavailable only the text of the reason is kept. Nothing was sent."""
    text = message_of(exception)
    if "certificate verify failed" in text:
        return os_errors.CERTIFICATE
    number = _ERRNO.search(text)
    known = os_errors.judge(OSError(int(number[1]), "")) if number and not number[1].startswith("-") else None
    if known is None and ("Name or service not known" in text or "nodename nor servname" in text):
        known = os_errors.NAME_UNKNOWN
    if known is None and "timed out" in text:
        known = verdicts.CONNECT_TIMEOUT
    return (known or os_errors.REFUSED).replace(unsent=True)


classify_pymongo: Final = by_class_name(
    {
        "pymongo.errors": {
            "WaitQueueTimeoutError": verdicts.POOL,
            "ServerSelectionTimeoutError": _no_server,
            "NetworkTimeout": verdicts.READ_TIMEOUT,
            "NotPrimaryError": verdicts.UNAVAILABLE,
            "ConnectionFailure": judged_behind(os_errors.judge, os_errors.BROKEN),
            "DuplicateKeyError": verdicts.CONSTRAINT,
            "CursorNotFound": verdicts.CONFLICT,
            "ExecutionTimeout": verdicts.READ_TIMEOUT,
            "WTimeoutError": verdicts.READ_TIMEOUT,
            "BulkWriteError": _bulk,
            "ClientBulkWriteException": _bulk,
            "OperationFailure": _answered,
            "ProtocolError": verdicts.GARBAGE,
            "PyMongoError": verdicts.MISUSE,
        },
        "bson.errors": {"BSONError": verdicts.MISUSE},
    }
)
"""The verdict on an exception of PyMongo; ``None`` on any other."""
