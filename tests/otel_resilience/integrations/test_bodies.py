"""Attempts that include the body: ``max_body_bytes`` and ``judge``, each with its real client and a real server."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import gzip
import zlib
from collections.abc import Callable, Iterator

import httpx
import pytest
import requests

from otel_resilience import (
    AttemptTimeoutError,
    CircuitBreakerConfig,
    CircuitOpenError,
    Classification,
    DeadlineExceededError,
    ErrorClass,
    Policy,
    RateLimit,
    RetryConfig,
    Severity,
    classify,
)
from otel_resilience.errors import error_context
from otel_resilience.integrations import BodyEncodingError, BodyError, BodyTooLargeError
from otel_resilience.integrations.aiohttp import resilience_middleware
from otel_resilience.integrations.httpx import AsyncResilientTransport, ResilientTransport
from otel_resilience.integrations.requests import ResilientAdapter, ResilientSession
from otel_resilience.testing import FakeClock, RecordedTelemetry, no_waits
from support.answering_server import AnsweringServer, Reply
from support.http_clients import ASYNC_CLIENTS, CLIENTS, AiohttpClient, Answer, AsyncHttpClient, HttpClient

LIMIT = 50_000
THREE = RetryConfig(max_attempts=3, base_delay=0.5, jitter=False)
CUT = Reply(body=b"x" * 1000, cut=10)
CHUNKED = {"Transfer-Encoding": "chunked"}
GZIP = {"Content-Encoding": "gzip"}
DRIP = Reply(body=b"x" * 10_000, drips=True)
LATE = {"attempt_timeout", "deadline_exceeded", "read_timeout", "connect_timeout"}
"""On a busy machine the time may be up before the headers are there."""

Open = Callable[..., HttpClient]


class NotReadyError(Exception):
    """What a server says with status 200."""

    classification = Classification(ErrorClass.TRANSIENT, Severity.MEDIUM, "not_ready")


def not_ready(answer: Answer) -> None:
    if answer.body == b"not ready":
        raise NotReadyError


@contextlib.contextmanager
def opening(kind: Callable[..., HttpClient]) -> Iterator[Open]:
    """Opens clients that read bodies within the attempt, and closes them."""
    with contextlib.ExitStack() as stack:
        yield lambda policy, **options: stack.enter_context(kind(policy, max_body_bytes=LIMIT, **options))


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens a client."""
    with opening(CLIENTS[request.param]) as opened:
        yield opened


@pytest.fixture(params=[name for name in CLIENTS if name != "aiohttp"])
def undecoded(request: pytest.FixtureRequest) -> Iterator[Open]:
    """As ``client``. aiohttp decodes bodies itself, with errors of its own."""
    with opening(CLIENTS[request.param]) as opened:
        yield opened


@pytest.fixture(params=ASYNC_CLIENTS)
def async_client(request: pytest.FixtureRequest) -> Iterator[Callable[..., AsyncHttpClient]]:
    with contextlib.ExitStack() as stack:
        yield lambda policy: stack.enter_context(ASYNC_CLIENTS[request.param](policy, max_body_bytes=LIMIT))


@pytest.fixture
def policy() -> Iterator[Policy]:
    """Three attempts, without waits."""
    policy = Policy("api", retry=THREE, breaker=CircuitBreakerConfig(failure_threshold=20))
    with no_waits(policy):
        yield policy


def test_a_body_that_breaks_off_is_repeated(client: Open, policy: Policy, server: AnsweringServer) -> None:
    server.replies += [CUT, CUT, Reply(body=b"whole")]
    assert client(policy).send("GET", server.url).body == b"whole"
    assert len(server.arrived) == 3


