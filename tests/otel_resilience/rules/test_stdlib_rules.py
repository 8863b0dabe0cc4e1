"""Data, asyncio and the standard library: every row."""

from __future__ import annotations

import asyncio
import concurrent.futures
import enum
import errno
import gzip
import http.client
import io
import json
import socket
import ssl
import urllib.error
import urllib.request
import urllib.response
import zlib
from typing import Any

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
from otel_resilience.classification.rules import os_errors
from otel_resilience.classification.rules.stdlib import classify_stdlib
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


LOOP = urllib.request.HTTPRedirectHandler.inf_msg.rstrip("\n")


class Response(io.BytesIO):
    """As urllib keeps the method of a request in the response to it."""

    _method: object = None


def http_error(status: int, method: object, message: str = "no") -> urllib.error.HTTPError:
    """As urllib raises it: the method of the request stands in the response alone."""
    response = Response()
    response._method = method
    return urllib.error.HTTPError("http://supplier", status, message, http.client.HTTPMessage(), response)


class Refusing(urllib.request.HTTPHandler):
    """A server of urllib's that answers every request with 503."""

    def http_open(self, req: urllib.request.Request) -> Any:
        response = Response()
        response._method = req.get_method()
        answer = urllib.response.addinfourl(response, http.client.HTTPMessage(), req.full_url, 503)
        answer.msg = "busy"  # type: ignore[attr-defined]  # urllib sets it too
        return answer


def refused(method: str, headers: dict[str, str]) -> urllib.error.HTTPError:
    opener = urllib.request.build_opener(Refusing())
    with pytest.raises(urllib.error.HTTPError) as caught:
        opener.open(urllib.request.Request("http://supplier", method=method, headers=headers))
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
    row("a time limit of the system, which is no attempt's", OSError(errno.ETIMEDOUT, "timed out"),
        "T", "yes", "connection_error"),
    row("a time limit with a number that nobody knows", TimeoutError(9999, "?"), "T", "yes", "attempt_timeout"),
    row("ENOTCONN", OSError(errno.ENOTCONN, "not connected"), "T", "yes", "connection_error"),
    row("a connection that broke with a number that nobody knows", ConnectionResetError(9999, "?"),
        "T", "yes", "connection_error"),
    row("refused with a number that nobody knows", ConnectionRefusedError(9999, "?"),
        "T", "yes", "connection_error", unsent=True),
    row("several addresses joined by asyncio",
        OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 1), [Errno 111] Connect call failed"),
        "T", "yes", "connection_error", unsent=True),
    row("several addresses joined by asyncio, of which one was reached",
        OSError(f"Multiple exceptions: [Errno 111] Connect call failed, [Errno {errno.ECONNRESET}] reset"),
        "T", "yes", "connection_error"),
    row("several addresses joined by asyncio, without a number", OSError("Multiple exceptions: all of them"),
        "T", "yes", "connection_error"),
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
    row("TLS closed", ssl.SSLZeroReturnError(6, "closed"), "T", "yes", "secure_connection_error"),
    row("TLS, the system", ssl.SSLSyscallError(5, "EOF occurred"), "T", "yes", "secure_connection_error"),
    row("gaierror without a number", socket.gaierror("?"), "P", "no", "name_resolution_error", unsent=True),
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
    row("URLError ← a time limit of the system",
        urllib.error.URLError(OSError(errno.ETIMEDOUT, "timed out")), "T", "yes", "connection_error"),
    row("URLError ← something unknown", urllib.error.URLError(OSError("none")), "T", "yes", "connection_error"),
    row("URLError ← something with a cause",
        urllib.error.URLError(behind(OSError("none"), OSError(errno.EMFILE, "m"))),
        "TS", "no", "resource_exhausted"),
    row("URLError with a text", urllib.error.URLError("unknown url type: foo"), "P", "no", "_OTHER"),
    row("ContentTooShortError", urllib.error.ContentTooShortError("short", ("", None)),  # type: ignore[arg-type]
        "T", "yes", "response_ended"),
    row("IncompleteReadError of a stream", asyncio.IncompleteReadError(b"", 4), "T", "yes", "response_ended"),
    row("more redirects than urllib follows", http_error(302, "GET", LOOP + "\nFound"),
        "P", "no", "too_many_redirects"),
    row("the queue of a Kafka producer is full", BufferError("Local: Queue full"),
        "local", "no", "pool_exhausted", unsent=True),
    *(
        row(f"a client that is used wrongly: {text}", kind(text), "P", "no", "_OTHER")
        for kind, text in [
            (RuntimeError, "Cannot send a request, as the client has been closed."),
            (RuntimeError, "got Future attached to a different loop"),
            (RuntimeError, "is bound to a different event loop"),
            (RuntimeError, "Event loop is closed"),
            (RuntimeError, "no running event loop"),
            (RuntimeError, "generator raised StopIteration"),
            (RuntimeError, "async generator raised StopAsyncIteration"),
            (OverflowError, "connect(): port must be 0-65535."),
        ]
    ),
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


