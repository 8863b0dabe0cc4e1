"""A full sync that was just tried is not repeated immediately; syncing a part of the catalogue delays nothing."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest

from catalog_sync.domain.models import SyncKind, SyncReport, SyncRequest
from catalog_sync.jobs import Job, JobStatus
from catalog_sync.jobs.keys import JobKeys
from catalog_sync.worker.due import LEAST_AGAIN_AFTER, just_tried
from catalog_sync.worker.process import open_worker
from support.worker_world import WorkerWorld

BEGIN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def at(seconds: float) -> datetime.datetime:
    return BEGIN + datetime.timedelta(seconds=seconds)


def job(finished: float | None, kind: SyncKind = SyncKind.FULL) -> Job:
    moment = None if finished is None else at(finished).isoformat()
    scope = None if kind is SyncKind.FULL else "A"
    status = JobStatus.RUNNING if finished is None else JobStatus.FINISHED
    return Job("a" * 16, "c" * 32, kind, scope, False, status, at(0).isoformat(), at(0).isoformat(), moment)


@pytest.mark.parametrize(
    ("every", "pause"), [(86_400.0, 3600.0), (3600.0, LEAST_AGAIN_AFTER)], ids=["a share of the interval", "at least"]
)
def test_a_full_sync_is_followed_by_a_pause(every: float, pause: float) -> None:
    assert just_tried([job(100)], every, at(100 + pause - 1))
    assert not just_tried([job(100)], every, at(100 + pause))


def test_the_last_one_that_ended_counts() -> None:
    assert just_tried([job(None), job(100), job(0)], 86_400.0, at(200))


def test_parts_and_an_empty_history_delay_nothing() -> None:
    assert not just_tried([job(100, SyncKind.GROUP)], 86_400.0, at(101))
    assert not just_tried([], 86_400.0, at(0))


async def test_a_job_that_is_given_up_for_the_sync_that_is_due_is_reported(
    make_world: Callable[..., WorkerWorld],
) -> None:
    world = make_world()
    reported: list[SyncReport] = []
    async with world.opened(), open_worker(world.settings, lambda report, _: reported.append(report)) as (worker, _):
        stuck = await world.jobs.submit(SyncRequest())
        world.redis.command("HSET", JobKeys(stuck.id).record, "created_ms", "1")

        await worker.ask_if_due()

        jobs = await world.jobs.latest()

    assert [(job.trigger, job.status) for job in jobs] == [
        ("schedule", JobStatus.QUEUED),
        ("cli", JobStatus.FINISHED),
    ]
    assert [report.error and report.error.type for report in reported] == ["job_abandoned"]


async def test_a_redis_that_takes_no_writes_is_asked_again_later(
    make_world: Callable[..., WorkerWorld], caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world()
    async with world.opened(), open_worker(world.settings) as (worker, _):
        world.redis.command("CONFIG", "SET", "maxmemory", "1")
        try:
            await worker.ask_if_due()
        finally:
            world.redis.command("CONFIG", "SET", "maxmemory", "0")
        assert await world.jobs.latest() == []

        await worker.ask_if_due()

        assert [job.trigger for job in await world.jobs.latest()] == ["schedule"]
    [line] = [record for record in caplog.records if "cannot be requested" in record.message]
    assert "Redis takes no writes" in line.message