def test_one_that_always_breaks_off_is_the_clients_own_error(
    client: Open, policy: Policy, server: AnsweringServer
) -> None:
    server.replies += [CUT] * 3
    with pytest.raises(Exception) as ended:  # noqa: PT011  # each client has its own
        client(policy).send("GET", server.url)
    assert not isinstance(ended.value, BodyError)
    assert classify(ended.value).error_class is ErrorClass.TRANSIENT
    assert len(server.arrived) == 3


@pytest.mark.parametrize("status", [200, 503])
def test_a_body_that_drips_ends_with_the_attempt(client: Open, server: AnsweringServer, status: int) -> None:
    """Each byte is in time for the client; the whole body would take minutes. Half an answer is nobody's."""
    policy = Policy("api", retry=RetryConfig(max_attempts=2), attempt_timeout=0.5)
    server.replies += [dataclasses.replace(DRIP, status=status)] * 2
    with no_waits(policy) as waits, pytest.raises(Exception) as late:  # noqa: PT011
        client(policy).send("GET", server.url)
    assert classify(late.value).error_type in LATE - {"deadline_exceeded"}
    assert len(waits) == 1


def test_a_body_that_drips_ends_with_the_deadline(client: Open, server: AnsweringServer) -> None:
    policy = Policy("api", retry=THREE, deadline=0.5)
    server.replies += [DRIP] * 3
    with no_waits(policy), pytest.raises(Exception) as late:  # noqa: PT011
        client(policy).send("GET", server.url)
    assert classify(late.value).error_type in LATE


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(body=b"x" * (LIMIT + 1)), id="announced"),
        pytest.param(Reply(body=b"x" * (LIMIT + 1), headers=CHUNKED), id="chunked"),
        pytest.param(Reply(body=gzip.compress(b"\0" * 30_000_000), headers=GZIP), id="gzip_bomb"),
        pytest.param(Reply(body=gzip.compress(b"x" * LIMIT + b"y"), headers=GZIP), id="one_byte"),
    ],
)
def test_one_that_is_too_large_is_refused(client: Open, policy: Policy, server: AnsweringServer, reply: Reply) -> None:
    server.replies += [reply]
    opened = client(policy)
    with pytest.raises(BodyTooLargeError, match=f"larger than {LIMIT} bytes") as refused:
        opened.send("GET", server.url)
    assert refused.value.limit == LIMIT
    assert classify(refused.value).error_type == "payload_too_large"
    assert classify(refused.value).counts
    assert opened.send("GET", server.url).body == b"ok"
    assert len(server.arrived) == 2


@pytest.mark.parametrize("headers", [{}, CHUNKED], ids=["announced", "chunked"])
@pytest.mark.parametrize("size", [LIMIT, 0])
def test_a_body_at_the_limit(
    client: Open, policy: Policy, server: AnsweringServer, size: int, headers: dict[str, str]
) -> None:
    server.replies += [Reply(body=b"x" * size, headers=headers if size else {})] * 2
    opened = client(policy)
    assert opened.send("GET", server.url).body == b"x" * size
    assert opened.stream(server.url).body == b"x" * size
    assert server.connections == 1


