"""What all integrations promise, each with its real client against a real server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.trace import StatusCode

from otel_resilience import (
    AttemptTimeoutError,
    CircuitBreakerConfig,
    CircuitOpenError,
    DeadlineExceededError,
    Policy,
    PolicyRegistry,
    RetryConfig,
    classify,
    remaining,
)
from otel_resilience.integrations import StatusError
from otel_resilience.integrations._http import SyncExchange
from otel_resilience.integrations.aiohttp import resilience_middleware
from otel_resilience.integrations.httpx import AsyncResilientTransport, ResilientTransport
from otel_resilience.integrations.requests import ResilientAdapter
from otel_resilience.testing import RecordedTelemetry, no_waits
from support.answering_server import AnsweringServer, Reply
from support.http_clients import ASYNC_CLIENTS, CLIENTS, AiohttpClient, AsyncHttpClient, HttpClient, RequestsClient

THREE = RetryConfig(max_attempts=3, base_delay=0.5, jitter=False)
BUSY = Reply(503, b"busy")
CHUNKED_BUSY = Reply(503, b"busy", {"Transfer-Encoding": "chunked"})
LARGE_BUSY = Reply(503, b"x" * 200_000)

CLIENT_TIMEOUTS = {"read_timeout", "connect_timeout"}

Open = Callable[..., HttpClient]


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens a client, which is closed after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda *given, **options: stack.enter_context(CLIENTS[request.param](*given, **options))


@pytest.fixture(params=ASYNC_CLIENTS)
def async_client(request: pytest.FixtureRequest) -> Iterator[Callable[..., AsyncHttpClient]]:
    with contextlib.ExitStack() as stack:
        yield lambda *given, **options: stack.enter_context(ASYNC_CLIENTS[request.param](*given, **options))


@pytest.fixture
def policy() -> Iterator[Policy]:
    """Three attempts, without waits."""
    policy = Policy("api", retry=THREE, breaker=CircuitBreakerConfig(failure_threshold=20))
    with no_waits(policy) as policy.waits:  # type: ignore[attr-defined]  # for the tests of this file
        yield policy


def waits(policy: Policy) -> list[float]:
    return policy.waits  # type: ignore[attr-defined,no-any-return]


@pytest.mark.fault("L21")
def test_a_flaky_503_is_repeated(client: Open, policy: Policy, server: AnsweringServer) -> None:
    server.replies += [BUSY, BUSY]
    answer = client(policy).send("GET", server.url)
    assert (answer.status, answer.body, len(server.arrived)) == (200, b"ok", 3)
    assert waits(policy) == [0.5, 1.0]


@pytest.mark.parametrize("busy", [BUSY, CHUNKED_BUSY, LARGE_BUSY], ids=["small", "chunked", "large"])
def test_a_503_that_stays_is_the_callers(client: Open, policy: Policy, server: AnsweringServer, busy: Reply) -> None:
    server.replies += [busy] * 3
    answer = client(policy).send("GET", server.url)
    assert (answer.status, answer.body, len(server.arrived)) == (503, busy.body, 3)


@pytest.mark.parametrize("busy", [BUSY, CHUNKED_BUSY, LARGE_BUSY], ids=["small", "chunked", "large"])
def test_it_can_be_streamed(client: Open, policy: Policy, server: AnsweringServer, busy: Reply) -> None:
    server.replies += [busy] * 3
    opened = client(policy)
    answer = opened.stream(server.url)
    assert (answer.status, answer.body) == (503, busy.body)
    server.replies += [busy, Reply(200, b"y" * 300_000)]
    assert opened.stream(server.url).body == b"y" * 300_000


def test_a_retry_uses_the_same_connection(client: Open, policy: Policy, server: AnsweringServer) -> None:
    opened = client(policy)
    for _ in range(3):
        server.replies += [BUSY, Reply(503, b"", {"Retry-After": "0"})]
        assert opened.send("GET", server.url).status == 200
    assert (len(server.arrived), server.connections) == (9, 1)


def test_a_discarded_answer_is_closed(client: Open, policy: Policy, server: AnsweringServer) -> None:
    """A large one is not read to its end: its connection is closed, and nothing is left to the garbage collector,
    which would warn of it."""
    server.replies += [LARGE_BUSY, CHUNKED_BUSY]
    assert client(policy).send("GET", server.url).status == 200
    gc.collect()


def test_retry_after_is_honoured(client: Open, policy: Policy, server: AnsweringServer) -> None:
    server.replies += [Reply(503, headers={"Retry-After": "7"}), Reply(429, headers={"Retry-After": "3"})]
    assert client(policy).send("GET", server.url).status == 200
    assert waits(policy) == [pytest.approx(7, rel=0.3), pytest.approx(3, rel=0.3)]
    assert waits(policy)[0] >= 7


@pytest.mark.fault("L21")
def test_404_is_an_answer(client: Open, server: AnsweringServer, recorded: RecordedTelemetry) -> None:
    policy = Policy("api", retry=THREE, breaker=CircuitBreakerConfig(failure_threshold=2))
    server.replies += [Reply(404, b"none")] * 5
    opened = client(policy)
    assert [opened.send("GET", server.url).status for _ in range(5)] == [404] * 5
    assert policy.breaker is not None
    assert policy.breaker.state.name == "CLOSED"
    assert len(server.arrived) == 5
    call = recorded.spans[-1]
    assert call.attributes is not None
    assert (call.attributes["resilience.outcome"], call.attributes["error.type"]) == ("failed", "404")
    severities = {each.attributes["resilience.error.severity"] for each in recorded.points("resilience.errors")}
    assert severities == {"LOW"}


@pytest.mark.parametrize("attempt_timeout", [None, 20])
def test_503s_open_the_circuit(client: Open, server: AnsweringServer, attempt_timeout: float | None) -> None:
    breaker = CircuitBreakerConfig(failure_threshold=2, reset_timeout=60)
    policy = Policy("api", breaker=breaker, attempt_timeout=attempt_timeout)
    opened = client(policy)
    server.replies += [BUSY] * 2
    assert [opened.send("GET", server.url).status for _ in range(2)] == [503, 503]
    with pytest.raises(CircuitOpenError) as rejection:
        opened.send("GET", server.url)
    assert policy.breaker is not None
    assert policy.breaker.state.name == "OPEN"
    assert rejection.value.dependency == "api"
    assert rejection.value.retry_after
    assert len(server.arrived) == 2


def test_a_circuit_that_opens_between_attempts_leaves_the_caller_the_answer(
    client: Open, server: AnsweringServer
) -> None:
    policy = Policy("api", retry=THREE, breaker=CircuitBreakerConfig(failure_threshold=2))
    server.replies += [BUSY] * 5
    with no_waits(policy):
        answer = client(policy).send("GET", server.url)
    assert (answer.status, answer.body, len(server.arrived)) == (503, b"busy", 2)


@pytest.mark.parametrize(
    ("method", "headers", "sent"),
    [
        ("POST", {}, 1),
        ("POST", {"Idempotency-Key": "k1"}, 3),
        ("PUT", {}, 3),
        ("DELETE", {}, 3),
    ],
)
def test_method_and_key_decide(
    client: Open, policy: Policy, server: AnsweringServer, method: str, headers: dict[str, str], sent: int
) -> None:
    server.replies += [BUSY] * 3
    assert client(policy).send(method, server.url, headers=headers, data=b"order").status == 503
    assert server.methods == [method] * sent
    assert {each.body for each in server.arrived} == {b"order"}


@pytest.mark.parametrize(("idempotent", "sent"), [(True, 3), (False, 1)])
def test_what_the_policy_declares_holds(client: Open, server: AnsweringServer, idempotent: bool, sent: int) -> None:
    policy = Policy("api", retry=THREE, idempotent=idempotent)
    server.replies += [BUSY] * 3
    with no_waits(policy):
        client(policy).send("POST", server.url, data=b"order")
    assert len(server.arrived) == sent


def test_a_body_that_can_be_read_once_is_sent_once(client: Open, server: AnsweringServer) -> None:
    policy = Policy("api", retry=THREE, idempotent=True)
    server.replies += [BUSY] * 3
    with no_waits(policy):
        answer = client(policy).send("PUT", server.url, chunks=[b"one", b"two"])
    assert (answer.status, len(server.arrived), server.arrived[0].body) == (503, 1, b"onetwo")


def test_a_refused_connection_is_repeated_whatever_is_sent(client: Open, policy: Policy) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        with pytest.raises(Exception) as refused:  # noqa: PT011  # each client has its own
            client(policy).send("POST", f"http://127.0.0.1:{holder.getsockname()[1]}", chunks=[b"one"])
    assert len(waits(policy)) == 2
    assert classify(refused.value).unsent


def test_the_attempt_timeout_is_the_clients(client: Open, server: AnsweringServer) -> None:
    policy = Policy("api", retry=RetryConfig(max_attempts=2), attempt_timeout=0.2)
    server.replies += [Reply(hangs=True)] * 2
    opened = client(policy)
    with no_waits(policy) as waits, pytest.raises(Exception) as late:  # noqa: PT011
        opened.send("GET", server.url)
    assert isinstance(late.value, AttemptTimeoutError) != opened.cuts_itself
    assert classify(late.value).error_type in (CLIENT_TIMEOUTS if opened.cuts_itself else {"attempt_timeout"})
    assert len(waits) == 1


def test_a_post_that_was_cut_is_not_repeated(client: Open, server: AnsweringServer) -> None:
    policy = Policy("api", retry=THREE, attempt_timeout=0.4)
    server.replies += [Reply(hangs=True)]
    opened = client(policy)
    with no_waits(policy) as waits, pytest.raises(Exception):  # noqa: B017,PT011
        opened.send("POST", server.url, data=b"order")
    assert not waits


def test_the_deadline_is_the_clients_timeout(client: Open, server: AnsweringServer) -> None:
    policy = Policy("api", retry=THREE, deadline=0.3, attempt_timeout=0.3)
    server.replies += [Reply(hangs=True)] * 3
    with no_waits(policy), pytest.raises(Exception) as late:  # noqa: PT011
        client(policy).send("GET", server.url)
    assert classify(late.value).error_type in CLIENT_TIMEOUTS | {"deadline_exceeded"}
    assert len(server.arrived) <= 1


def test_the_deadline_of_an_enclosing_call_holds(client: Open, policy: Policy, server: AnsweringServer) -> None:
    server.replies += [Reply(hangs=True)] * 3
    opened = client(policy)
    whole = Policy("order", deadline=0.3)
    if isinstance(opened, AsyncHttpClient):
        asynchronous = opened

        def send() -> Any:
            async def operation() -> Any:
                assert remaining() is not None
                return await asynchronous.asend("GET", server.url)

            return asynchronous.runner.run(whole.execute(operation))
    else:

        def send() -> Any:
            return whole.execute(lambda: opened.send("GET", server.url))

    with pytest.raises(Exception) as late:  # noqa: PT011
        send()
    assert classify(late.value).error_type in CLIENT_TIMEOUTS | {"deadline_exceeded"}
    assert len(server.arrived) <= 1


def test_its_own_shorter_timeout_stays(client: Open, server: AnsweringServer) -> None:
    policy = Policy("api", attempt_timeout=100, deadline=100)
    server.replies += [Reply(hangs=True)]
    with pytest.raises(Exception) as late:  # noqa: PT011
        client(policy, timeout=0.2).send("GET", server.url)
    assert not isinstance(late.value, (AttemptTimeoutError, DeadlineExceededError))


def test_no_thread_is_used(client: Open, server: AnsweringServer) -> None:
    policy = Policy("api", attempt_timeout=30, deadline=60)
    opened = client(policy)
    opened.send("GET", server.url)
    assert not [each.name for each in threading.enumerate() if each.name.startswith("attempt")]


def test_cancellation_passes(async_client: Callable[..., AsyncHttpClient], server: AnsweringServer) -> None:
    opened = async_client(Policy("api", retry=THREE, breaker=CircuitBreakerConfig()))
    server.replies += [Reply(hangs=True)]

    async def cancelled() -> None:
        task = asyncio.ensure_future(opened.asend("GET", server.url))
        while not server.arrived:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    opened.runner.run(cancelled())
    assert len(server.arrived) == 1


def test_cancelled_between_attempts(async_client: Callable[..., AsyncHttpClient], server: AnsweringServer) -> None:
    """The answer in hand is closed."""
    waiting = asyncio.Event()

    async def wait(_: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    opened = async_client(Policy("api", retry=THREE, async_sleep=wait))
    server.replies += [LARGE_BUSY]

    async def cancelled() -> None:
        task = asyncio.ensure_future(opened.asend("GET", server.url))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    opened.runner.run(cancelled())
    gc.collect()
    assert len(server.arrived) == 1


def test_a_policy_for_each_host(client: Open, server: AnsweringServer) -> None:
    made: dict[str, Policy] = {}

    class ByHost(dict[str, Policy]):
        def __missing__(self, host: str) -> Policy:
            made[host] = self[host] = Policy(host, breaker=CircuitBreakerConfig(failure_threshold=1))
            return made[host]

    opened = client(ByHost())
    server.replies += [BUSY]
    assert opened.send("GET", server.url).status == 503
    with pytest.raises(CircuitOpenError):
        opened.send("GET", server.url)
    elsewhere = server.url.replace("127.0.0.1", "localhost")
    assert opened.send("GET", elsewhere).status == 200
    assert list(made) == ["127.0.0.1", "localhost"]


def test_a_host_that_is_not_there(client: Open, server: AnsweringServer) -> None:
    with pytest.raises(KeyError, match=r"127\.0\.0\.1"):
        client({"api.example.com": Policy("api")}).send("GET", server.url)
    assert not server.arrived


def test_a_redirect_is_followed(client: Open, policy: Policy, server: AnsweringServer) -> None:
    server.replies += [Reply(302, headers={"Location": "/new"}), BUSY]
    follows = isinstance(client(policy), (RequestsClient, AiohttpClient))
    options = {} if follows else {"follow_redirects": True}
    assert client(policy).send("GET", server.url + "/old", **options).status == 200
    assert [each.path for each in server.arrived] == ["/old", "/new", "/new"]


def test_a_challenge_is_not_a_failure(client: Open, policy: Policy, server: AnsweringServer) -> None:
    """The first step of Digest, Negotiate, NTLM: the client goes on from there. Any other is a refused credential."""
    opened = client(policy)
    digest = Reply(401, headers={"WWW-Authenticate": 'Digest realm="r", nonce="n"'})
    basic = Reply(401, headers={"WWW-Authenticate": 'Basic realm="r"'})
    with RecordedTelemetry().recording() as recorded:
        server.replies += [digest, digest, basic]
        assert opened.send("GET", server.url).status == 401
        assert not recorded.points("resilience.errors")
        assert opened.send("GET", server.url, headers={"Authorization": "Digest x"}).status == 401
        assert opened.send("GET", server.url).status == 401
        (errors,) = recorded.points("resilience.errors")
    assert (errors.value, errors.attributes["error.type"]) == (2, "401")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_operations_are_named_after_methods(
    client: Open, policy: Policy, server: AnsweringServer, recorded: RecordedTelemetry, method: str
) -> None:
    server.replies += [BUSY]
    client(policy).send(method, server.url + "/bundles/small")
    names = [span.name for span in recorded.spans]
    assert names == ["attempt", "attempt", f"api {method}"]
    failed, ended = recorded.spans[0], recorded.spans[-1]
    assert failed.attributes is not None
    assert ended.attributes is not None
    assert (failed.attributes["error.type"], failed.status.status_code) == ("503", StatusCode.ERROR)
    assert ended.attributes["resilience.outcome"] == "ok_after_retry"


def test_hooks_and_predicates_see_the_answer(client: Open, server: AnsweringServer) -> None:
    """A rule of the policy's classifier decides before the status."""
    from otel_resilience import Classification, ErrorClass, Severity, default_classifier

    def teapot(error: BaseException) -> Classification | None:
        if isinstance(error, StatusError) and error.classification.error_type == "418":
            return Classification(ErrorClass.TRANSIENT, Severity.LOW, "418")
        return None

    policy = Policy("api", retry=THREE, classifier=default_classifier().extended(teapot))
    server.replies += [Reply(418)]
    with no_waits(policy):
        assert client(policy).send("GET", server.url).status == 200
    assert len(server.arrived) == 2


