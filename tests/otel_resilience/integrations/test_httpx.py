"""The transports of httpx and httpx2: spans of the client, and what only a transport sees."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import httpx2
import pytest
from opentelemetry.instrumentation import httpx as instrumentation
from opentelemetry.instrumentation.httpx import (
    AsyncOpenTelemetryTransport,
    HTTPXClientInstrumentor,
    SyncOpenTelemetryTransport,
)
from opentelemetry.propagate import get_global_textmap, set_global_textmap
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_resilience import Policy, PolicyRegistry, RateLimit, RetryConfig
from otel_resilience.integrations import PolicyByHost
from otel_resilience.integrations.httpx import AsyncResilientTransport, ResilientTransport
from otel_resilience.testing import FakeClock, FakeTimeLoop, RecordedTelemetry
from support.answering_server import AnsweringServer, Reply

NO_WAIT = RetryConfig(max_attempts=3, base_delay=0, jitter=False)
LIBRARIES = {"httpx": (httpx, HTTPXClientInstrumentor)}
if hasattr(instrumentation, "HTTPX2ClientInstrumentor"):  # older versions know httpx alone
    LIBRARIES["httpx2"] = (httpx2, instrumentation.HTTPX2ClientInstrumentor)


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """The module and its instrumentor."""
    return LIBRARIES[request.param]


@pytest.fixture(autouse=True)
def _trace_headers() -> Iterator[None]:
    before = get_global_textmap()
    set_global_textmap(TraceContextTextMapPropagator())
    yield
    set_global_textmap(before)


@contextlib.contextmanager
def instrumented(library: tuple[Any, Any], recorded: RecordedTelemetry) -> Iterator[None]:
    instrumentor = library[1]()
    instrumentor.instrument(tracer_provider=recorded.tracer_provider)
    try:
        yield
    finally:
        instrumentor.uninstrument()


def get(library: Any, policy: Policy, url: str, prepare: Callable[[Any], None], *, asynchronous: bool) -> int:
    """A GET with a new client, which ``prepare`` is given first."""

    async def get_async() -> int:
        async with library.AsyncClient(transport=AsyncResilientTransport(policy)) as client:
            prepare(client)
            return int((await client.get(url)).status_code)

    if asynchronous:
        return asyncio.run(get_async())
    with library.Client(transport=ResilientTransport(policy)) as client:
        prepare(client)
        return int(client.get(url).status_code)


def assert_client_spans_in_attempts(recorded: RecordedTelemetry, server: AnsweringServer) -> None:
    attempts = [span for span in recorded.spans if span.name == "attempt"]
    clients = [span for span in recorded.spans if span.kind is SpanKind.CLIENT]
    assert len(attempts) == len(clients) == len(server.arrived) == 3
    assert [span_id(span.parent) for span in clients] == [span_id(span.context) for span in attempts]
    counts = [span.attributes.get("http.request.resend_count") for span in clients if span.attributes is not None]
    assert counts == [None, 1, 2]
    assert all("http.request.resend_count" not in (span.attributes or {}) for span in attempts)
    sent = [each.headers["traceparent"].split("-")[2] for each in server.arrived]
    assert sent == [span_id(span.context) for span in clients]


def span_id(context: Any) -> str:
    return f"{context.span_id:016x}"


@pytest.mark.parametrize("asynchronous", [False, True], ids=["def", "async_def"])
@pytest.mark.parametrize("order", ["before", "after", "client"])
def test_client_spans_lie_inside_the_attempts(
    library: tuple[Any, Any], server: AnsweringServer, recorded: RecordedTelemetry, order: str, asynchronous: bool
) -> None:
    server.replies += [Reply(503), Reply(503)]
    with contextlib.ExitStack() as stack:

        def instrument(client: Any) -> None:
            if order == "after":
                stack.enter_context(instrumented(library, recorded))
            elif order == "client":
                library[1].instrument_client(client, tracer_provider=recorded.tracer_provider)

        if order == "before":
            stack.enter_context(instrumented(library, recorded))
        policy = Policy("api", retry=NO_WAIT)
        assert get(library[0], policy, server.url, instrument, asynchronous=asynchronous) == 200
    assert_client_spans_in_attempts(recorded, server)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["def", "async_def"])
def test_the_instrumentation_of_a_client_can_be_removed(
    library: tuple[Any, Any], server: AnsweringServer, recorded: RecordedTelemetry, asynchronous: bool
) -> None:
    def prepare(client: Any) -> None:
        library[1].instrument_client(client, tracer_provider=recorded.tracer_provider)
        library[1].uninstrument_client(client)

    policy = Policy("api", retry=NO_WAIT)
    assert get(library[0], policy, server.url, prepare, asynchronous=asynchronous) == 200
    assert not [span for span in recorded.spans if span.kind is SpanKind.CLIENT]


def test_a_transport_of_the_instrumentation_inside(server: AnsweringServer, recorded: RecordedTelemetry) -> None:
    server.replies += [Reply(503), Reply(503)]
    inner = SyncOpenTelemetryTransport(httpx.HTTPTransport(), tracer_provider=recorded.tracer_provider)
    with httpx.Client(transport=ResilientTransport(Policy("api", retry=NO_WAIT), inner)) as client:
        assert client.get(server.url).status_code == 200
    assert_client_spans_in_attempts(recorded, server)


async def test_an_async_one_inside(server: AnsweringServer, recorded: RecordedTelemetry) -> None:
    server.replies += [Reply(503), Reply(503)]
    inner = AsyncOpenTelemetryTransport(httpx.AsyncHTTPTransport(), tracer_provider=recorded.tracer_provider)
    async with httpx.AsyncClient(transport=AsyncResilientTransport(Policy("api", retry=NO_WAIT), inner)) as client:
        assert (await client.get(server.url)).status_code == 200
    assert_client_spans_in_attempts(recorded, server)


def test_a_trace_extension_of_the_caller_is_called(server: AnsweringServer) -> None:
    server.replies += [Reply(503)]
    events: list[str] = []
    with httpx.Client(transport=ResilientTransport(Policy("api", retry=NO_WAIT))) as client:
        client.get(server.url, extensions={"trace": lambda event, _: events.append(event)})
    assert events.count("http11.send_request_headers.started") == 2


async def test_an_async_one_too(server: AnsweringServer) -> None:
    server.replies += [Reply(503)]
    events: list[str] = []

    async def trace(event: str, _: Any) -> None:
        events.append(event)

    async with httpx.AsyncClient(transport=AsyncResilientTransport(Policy("api", retry=NO_WAIT))) as client:
        await client.get(server.url, extensions={"trace": trace})
    assert events.count("http11.send_request_headers.started") == 2


def test_a_span_of_the_caller_is_not_marked(server: AnsweringServer, recorded: RecordedTelemetry) -> None:
    """The body is read outside the attempt, while that span is the current one."""
    server.replies += [Reply(503), Reply(body=b"x" * 100_000)]
    with (
        recorded.tracer_provider.get_tracer("caller").start_as_current_span("caller"),
        httpx.Client(transport=ResilientTransport(Policy("api", retry=NO_WAIT))) as client,
    ):
        assert len(client.get(server.url).content) == 100_000
    (caller,) = (span for span in recorded.spans if span.name == "caller")
    assert "http.request.resend_count" not in (caller.attributes or {})


def timeouts(policy: Policy, **options: Any) -> list[dict[str, float | None]]:
    """The timeouts that a transport inside is given."""
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.extensions["timeout"])
        return httpx.Response(200)

    with httpx.Client(transport=ResilientTransport(policy, httpx.MockTransport(answer)), **options) as client:
        request = client.build_request("GET", "http://api.test/")
        before = dict(request.extensions)
        client.send(request)
        assert request.extensions == before
    return seen


def test_the_shortest_of_all_time_limits_holds() -> None:
    limits = httpx.Timeout(connect=1, read=20, write=None, pool=30)
    (given,) = timeouts(Policy("api", attempt_timeout=10, deadline=15), timeout=limits)
    assert given == {"connect": 1, "read": 10, "write": 10, "pool": 10}
    (given,) = timeouts(Policy("api", deadline=15), timeout=limits)
    assert given == {
        "connect": 1,
        "read": pytest.approx(15, abs=5),
        "write": pytest.approx(15, abs=5),
        "pool": pytest.approx(15, abs=5),
    }
    (given,) = timeouts(Policy("api"), timeout=limits)
    assert given == {"connect": 1, "read": 20, "write": None, "pool": 30}


@pytest.mark.parametrize(
    ("extensions", "name", "operation"),
    [
        ({}, None, "GET"),
        ({"url_template": "/bundles/{name}"}, None, "GET /bundles/{name}"),
        ({}, lambda request: request.url.path, "/bundles/small"),
    ],
)
def test_names_of_operations(
    recorded: RecordedTelemetry, extensions: dict[str, Any], name: Callable[[Any], str] | None, operation: str
) -> None:
    inner = httpx.MockTransport(lambda _: httpx.Response(200))
    with httpx.Client(transport=ResilientTransport(Policy("api"), inner, name=name)) as client:
        client.get("http://api.test/bundles/small", extensions=extensions)
    assert recorded.spans[-1].name == f"api {operation}"


def test_a_transport_in_a_transport() -> None:
    """Each has a policy of its own."""
    statuses = [503, 503, 200]
    inner = httpx.MockTransport(lambda _: httpx.Response(statuses.pop(0)))
    one, two = Policy("one", retry=NO_WAIT), Policy("two", retry=NO_WAIT)
    with httpx.Client(transport=ResilientTransport(one, ResilientTransport(two, inner))) as client:
        assert client.get("http://api.test/").status_code == 200
    assert not statuses


def test_the_transport_inside_is_entered_and_closed() -> None:
    done: list[str] = []

    class Inner(httpx.BaseTransport):
        def __enter__(self) -> Inner:
            done.append("entered")
            return self

        def __exit__(self, *_: object) -> None:
            done.append("left")

        def close(self) -> None:
            done.append("closed")

    with httpx.Client(transport=ResilientTransport(Policy("api"), Inner())):
        pass
    httpx.Client(transport=ResilientTransport(Policy("api"), Inner())).close()
    assert done == ["entered", "left", "closed"]


def test_one_can_be_replaced_by_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    transport = ResilientTransport(Policy("api"))
    with monkeypatch.context() as patch, httpx.Client(transport=transport) as client:
        patch.setattr(transport, "handle_request", lambda request: httpx.Response(204, request=request))
        assert client.get("http://api.test/").status_code == 204
    assert transport.handle_request.__func__ is ResilientTransport.handle_request  # type: ignore[attr-defined]


def test_requests_that_go_out_late_never_meet_later_ones_at_the_server() -> None:
    clock, arrived = FakeClock(), list[float]()
    late = iter([0.3, 0.2, 0.0, 0.25, 0.1, 0.0, 0.05, 0.0, 0.0])

    class Connecting(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await asyncio.sleep(next(late))
            arrived.append(clock.now)
            await request.extensions["trace"]("http11.send_request_headers.complete", {})
            return httpx.Response(200)

    async def main() -> None:
        policy = Policy("supplier", rate_limit=RateLimit(3, per=1, margin=0), clock=clock)
        async with httpx.AsyncClient(transport=AsyncResilientTransport(policy, Connecting())) as client:
            await asyncio.gather(*(client.get("http://supplier.example/plans") for _ in range(9)))

    with asyncio.Runner(loop_factory=lambda: FakeTimeLoop(clock)) as runner:
        runner.run(main())
    arrived.sort()
    assert min(after - before for before, after in zip(arrived, arrived[3:], strict=False)) >= 1 - 1e-6
    assert arrived[-1] - arrived[0] < 2.7, "no more is waited for than what was late"


@pytest.mark.parametrize("options", [{}, {"max_body_bytes": 1000}], ids=["headers", "body"])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["def", "async def"])
def test_the_permit_counts_from_when_the_client_has_sent_the_request(
    library: tuple[Any, Any], asynchronous: bool, options: Any, server: AnsweringServer, clock: FakeClock
) -> None:
    client_library = library[0]
    policy = Policy("supplier", rate_limit=RateLimit(1, per=60, margin=0), clock=clock, attempt_timeout=30)
    limited = policy.rate_limiter
    assert limited is not None

    class Slow(client_library.HTTPTransport):  # type: ignore[misc, name-defined]  # httpx or httpx2
        def handle_request(self, request: Any) -> Any:
            clock.advance(5)
            return super().handle_request(request)

    class AsyncSlow(client_library.AsyncHTTPTransport):  # type: ignore[misc, name-defined]  # httpx or httpx2
        async def handle_async_request(self, request: Any) -> Any:
            clock.advance(5)
            return await super().handle_async_request(request)

    events: list[str] = []

    async def noted(event: str, _: Any) -> None:
        events.append(event)

    async def main() -> None:
        async with client_library.AsyncClient(
            transport=AsyncResilientTransport(policy, AsyncSlow(), **options)
        ) as client:
            await client.get(server.url, extensions={"trace": noted})

    if asynchronous:
        asyncio.run(main())
    else:
        with client_library.Client(transport=ResilientTransport(policy, Slow(), **options)) as client:
            client.get(server.url, extensions={"trace": lambda event, _: events.append(event)})
    clock.advance(59)
    assert not limited.take()
    clock.advance(1)
    assert limited.take()
    assert any(event.endswith("send_request_headers.complete") for event in events), "of the caller's own trace too"


@pytest.mark.parametrize("policies", [{}, PolicyRegistry(Policy)], ids=["dictionary", "registry"])
@pytest.mark.parametrize("lib", [httpx, httpx2])
def test_an_address_without_a_host_is_the_clients_own_error(lib: Any, policies: PolicyByHost) -> None:
    """A forgotten ``base_url`` has no policy: the client explains it better than a dictionary or a registry could."""
    with (
        lib.Client(transport=ResilientTransport(policies)) as client,
        pytest.raises(lib.UnsupportedProtocol, match="missing an 'http://'"),
    ):
        client.get("/plans")

    async def main() -> None:
        async with lib.AsyncClient(transport=AsyncResilientTransport(policies)) as client:
            with pytest.raises(lib.UnsupportedProtocol, match="missing an 'http://'"):
                await client.get("/plans")

    asyncio.run(main())
