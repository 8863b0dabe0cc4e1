"""Answers of Redis that are lost or late while the result of a step is recorded: what was recorded counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from catalog_sync.domain.errors import CacheConnectionError
from catalog_sync.domain.models import Outcome, SyncRequest
from catalog_sync.jobs import JobStatus
from catalog_sync.jobs.records import PLAN, PUBLISH, step_of
from catalog_sync.worker.process import open_worker
from catalog_sync.worker.step_heartbeat import LONGEST_PAUSE
from catalog_sync.worker.steps import Worker
from support.worker_world import WorkerWorld

MakeWorld = Callable[..., WorkerWorld]


@pytest.fixture
async def world(make_world: MakeWorld) -> AsyncIterator[WorkerWorld]:
    made = make_world()
    async with made.opened():
        yield made


async def sync(world: WorkerWorld, worker: Worker) -> str:
    """Runs every step of a sync in this process, one after the other. Returns the ID of the job."""
    job = await world.jobs.submit(SyncRequest())
    await worker.do(job.id, PLAN)
    for number in range(len((await world.ledger.read(job.id)).scopes)):
        try:
            await worker.do(job.id, step_of(number))
        except CacheConnectionError:
            await worker.do(job.id, step_of(number))  # as Celery gives the message out again
    await worker.do(job.id, PUBLISH)
    return job.id


@pytest.mark.fault("W2")
async def test_a_result_whose_confirmation_is_lost_keeps_what_it_staged(
    world: WorkerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[str] = []
    async with open_worker(world.settings) as (worker, _):
        finish = worker.ledger.finish

        async def confirmed_to_nobody(job_id: str, number: int, *args: Any) -> tuple[bool, bool]:
            answer = await finish(job_id, number, *args)
            if not lost:
                lost.append(job_id)
                raise CacheConnectionError("the connection was killed after the write")
            return answer

        monkeypatch.setattr(worker.ledger, "finish", confirmed_to_nobody)
        job = await world.jobs.get(await sync(world, worker))
    assert lost == [job.id]
    assert job.outcome is Outcome.COMPLETE, job.report


@pytest.mark.fault("W2")
@pytest.mark.parametrize("write", ["planned", "finish", "end"])
async def test_a_sign_of_life_after_the_last_write_stops_no_step(
    write: str, world: WorkerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_worker(world.settings) as (worker, _):
        noted = getattr(worker.ledger, write)
        slow: list[str] = []

        async def answers_late(*args: Any, **options: Any) -> Any:
            answer = await noted(*args, **options)
            if not slow:
                slow.append(write)
                await asyncio.sleep(1.5 * LONGEST_PAUSE)  # a sign of life finds the claim given back
            return answer

        monkeypatch.setattr(worker.ledger, write, answers_late)
        job = await world.jobs.get(await sync(world, worker))
    assert slow == [write]
    assert job.outcome is Outcome.COMPLETE, job.report
    assert world.redis.command("KEYS", "{cat}:v:part.*") == [], "no part is left behind"


@pytest.mark.fault("W2")
async def test_a_sync_that_is_cancelled_once_its_version_is_live_is_finished(
    world: WorkerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the worker is killed between the commit and the end of the job."""
    async with open_worker(world.settings) as (worker, _):
        with monkeypatch.context() as patched:
            patched.setattr(worker.ledger, "end", _is_away)
            with pytest.raises(CacheConnectionError):
                await sync(world, worker)
        [job] = await world.jobs.latest()
        version = await world.store.current_version()
        assert (await world.jobs.cancel(job.id)).cancel_requested
        await worker.do(job.id, PUBLISH)
        job = await world.jobs.get(job.id)
    assert version is not None
    assert (job.status, job.outcome) == (JobStatus.FINISHED, Outcome.COMPLETE)
    assert job.report is not None
    assert job.report["version"] == version == await world.store.current_version()


async def _is_away(*_: Any, **__: Any) -> bool:
    raise CacheConnectionError("Redis is away")