def raw_deflate(body: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(body) + compressor.flush()


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", raw_deflate), ("identity", bytes)],
    ids=["gzip", "zlib", "deflate", "identity"],
)
def test_encoded_bodies(
    client: Open, policy: Policy, server: AnsweringServer, encoding: str, encode: Callable[[bytes], bytes]
) -> None:
    body = b"0123456789" * 4000
    server.replies += [Reply(body=encode(body), headers={"Content-Encoding": encoding})] * 2
    opened = client(policy, judge=lambda answer: seen.append(answer.body))
    seen: list[bytes] = []
    assert opened.send("GET", server.url).body == body
    assert opened.stream(server.url).body == body
    assert seen == [body, body]


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(body=b"plain text", headers=GZIP), id="not_gzip"),
        pytest.param(Reply(body=gzip.compress(b"x" * 1000)[:-10], headers=GZIP), id="ends_early"),
        pytest.param(Reply(body=b"x", headers={"Content-Encoding": "br"}), id="not_asked_for"),
    ],
)
def test_one_that_is_wrongly_encoded_is_asked_for_once_more(
    undecoded: Open, policy: Policy, server: AnsweringServer, reply: Reply
) -> None:
    server.replies += [reply] * 3
    with pytest.raises(BodyEncodingError) as refused:
        undecoded(policy).send("GET", server.url)
    assert classify(refused.value).error_type == "invalid_response"
    assert len(server.arrived) == 2


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(500, b"x" * 200_000), id="announced"),
        pytest.param(Reply(500, b"x" * 200_000, CHUNKED), id="chunked"),
        pytest.param(Reply(500, gzip.compress(b"x" * 30_000_000), GZIP), id="gzip_bomb"),
    ],
)
def test_the_body_of_an_error_is_cut(client: Open, server: AnsweringServer, reply: Reply) -> None:
    server.replies += [reply]
    opened = client(Policy("api"))
    answer = opened.send("GET", server.url)
    assert (answer.status, answer.body) == (500, b"x" * LIMIT)
    assert opened.send("GET", server.url).body == b"ok"


def test_an_error_that_is_wrongly_encoded_keeps_its_status(undecoded: Open, server: AnsweringServer) -> None:
    server.replies += [Reply(404, b"plain text", GZIP)]
    assert undecoded(Policy("api")).send("GET", server.url).status == 404


def test_200_with_an_error_body_is_repeated(client: Open, policy: Policy, server: AnsweringServer) -> None:
    server.replies += [Reply(body=b"not ready"), Reply(503), Reply(body=b"ready")]
    with RecordedTelemetry().recording() as recorded:
        assert client(policy, judge=not_ready).send("GET", server.url).body == b"ready"
    attempts = [span.attributes or {} for span in recorded.spans if span.name == "attempt"]
    assert [each.get("error.type") for each in attempts] == ["not_ready", "503", None]
    assert server.connections == 1


def test_what_stays_is_the_callers(client: Open, policy: Policy, server: AnsweringServer) -> None:
    server.replies += [Reply(503), Reply(body=b"not ready"), Reply(body=b"not ready")]
    with pytest.raises(NotReadyError) as last:
        client(policy, judge=not_ready).send("GET", server.url)
    context = error_context(last.value)
    assert context is not None
    assert (context.attempts, context.dependency) == (3, "api")


def test_a_judge_sees_every_status_and_leaves_it_to_the_rules(
    client: Open, policy: Policy, server: AnsweringServer
) -> None:
    seen: list[int] = []
    server.replies += [Reply(503), Reply(404, b"none")]
    answer = client(policy, judge=lambda answer: seen.append(answer.status)).send("GET", server.url)
    assert (answer.status, answer.body) == (404, b"none")
    assert seen == [503, 404]


def test_a_circuit_that_opens_after_a_judged_answer(client: Open, server: AnsweringServer) -> None:
    """The answer was refused: the caller does not get it."""

    class CountedError(NotReadyError):
        classification = NotReadyError.classification.replace(breaker=classify(httpx.ReadTimeout("")).breaker)

    def refuse_counted(_: Answer) -> None:
        raise CountedError

    server.replies += [Reply(503)] * 5
    policy = Policy("api", retry=THREE, breaker=CircuitBreakerConfig(failure_threshold=2))
    with no_waits(policy), pytest.raises(CircuitOpenError) as rejection:
        client(policy, judge=refuse_counted).send("GET", server.url)
    assert isinstance(rejection.value.__cause__, CountedError)
    assert rejection.value.attempts == 2


def test_a_judges_refusal_can_be_replaced(client: Open, server: AnsweringServer) -> None:
    """By a fallback, which here raises something else."""
    seen: list[BaseException] = []

    def other(error: BaseException) -> None:
        seen.append(error)
        raise LookupError("other")

    server.replies += [Reply(body=b"not ready")]
    with pytest.raises(LookupError):
        client(Policy("api", fallback=other), judge=not_ready).send("GET", server.url)
    assert [type(each) for each in seen] == [NotReadyError]


