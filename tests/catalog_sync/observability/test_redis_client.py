"""Redis commands in the trace, without their values."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import fakeredis
import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from catalog_sync.observability.sdk import instrument_redis, setup_telemetry
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
