"""What a protected call does on each fault of an HTTP dependency: attempts, waits, breaker, error type.

The errors are those that a real httpx client raises over a scripted transport, so that they carry their request.
"""

from __future__ import annotations

import dataclasses
import errno
import itertools
import socket
import ssl
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from otel_resilience import RetryConfig, classify
from otel_resilience.testing import FakeClock
from support.resilience import make_policy, tokens

URL = "http://supplier.test/bundles"
Answer = Callable[[httpx.Request], httpx.Response]


@dataclasses.dataclass(frozen=True)
class Expected:
    """The outcome of a persistent fault, for a GET and for a POST without an idempotency key."""

    error_type: str
    get: tuple[float, ...] = (0.05, 0.10)
    """The waits between the attempts of a GET; one attempt more than waits."""
    post: tuple[float, ...] = ()
    failures: int = 1
    """What each attempt counts as, for the breaker's failures."""


EVERY_TIME = (0.05, 0.10)
THROTTLED = (1.0, 2.0)


def raising(error: httpx.HTTPError, *causes: BaseException) -> Answer:
    """A transport that fails with ``error``, each of ``causes`` behind the one before."""

    def answer(request: httpx.Request) -> httpx.Response:
        fresh = type(error)(str(error), request=request) if isinstance(error, httpx.RequestError) else error
        node: BaseException = fresh
        for cause in causes:
            node.__cause__ = cause
            node = cause
        raise fresh

    return answer


def status(code: int, **headers: str) -> Answer:
    return lambda request: httpx.Response(code, headers={k.replace("_", "-"): v for k, v in headers.items()})


def certificate() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = 18
    return error


def fault(rows: str, name: str, answer: Answer, expected: Expected) -> Any:
    return pytest.param(answer, expected, id=f"{rows} {name}", marks=pytest.mark.fault(*rows.split()))


REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
NO_NAME = socket.gaierror(socket.EAI_NONAME, "unknown")
NAME_LATER = socket.gaierror(socket.EAI_AGAIN, "later")
CUT_SHORT = "peer closed connection without sending complete message body"
IDLE_CLOSED = "Server disconnected without sending a response."


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        fault("F01", "refused", raising(httpx.ConnectError("x"), REFUSED),
              Expected("connection_error", post=EVERY_TIME)),
        fault("F02", "no such name", raising(httpx.ConnectError("x"), NO_NAME),
              Expected("name_resolution_error", (0.05,), (0.05,), 0)),
        fault("F03", "name later", raising(httpx.ConnectError("x"), NAME_LATER),
              Expected("name_resolution_error", post=EVERY_TIME)),
        fault("F04", "certificate", raising(httpx.ConnectError("x"), certificate()),
              Expected("secure_connection_error", (), (), 0)),
        fault("F05 F06", "connect timeout", raising(httpx.ConnectTimeout("x")),
              Expected("connect_timeout", post=EVERY_TIME)),
        fault("F07", "read timeout", raising(httpx.ReadTimeout("x")), Expected("read_timeout")),
        fault("F10", "reset amid the body", raising(httpx.ReadError("x"), ConnectionResetError(errno.ECONNRESET, "x")),
              Expected("response_ended")),
        fault("F11", "closed amid the body", raising(httpx.RemoteProtocolError(CUT_SHORT)), Expected("response_ended")),
        fault("F17", "429 with a hint", status(429, Retry_After="2"), Expected("429", (2.0, 2.0), (), 0)),
        fault("F19", "429, hint of a day", status(429, Retry_After="86400"), Expected("429", (), (), 0)),
        fault("F19", "429, hint of 10^12", status(429, Retry_After="1000000000000"), Expected("429", (), (), 0)),
        fault("F19", "429, negative hint", status(429, Retry_After="-5"), Expected("429", THROTTLED, (), 0)),
        fault("F19", "429, hint in words", status(429, Retry_After="soon"), Expected("429", THROTTLED, (), 0)),
        fault("F20", "429 without a hint", status(429), Expected("429", THROTTLED, (), 0)),
        fault("F21", "503 with a hint", status(503, Retry_After="7"), Expected("503", (7.0, 7.0))),
        fault("F23", "500", status(500), Expected("500")),
        fault("F24", "400", status(400), Expected("400", (), (), 0)),
        fault("F24", "404", status(404), Expected("404", (), (), 0)),
        fault("F24", "422", status(422), Expected("422", (), (), 0)),
        fault("F25", "401", status(401), Expected("401", (), (), 0)),
        fault("F25", "403", status(403), Expected("403", (), (), 0)),
        fault("F26", "408", status(408), Expected("408")),
        fault("F26", "421", status(421), Expected("421", failures=0)),
        fault("F26", "425", status(425), Expected("425", failures=0)),
        fault("F27", "501", status(501), Expected("501", (), ())),
        fault("F27", "505", status(505), Expected("505", (), ())),
        fault("F28", "redirect loop", raising(httpx.TooManyRedirects("x")),
              Expected("too_many_redirects", (), (), 0)),
        fault("F30", "wrong encoding", raising(httpx.DecodingError("x")), Expected("invalid_response", (0.05,))),
        fault("F31", "own pool", raising(httpx.PoolTimeout("x")),
              Expected("pool_exhausted", post=EVERY_TIME, failures=0)),
    ],
)  # fmt: skip
def test_a_fault_that_persists(clock: FakeClock, method: str, answer: Answer, expected: Expected) -> None:
    policy = make_policy(clock, retry=RetryConfig(max_retry_after=3600))
    client = httpx.Client(transport=httpx.MockTransport(answer))
    sent: list[float] = []

    def operation() -> None:
        sent.append(clock())
        client.request(method, URL).raise_for_status()

    with client, pytest.raises(httpx.HTTPError) as raised:
        policy.execute(operation)

    waits = expected.get if method == "GET" else expected.post
    assert [later - before for before, later in itertools.pairwise(sent)] == pytest.approx(list(waits))
    assert classify(raised.value).error_type == expected.error_type
    assert policy.breaker is not None
    assert policy.breaker.metrics().failures == expected.failures * len(sent)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        fault("F01", "refused", raising(httpx.ConnectError("x"), REFUSED), Expected("", (0.05,))),
        fault("F03", "name later", raising(httpx.ConnectError("x"), NAME_LATER), Expected("", (0.05,))),
        fault("F07", "read timeout", raising(httpx.ReadTimeout("x")), Expected("", (0.05,))),
        fault("F12", "idle connection closed", raising(httpx.RemoteProtocolError(IDLE_CLOSED)),
              Expected("", (0.0,), failures=0)),
        fault("F17", "429 with a hint", status(429, Retry_After="2"), Expected("", (2.0,), failures=0)),
        fault("F21", "503 with a hint", status(503, Retry_After="7"), Expected("", (7.0,))),
        fault("F26", "408", status(408), Expected("", (0.05,))),
        fault("F30", "wrong encoding", raising(httpx.DecodingError("x")), Expected("", (0.05,))),
        fault("F31", "own pool", raising(httpx.PoolTimeout("x")), Expected("", (0.05,), failures=0)),
    ],
)  # fmt: skip
def test_a_fault_that_happens_once(clock: FakeClock, answer: Answer, expected: Expected) -> None:
    policy = make_policy(clock)
    sent: list[float] = []

    def once(request: httpx.Request) -> httpx.Response:
        sent.append(clock())
        return answer(request) if len(sent) == 1 else httpx.Response(200)

    def operation() -> int:
        return client.get(URL).raise_for_status().status_code

    with httpx.Client(transport=httpx.MockTransport(once)) as client:
        assert policy.execute(operation) == 200

    assert [later - before for before, later in itertools.pairwise(sent)] == pytest.approx(list(expected.get))
    assert policy.breaker is not None
    assert policy.breaker.metrics().failures == expected.failures
    assert tokens(policy) == 100
