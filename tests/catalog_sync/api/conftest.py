"""An API for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from catalog_sync.observability.sdk import keep_spans, setup_telemetry
from catalog_sync.observability.traces import TraceRing
from support.api_world import ApiWorld, api_world
from support.otel_globals import fresh_otel_globals


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ApiWorld]:
    async with api_world(tmp_path / "state") as made:
        yield made


@pytest.fixture
def spans_exported() -> InMemorySpanExporter:
    """What an exporter would get."""
    return InMemorySpanExporter()


@pytest.fixture
def kept_here(spans_exported: InMemorySpanExporter) -> Iterator[TraceRing]:
    """The SDK with a ring, as ``catalog-api`` has it, beside an exporter."""
    ring = TraceRing()
    with fresh_otel_globals():
        telemetry = setup_telemetry("catalog-api", {}, extra_span_processor=keep_spans(ring.add))
        trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(spans_exported))  # type: ignore[attr-defined]
        yield ring
        telemetry.shutdown()
