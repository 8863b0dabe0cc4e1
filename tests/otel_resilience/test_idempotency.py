"""What may have been sent is not sent again, unless it is declared or seen to be safe."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.server
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import httpx
import pytest
import requests

from otel_resilience import (
    AttemptTimeoutError,
    CircuitBreakerConfig,
    CircuitOpenError,
    DeadlineExceededError,
    Policy,
    RetryConfig,
    error_context,
)
from otel_resilience.testing import FakeClock, RecordedTelemetry
from support.resilience import Driver, Script, TransientFault, make_policy, run_fake

LIMITS = (0.3, 1.0, 3.0, 9.0)
"""Seconds after which attempts are cut: on a busy machine a short limit may cut one that has not sent anything yet."""
AT_ONCE = RetryConfig(base_delay=0)
HERE: dict[str, Any] = {"timeout": 60, "trust_env": False, "verify": False}
"""For a server of this machine: to read the certificates of all others takes longer than a request."""


class Server:
    """Answers 503 at once, or anything only after its release; with ``stalls`` the head at once and the body then."""

    def __init__(self, *, slow: bool, stalls: bool = False) -> None:
        self.received: list[str] = []
        self.released = threading.Event()
        if not slow:
            self.released.set()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.received.append(self.command)
                if not stalls:
                    server.released.wait(60)
                self.send_response(200 if stalls else 503)
                self.send_header("Content-Length", "1" if stalls else "0")
                with contextlib.suppress(OSError):  # the client has gone
                    self.end_headers()
                    if stalls:
                        self.wfile.flush()
                        server.released.wait(60)

            do_POST = do_PUT = do_GET  # noqa: N815  # names of http.server

            def log_message(self, *_: object) -> None: ...

        self._httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._httpd.server_port}/"
        self._thread = threading.Thread(target=self._httpd.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.released.set()
        self._httpd.shutdown()
        self._httpd.server_close()
        self._thread.join()


@pytest.fixture
def slow_server() -> Iterator[Server]:
    server = Server(slow=True)
    yield server
    server.close()


@pytest.fixture
def failing_server() -> Iterator[Server]:
    server = Server(slow=False)
    yield server
    server.close()


def cut_once_sent(expected: list[str], *, stalls: bool = False) -> Iterator[tuple[Server, float]]:
    """A server that does not answer, and the limit to cut attempts by: a longer one until it has seen ``expected``.

    It must never have seen more. Other methods than those expected do not matter.
    """
    for limit in LIMITS:
        server = Server(slow=True, stalls=stalls)
        try:
            yield server, limit
            received = [method for method in server.received if method in expected]
        finally:
            server.close()
        assert len(received) <= len(expected)
        if received == expected:
            return
    pytest.fail(f"{received} were sent, not {expected}")


def cutting(limit: float) -> Policy:
    return Policy("supplier", retry=AT_ONCE, attempt_timeout=limit)


def send_httpx(method: str, url: str, **headers: str) -> None:
    httpx.request(method, url, headers=headers, **HERE)


def send_requests(method: str, url: str, **headers: str) -> None:
    with requests.Session() as session:
        session.trust_env = False
        session.request(method, url, headers=headers, timeout=60)


def send_urllib(method: str, url: str, **headers: str) -> None:
    with urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers), timeout=60):
        pass


CLIENTS = pytest.mark.parametrize("send", [send_httpx, send_requests, send_urllib], ids=["httpx", "requests", "urllib"])


@pytest.mark.fault("L1")
class TestOurOwnTimeLimit:
    """Our time limit says nothing about the request that it cuts off; the attempt may show it."""

    @CLIENTS
    def test_a_post_is_sent_once(self, send: Callable[..., None]) -> None:
        for server, limit in cut_once_sent(["POST"]):
            call = functools.partial(send, "POST", server.url)
            with pytest.raises(AttemptTimeoutError):
                cutting(limit).execute(call)

    @CLIENTS
    def test_a_get_that_is_seen_is_repeated(self, send: Callable[..., None]) -> None:
        for server, limit in cut_once_sent(["GET"] * 3):
            call = functools.partial(send, "GET", server.url)
            with pytest.raises(AttemptTimeoutError):
                cutting(limit).execute(call)

    @CLIENTS
    def test_a_post_with_an_idempotency_key_is_repeated(self, send: Callable[..., None]) -> None:
        for server, limit in cut_once_sent(["POST"] * 3):
            call = functools.partial(send, "POST", server.url, **{"Idempotency-Key": "1"})
            with pytest.raises(AttemptTimeoutError):
                cutting(limit).execute(call)

    @pytest.mark.parametrize(
        ("method", "headers", "times"), [("POST", {}, 1), ("GET", {}, 3), ("POST", {"Idempotency-Key": "1"}, 3)]
    )
    async def test_an_async_client_shows_its_request_too(
        self, method: str, headers: dict[str, str], times: int
    ) -> None:
        for server, limit in cut_once_sent([method] * times):
            async with httpx.AsyncClient(**HERE) as client:
                call = functools.partial(client.request, method, server.url, headers=headers)
                with pytest.raises(AttemptTimeoutError):
                    await cutting(limit).execute(call)

    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_a_body_that_stalls_is_judged_by_its_request(self, method: str) -> None:
        def read(url: str) -> None:
            with httpx.Client(**HERE) as client, client.stream(method, url) as response:
                response.read()

        for server, limit in cut_once_sent([method] * (3 if method == "GET" else 1), stalls=True):
            with pytest.raises(AttemptTimeoutError):
                cutting(limit).execute(functools.partial(read, server.url))

    @pytest.mark.parametrize("method", ["GET", "POST"])
    @pytest.mark.parametrize("how", ["httpx", "httpx stream", "aiohttp", "aiohttp awaited"])
    @pytest.mark.parametrize("stalls", [False, True], ids=["slow_server", "stalling_server"])
    async def test_so_is_one_of_an_async_client_in_any_way_of_use(self, stalls: bool, how: str, method: str) -> None:
        async def with_httpx(url: str) -> None:
            async with httpx.AsyncClient(**HERE) as client:
                await client.request(method, url)

        async def with_httpx_stream(url: str) -> None:
            async with (
                httpx.AsyncClient(**HERE) as client,
                client.stream(method, url) as response,
            ):
                await response.aread()

        async def with_aiohttp(url: str) -> None:
            async with aiohttp.ClientSession() as session, session.request(method, url) as response:
                await response.read()

        async def with_aiohttp_awaited(url: str) -> None:
            async with aiohttp.ClientSession() as session:
                response = await session.request(method, url)
                await response.read()

        operations = {
            "httpx": with_httpx,
            "httpx stream": with_httpx_stream,
            "aiohttp": with_aiohttp,
            "aiohttp awaited": with_aiohttp_awaited,
        }
        for server, limit in cut_once_sent([method] * (3 if method == "GET" else 1), stalls=stalls):
            with pytest.raises(AttemptTimeoutError):
                await cutting(limit).execute(functools.partial(operations[how], server.url))

    @pytest.mark.parametrize("how", ["gathered", "task group", "task beside a get"])
    async def test_a_post_among_several_requests_is_sent_once(self, how: str) -> None:
        async def gathered(client: httpx.AsyncClient, url: str) -> None:
            await asyncio.gather(client.get(url), client.post(url))

        async def task_group(client: httpx.AsyncClient, url: str) -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(client.post(url))
                group.create_task(client.get(url))

        async def task_beside_a_get(client: httpx.AsyncClient, url: str) -> None:
            post = asyncio.create_task(client.post(url))
            try:
                await client.get(url)
            finally:
                post.cancel()
                await asyncio.wait([post])

        operation = {"gathered": gathered, "task group": task_group, "task beside a get": task_beside_a_get}[how]
        for server, limit in cut_once_sent(["POST"]):
            async with httpx.AsyncClient(**HERE) as client:
                with pytest.raises(AttemptTimeoutError):
                    await cutting(limit).execute(functools.partial(operation, client, server.url))

    def test_what_shows_no_request_is_not_repeated_and_the_log_says_once_how_to_declare_it(
        self, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        policy = make_policy(clock, attempt_timeout=1.0, breaker=None)
        calls: list[int] = []

        async def hangs() -> None:
            calls.append(1)
            await asyncio.sleep(100)

        recorded = RecordedTelemetry()
        with recorded.recording():
            for _ in range(3):
                with pytest.raises(AttemptTimeoutError):
                    run_fake(clock, policy.execute(hangs))
        assert len(calls) == 3
        reasons = [point.attributes for point in recorded.points("resilience.retry.suppressed")]
        assert [reason["resilience.retry.suppress_reason"] for reason in reasons] == ["idempotency_unknown"]
        said = [record.getMessage() for record in caplog.records if record.name == "otel_resilience"]
        assert len(said) == 1
        assert "execute(..., idempotent=True)" in said[0]

    def test_what_is_declared_idempotent_is_repeated(self, clock: FakeClock) -> None:
        calls: list[int] = []

        async def hangs() -> None:
            calls.append(1)
            await asyncio.sleep(100)

        given: tuple[tuple[Policy, dict[str, Any]], ...] = (
            (make_policy(clock, attempt_timeout=1.0, idempotent=True), {}),
            (make_policy(clock, attempt_timeout=1.0), {"idempotent": True}),
            (make_policy(clock, attempt_timeout=1.0, idempotent=False), {"idempotent": True}),
        )
        for policy, options in given:
            calls.clear()
            with pytest.raises(AttemptTimeoutError):
                run_fake(clock, policy.execute(hangs, **options))
            assert len(calls) == 3

    def test_the_word_of_the_call_comes_before_that_of_the_policy(self, driver: Driver, clock: FakeClock) -> None:
        script = Script(TransientFault())
        with pytest.raises(TransientFault):
            driver.execute(make_policy(clock, idempotent=True), script, idempotent=False)
        assert script.calls == 1

    def test_a_predicate_does_not_override_it(self, clock: FakeClock) -> None:
        calls: list[int] = []

        async def hangs() -> None:
            calls.append(1)
            await asyncio.sleep(100)

        with pytest.raises(AttemptTimeoutError):
            run_fake(clock, make_policy(clock, attempt_timeout=1.0).execute(hangs, is_retryable=TimeoutError))
        assert len(calls) == 1

    @pytest.mark.parametrize(
        "error", [AttemptTimeoutError(1.0), DeadlineExceededError(1.0)], ids=["attempt", "deadline"]
    )
    @pytest.mark.parametrize("how", ["alone", "wrapped", "gathered", "while handling"])
    def test_a_cut_of_an_enclosed_call_is_not_repeated_either(
        self, driver: Driver, clock: FakeClock, error: Exception, how: str
    ) -> None:
        class ApiDownError(Exception):
            classification = TransientFault.verdict

        def play() -> None:
            match how:
                case "alone":
                    raise error
                case "wrapped":
                    raise ApiDownError from error
                case "gathered":
                    raise ExceptionGroup("both", [TransientFault(), error])
            try:
                raise error
            except TimeoutError:
                raise ApiDownError  # noqa: B904  # without a cause, on purpose

        script = Script(play)
        with pytest.raises((TimeoutError, ApiDownError, ExceptionGroup)):
            driver.execute(make_policy(clock, breaker=None), script, is_retryable=lambda _: True)
        assert script.calls == 1


@pytest.mark.fault("L1")
class TestSeenRequests:
    def test_an_error_of_urllib_shows_its_request(self, failing_server: Server) -> None:
        policy = Policy("supplier", retry=AT_ONCE)
        for method, times in (("POST", 1), ("GET", 3), ("PUT", 3)):
            failing_server.received.clear()
            with pytest.raises(urllib.error.HTTPError) as caught:
                policy.execute(functools.partial(send_urllib, method, failing_server.url))
            caught.value.close()
            assert failing_server.received == [method] * times

    def test_with_a_key_it_is_repeated(self, failing_server: Server) -> None:
        send = functools.partial(send_urllib, "POST", failing_server.url, **{"Idempotency-Key": "1"})
        with pytest.raises(urllib.error.HTTPError) as caught:
            Policy("supplier", retry=AT_ONCE).execute(send)
        caught.value.close()
        assert failing_server.received == ["POST"] * 3

    async def test_a_timeout_within_the_operation_shows_it_too(self) -> None:
        async def post(client: httpx.AsyncClient, url: str, limit: float) -> None:
            async with asyncio.timeout(limit):
                await client.post(url)

        for server, limit in cut_once_sent(["POST"]):
            async with httpx.AsyncClient(**HERE) as client:
                with pytest.raises(TimeoutError):
                    await Policy("supplier", retry=AT_ONCE).execute(functools.partial(post, client, server.url, limit))

    def test_an_error_with_a_post_on_it_is_not_repeated(self, driver: Driver, clock: FakeClock) -> None:
        class ClientError(Exception):
            classification = TransientFault.verdict

            def __init__(self, request: object) -> None:
                super().__init__()
                self.request = request

        for method, times in (("POST", 1), ("GET", 3)):
            script = Script(ClientError(httpx.Request(method, "http://supplier/")))
            with pytest.raises(ClientError):
                driver.execute(make_policy(clock), script)
            assert script.calls == times

    @pytest.mark.parametrize(("method", "times"), [("POST", 1), ("GET", 3)])
    def test_a_request_that_was_redirected_counts_too(
        self, driver: Driver, clock: FakeClock, method: str, times: int
    ) -> None:
        """A POST that was answered with "see other" was sent, whatever the GET that follows it meets."""
        received: list[str] = []

        def answer(request: httpx.Request) -> httpx.Response:
            received.append(request.method)
            if request.url.path == "/":
                return httpx.Response(303, headers={"Location": "/result"})
            return httpx.Response(503)

        def send() -> None:
            with httpx.Client(transport=httpx.MockTransport(answer), follow_redirects=True) as client:
                client.request(method, "http://supplier/").raise_for_status()

        with pytest.raises(httpx.HTTPStatusError):
            driver.execute(make_policy(clock), Script(send))
        assert received == [method, "GET"] * times

    def test_other_errors_without_a_request_are_retried(self, driver: Driver, clock: FakeClock) -> None:
        script = Script(TimeoutError("the operation's own"))
        with pytest.raises(TimeoutError):
            driver.execute(make_policy(clock), script)
        assert script.calls == 3

    def test_what_was_provably_not_sent_is_repeated_whatever_was_declared(
        self, driver: Driver, clock: FakeClock
    ) -> None:
        script = Script(ConnectionRefusedError(111, "refused"))
        with pytest.raises(ConnectionRefusedError):
            driver.execute(make_policy(clock, idempotent=False), script)
        assert script.calls == 3


@pytest.mark.fault("L1")
class TestRequestsLeftRunning:
    """``asyncio.gather`` raises the first error while the other requests of the attempt go on."""

    async def send(self, server: Server, method: str, error: Exception, **options: Any) -> list[str]:
        async with httpx.AsyncClient(**HERE) as client:
            posted: list[asyncio.Task[httpx.Response]] = []

            async def failing() -> None:
                while len(server.received) < len(posted):
                    await asyncio.sleep(0.01)
                raise error

            async def both() -> None:
                posted.append(asyncio.create_task(client.request(method, server.url)))
                await asyncio.gather(failing(), posted[-1])

            with pytest.raises(type(error)):
                await Policy("supplier", retry=AT_ONCE).execute(both, **options)
            for each in posted:
                each.cancel()
            await asyncio.wait(posted)
        return server.received

    @pytest.mark.parametrize(
        "error", [TransientFault(), ConnectionRefusedError(111, "refused")], ids=["503", "refused"]
    )
    @pytest.mark.parametrize(
        ("method", "declared", "times"),
        [("POST", None, 1), ("POST", False, 1), ("POST", True, 3), ("GET", None, 3), ("GET", False, 1)],
    )
    async def test_a_post_among_them_is_sent_once(
        self, slow_server: Server, error: Exception, method: str, declared: bool | None, times: int
    ) -> None:
        assert await self.send(slow_server, method, error, idempotent=declared) == [method] * times

    async def test_the_error_does_not_claim_that_nothing_was_sent(self, slow_server: Server) -> None:
        refused = ConnectionRefusedError(111, "refused")
        await self.send(slow_server, "POST", refused)
        context = error_context(refused)
        assert context is not None
        assert not context.unsent


@pytest.mark.fault("L1")
class TestEnclosedCalls:
    """An outer layer of retries knows what the call inside it declared, and what that has sent."""

    def nested(self, driver: Driver, inner: Policy, script: Script, **options: Any) -> Callable[[], Any]:
        operation = driver.operation(script.play)
        if not driver.asynchronous:
            return lambda: inner.execute(operation, **options)

        async def call() -> Any:
            return await inner.execute(operation, **options)

        return call

    def test_a_call_that_was_declared_unsafe_inside_is_not_repeated_outside(
        self, driver: Driver, clock: FakeClock
    ) -> None:
        script = Script(TransientFault())
        inner = make_policy(clock, breaker=None)
        with pytest.raises(TransientFault):
            driver.run(make_policy(clock, breaker=None).execute(self.nested(driver, inner, script, idempotent=False)))
        assert script.calls == 1

    def test_a_call_that_was_declared_safe_inside_is_repeated_outside(self, clock: FakeClock) -> None:
        calls: list[int] = []

        async def hangs() -> None:
            calls.append(1)
            await asyncio.sleep(100)

        inner = make_policy(clock, retry=None, attempt_timeout=1.0, idempotent=True)

        async def call() -> None:
            await inner.execute(hangs)

        with pytest.raises(AttemptTimeoutError):
            run_fake(clock, make_policy(clock).execute(call))
        assert len(calls) == 3

    def test_a_refused_connection_after_a_request_was_sent_is_no_proof(self, driver: Driver, clock: FakeClock) -> None:
        """The second attempt was provably not sent; the first one may have been."""
        script = Script(TransientFault(), ConnectionRefusedError(111, "refused"))
        inner = make_policy(clock, breaker=None, retry=RetryConfig(max_attempts=2))
        operation = self.nested(driver, inner, script)
        with pytest.raises(ConnectionRefusedError):
            driver.run(make_policy(clock, breaker=None).execute(operation, idempotent=False))
        assert script.calls == 2

    @pytest.mark.fault("L4")
    def test_nor_is_a_circuit_that_opened_after_a_request(self, driver: Driver, clock: FakeClock) -> None:
        script = Script(TransientFault())
        inner = make_policy(clock, breaker=CircuitBreakerConfig(consecutive_failures=1))
        operation = self.nested(driver, inner, script)
        with pytest.raises(CircuitOpenError):
            driver.run(
                make_policy(clock, breaker=None).execute(operation, idempotent=False, is_retryable=lambda _: True)
            )
        assert script.calls == 1

    @pytest.mark.parametrize(("declared", "method", "times"), [(False, "GET", 1), (True, "POST", 3)])
    async def test_what_it_declared_stands_before_the_request_that_is_seen(
        self, declared: bool, method: str, times: int
    ) -> None:
        inner = Policy("supplier", retry=AT_ONCE)
        for server, limit in cut_once_sent([method] * times):
            async with httpx.AsyncClient(**HERE) as client:
                request = functools.partial(client.request, method, server.url)
                call = functools.partial(inner.execute, request, idempotent=declared)
                with pytest.raises(AttemptTimeoutError):
                    await cutting(limit).execute(call)

    @pytest.mark.parametrize(("declared", "method", "times"), [(False, "GET", 1), (True, "POST", 3)])
    def test_also_in_a_thread(self, declared: bool, method: str, times: int) -> None:
        inner = Policy("supplier", retry=AT_ONCE)
        for server, limit in cut_once_sent([method] * times):
            request = functools.partial(send_httpx, method, server.url)
            protected: Callable[[], object] = functools.partial(inner.execute, request, idempotent=declared)
            with pytest.raises(AttemptTimeoutError):
                cutting(limit).execute(protected)

    @pytest.mark.parametrize("declared", [None, True, False])
    @pytest.mark.parametrize("ending", ["succeeds", "fails and is handled"])
    def test_one_beside_the_failure_counts_too(
        self, driver: Driver, clock: FakeClock, ending: str, declared: bool | None
    ) -> None:
        """A charge that was made is not made again because what follows it fails."""
        charge = Script("done" if ending == "succeeds" else TransientFault())
        inner = make_policy(clock, retry=None, breaker=None)
        call = self.nested(driver, inner, charge, idempotent=declared)

        def play() -> None:
            with contextlib.suppress(TransientFault):
                call()
            raise TransientFault("what follows")

        async def play_async() -> None:
            with contextlib.suppress(TransientFault):
                await call()
            raise TransientFault("what follows")

        outer = make_policy(clock, breaker=None)
        with pytest.raises(TransientFault, match="what follows"):
            driver.run(outer.execute(play_async if driver.asynchronous else play))
        assert charge.calls == (1 if declared is False else 3)

    @pytest.mark.fault("L4")
    @pytest.mark.parametrize("ending", ["succeeds", "fails and is handled"])
    def test_nothing_is_proven_unsent_where_one_may_have_sent_something(
        self, driver: Driver, clock: FakeClock, ending: str
    ) -> None:
        first = Script("done" if ending == "succeeds" else TransientFault())
        call = self.nested(driver, make_policy(clock, retry=None, breaker=None), first)

        def play() -> None:
            with contextlib.suppress(TransientFault):
                call()
            raise ConnectionRefusedError(111, "refused")

        async def play_async() -> None:
            with contextlib.suppress(TransientFault):
                await call()
            raise ConnectionRefusedError(111, "refused")

        outer = make_policy(clock, breaker=None)
        with pytest.raises(ConnectionRefusedError) as caught:
            driver.run(outer.execute(play_async if driver.asynchronous else play, idempotent=False))
        assert first.calls == 1
        context = error_context(caught.value)
        assert context is not None
        assert not context.unsent

    async def test_one_that_a_task_group_cancels_counts_too(self, slow_server: Server) -> None:
        policy = Policy("supplier", retry=RetryConfig(max_attempts=1))
        async with httpx.AsyncClient(**HERE) as client:

            async def failing() -> None:
                while not slow_server.received:
                    await asyncio.sleep(0.01)
                raise TransientFault

            async def both() -> None:
                async with asyncio.TaskGroup() as group:
                    group.create_task(policy(failing)())
                    group.create_task(policy(client.post)(slow_server.url))

            with pytest.raises(ExceptionGroup):
                await Policy("order", retry=AT_ONCE).execute(both)
        assert slow_server.received == ["POST"]


@pytest.mark.fault("L1")
def test_an_attempt_that_was_cut_while_it_slept_shows_nothing() -> None:
    calls: list[int] = []

    def sleeps() -> None:
        calls.append(1)
        time.sleep(2.5)

    with pytest.raises(AttemptTimeoutError):
        Policy("supplier", retry=AT_ONCE, attempt_timeout=2.0).execute(sleeps)
    assert calls == [1]
