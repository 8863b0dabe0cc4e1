"""The simulator as a separate service in the caller's trace."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from esim_go_simulator.app import SimulatorConfig
from esim_go_simulator.server import RunningSimulator, running_simulator

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT_ID = "00f067aa0ba902b7"
KEY = "key-that-must-not-show"


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
async def traced(spans: InMemorySpanExporter) -> AsyncIterator[RunningSimulator]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    config = SimulatorConfig(bundles=100, rate=0, api_key=KEY)
    async with running_simulator(config, tracer_provider=provider) as simulator:
        yield simulator
    provider.shutdown()


@pytest.fixture
async def http(traced: RunningSimulator) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"X-API-Key": KEY, "traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01"}
    async with httpx.AsyncClient(base_url=traced.base_url, headers=headers, trust_env=False, timeout=30) as client:
        yield client


async def test_a_request_is_a_server_span_in_the_callers_trace(
    traced: RunningSimulator, http: httpx.AsyncClient, spans: InMemorySpanExporter
) -> None:
    await http.get("/catalogue", params={"page": 2, "group": "Standard - Fixed", "api_key": KEY})
    (span,) = spans.get_finished_spans()
    assert (span.name, span.kind) == ("GET /catalogue", SpanKind.SERVER)
    assert span.context is not None
    assert span.parent is not None
    assert f"{span.context.trace_id:032x}" == TRACE_ID
    assert f"{span.parent.span_id:016x}" == PARENT_ID
    assert dict(span.attributes or {}) == {
        "http.request.method": "GET",
        "http.route": "/catalogue",
        "http.response.status_code": 200,
        "url.path": "/v2.5/catalogue",
        "url.query": "page=2&group=Standard+-+Fixed",
        "url.scheme": "http",
        "server.address": "127.0.0.1",
        "server.port": traced.port,
        "network.protocol.version": "1.1",
    }
    assert span.status.status_code is StatusCode.UNSET


async def test_the_injected_fault_and_a_server_error_stand_on_the_span(
    traced: RunningSimulator, http: httpx.AsyncClient, spans: InMemorySpanExporter
) -> None:
    traced.set_scenario(
        {"rules": [{"fault": "status", "status": 503, "when": {"endpoint": "bundle"}}, {"fault": "reset"}]}
    )
    await http.get("/catalogue/bundle/esim_1GB_7D_PT_V2")
    with pytest.raises(httpx.ReadError):
        await http.get("/organisation")
    answered, reset = spans.get_finished_spans()
    assert answered.name == "GET /catalogue/bundle/{name}"
    for span, fault, error_type in ((answered, "status", "503"), (reset, "reset", "connection_error")):
        assert span.attributes is not None
        assert (span.attributes["simulator.fault"], span.attributes["error.type"]) == (fault, error_type)
        assert span.status.status_code is StatusCode.ERROR


async def test_a_clients_mistake_is_not_an_error_of_the_server(
    http: httpx.AsyncClient, spans: InMemorySpanExporter
) -> None:
    await http.get("/nothing")
    await http.get("/organisation", headers={"X-API-Key": "wrong"})
    unknown, denied = spans.get_finished_spans()
    assert unknown.name == "GET"
    for span, status in ((unknown, 404), (denied, 403)):
        assert span.attributes is not None
        assert span.attributes["http.response.status_code"] == status
        assert "error.type" not in span.attributes


async def test_the_key_never_shows(
    traced: RunningSimulator, http: httpx.AsyncClient, spans: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    await http.get("/catalogue", params={"key": KEY})
    await http.get(f"{traced.control_url}/stats")
    (span,) = spans.get_finished_spans()
    assert KEY not in span.to_json()
    assert KEY not in " ".join(
        record.getMessage() for record in caplog.records if record.name.startswith(("catalog", "aio"))
    )
    assert KEY not in repr([seen.to_json() for seen in traced.requests])
    assert KEY not in repr(SimulatorConfig(api_key=KEY))
