"""Redis commands in the trace, without their values."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import fakeredis
import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from catalog_sync.domain.errors import CatalogSyncError
from catalog_sync.observability.sdk import instrument_redis, setup_telemetry
from catalog_sync.store.client import GuardedRedis
from otel_resilience import Policy
from support.otel_globals import fresh_otel_globals


@pytest.fixture(autouse=True)
def _isolated() -> Iterator[None]:
    with fresh_otel_globals():
        yield


@pytest.fixture
async def client() -> AsyncIterator[fakeredis.FakeAsyncRedis]:
    client = fakeredis.FakeAsyncRedis()
    yield client
    await client.aclose()


async def test_commands_and_pipelines_are_spans_without_values(client: fakeredis.FakeAsyncRedis) -> None:
    exporter = InMemorySpanExporter()
    with setup_telemetry("catalog-sync", os.environ, extra_span_processor=SimpleSpanProcessor(exporter)):
        instrument_redis(client)
        instrument_redis(client)
        await client.set("price", "hidden-value")
        async with client.pipeline(transaction=False) as pipe:
            pipe.hset("bundles", "name", "hidden-value")
            pipe.get("price")
            await pipe.execute()
    command, pipeline = exporter.get_finished_spans()
    assert command.attributes is not None
    assert pipeline.attributes is not None
    assert command.attributes["db.query.text"] == "SET ? ?"
    assert command.attributes["db.system.name"] == "redis"
    assert pipeline.attributes["db.query.text"] == "HSET ? ? ?\nGET ?"
    assert "hidden-value" not in command.to_json() + pipeline.to_json()


async def test_without_an_sdk_the_client_stays_as_it_is(client: fakeredis.FakeAsyncRedis) -> None:
    before = client.execute_command
    instrument_redis(client)
    assert client.execute_command == before
    await client.set("a", "b")


@pytest.mark.fault("W9")
async def test_scripts_are_loaded_first_and_again_where_redis_has_lost_them(client: fakeredis.FakeAsyncRedis) -> None:
    exporter = InMemorySpanExporter()
    with setup_telemetry(
        "catalog-sync", {"CATALOG_TRACE_REDIS_FROM_MS": "0"}, extra_span_processor=SimpleSpanProcessor(exporter)
    ):
        instrument_redis(client)
        redis = GuardedRedis(client, Policy("redis"))
        for _ in range(2):
            assert await redis.script("set it", "return redis.call('SET', KEYS[1], ARGV[1])", keys=["k"], args=["v"])
        await client.script_flush()
        assert await redis.script("set it", "return redis.call('SET', KEYS[1], ARGV[1])", keys=["k"], args=["v"])
        assert await redis.command("read it", "GET", "k") == b"v"
    spans = exporter.get_finished_spans()
    assert {span.status.status_code for span in spans} == {StatusCode.UNSET}
    of_clients = [span.name for span in spans if span.kind is SpanKind.CLIENT and span.name != "SCRIPT FLUSH"]
    assert of_clients == ["set it", "set it", "set it", "set it", "set it", "set it", "read it"]
    assert {span.name for span in spans if span.parent is None} == {"redis write", "redis read", "SCRIPT FLUSH"}


async def test_quick_commands_leave_no_spans_unless_they_are_asked_for(client: fakeredis.FakeAsyncRedis) -> None:
    exporter = InMemorySpanExporter()
    environment = {"CATALOG_TRACE_REDIS_FROM_MS": "60000"}
    with setup_telemetry("catalog-sync", environment, extra_span_processor=SimpleSpanProcessor(exporter)):
        instrument_redis(client)
        redis = GuardedRedis(client, Policy("redis"))
        await redis.command("read it", "GET", "k")
        assert exporter.get_finished_spans() == ()
        await client.set("k", "v")
        with pytest.raises(CatalogSyncError):
            await redis.command("read it", "LRANGE", "k", 0, 1)
    assert [span.name for span in exporter.get_finished_spans()] == ["SET", "read it", "attempt", "redis read"]
