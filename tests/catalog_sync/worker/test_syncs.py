"""A sync in steps has the same result as a sync in one process: the same report, the same catalogue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from catalog_sync.composition import open_kept_traces
from catalog_sync.domain.errors import UNKNOWN_SCOPE_TYPES
from catalog_sync.domain.models import Outcome, SyncKind, SyncRequest
from catalog_sync.history import History, SyncRecord
from catalog_sync.jobs import Job, JobConflictError, JobStatus
from catalog_sync.observability.traces.tree import failed_attempt, roots
from catalog_sync.store.snapshot import Snapshot
from catalog_sync.supplier.esim_go.client import open_supplier
from catalog_sync.sync.service import SyncService
from catalog_sync.worker.celery_app import app
from catalog_sync.worker.celery_settings import DUE_TASK
from support.cli import Supplier
from support.redis_server import RedisServer
from support.worker_world import WorkerWorld, worker_world

GROUP_DOWN = {
    "name": "one group down",
    "rules": [{"fault": "status", "status": 500, "when": {"group": "Standard - Unlimited Lite"}}],
}
KEY_REFUSED = {"name": "key refused", "rules": [{"fault": "status", "status": 401, "when": {}}]}


@pytest.fixture(scope="module")
def two_workers(redis_server: RedisServer, supplier: Supplier, tmp_path_factory: Any) -> Iterator[WorkerWorld]:
    with worker_world(tmp_path_factory.mktemp("world"), redis_server, supplier) as made:
        made.preloaded = True
        made.start_worker()
        made.start_worker()
        yield made


@pytest.fixture
async def world(two_workers: WorkerWorld) -> AsyncIterator[WorkerWorld]:
    two_workers.clear()
    async with two_workers.opened():
        yield two_workers


async def sync(world: WorkerWorld, kind: SyncKind = SyncKind.FULL, scope: str | None = None) -> Job:
    job = await world.jobs.submit(SyncRequest(kind, scope))
    return await world.ended(job.id)


async def in_one_process(world: WorkerWorld, state_dir: Path, request: SyncRequest) -> dict[str, Any]:
    settings = world.settings.changed(state_dir=state_dir)
    async with open_supplier(settings) as supplier:
        service = SyncService(settings, supplier, world.store, Snapshot(state_dir))
        return (await service.run(request)).to_json()


def same(report: dict[str, Any] | Any) -> dict[str, Any]:
    """The part of a report that must not depend on how the sync was run."""
    changing = {"correlation_id", "version", "started_at", "duration_s"}
    groups = [
        {**group, "error": group["error"] and {**group["error"], "correlation_id": ""}} for group in report["groups"]
    ]
    error = report["error"] and {**report["error"], "correlation_id": ""}
    return {**{name: value for name, value in report.items() if name not in changing}, "groups": groups, "error": error}


async def test_reports_and_catalogues_are_those_of_one_process(world: WorkerWorld, tmp_path: Path) -> None:
    requests = [
        SyncRequest(),
        SyncRequest(SyncKind.GROUP, "standard - fixed"),
        SyncRequest(SyncKind.COUNTRY, "pt"),
        SyncRequest(SyncKind.BUNDLE, "no such bundle"),
        SyncRequest(SyncKind.GROUP, "no such group"),
    ]
    for request in requests:
        job = await sync(world, request.kind, request.scope)
        assert job.status is JobStatus.FINISHED
        distributed = [bundle async for bundle in world.store.iter_bundles(await published(world))]
        expected = await in_one_process(world, tmp_path / "other", request)
        assert same(job.report) == same(expected)
        alone = [bundle async for bundle in world.store.iter_bundles(await published(world))]
        by_name = sorted(distributed, key=lambda bundle: bundle.name)
        assert [unordered(bundle) for bundle in by_name] == [
            unordered(bundle) for bundle in sorted(alone, key=lambda bundle: bundle.name)
        ]
    assert await world.store.lock.holder() is None


@pytest.mark.fault("S3")
@pytest.mark.parametrize("part", ["bundles", "meta", "pointer"])
async def test_a_scoped_sync_on_a_damaged_catalogue_becomes_a_full_one(world: WorkerWorld, part: str) -> None:
    """Its country alone would otherwise be published as the whole."""
    await sync(world)
    version = await published(world)
    whole = (await world.store.meta(version)).bundles
    for file in world.settings.state_dir.glob("catalogue.snapshot*"):
        file.unlink()
    world.redis.command("DEL", "{cat}:current" if part == "pointer" else f"{{cat}}:v:{version}:{part}")

    job = await sync(world, SyncKind.COUNTRY, "PT")

    assert (job.outcome, job.kind, job.scope) == (Outcome.COMPLETE, SyncKind.FULL, None)
    assert job.report is not None
    assert (job.report["kind"], job.report["bundles"]) == ("full", whole)
    assert (await world.store.meta(await published(world))).bundles == whole


@pytest.mark.fault("S3", "A3")
@pytest.mark.parametrize("emptied", [True, False])
async def test_a_typo_is_refused_even_if_a_full_sync_would_be_done_instead(
    world: WorkerWorld, tmp_path: Path, *, emptied: bool
) -> None:
    if not emptied:
        await sync(world)
        world.redis.command("DEL", f"{{cat}}:v:{await published(world)}:groups")
    for file in world.settings.state_dir.glob("catalogue.snapshot*"):
        file.unlink()
    for kind, scope in ((SyncKind.GROUP, "Standard - Fixd"), (SyncKind.BUNDLE, "esim_typo")):
        job = await sync(world, kind, scope)
        alone = await in_one_process(world, tmp_path / "other", SyncRequest(kind, scope))
        assert job.outcome is Outcome.FAILED
        assert job.report is not None
        assert job.report["error"]["message"] == alone["error"]["message"]
        assert job.report["error"]["type"] in UNKNOWN_SCOPE_TYPES


async def test_a_group_that_fails_keeps_its_last_good_data(world: WorkerWorld, tmp_path: Path) -> None:
    await sync(world)
    world.supplier.play(GROUP_DOWN)
    job = await sync(world)
    assert job.outcome is Outcome.PARTIAL
    assert same(job.report) == same(await in_one_process(world, tmp_path / "other", SyncRequest()))
    lite = next(group for group in job.groups if group.name == "Standard - Unlimited Lite")
    assert (lite.status, lite.error and lite.error["type"]) == ("stale", "500")
    assert lite.error is not None
    assert lite.error["correlation_id"] == job.correlation_id


async def test_what_workers_did_is_visible_everywhere(world: WorkerWorld) -> None:
    world.supplier.play(GROUP_DOWN)
    job = await sync(world)
    with History(world.settings, "catalog-sync") as history:
        async with asyncio.timeout(60):
            found: list[SyncRecord] = []
            while not found:  # written beside the job
                syncs = (await asyncio.to_thread(history.latest)).syncs
                found = [record for record in syncs if record.correlation_id == job.correlation_id]
        [record] = found
        assert (record.process, record.outcome, record.report) == ("catalog-worker", job.outcome, job.report)
        async with open_kept_traces(world.settings, history.traces) as traces:
            async with asyncio.timeout(60):
                while not (failed := failed_attempt(roots(await traces.get(job.correlation_id)), "500")):
                    await asyncio.sleep(0.01)
    assert failed.attributes["error.type"] == "500"


async def test_a_refused_key_ends_the_whole_sync_at_once(world: WorkerWorld) -> None:
    world.supplier.play(KEY_REFUSED)
    job = await sync(world)
    assert job.outcome is Outcome.FAILED
    assert job.report is not None
    assert (job.report["error"]["type"], job.report["error"]["severity"]) == ("401", "CRITICAL")
    assert job.report["correlation_id"] == job.correlation_id


async def test_while_another_run_holds_the_lock_a_sync_is_skipped(world: WorkerWorld) -> None:
    await world.store.lock.acquire("a" * 32)
    job = await sync(world)
    assert job.outcome is Outcome.SKIPPED_LOCKED
    assert job.report is not None
    assert job.report["holder"]["correlation_id"] == "a" * 32
    assert world.supplier.requests() == 0


async def test_one_sync_at_a_time_and_a_cancelled_one_makes_room(world: WorkerWorld) -> None:
    world.supplier.play("slow")
    running = await world.jobs.submit(SyncRequest())
    with pytest.raises(JobConflictError) as conflict:
        await world.jobs.submit(SyncRequest())
    assert conflict.value.running.id == running.id
    await world.until(running.id, lambda job: any(group.status == "running" for group in job.groups))
    await world.jobs.cancel(running.id)
    job = await world.ended(running.id)
    assert (job.status, job.outcome, job.report) == (JobStatus.CANCELLED, None, None)
    assert await world.store.current() is None
    assert await world.store.lock.holder() is None
    world.supplier.reset()
    assert (await sync(world)).outcome is Outcome.COMPLETE


async def test_changes_tell_progress_by_group_to_the_end(world: WorkerWorld) -> None:
    seen: list[Job] = []
    changes = world.jobs.changes()
    first = anext(changes)
    waiting = asyncio.ensure_future(first)
    await asyncio.sleep(0.2)
    job = await world.jobs.submit(SyncRequest())
    seen.append(await waiting)
    async for change in changes:
        seen.append(change)
        if change.status.ended:
            break
    assert {change.id for change in seen} == {job.id}
    assert seen[-1].outcome is Outcome.COMPLETE
    done = [sum(group.status == "ok" for group in change.groups) for change in seen]
    assert done == sorted(done)
    assert done[-1] == 5


async def published(world: WorkerWorld) -> str:
    version = await world.store.current_version()
    assert version is not None
    return version


def unordered(bundle: Any) -> dict[str, Any]:
    """The report with sorted groups, which are in the order of fetching."""
    return {**bundle.to_json(), "groups": sorted(bundle.groups)}


@pytest.mark.fault("S3")
async def test_the_scheduler_asks_once_where_a_sync_is_due_and_mends_a_damaged_catalogue(world: WorkerWorld) -> None:
    app.tasks[DUE_TASK].apply_async()
    app.tasks[DUE_TASK].apply_async()
    [asked] = await until_jobs(world, 1)
    assert (await world.ended(asked.id)).outcome is Outcome.COMPLETE
    version = await published(world)
    world.redis.command("DEL", f"{{cat}}:v:{version}:meta", "{cat}:jobs:index")
    app.tasks[DUE_TASK].apply_async()
    [mending] = await until_jobs(world, 1)
    assert (await world.ended(mending.id)).outcome is Outcome.COMPLETE
    assert (await world.store.meta(await published(world))).bundles


async def until_jobs(world: WorkerWorld, number: int) -> list[Job]:
    while len(jobs := list(await world.jobs.latest())) < number:
        await asyncio.sleep(0.05)
    return jobs
