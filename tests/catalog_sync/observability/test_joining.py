"""With an existing SDK: joined, guarded, instrumented once; several sessions in one process."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis
from opentelemetry import _logs, baggage, context, metrics, trace
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from catalog_sync.observability import instruments
from catalog_sync.observability.sdk import instrument_redis, keep_spans, setup_telemetry, traced_transport
from catalog_sync.observability.traces.records import SpanRecord
from otel_resilience import redaction
from support.cli import Cli, running_supplier
from support.conventions import findings
from support.echo_server import echo_server, transport_to
from support.otel_globals import fresh_otel_globals
from support.otlp_sink import OtlpSink, otlp_sink
from support.redis_server import RedisServer

SECRET = "joined-secret-0815"
AGENT = Path(sys.executable).with_name("opentelemetry-instrument")


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(redaction, "_known", {})
    monkeypatch.setattr(redaction, "_exact", None)
    redaction.register_secret(SECRET)
    with fresh_otel_globals():
        for name in [name for name in os.environ if name.startswith("OTEL_")]:
            del os.environ[name]
        yield


class Host:
    """An application that has set up its own SDK before this one."""

    def __init__(self, *views: View, limits: SpanLimits | None = None) -> None:
        self.spans, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.logs = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # it has no types here
        resource = Resource({"service.name": "host", "service.instance.id": "host-1"})
        self.tracers = TracerProvider(resource=resource, span_limits=limits, shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.loggers = LoggerProvider(resource=resource, shutdown_on_exit=False)
        self.loggers.add_log_record_processor(SimpleLogRecordProcessor(self.logs))
        trace.set_tracer_provider(self.tracers)
        _logs.set_logger_provider(self.loggers)
        metrics.set_meter_provider(MeterProvider([self.reader], resource, views=views, shutdown_on_exit=False))

    def bounds(self, name: str) -> list[tuple[float, ...]]:
        data = self.reader.get_metrics_data()
        assert data is not None
        return [
            tuple(point.explicit_bounds)  # type: ignore[union-attr]
            for of_resource in data.resource_metrics
            for of_scope in of_resource.scope_metrics
            for metric in of_scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


@pytest.fixture
def sink() -> Iterator[OtlpSink]:
    with otlp_sink() as running:
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = running.url
        yield running


def a_little_work() -> None:
    with instruments.sync_span("full", "cli") as span:
        span.set_attribute("note", f"Bearer {SECRET}")
        instruments.record_sync("full", "COMPLETE", 1.5, {}, {})
        logging.getLogger("catalog_sync.test").warning("it was %s", SECRET)


@pytest.mark.fault("T2")
def test_a_hosts_own_sdk_exports_alone_and_nothing_secret(sink: OtlpSink) -> None:
    host = Host()
    earlier = trace.get_tracer("made before us")
    kept: list[SpanRecord] = []
    with setup_telemetry("catalog-sync", os.environ, extra_span_processor=keep_spans(kept.append)) as telemetry:
        assert telemetry.active
        a_little_work()
        earlier.start_span(f"early {SECRET}").end()
        later = InMemorySpanExporter()
        host.tracers.add_span_processor(SimpleSpanProcessor(later))
        trace.get_tracer("late").start_span(f"late {SECRET}").end()
    names = [span.name for span in host.spans.get_finished_spans()]
    assert names == ["catalog.sync", "early ***", "late ***"] == [record.name for record in kept]
    assert [span.name for span in later.get_finished_spans()] == ["late ***"]
    assert {span.resource.attributes["service.instance.id"] for span in host.spans.get_finished_spans()} == {"host-1"}
    assert [record.log_record.body for record in host.logs.get_finished_logs()] == ["it was ***"]
    assert host.bounds("catalog.sync.duration")[0][0] == 0.5
    assert sink.requests == 0


def test_what_a_session_added_to_a_host_goes_with_it(sink: OtlpSink) -> None:
    host = Host()
    for _ in range(3):
        kept: list[SpanRecord] = []
        with setup_telemetry("catalog-sync", os.environ, extra_span_processor=keep_spans(kept.append)):
            a_little_work()
        assert len(kept) == 1
    trace.get_tracer("t").start_span(f"afterwards {SECRET}").end()
    assert len(kept) == 1
    assert [span.name for span in host.spans.get_finished_spans()] == ["catalog.sync"] * 3 + ["afterwards ***"]
    assert len(host.logs.get_finished_logs()) == 3
    assert not any(type(handler).__name__ == "OtelLogHandler" for handler in logging.getLogger().handlers)


def test_a_host_that_has_views_keeps_just_those() -> None:
    host = Host(View(instrument_name="catalog.sync.duration", aggregation=ExplicitBucketHistogramAggregation((7.0,))))
    with setup_telemetry("catalog-sync", os.environ):
        a_little_work()
    assert host.bounds("catalog.sync.duration") == [(7.0,)]


def test_signals_that_the_host_has_no_provider_for_are_ours(sink: OtlpSink) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    with setup_telemetry("catalog-sync", os.environ):
        a_little_work()
    assert not sink.spans
    assert [span.name for span in exporter.get_finished_spans()] == ["catalog.sync"]
    assert [log.body for log in sink.logs] == ["it was ***"]
    assert "catalog.sync.duration" in {point.name for point in sink.points}


@pytest.mark.fault("T2")
def test_sessions_that_follow_each_other_all_export(sink: OtlpSink) -> None:
    for number in range(3):
        with setup_telemetry(f"service-{number}", os.environ):
            a_little_work()
        a_little_work()  # between them nothing goes anywhere
    assert [span.resource["service.name"] for span in sink.spans] == ["service-0", "service-1", "service-2"]
    assert len(sink.logs) == 3
    assert len({point.resource["service.name"] for point in sink.points if point.name == "catalog.sync.duration"}) == 3


@pytest.mark.parametrize("first_ends_first", [True, False])
def test_sessions_at_the_same_time_export_once(sink: OtlpSink, first_ends_first: bool) -> None:
    first = setup_telemetry("catalog-sync", os.environ)
    second = setup_telemetry("catalog-sync", os.environ)
    a_little_work()
    (first if first_ends_first else second).shutdown()
    a_little_work()
    (second if first_ends_first else first).shutdown()
    assert [span.name for span in sink.spans] == ["catalog.sync"] * 2
    assert len(sink.logs) == 2


@pytest.mark.fault("T2")
@pytest.mark.parametrize(("name", "seen"), [("supplier.example", False), ("127.0.0.1", True)])
async def test_a_client_in_an_instrumented_process_has_one_span_and_guarded_headers(name: str, seen: bool) -> None:
    host = Host()
    instrumentor = HTTPXClientInstrumentor()
    instrumentor.instrument()
    token = context.attach(baggage.set_baggage("customer", "4711"))
    try:
        with setup_telemetry("catalog-sync", os.environ), echo_server() as echo:
            async with httpx.AsyncClient(transport=transport_to(echo.port), trust_env=False) as theirs:
                await theirs.get("http://other.example/")
            transport = traced_transport(transport_to(echo.port))
            async with httpx.AsyncClient(transport=transport, trust_env=False) as ours:
                await ours.get(f"http://{name}/")
    finally:
        context.detach(token)
        instrumentor.uninstrument()
    assert len(host.spans.get_finished_spans()) == 2
    there, here = (request.headers for request in echo.received)
    assert ("traceparent" in here, "baggage" in here) == (seen, seen)
    assert "traceparent" in there  # a client of the host is as it was


def test_a_redis_client_in_an_instrumented_process_has_one_span(tmp_path: Path) -> None:
    host = Host()
    instrumentor = RedisInstrumentor()
    with RedisServer(tmp_path) as server, setup_telemetry("catalog-sync", os.environ):
        instrumentor.instrument()
        try:
            with redis.Redis.from_url(server.url) as client:
                instrument_redis(client)
                client.ping()
        finally:
            instrumentor.uninstrument()
    assert [span.name for span in host.spans.get_finished_spans()] == ["PING"]


@pytest.mark.fault("T5")
@pytest.mark.parametrize("joined", [True, False])
def test_a_limit_of_length_cuts_what_is_redacted_already(sink: OtlpSink, joined: bool) -> None:
    text = f"https://u:p4ssw0rd-of-ours@h/?key={SECRET}"
    for limit in (12, 20, text.index(SECRET) + 8):
        os.environ["OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"] = str(limit)
        with fresh_otel_globals():
            host = Host() if joined else None
            with setup_telemetry("catalog-sync", os.environ):
                with trace.get_tracer("t").start_as_current_span("s") as span:
                    span.set_attribute("where", text)
                    span.set_attribute("all", [text, "short"])
                    span.add_event("e", {"where": text})
                    span.add_link(span.get_span_context(), {"where": text})
                logging.getLogger("catalog_sync.test").warning("it was", extra={"where": text})
            if host is not None:
                [one] = host.spans.get_finished_spans()
                [log] = host.logs.get_finished_logs()
                assert one.attributes is not None
                assert log.log_record.attributes is not None
                found = [one.attributes["where"], log.log_record.attributes["where"]]
                shown = repr((one.attributes, one.events[0].attributes, one.links[0].attributes, log.to_json()))
            else:
                found = [sink.spans[-1].attributes["where"], sink.logs[-1].attributes["where"]]
                shown = sink.everything().decode("latin-1")
        assert all(len(str(text)) <= limit for text in found)
        assert "p4ss" not in shown
        assert SECRET[:6] not in shown


def test_limits_of_number_and_longer_limits_leave_the_rest_as_it_is() -> None:
    host = Host(limits=SpanLimits(max_span_attributes=1, max_span_attribute_length=3, max_attribute_length=100))
    with setup_telemetry("catalog-sync", os.environ), trace.get_tracer("t").start_as_current_span("s") as span:
        span.set_attributes({"one": "first", "two": "second"})
        span.add_event("e", {"text": "longer than three"})
    [one] = host.spans.get_finished_spans()
    assert one.attributes == {"two": "sec"}
    assert one.dropped_attributes == 1
    assert one.events[0].attributes == {"text": "longer than three"}


@pytest.mark.fault("T6")
def test_each_process_has_an_instance_id_of_its_own_whatever_the_environment_says(sink: OtlpSink) -> None:
    code = "import os\nfrom catalog_sync.observability.sdk import setup_telemetry\nfrom opentelemetry import trace\n"
    code += "with setup_telemetry('catalog-sync', os.environ): trace.get_tracer('t').start_span('s').end()"
    environ = {"OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=cron,team=a", **os.environ}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code], env=environ, check=True, timeout=120)
    ids = {span.resource["service.instance.id"] for span in sink.spans}
    assert len(ids) == 2
    assert all(name.startswith("cron-") for name in ids)
    assert {span.resource["team"] for span in sink.spans} == {"a"}


@pytest.mark.slow
@pytest.mark.fault("T2")
def test_under_the_agent_a_sync_is_traced_once_and_guarded(tmp_path: Path) -> None:
    with otlp_sink() as sink, RedisServer(tmp_path / "redis") as redis, running_supplier(100) as supplier:
        cli = Cli(tmp_path / "state", supplier, redis.url)
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=pod-1",
            "CATALOG_TRACE_HEADERS_TO": "nobody.example",
        }
        result = cli.under([str(AGENT)], "run", "--json", **environ)
        assert result.json["outcome"] == "COMPLETE"
        requests = supplier.requests()
    of_httpx = [span for span in sink.spans if span.scope == "opentelemetry.instrumentation.httpx"]
    assert len(of_httpx) == requests
    assert {span.attributes["url.template"] for span in of_httpx}
    commands = [span for span in sink.spans if span.scope == "opentelemetry.instrumentation.redis"]
    assert len({span.span_id for span in commands}) == len(commands)
    assert {span.parent_span_id for span in commands}.isdisjoint(span.span_id for span in commands)
    resources = [span.resource for span in sink.spans] + [log.resource for log in sink.logs]
    for resource in [*resources, *(point.resource for point in sink.points)]:
        assert resource["service.name"] == "catalog-sync"
        assert resource["service.instance.id"].startswith("pod-1-")
    assert {point.bounds[0] for point in sink.points if point.name == "catalog.sync.duration"} == {0.5}
    # The agent's own mark is not of the conventions that are in force.
    assert findings(sink) == ["resource: telemetry.auto.version is not defined"]


@pytest.mark.fault("T2")
def test_under_the_agent_a_process_ends_although_the_collector_never_answers() -> None:
    """Each export may take ten minutes here: what the agent leaves to the exit of the process is cut like our own."""
    code = "import os\nfrom catalog_sync.observability.sdk import setup_telemetry\nfrom opentelemetry import trace\n"
    code += "with setup_telemetry('catalog-sync', os.environ) as telemetry:\n"
    code += "    trace.get_tracer('t').start_span('s').end()\n    telemetry.shutdown(timeout=0.2)\n"
    code += "trace.get_tracer('t').start_span('after').end()\n"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environ = {
            **os.environ,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "600000",
        }
        subprocess.run([str(AGENT), sys.executable, "-c", code], env=environ, check=True, timeout=200)


@pytest.mark.fault("T2")
def test_under_the_agent_the_end_of_our_session_sends_what_it_has_collected(sink: OtlpSink) -> None:
    code = "import os\nfrom catalog_sync.observability.sdk import setup_telemetry\nfrom opentelemetry import trace\n"
    code += "with setup_telemetry('catalog-sync', os.environ): trace.get_tracer('t').start_span('within').end()\n"
    code += "os._exit(0)\n"  # as the processes of a worker's pool end
    environ = {**os.environ, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
    subprocess.run([str(AGENT), sys.executable, "-c", code], env=environ, check=True, timeout=200)
    assert [span.name for span in sink.spans if span.scope == "t"] == ["within"]
