"""Data, asyncio and the standard library: every row."""

from __future__ import annotations

import asyncio
import concurrent.futures
import errno
import gzip
import http.client
import json
import socket
import ssl
import urllib.error
import zlib

import pydantic
import pytest

from otel_resilience import (
    AttemptTimeoutError,
    BreakerEffect,
    Classification,
    DeadlineExceededError,
    ErrorClass,
    Severity,
    classify,
)
from support.verdict_rows import Row, behind, check, row


class Envelope(pydantic.BaseModel):
    rows: int


class BadRowError(ValueError):
    """What an application raises for one bad row."""

    classification = Classification(ErrorClass.QUARANTINE, Severity.LOW, "schema_mismatch")


def validation_error() -> pydantic.ValidationError:
    with pytest.raises(pydantic.ValidationError) as caught:
        Envelope.model_validate({"rows": "many"})
    return caught.value


CRITICAL = Severity.CRITICAL
ROWS = [
    row("JSONDecodeError", json.JSONDecodeError("Expecting value", "", 0),
        "P", "yes", "invalid_response", max_retries=1),
    row("UnicodeDecodeError", UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        "P", "yes", "invalid_response", max_retries=1),
    row("pydantic ValidationError on the envelope", validation_error(), "P", "no", "schema_mismatch"),
    row("… on a row: the application says so itself", BadRowError("price N/A"), "quarantine", "no", "schema_mismatch"),
    row("own per-attempt timeout", TimeoutError(), "T", "yes", "attempt_timeout"),
    row("own per-attempt timeout, of a future", concurrent.futures.TimeoutError(), "T", "yes", "attempt_timeout"),
    row("own per-attempt timeout, of a policy", AttemptTimeoutError(1), "T", "yes", "attempt_timeout"),
    row("overall deadline", DeadlineExceededError(30), "T", "yes", "deadline_exceeded", max_retries=0, retryable=False),
    row("CancelledError", asyncio.CancelledError(), "cancelled", "no", "cancelled"),
    row("KeyboardInterrupt", KeyboardInterrupt(), "cancelled", "no", "cancelled"),
    row("SystemExit", SystemExit(1), "cancelled", "no", "cancelled"),
    row("GeneratorExit", GeneratorExit(), "cancelled", "no", "cancelled"),
    row("ExceptionGroup: transient only if every leaf is",
        ExceptionGroup("both", [TimeoutError(), ExceptionGroup("in", [ConnectionResetError()])]),
        "T", "yes", "attempt_timeout"),
    row("ExceptionGroup: worst leaf", ExceptionGroup("mixed", [TimeoutError(), MemoryError()]),
        "P", "yes", "resource_exhausted", severity=CRITICAL),
    row("ExceptionGroup: cancelled leaves are dropped",
        BaseExceptionGroup("mixed", [asyncio.CancelledError(), TimeoutError()]), "T", "yes", "attempt_timeout"),
    row("ExceptionGroup: nothing but cancelled leaves", BaseExceptionGroup("all", [asyncio.CancelledError()]),
        "cancelled", "no", "cancelled"),
    row("MemoryError", MemoryError(), "P", "no", "resource_exhausted", severity=CRITICAL),
    row("RecursionError", RecursionError(), "P", "no", "_OTHER", severity=CRITICAL),
    # the operating system, bare
    row("refused", ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "T", "yes", "connection_error", unsent=True),
    row("refused, without a number", ConnectionRefusedError(), "T", "yes", "connection_error", unsent=True),
    row("reset", ConnectionResetError(), "T", "yes", "connection_error"),
    row("broken pipe", BrokenPipeError(), "T", "yes", "connection_error"),
    row("aborted", ConnectionAbortedError(), "T", "yes", "connection_error"),
    *(
        row(name, OSError(getattr(errno, name), name), "T", "yes", "connection_error")
        for name in ("ENETUNREACH", "EHOSTUNREACH", "EPIPE")
    ),
    *(
        row(name, OSError(getattr(errno, name), name), "TS", "no", "resource_exhausted")
        for name in ("EMFILE", "ENFILE", "ENOMEM")
    ),
    row("EADDRNOTAVAIL", OSError(errno.EADDRNOTAVAIL, "ports"), "TS", "no", "resource_exhausted", unsent=True),
    *(
        row(name, OSError(getattr(errno, name), name), "P", "no", "permission_denied")
        for name in ("EACCES", "EPERM", "EROFS")
    ),
    row("PermissionError, without a number", PermissionError(), "P", "no", "permission_denied"),
    row("ENOSPC", OSError(errno.ENOSPC, "disk"), "TS", "no", "disk_full"),
    row("EFBIG", OSError(errno.EFBIG, "a limit of the process"), "TS", "no", "disk_full"),
    row("several addresses joined by asyncio",
        OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 1), [Errno 111] Connect call failed"),
        "T", "yes", "connection_error", unsent=True),
    row("several addresses joined by asyncio, files out",
        OSError(f"Multiple exceptions: [Errno 111] Connect call failed ('::1', 1), [Errno {errno.EMFILE}] files"),
        "TS", "no", "resource_exhausted"),
    # names and TLS, bare
    row("gaierror EAI_AGAIN", socket.gaierror(socket.EAI_AGAIN, "again"),
        "T", "yes", "name_resolution_error", unsent=True),
    row("gaierror EAI_NONAME", socket.gaierror(socket.EAI_NONAME, "none"),
        "P", "no", "name_resolution_error", unsent=True, max_retries=1),
    row("gaierror EAI_FAIL", socket.gaierror(socket.EAI_FAIL, "fail"), "P", "no", "name_resolution_error", unsent=True),
    row("gaierror of another number", socket.gaierror(9999, "?"), "P", "no", "name_resolution_error", unsent=True),
    row("herror", socket.herror("unknown host"), "P", "no", "name_resolution_error", unsent=True),
    row("herror with a number", socket.herror(1, "Unknown host"), "P", "no", "name_resolution_error", unsent=True),
    row("addresses with a number that nobody knows", OSError("Multiple exceptions: [Errno 9999] a, [Errno 9998] b"),
        "T", "yes", "connection_error"),
    row("gaierror EAI_MEMORY", socket.gaierror(socket.EAI_MEMORY, "memory"),
        "TS", "no", "name_resolution_error", unsent=True),
    row("certificate verify failed", ssl.SSLCertVerificationError(1, "verify failed"),
        "P", "no", "secure_connection_error", unsent=True, severity=CRITICAL),
    row("TLS, its number 1 is not EPERM", ssl.SSLError(1, "wrong version"), "P", "no", "secure_connection_error"),
    row("TLS EOF", ssl.SSLEOFError(8, "EOF"), "T", "yes", "secure_connection_error"),
    # http.client, urllib, streams
    row("RemoteDisconnected", http.client.RemoteDisconnected("no response"),
        "T", "yes", "response_ended", immediate=True),
    row("IncompleteRead", http.client.IncompleteRead(b"abc", 7), "T", "yes", "response_ended"),
    row("BadStatusLine", http.client.BadStatusLine("garbage"), "T", "yes", "invalid_response"),
    row("http.client.InvalidURL", http.client.InvalidURL("nonnumeric port"), "P", "no", "_OTHER"),
    row("CannotSendRequest", http.client.CannotSendRequest("busy"), "P", "no", "_OTHER"),
    row("URLError ← refused", urllib.error.URLError(ConnectionRefusedError(errno.ECONNREFUSED, "refused")),
        "T", "yes", "connection_error", unsent=True),
    row("URLError ← unknown name", urllib.error.URLError(socket.gaierror(socket.EAI_NONAME, "none")),
        "P", "no", "name_resolution_error", unsent=True, max_retries=1),
    row("URLError ← certificate", urllib.error.URLError(ssl.SSLCertVerificationError(1, "verify failed")),
        "P", "no", "secure_connection_error", unsent=True, severity=CRITICAL),
    row("URLError ← timeout", urllib.error.URLError(TimeoutError("timed out")), "T", "yes", "connect_timeout"),
    row("URLError ← something with a cause",
        urllib.error.URLError(behind(OSError("none"), OSError(errno.EMFILE, "m"))),
        "TS", "no", "resource_exhausted"),
    row("URLError with a text", urllib.error.URLError("unknown url type: foo"), "P", "no", "_OTHER"),
    row("ContentTooShortError", urllib.error.ContentTooShortError("short", ("", None)),  # type: ignore[arg-type]
        "T", "yes", "response_ended"),
    row("IncompleteReadError of a stream", asyncio.IncompleteReadError(b"", 4), "T", "yes", "response_ended"),
    row("bad gzip", gzip.BadGzipFile("Not a gzipped file"), "P", "yes", "invalid_response", max_retries=1),
    row("bad deflate", zlib.error("incorrect header check"), "P", "yes", "invalid_response", max_retries=1),
]  # fmt: skip


@pytest.mark.parametrize("case", ROWS)
def test_each_row(case: Row) -> None:
    check(case)


def test_a_timeout_of_the_kernel_is_transient_and_counts() -> None:
    verdict = classify(OSError(errno.ETIMEDOUT, "timed out"))
    assert (verdict.error_class, verdict.breaker) == (ErrorClass.TRANSIENT, BreakerEffect.FAILURE)


@pytest.mark.parametrize(
    "error", [ValueError("bad"), RuntimeError("bad"), Exception(), FileNotFoundError(2, "no"), OSError("nothing known")]
)
def test_an_unknown_exception_is_permanent_high_and_flagged(error: Exception) -> None:
    verdict = classify(error)
    assert (verdict.error_class, verdict.severity, verdict.unclassified) == (ErrorClass.PERMANENT, Severity.HIGH, True)
    assert not verdict.retryable
