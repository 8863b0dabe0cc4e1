"""HTTP transport: every row, with the chains of causes that httpx builds."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Any

import httpx
import pytest

from otel_resilience import Severity, classify
from otel_resilience.classification.rules.httpx import classify_httpx
from support.verdict_rows import Row, behind, check, row

REQUEST = httpx.Request("GET", "http://supplier.test/")
CRITICAL = Severity.CRITICAL


def chained(outer: BaseException, *causes: BaseException) -> BaseException:
    """``outer`` with each of ``causes`` as the cause of the one before."""
    node = outer
    for cause in causes:
        node.__cause__ = cause
        node = cause
    return outer


def connect(*causes: BaseException) -> BaseException:
    return chained(httpx.ConnectError("All connection attempts failed"), Exception("httpcore.ConnectError"), *causes)


def refused() -> OSError:
    return ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed")


def certificate(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = code
    return error


def gai(name: str) -> socket.gaierror:
    return socket.gaierror(getattr(socket, name), name)


def os_error(number: int) -> BaseException:
    return connect(OSError(number, "said the system"))


UNSENT: dict[str, Any] = {"unsent": True}
ROWS = [
    row("connection refused", connect(OSError("no number"), refused()), "T", "yes", "connection_error", **UNSENT),
    row(
        "connection refused, two addresses",
        connect(OSError("no number"), ExceptionGroup("multiple connection attempts failed", [refused(), refused()])),
        "T", "yes", "connection_error", **UNSENT,
    ),
    row(
        "connection refused, only as context",
        behind(httpx.ConnectError("failed"), behind(OSError("none"), refused(), context=True), context=True),
        "T", "yes", "connection_error", **UNSENT,
    ),
    row("connect timeout", httpx.ConnectTimeout(""), "T", "yes", "connect_timeout", **UNSENT),
    row("read timeout", httpx.ReadTimeout(""), "T", "yes", "read_timeout"),
    row("write timeout", httpx.WriteTimeout(""), "T", "yes", "write_timeout"),
    row("pool timeout", httpx.PoolTimeout(""), "local", "no", "pool_exhausted", **UNSENT),
    row("reset while reading", chained(httpx.ReadError(""), ConnectionResetError(errno.ECONNRESET, "reset")),
        "T", "yes", "response_ended"),
    row("broken while writing", chained(httpx.WriteError(""), BrokenPipeError(errno.EPIPE, "pipe")),
        "T", "yes", "connection_error"),
    row("broken while closing", httpx.CloseError(""), "T", "yes", "connection_error"),
    row("closed without response", httpx.RemoteProtocolError("Server disconnected without sending a response."),
        "T", "yes", "response_ended", immediate=True),
    row("truncated body", httpx.RemoteProtocolError("peer closed connection without sending complete message body"),
        "T", "yes", "response_ended"),
    row("garbage", httpx.RemoteProtocolError("illegal status line: bytearray(b'\\x00')"),
        "T", "yes", "invalid_response"),
    row("newline in the key", httpx.LocalProtocolError("Illegal header value b'a\\nb'"), "P", "no", "_OTHER"),
    row("bad gzip", httpx.DecodingError("incorrect header check"), "P", "yes", "invalid_response", max_retries=1),
    row("TooManyRedirects", httpx.TooManyRedirects("20"), "P", "no", "too_many_redirects"),
    row("UnsupportedProtocol", httpx.UnsupportedProtocol("ftp"), "P", "no", "_OTHER"),
    row("InvalidURL", httpx.InvalidURL("no host"), "P", "no", "_OTHER"),
    row("proxy failure", httpx.ProxyError("502 Bad Gateway"), "T", "no", "proxy_error", **UNSENT),
    row("proxy failure 407", httpx.ProxyError("407 Proxy Authentication Required"), "P", "no", "407", **UNSENT),
    row("proxy, wrong password", httpx.ProxyError("Invalid username/password"), "P", "no", "proxy_error", **UNSENT),
    row("StreamError family: consumed", httpx.StreamConsumed(), "P", "no", "_OTHER"),
    row("StreamError family: closed", httpx.StreamClosed(), "P", "no", "_OTHER"),
    row("StreamError family: response not read", httpx.ResponseNotRead(), "P", "no", "_OTHER"),
    row("StreamError family: request not read", httpx.RequestNotRead(), "P", "no", "_OTHER"),
    row("client has been closed", RuntimeError("Cannot send a request, as the client has been closed."),
        "P", "no", "_OTHER"),
    row("different loop", RuntimeError("<Lock> is bound to a different event loop"), "P", "no", "_OTHER"),
    row("port out of range, as an overflow", OverflowError("connect(): port must be 0-65535."), "P", "no", "_OTHER"),
    row("DNS EAI_AGAIN", connect(gai("EAI_AGAIN")), "T", "yes", "name_resolution_error", **UNSENT),
    row("DNS EAI_NONAME", connect(gai("EAI_NONAME")), "P", "no", "name_resolution_error", max_retries=1, **UNSENT),
    row("DNS EAI_NODATA", connect(gai("EAI_NODATA" if hasattr(socket, "EAI_NODATA") else "EAI_NONAME")),
        "P", "no", "name_resolution_error", max_retries=1, **UNSENT),
    row("DNS EAI_FAIL", connect(gai("EAI_FAIL")), "P", "no", "name_resolution_error", **UNSENT),
    row("DNS EAI_MEMORY", connect(gai("EAI_MEMORY")), "TS", "no", "name_resolution_error", **UNSENT),
    row("DNS EAI_SYSTEM", connect(gai("EAI_SYSTEM")), "TS", "no", "name_resolution_error", **UNSENT),
    *(
        row(f"certificate verify failed: {code} {what}", connect(certificate(code)),
            "P", "no", "secure_connection_error", severity=CRITICAL, **UNSENT)
        for code, what in (
            (18, "self-signed"), (64, "address mismatch"), (62, "host name"), (10, "expired"), (9, "not yet valid"),
        )
    ),
    row("TLS wrong version", connect(ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")),
        "P", "no", "secure_connection_error", **UNSENT),
    row("TLS handshake_failure", connect(ssl.SSLError(1, "[SSL: SSLV3_ALERT_HANDSHAKE_FAILURE]")),
        "P", "no", "secure_connection_error", **UNSENT),
    row("TLS EOF during the handshake",
        connect(behind(Exception("EndOfStream"), ssl.SSLEOFError(8, "EOF"), context=True)),
        "T", "yes", "secure_connection_error", **UNSENT),
    row("TLS reset during the handshake", connect(ssl.SSLSyscallError(5, "reset")),
        "T", "yes", "secure_connection_error", **UNSENT),
    *(
        row(name, os_error(getattr(errno, name)), "T", "yes", "connection_error", **UNSENT)
        for name in ("ENETUNREACH", "EHOSTUNREACH", "ETIMEDOUT", "EPIPE")
    ),
    *(
        row(name, os_error(getattr(errno, name)), "TS", "no", "resource_exhausted", **UNSENT)
        for name in ("EMFILE", "ENFILE", "ENOMEM", "EADDRNOTAVAIL")
    ),
    *(
        row(name, os_error(getattr(errno, name)), "P", "no", "permission_denied", **UNSENT)
        for name in ("EACCES", "EPERM", "EROFS")
    ),
    row("ENOSPC", os_error(errno.ENOSPC), "TS", "no", "disk_full", **UNSENT),
    row("ConnectError with nothing behind it", httpx.ConnectError("failed"), "T", "yes", "connection_error", **UNSENT),
    row("our own file table is full while reading", chained(httpx.ReadError(""), OSError(errno.EMFILE, "files")),
        "TS", "no", "resource_exhausted"),
    row("no port of our own is free while reading", chained(httpx.ReadError(""), OSError(errno.EADDRNOTAVAIL, "ports")),
        "TS", "no", "resource_exhausted"),
    row("our own file table is full while writing", chained(httpx.WriteError(""), OSError(errno.EMFILE, "files")),
        "TS", "no", "resource_exhausted"),
    row("what a timeout interrupted is not what failed", chained(httpx.ReadTimeout(""), OSError(errno.EMFILE, "files")),
        "T", "yes", "read_timeout"),
    row("another transport's own error", httpx.TransportError("custom"), "T", "yes", "connection_error"),
    row("CookieConflict", httpx.CookieConflict("two"), "P", "no", "_OTHER"),
]  # fmt: skip


@pytest.mark.parametrize("case", ROWS)
def test_each_row(case: Row) -> None:
    check(case)


def test_a_group_of_addresses_is_as_bad_as_its_worst_member() -> None:
    members = [refused(), ExceptionGroup("inner", [OSError(errno.EMFILE, "files"), refused()])]
    verdict = classify(connect(OSError("none"), ExceptionGroup("addresses", members)))
    assert verdict.error_type == "resource_exhausted"


def test_an_earlier_attempt_that_was_being_handled_does_not_colour_a_later_one() -> None:
    first = connect(gai("EAI_NONAME"))
    second = behind(httpx.ConnectError("second attempt"), first, context=True)
    assert classify(second).error_type == "connection_error"


@pytest.mark.parametrize(
    ("request_", "idempotent"),
    [
        (None, None),
        (REQUEST, True),
        (httpx.Request("PUT", "http://supplier.test/"), True),
        (httpx.Request("POST", "http://supplier.test/"), False),
        (httpx.Request("POST", "http://supplier.test/", headers={"idempotency-key": "k"}), True),
    ],
)
def test_the_request_says_whether_it_may_be_repeated(request_: httpx.Request | None, idempotent: bool | None) -> None:
    for error in (httpx.ReadTimeout("", request=request_), httpx.ConnectError("", request=request_)):
        assert classify(error).idempotent is idempotent
        verdict = classify_httpx(error)
        assert verdict is not None
        assert verdict.idempotent is idempotent


def test_subclasses_of_httpx_errors_are_known_too() -> None:
    class MyTimeout(httpx.ReadTimeout):
        pass

    assert classify(MyTimeout("")).error_type == "read_timeout"
