"""A worker started by ``opentelemetry-instrument``: the agent's providers exist before the pool is forked."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from catalog_sync.domain.models import SyncRequest
from support.otlp_sink import otlp_sink
from support.redis_server import RedisServer
from support.worker_world import PERSISTENT, running_supplier, worker_world

AGENT = Path(sys.executable).with_name("opentelemetry-instrument")


@pytest.mark.slow
@pytest.mark.fault("T2", "T6")
async def test_each_process_of_the_pool_is_itself_and_loses_nothing(tmp_path: Path) -> None:
    with (
        otlp_sink() as sink,
        RedisServer(tmp_path / "redis", *PERSISTENT) as redis,
        running_supplier(60) as supplier,
        worker_world(tmp_path, redis, supplier) as world,
    ):
        async with world.opened():
            worker = world.start_worker(
                concurrency=2,
                program=(str(AGENT), sys.executable, "-m", "catalog_sync.worker"),
                OTEL_EXPORTER_OTLP_ENDPOINT=sink.url,
                OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
                OTEL_RESOURCE_ATTRIBUTES="service.instance.id=pod-1",
            )
            job = await world.ended((await world.jobs.submit(SyncRequest())).id)
            assert job.outcome == "COMPLETE", world.logs()
        sent = supplier.requests()
        worker.terminate()
        assert worker.process.wait(100) == 0, world.logs()
        assert "Traceback" not in worker.log.read_text()
    ours = [span for span in sink.spans if span.trace_id == job.correlation_id]
    assert not [name for name, times in Counter(span.span_id for span in ours).items() if times > 1]
    names = {span.name for span in ours}
    assert {"catalog.sync", "catalog.publish"} <= names
    assert {span.resource["service.name"] for span in ours} == {"catalog-worker"}
    requests = [span for span in ours if span.scope == "opentelemetry.instrumentation.httpx"]
    assert len(requests) == sent
    instances = {span.resource["service.instance.id"] for span in ours}
    assert all(name.startswith("pod-1-") for name in instances)
    assert len(instances) == 2