@pytest.mark.parametrize(
    ("method", "idempotent"), [("GET", True), ("PUT", True), ("POST", False), ("PATCH", False), (None, None), (7, None)]
)
def test_an_answer_that_urllib_raises_shows_the_method_of_its_request(method: object, idempotent: bool | None) -> None:
    verdict = classify(http_error(503, method))
    assert (verdict.error_type, verdict.idempotent) == ("503", idempotent)


@pytest.mark.parametrize("method", ["POST", "PATCH", "GET"])
def test_with_an_idempotency_key_its_request_may_be_repeated(method: str) -> None:
    assert classify(refused(method, {"Idempotency-Key": "1"})).idempotent
    assert classify(refused(method, {})).idempotent is (method == "GET")


def test_an_answer_of_success_that_is_raised_all_the_same_is_unknown() -> None:
    assert classify_stdlib(http_error(200, "GET")) is None


@pytest.mark.parametrize(
    "error",
    [
        BufferError("Existing exports of data: object cannot be re-sized"),
        OSError("several exceptions: Multiple exceptions: [Errno 111] Connect call failed"),
    ],
)
def test_other_texts_of_the_same_classes_say_nothing(error: Exception) -> None:
    assert classify_stdlib(error) is None


class OwnSystemError(OSError):
    pass


class Number(enum.IntEnum):
    REFUSED = errno.ECONNREFUSED


class TestWhatTheSystemSaysBehindAClientsException:
    @pytest.mark.parametrize(
        ("error", "verdict"),
        [
            (ConnectionRefusedError(), os_errors.REFUSED),
            (ConnectionRefusedError(9999, "?"), os_errors.REFUSED),
            (ConnectionError(), os_errors.BROKEN),
            (ConnectionResetError(9999, "?"), os_errors.BROKEN),
            (BrokenPipeError(), os_errors.BROKEN),
            (PermissionError(), os_errors.DENIED),
            (TimeoutError(), None),
            (OSError(), None),
            (ValueError("Multiple exceptions: [Errno 111] refused"), None),
            (ssl.SSLWantReadError(), None),
            (ssl.SSLWantWriteError(), None),
        ],
    )
    def test_without_a_number_the_class_decides(self, error: Exception, verdict: Classification | None) -> None:
        assert os_errors.judge(error) == verdict

    @pytest.mark.parametrize("number", [True, False])
    def test_a_number_may_be_any_integer(self, number: bool) -> None:
        assert os_errors.errno_of(OSError(number, "?")) == int(number)

    @pytest.mark.parametrize("number", [None, "104", 104.0])
    def test_anything_else_is_none(self, number: object) -> None:
        error = OSError()
        error.errno = number  # type: ignore[assignment]
        assert os_errors.errno_of(error) is None

    @pytest.mark.parametrize("number", [errno.ECONNREFUSED, errno.EMFILE, errno.ENOSPC, errno.EACCES, 9999, None])
    def test_an_error_of_ones_own_is_judged_by_its_number_too(self, number: int | None) -> None:
        plain, own = OSError("?"), OwnSystemError("?")
        plain.errno = own.errno = number
        assert os_errors.judge(own) == os_errors.judge(plain)
        assert (os_errors.judge(plain) is None) is (number in (9999, None))

    @pytest.mark.parametrize("error", [OSError("?"), OwnSystemError("?")])
    @pytest.mark.parametrize("number", [[], {}, str(errno.ECONNREFUSED)])
    def test_what_is_not_a_number_says_nothing(self, error: OSError, number: Any) -> None:
        error.errno = number
        assert os_errors.judge(error) is None

    @pytest.mark.parametrize("error", [OSError("?"), OwnSystemError("?")])
    def test_a_number_may_be_a_member_of_an_enumeration(self, error: OSError) -> None:
        error.errno = Number.REFUSED
        assert os_errors.judge(error) == os_errors.REFUSED