def test_a_connection_that_the_server_closed_is_repeated(client: Open, policy: Policy, server: AnsweringServer) -> None:
    server.replies += [Reply(None)]
    assert client(policy).send("GET", server.url).status == 200
    assert len(server.arrived) == 2


def test_a_server_that_always_closes_the_connection(client: Open, policy: Policy, server: AnsweringServer) -> None:
    """aiohttp itself makes such a request twice, each time a protected call."""
    server.replies += [Reply(None)] * 9
    opened = client(policy)
    with pytest.raises(Exception) as ended:  # noqa: PT011
        opened.send("GET", server.url)
    assert classify(ended.value).error_type == "response_ended"
    assert len(server.arrived) == (6 if isinstance(opened, AiohttpClient) else 3)


@pytest.mark.parametrize("wrong", [None, 3, Policy, "https://api"])
@pytest.mark.parametrize(
    "integration", [ResilientTransport, AsyncResilientTransport, ResilientAdapter, resilience_middleware]
)
def test_what_is_not_a_policy_is_refused(integration: Callable[[Any], object], wrong: object) -> None:
    with pytest.raises(TypeError, match="policy must be a Policy, or policies by host"):
        integration(wrong)


class FakeAnswer:
    """One that says whether it was closed."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.closed = False

    def close(self) -> None:
        self.closed = True


def exchanged(call: Callable[[SyncExchange[FakeAnswer]], FakeAnswer]) -> FakeAnswer:
    exchange = SyncExchange({}, FakeAnswer.close)
    return exchange.run(lambda: call(exchange))


def test_what_a_fallback_returns_is_the_callers() -> None:
    """Also where that is the answer itself, or something else: then the answer is closed."""
    refused, other = FakeAnswer(503), FakeAnswer(200)

    def fallback(exchange: SyncExchange[FakeAnswer]) -> FakeAnswer:
        error = exchange.judge(refused, 503, {})
        assert error is not None
        return error.response  # type: ignore[no-any-return]  # a FakeAnswer

    assert exchanged(fallback) is refused
    assert not refused.closed

    def replaced(exchange: SyncExchange[FakeAnswer]) -> FakeAnswer:
        exchange.judge(refused, 503, {})
        return other

    assert exchanged(replaced) is other
    assert refused.closed


def test_answers_of_attempts_that_overlap() -> None:
    """The one that is the call's is the caller's, whichever came last; the others are closed."""
    answers = [FakeAnswer(503), FakeAnswer(503), FakeAnswer(200)]

    def first_fails(exchange: SyncExchange[FakeAnswer]) -> FakeAnswer:
        errors = [exchange.judge(each, each.status, {}) for each in answers]
        assert errors[0] is not None
        raise errors[0]

    assert exchanged(first_fails) is answers[0]
    assert [each.closed for each in answers] == [False, True, True]


def test_a_result_that_the_policy_repeats_is_closed() -> None:
    """By its ``retry_result``: the answer was none of an error."""
    answers = [FakeAnswer(200), FakeAnswer(200)]

    def call(exchange: SyncExchange[FakeAnswer]) -> FakeAnswer:
        for each in answers:
            exchange.begin_attempt()
            assert exchange.judge(each, each.status, {}) is None
        return answers[-1]

    assert exchanged(call) is answers[1]
    assert [each.closed for each in answers] == [True, False]


def test_a_registry_of_policies(client: Open, server: AnsweringServer) -> None:
    policies = PolicyRegistry(lambda host: Policy(f"api {host}", retry=THREE))
    server.replies += [BUSY]
    with no_waits():
        assert client(policies).send("GET", server.url).status == 200
    assert policies["127.0.0.1"].dependency == "api 127.0.0.1"
    assert len(policies) == 1


def test_a_fallback_is_given_the_answer(client: Open, server: AnsweringServer) -> None:
    """What it returns is what the client gets: an answer, or the one that there is."""
    seen: list[Any] = []

    def last_known(error: BaseException) -> Any:
        seen.append(error)
        assert isinstance(error, StatusError)
        return error.response

    policy = Policy("api", fallback=last_known)
    server.replies += [BUSY]
    answer = client(policy).send("GET", server.url)
    assert (answer.status, answer.body) == (503, b"busy")
    assert [str(error) for error in seen] == ["HTTP status 503"]


def test_a_hedged_request(async_client: Callable[..., AsyncHttpClient], server: AnsweringServer) -> None:
    """The second attempt answers while the first one hangs; both are requests of their own."""
    policy = Policy("api", retry=THREE, hedge_after=0.1, idempotent=True)
    server.replies += [Reply(hangs=True), Reply(body=b"hedged")]
    assert async_client(policy).send("GET", server.url).body == b"hedged"
    assert server.methods == ["GET", "GET"]
