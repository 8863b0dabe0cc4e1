"""Many groups, several workers, one supplier: together they act as one client."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from catalog_sync.domain.models import Outcome, SyncKind, SyncRequest
from catalog_sync.jobs import Job
from support.cli import Supplier, running_supplier
from support.otlp_sink import OtlpSink, otlp_sink
from support.redis_server import RedisServer
from support.timing import TRIES
from support.worker_world import GIVEN_UP_AFTER, WorkerWorld, worker_world

GROUPS = 100
WORKERS = 4
RATE = 20
ENFORCED = 2 * RATE
"""By the simulator: what is sent in time may arrive late, and together with what follows."""
THRESHOLD = 5
RESET = 2.0
GROUPS_LISTED = 1
"""Requests of the first sync that were answered: the list of groups."""
DOWN_AFTER_LIST = {
    "name": "down",
    "rules": [
        {"fault": "status", "status": 503, "when": {"endpoint": "catalogue"}},
        {"fault": "status", "status": 503, "when": {"endpoint": "groups", "skip": 1}},
    ],
}


@pytest.fixture(scope="module")
def sink() -> Iterator[OtlpSink]:
    with otlp_sink() as running:
        yield running


@pytest.fixture(scope="module")
def fleet(redis_server: RedisServer, sink: OtlpSink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerWorld]:
    directory = tmp_path_factory.mktemp("fleet")
    data = directory / "bundles.json"
    data.write_text(json.dumps([bundle(number) for number in range(GROUPS)]))
    redis_server.command("FLUSHALL")
    changes = {
        "CATALOG_SUPPLIER_RATE_PER_S": str(RATE),
        "ERROR_CIRCUIT_BREAKER_THRESHOLD": str(THRESHOLD),
        "ERROR_CIRCUIT_BREAKER_RESET_TIMEOUT": str(int(RESET * 1000)),
        "ERROR_RETRY_MAX_ATTEMPTS": "2",
    }
    with (
        running_supplier(0, "--data", str(data), "--rate", str(ENFORCED)) as supplier,
        worker_world(directory, redis_server, supplier, **changes) as world,
    ):
        for _ in range(WORKERS):
            world.start_worker(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{sink.url}/v1/traces")
        yield world


@pytest.fixture
async def world(fleet: WorkerWorld) -> AsyncIterator[WorkerWorld]:
    fleet.clear()
    async with fleet.opened():
        yield fleet


async def test_a_hundred_jobs_over_four_workers_keep_the_rate_of_one_client(world: WorkerWorld, sink: OtlpSink) -> None:
    began = time.monotonic()
    job = await sync(world)
    assert time.monotonic() - began >= GROUPS / RATE - 1, "faster than one client may be"
    assert job.outcome is Outcome.COMPLETE
    assert [group.status for group in job.groups] == ["ok"] * GROUPS
    assert stats(world.supplier)["total"] == GROUPS + 1
    sent = sent_at(sink, job)
    assert len(sent) == GROUPS + 1
    most = max(sum(1 for at in sent[index:] if at < start + 1) for index, start in enumerate(sent))
    assert most <= RATE, world.logs()
    assert "429" not in stats(world.supplier)["statuses"]


async def test_one_outage_opens_one_circuit_for_all_and_one_probe_closes_it(world: WorkerWorld) -> None:
    """A worker that waits in vain for what Redis says of the others has a circuit of its own: on a busy machine."""
    for _ in range(TRIES):
        if await act_as_one_client(world):
            return
        world.clear()
    pytest.fail("they act as several clients each time")


async def act_as_one_client(world: WorkerWorld) -> bool:
    """Whether they do in an outage and at its end. Asserts that no worker sends more than one client may."""
    world.supplier.play(DOWN_AFTER_LIST)
    job = await sync(world)
    assert job.outcome is Outcome.FAILED, (job.report, world.logs())
    sent = stats(world.supplier)["endpoints"]["catalogue"]["503"]
    assert THRESHOLD <= sent <= WORKERS * (THRESHOLD + 1)
    opened = time.monotonic()
    served = 0
    while served < 1 or time.monotonic() - opened < 1.5 * RESET:
        assert time.monotonic() - opened < GIVEN_UP_AFTER, "no probe was sent"
        assert (await sync(world, SyncKind.GROUP, "Group 1")).outcome is Outcome.FAILED
        served = stats(world.supplier)["total"] - GROUPS_LISTED - sent
    probes = 1 + (time.monotonic() - opened) / RESET
    assert 1 <= served <= WORKERS * probes
    world.supplier.reset()
    healed = time.monotonic()
    while (await sync(world, SyncKind.GROUP, "Group 1")).outcome is not Outcome.COMPLETE:
        assert time.monotonic() - healed < GIVEN_UP_AFTER
        await asyncio.sleep(0.1)
    # Each worker has one request in flight at most, and one probe is sent at a time.
    return sent <= THRESHOLD + WORKERS and served <= probes


async def sync(world: WorkerWorld, kind: SyncKind = SyncKind.FULL, scope: str | None = None) -> Job:
    job = await world.jobs.submit(SyncRequest(kind, scope))
    return await world.ended(job.id)


def sent_at(sink: OtlpSink, job: Job) -> list[float]:
    """When the workers sent the requests of a sync, by their spans, in the order of sending.

    The times of arrival prove nothing on a loaded machine: there the simulator finds several requests waiting at once.
    """

    def requests() -> list[float]:
        return [
            span.start
            for span in tuple(sink.spans)
            if span.trace_id == job.correlation_id
            and span.kind == "CLIENT"
            and "http.request.method" in span.attributes
        ]

    sink.wait_for(lambda _: len(requests()) > GROUPS)
    return sorted(requests())


def stats(supplier: Supplier) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{supplier.control_url}/stats", trust_env=False).json()["requests"]
    return found


def bundle(number: int) -> dict[str, Any]:
    return {
        "name": f"esim_{number}",
        "description": f"eSIM {number}",
        "groups": [f"Group {number}"],
        "countries": [{"name": "Portugal", "region": "Europe", "iso": "PT"}],
        "dataAmount": 1000,
        "duration": 7,
        "speed": None,
        "autostart": True,
        "unlimited": False,
        "price": 6.9,
        "billingType": "FixedCost",
    }