def test_a_judge_may_take_an_error_for_a_good_answer(client: Open, policy: Policy, server: AnsweringServer) -> None:
    server.replies += [Reply(503), Reply(404, b"none")]
    with RecordedTelemetry().recording() as recorded:
        answer = client(policy, judge=lambda answer: answer.status == 404).send("GET", server.url)
    assert (answer.status, answer.body) == (404, b"none")
    outcomes = [(span.attributes or {}).get("resilience.outcome") for span in recorded.spans]
    assert [each for each in outcomes if each] == ["ok_after_retry"]


def test_head_has_no_body(client: Open, policy: Policy, server: AnsweringServer) -> None:
    server.replies += [Reply(body=b"x" * (LIMIT + 1), headers=GZIP)]
    assert client(policy).send("HEAD", server.url).status == 200


def test_only_what_can_be_bounded_is_asked_for(client: Open, policy: Policy, server: AnsweringServer) -> None:
    opened = client(policy)
    for accepted in ("gzip, deflate, br, zstd", "br", "gzip;q=0.5, identity"):
        opened.send("GET", server.url, headers={"Accept-Encoding": accepted})
    sent = [each.headers["accept-encoding"] for each in server.arrived]
    if isinstance(opened, AiohttpClient):
        assert sent[1] == "br"  # aiohttp decodes what it asks for
    else:
        assert sent == ["gzip, deflate", "identity", "gzip;q=0.5, identity"]


def test_cancelled_while_the_body_comes(async_client: Callable[..., AsyncHttpClient], server: AnsweringServer) -> None:
    """The connection is closed, and the client goes on."""
    opened = async_client(Policy("api", retry=THREE))
    server.replies += [DRIP]

    async def cancelled() -> bytes:
        task = asyncio.ensure_future(opened.asend("GET", server.url))
        while not server.arrived:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return (await opened.asend("GET", server.url)).body

    assert opened.runner.run(cancelled()) == b"ok"
    gc.collect()
    assert len(server.arrived) == 2


INTEGRATIONS: list[Callable[..., object]] = [
    ResilientTransport,
    AsyncResilientTransport,
    ResilientAdapter,
    resilience_middleware,
]


@pytest.mark.parametrize("integration", INTEGRATIONS)
def test_wrong_parameters_are_named(integration: Callable[..., object]) -> None:
    with pytest.raises(TypeError, match="judge needs max_body_bytes"):
        integration(Policy("api"), judge=not_ready)
    with pytest.raises(TypeError, match="judge must be a function"):
        integration(Policy("api"), max_body_bytes=1, judge="json")
    with pytest.raises(ValueError, match="max_body_bytes must be at least 1"):
        integration(Policy("api"), max_body_bytes=0)


@pytest.mark.parametrize("integration", INTEGRATIONS)
def test_functions_that_do_not_take_one_request_or_answer_are_refused(integration: Callable[..., object]) -> None:
    with pytest.raises(TypeError, match="name must take one request as its only argument"):
        integration(Policy("api"), name=lambda: "list plans")
    with pytest.raises(TypeError, match="judge must take one answer as its only argument"):
        integration(Policy("api"), max_body_bytes=1, judge=lambda request, response: None)


@pytest.mark.parametrize("integration", [ResilientTransport, ResilientAdapter, ResilientSession])
def test_an_async_judge_of_a_def_client_is_refused(integration: Callable[..., object], server: AnsweringServer) -> None:
    async def judge(_: object) -> None: ...

    with pytest.raises(TypeError, match="judge must be a def function"):
        integration(Policy("api"), max_body_bytes=LIMIT, judge=judge)

    transport = ResilientTransport(Policy("api"), max_body_bytes=LIMIT, judge=lambda answer: judge(answer))
    with httpx.Client(transport=transport) as client, pytest.raises(TypeError, match="judge must be a def function"):
        client.get(server.url)


