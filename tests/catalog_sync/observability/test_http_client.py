"""Requests in the trace, and what other hosts see of it. Real sockets; every host name leads to this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator

import httpx
import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from catalog_sync.observability.sdk import extract_context, headers_allowed, setup_telemetry, traced_transport
from otel_resilience import Policy, RetryConfig, correlation_id, correlation_scope
from support.echo_server import EchoServer, echo_server, transport_to
from support.otel_globals import fresh_otel_globals

TRACE_HEADERS = {"traceparent", "tracestate", "baggage"}


@pytest.fixture(autouse=True)
def _isolated() -> Iterator[None]:
    with fresh_otel_globals():
        yield


@pytest.fixture
def echo() -> Iterator[EchoServer]:
    with echo_server() as server:
        yield server


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    with setup_telemetry("catalog-sync", os.environ, extra_span_processor=SimpleSpanProcessor(exporter)):
        yield exporter


def client_spans(exporter: InMemorySpanExporter) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.kind is trace.SpanKind.CLIENT]


def client_of(echo: EchoServer, allowed: tuple[str, ...] = ()) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=traced_transport(transport_to(echo.port), allowed), trust_env=False)


async def get(echo: EchoServer, url: str, allowed: tuple[str, ...] = (), **options: object) -> httpx.Response:
    async with client_of(echo, allowed) as client:
        with correlation_scope():
            return await client.get(url, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("host", "allowed", "expected"),
    [
        ("127.0.0.1", (), True),
        ("127.9.9.9", (), True),
        ("::1", (), True),
        ("[::1]", (), True),
        ("localhost", (), True),
        ("LOCALHOST.", (), True),
        ("sim.localhost", (), True),
        ("simulator", (), True),
        ("api.esim-go.com", (), False),
        ("10.0.0.1", (), False),
        ("2001:db8::1", (), False),
        ("fe80::1%eth0", (), False),
        ("134744072", (), False),
        ("0x8080808", (), False),
        ("localhost.evil.example", (), False),
        ("127.0.0.1.evil.example", (), False),
        ("", (), False),
        ("api.example", ("api.example",), True),
        ("API.Example.", ("api.example",), True),
        ("sub.api.example", ("api.example",), False),
        ("localhost", ("api.example",), False),
        ("anything.example", ("*",), True),
    ],
)
def test_which_hosts_may_see_trace_headers(host: str, allowed: tuple[str, ...], expected: bool) -> None:
    assert headers_allowed(host, allowed) is expected


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "simulator"])
async def test_near_hosts_join_the_trace(echo: EchoServer, spans: InMemorySpanExporter, host: str) -> None:
    await get(echo, f"http://{host}/catalogue")
    (span,) = client_spans(spans)
    remote = trace.get_current_span(extract_context(echo.received[0].headers)).get_span_context()
    assert remote.trace_id == span.context.trace_id
    assert remote.span_id == span.context.span_id
    assert "correlation.id=" in echo.received[0].headers["baggage"]


@pytest.mark.parametrize("host", ["api.esim-go.com", "10.1.2.3", "134744072"])
async def test_foreign_hosts_see_no_trace_headers_and_no_baggage(
    echo: EchoServer, spans: InMemorySpanExporter, host: str
) -> None:
    """The instrumentation sends traceparent and baggage to every host, third parties included."""
    await get(echo, f"http://{host}/catalogue", headers={"Baggage": "set=by-hand", "X-Own": "stays"})
    assert not TRACE_HEADERS & set(echo.received[0].headers)
    assert echo.received[0].headers["x-own"] == "stays"
    assert client_spans(spans)


async def test_only_listed_hosts_where_there_is_a_list(echo: EchoServer, spans: InMemorySpanExporter) -> None:
    for host in ("api.partner.example", "localhost", "other.example"):
        await get(echo, f"http://{host}/", ("api.partner.example",))
    assert ["traceparent" in request.headers for request in echo.received] == [True, False, False]
    assert ["baggage" in request.headers for request in echo.received] == [True, False, False]


async def test_a_star_lists_every_host(echo: EchoServer, spans: InMemorySpanExporter) -> None:
    await get(echo, "http://api.esim-go.com/", ("*",))
    assert {"traceparent", "baggage"} <= set(echo.received[0].headers)


async def test_a_redirect_to_a_foreign_host_takes_nothing_along(echo: EchoServer, spans: InMemorySpanExporter) -> None:
    async with client_of(echo) as client:
        with correlation_scope():
            first = await client.get("http://localhost/")
            await client.send(client.build_request("GET", "http://elsewhere.example/", headers=first.request.headers))
    assert TRACE_HEADERS & set(echo.received[0].headers)
    assert not TRACE_HEADERS & set(echo.received[1].headers)


async def test_a_span_has_stable_attributes_a_template_and_no_secret(
    echo: EchoServer, spans: InMemorySpanExporter
) -> None:
    url = "http://u:hidden1@localhost/v2.5/catalogue/bundle/esim_1GB?api_key=hidden2&page=2"
    await get(echo, url, headers={"X-API-Key": "hidden3"}, extensions={"url_template": "/catalogue/bundle/{name}"})
    (span,) = client_spans(spans)
    assert span.name == "GET /catalogue/bundle/{name}"
    assert span.attributes is not None
    assert span.attributes["url.template"] == "/catalogue/bundle/{name}"
    assert span.attributes["url.full"] == "http://***@localhost/v2.5/catalogue/bundle/esim_1GB?api_key=***&page=2"
    assert span.attributes["http.request.method"] == "GET"
    assert span.attributes["http.response.status_code"] == 200
    assert span.attributes["server.address"] == "localhost"
    assert "http.request.resend_count" not in span.attributes
    assert "hidden" not in span.to_json()


async def test_without_a_template_the_span_is_named_after_the_method(
    echo: EchoServer, spans: InMemorySpanExporter
) -> None:
    await get(echo, "http://localhost/some/path")
    assert client_spans(spans)[0].name == "GET"


async def test_repetitions_are_numbered_and_lie_in_their_attempts(
    echo: EchoServer, spans: InMemorySpanExporter
) -> None:
    echo.statuses = [503, 503]
    policy = Policy(
        "supplier", retry=RetryConfig(max_attempts=3, base_delay=0, throttle_base_delay=0, slow_base_delay=0)
    )
    async with client_of(echo) as client:

        async def call() -> None:
            (await client.get("http://localhost/")).raise_for_status()

        await policy.execute(call, name="list", is_retryable=lambda error: isinstance(error, httpx.HTTPStatusError))
    sent = client_spans(spans)
    assert [span.attributes.get("http.request.resend_count") for span in sent] == [None, 1, 2]  # type: ignore[union-attr]
    attempts = [span for span in spans.get_finished_spans() if span.name == "attempt"]
    assert [span.parent.span_id for span in sent] == [span.context.span_id for span in attempts]  # type: ignore[union-attr]


async def test_without_an_sdk_the_correlation_id_still_reaches_near_hosts(echo: EchoServer) -> None:
    async with client_of(echo) as client:
        with correlation_scope() as identifier:
            await client.get("http://localhost/")
            await client.get("http://api.esim-go.com/")
    near, far = echo.received
    assert baggage.get_baggage("correlation.id", extract_context(near.headers)) == identifier
    assert not TRACE_HEADERS & set(far.headers)


async def test_without_an_sdk_a_trace_that_came_in_goes_on(echo: EchoServer) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    token = context.attach(extract_context({"Traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}))
    try:
        assert correlation_id() == trace_id
        async with client_of(echo) as client:
            await client.get("http://localhost/")
    finally:
        context.detach(token)
    assert trace_id in echo.received[0].headers["traceparent"]


@pytest.mark.fault("W9")
@pytest.mark.parametrize(
    ("expected", "status"), [(frozenset({404}), trace.StatusCode.UNSET), ((), trace.StatusCode.ERROR)]
)
async def test_an_answer_that_was_expected_is_not_an_error(
    spans: InMemorySpanExporter, expected: object, status: trace.StatusCode
) -> None:
    async def gone(_: httpx.Request) -> httpx.Response:
        return httpx.Response(404)

    transport = traced_transport(httpx.MockTransport(gone), ("localhost",))
    async with httpx.AsyncClient(transport=transport) as client:
        await client.get("http://localhost/bundle", extensions={"expected_statuses": expected})
    (span,) = client_spans(spans)
    assert span.status.status_code is status
    assert ("error.type" in (span.attributes or {})) == (status is trace.StatusCode.ERROR)
    assert (span.attributes or {})["http.response.status_code"] == 404
