"""A full sync that was just tried is not tried again at once; a part of the catalogue delays nothing."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest

from catalog_sync.domain.models import Outcome, SyncKind, SyncReport, SyncRequest
from catalog_sync.domain.times import utc_now
from catalog_sync.jobs import Job, JobStatus
from catalog_sync.jobs.keys import INDEX, JobKeys
from catalog_sync.jobs.records import PLAN, PUBLISH, step_of
from catalog_sync.worker.due import LEAST_AGAIN_AFTER, just_tried
from catalog_sync.worker.process import open_worker
from catalog_sync.worker.steps import Worker
from support.worker_world import WorkerWorld

BEGIN = 1_767_225_600_000
MOMENT = "2026-01-01T00:00:00Z"


def at(seconds: float) -> int:
    return BEGIN + int(1000 * seconds)


def job(ended: float | None, kind: SyncKind = SyncKind.FULL) -> Job:
    moment = None if ended is None else at(ended)
    scope = None if kind is SyncKind.FULL else "A"
    status = JobStatus.RUNNING if ended is None else JobStatus.FINISHED
    return Job("a" * 16, "c" * 32, kind, scope, False, status, MOMENT, ended_ms=moment)


@pytest.mark.parametrize(
    ("every", "pause"), [(86_400.0, 3600.0), (3600.0, LEAST_AGAIN_AFTER)], ids=["a share of the interval", "at least"]
)
def test_a_full_sync_is_followed_by_a_pause(every: float, pause: float) -> None:
    assert just_tried([job(100)], every, at(100 + pause - 1))
    assert not just_tried([job(100)], every, at(100 + pause))


def test_the_last_one_that_ended_counts() -> None:
    assert just_tried([job(None), job(100), job(0)], 86_400.0, at(200))


def test_one_that_ended_in_the_future_says_nothing() -> None:
    assert not just_tried([job(100)], 86_400.0, at(99))


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


async def do_all(worker: Worker, job_id: str) -> Job:
    """Every step of the job, here."""
    await worker.do(job_id, PLAN)
    for number in range(len((await worker.ledger.read(job_id)).scopes)):
        await worker.do(job_id, step_of(number))
    await worker.do(job_id, PUBLISH)
    return (await worker.ledger.read(job_id)).job


@pytest.mark.parametrize("endpoint", ["groups", "catalogue"])
async def test_a_supplier_that_asks_for_time_is_left_alone_until_it_has_served_a_whole_catalogue(
    make_world: Callable[..., WorkerWorld], endpoint: str
) -> None:
    world = make_world(CATALOG_SYNC_EVERY_S="0.001")
    asks = {"fault": "status", "status": 429, "retry_after": 700, "when": {"endpoint": endpoint}}
    async with world.opened(), open_worker(world.settings) as (worker, _):

        async def asked_by_the_schedule() -> bool:
            world.redis.command("DEL", INDEX)  # when the last job ended says nothing here
            await worker.ask_if_due()
            return bool(await world.jobs.latest())

        world.supplier.play({"name": "asks for time", "rules": [asks]})
        failed = await do_all(worker, (await world.jobs.submit(SyncRequest())).id)
        assert failed.outcome is Outcome.FAILED
        world.supplier.reset()
        assert not await asked_by_the_schedule()

        served = await do_all(worker, (await world.jobs.submit(SyncRequest())).id)
        assert served.outcome is Outcome.COMPLETE
        assert await asked_by_the_schedule()


@pytest.mark.fault("S5")
@pytest.mark.parametrize("hours", [3, -3], ids=["ahead", "behind"])
async def test_a_worker_with_a_wrong_clock_makes_no_flood_of_syncs(
    make_world: Callable[..., WorkerWorld], hours: int
) -> None:
    """What it publishes is from the future, or old at once, to the others."""
    world = make_world(CATALOG_SYNC_EVERY_S="3600")
    async with (
        world.opened(),
        open_worker(world.settings) as (wrong, _),
        open_worker(world.settings) as (right, _),
    ):
        wrong.now = lambda: utc_now() + datetime.timedelta(hours=hours)
        await right.ask_if_due()
        [asked] = await world.jobs.latest()
        assert (await do_all(wrong, asked.id)).outcome is Outcome.COMPLETE

        await right.ask_if_due()

        assert len(await world.jobs.latest()) == 1


@pytest.mark.fault("S5")
async def test_how_long_a_sync_took_does_not_depend_on_the_clocks_of_its_workers(
    make_world: Callable[..., WorkerWorld],
) -> None:
    world = make_world()
    async with (
        world.opened(),
        open_worker(world.settings) as (wrong, _),
        open_worker(world.settings) as (right, _),
    ):
        wrong.now = lambda: utc_now() - datetime.timedelta(hours=3)
        job = await world.jobs.submit(SyncRequest())
        await wrong.do(job.id, PLAN)
        ended = await do_all(right, job.id)
    assert ended.report is not None
    assert 0 < ended.report["duration_s"] < 60