@pytest.mark.parametrize(
    ("integration", "other"),
    [(ResilientTransport, httpx.AsyncHTTPTransport), (AsyncResilientTransport, httpx.HTTPTransport)],
)
def test_a_transport_of_the_other_kind_is_refused(
    integration: Callable[..., object], other: Callable[[], object]
) -> None:
    with pytest.raises(TypeError, match="transport must have the method handle_"):
        integration(Policy("api"), other())
    with pytest.raises(TypeError, match=r"transport must be an object, not the class (Async)?HTTPTransport"):
        integration(Policy("api"), other)


class Slow(httpx.SyncByteStream):
    """A body of three pieces, each some seconds after the other."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(3):
            self.clock.advance(4)
            yield b"x"

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("limits", "error"),
    [({"attempt_timeout": 7}, AttemptTimeoutError), ({"deadline": 7}, DeadlineExceededError), ({"deadline": 20}, None)],
)
def test_the_time_of_a_def_is_checked_with_each_piece(limits: dict[str, float], error: type[Exception] | None) -> None:
    clock = FakeClock()
    policy = Policy("api", clock=clock, sleep=clock.sleep, **limits)  # type: ignore[arg-type]  # seconds
    stream = Slow(clock)
    inner = httpx.MockTransport(lambda _: httpx.Response(200, stream=stream))
    with httpx.Client(transport=ResilientTransport(policy, inner, max_body_bytes=LIMIT)) as client:
        if error is None:
            assert client.get("http://api.test/").content == b"xxx"
        else:
            with pytest.raises(error):
                client.get("http://api.test/")
    assert stream.closed


def test_an_endless_encoding_of_nothing_ends() -> None:
    """Stored blocks of no bytes decode to nothing, however many there are."""
    sent = 0

    def empty_blocks() -> Iterator[bytes]:
        nonlocal sent
        yield gzip.compress(b"")[:10]
        while True:
            sent += 1
            yield b"\0\0\0\xff\xff" * 10_000

    inner = httpx.MockTransport(lambda _: httpx.Response(200, headers=GZIP, content=empty_blocks()))
    with (
        httpx.Client(transport=ResilientTransport(Policy("api"), inner, max_body_bytes=LIMIT)) as client,
        pytest.raises(BodyTooLargeError),
    ):
        client.get("http://api.test/")
    assert sent < 10


def test_cookies_and_elapsed_time_stay(server: AnsweringServer) -> None:
    server.replies += [Reply(headers={"Set-Cookie": "a=1"})] * 2
    with requests.Session() as session:
        session.mount("http://", ResilientAdapter(Policy("api"), max_body_bytes=LIMIT))
        assert session.get(server.url).elapsed.total_seconds() > 0
        assert session.cookies["a"] == "1"
    with httpx.Client(transport=ResilientTransport(Policy("api"), max_body_bytes=LIMIT)) as client:
        assert client.get(server.url).elapsed.total_seconds() > 0
        assert client.cookies["a"] == "1"


def test_permits_and_deadline_of_a_request() -> None:
    clock = FakeClock()
    policy = Policy("api", rate_limit=RateLimit(4, margin=0), deadline=60, clock=clock, sleep=clock.sleep)
    inner = httpx.MockTransport(lambda _: httpx.Response(200))
    transport = ResilientTransport(policy, inner, permits=lambda request: int(request.headers["cost"]))
    with httpx.Client(transport=transport) as client:
        began = clock()
        for cost in ("3", "3"):
            client.get("http://api.test/", headers={"cost": cost})
        assert clock() - began == pytest.approx(1)
        with pytest.raises(DeadlineExceededError):
            client.get("http://api.test/", headers={"cost": "1"}, extensions={"deadline": 0})
