"""The ledger decides which step runs, and which result stands."""

from __future__ import annotations

import asyncio
import json

import pytest

from catalog_sync.domain.errors import AuthenticationError, NotFoundError
from catalog_sync.domain.models import Outcome, SyncKind
from catalog_sync.jobs import JobNotFoundError, JobStatus
from catalog_sync.jobs.keys import DEAD, WORKER_PREFIX, JobKeys
from catalog_sync.jobs.ledger import KEPT_JOBS, MAX_STARTS, JobLedger, Started
from catalog_sync.jobs.overview import overview
from catalog_sync.jobs.records import PLAN, PUBLISH, step_of
from catalog_sync.store.catalog_store import CatalogStore
from catalog_sync.store.client import GuardedRedis
from catalog_sync.store.lock import LockLease
from catalog_sync.sync.progress import GroupProgress
from catalog_sync.sync.shared.staged import Part
from support.job_records import CORRELATION, LATER, NOW, fields, finish, job_id, planned, start
from support.redis_server import RedisServer


async def test_a_new_job_is_queued_and_known(ledger: JobLedger) -> None:
    assert await ledger.submit(job_id(), fields(kind=SyncKind.GROUP, scope="A", force=True)) == job_id()
    record = await ledger.read(job_id())
    job = record.job
    assert (job.status, job.kind, job.scope, job.force) == (JobStatus.QUEUED, SyncKind.GROUP, "A", True)
    assert (job.correlation_id, job.created_at, job.groups) == (CORRELATION, NOW, ())
    active = await ledger.active()
    assert active is not None
    assert active.job == job


async def test_one_job_at_a_time(ledger: JobLedger) -> None:
    await ledger.submit(job_id(1), fields())
    assert await ledger.submit(job_id(2), fields()) == job_id(1)
    with pytest.raises(JobNotFoundError):
        await ledger.read(job_id(2))
    await ledger.end(job_id(1), JobStatus.FINISHED, Outcome.COMPLETE, {}, finished_at=LATER)
    assert await ledger.submit(job_id(2), fields()) == job_id(2)
    assert [job.id for job in await ledger.latest(10, 0)] == [job_id(2), job_id(1)]


async def test_a_submission_repeated_after_a_lost_answer_is_the_same_job(ledger: JobLedger) -> None:
    assert await ledger.submit(job_id(), fields()) == await ledger.submit(job_id(), fields()) == job_id()


async def test_what_is_no_id_is_not_found(ledger: JobLedger) -> None:
    for text in ("", "x", "../..", "A" * 16, "{cat}", job_id() + "0"):
        with pytest.raises(JobNotFoundError):
            await ledger.read(text)


async def test_the_records_of_the_last_jobs_are_kept(ledger: JobLedger, redis_server: RedisServer) -> None:
    for number in range(KEPT_JOBS + 3):
        await ledger.submit(job_id(number), fields())
        await ledger.end(job_id(number), JobStatus.FINISHED, Outcome.COMPLETE, {}, finished_at=LATER)
    kept = await ledger.latest(KEPT_JOBS + 10, 0)
    assert len(kept) == KEPT_JOBS
    assert redis_server.command("EXISTS", JobKeys(job_id(0)).record) == 0


async def test_the_first_step_starts_the_job_and_its_time(ledger: JobLedger) -> None:
    await ledger.submit(job_id(), fields())
    started = await start(ledger, PLAN)
    assert isinstance(started, Started)
    assert (started.starts, 899 < started.left <= 900) == (1, True)
    job = (await ledger.read(job_id())).job
    assert (job.status, job.started_at) == (JobStatus.RUNNING, NOW)


async def test_a_step_is_one_workers_until_it_is_silent_for_too_long(ledger: JobLedger) -> None:
    await ledger.submit(job_id(), fields())
    await start(ledger, PLAN, "one")
    assert await start(ledger, PLAN, "two") == "busy"
    assert await ledger.beat(job_id(), PLAN, "one", 0.05) == "ok"
    await asyncio.sleep(0.06)
    taken_over = await start(ledger, PLAN, "two")
    assert isinstance(taken_over, Started)
    assert taken_over.starts == 2
    assert await ledger.beat(job_id(), PLAN, "one", 30) == "lost"


async def test_a_claim_that_is_given_back_is_free_at_once(ledger: JobLedger) -> None:
    await ledger.submit(job_id(), fields())
    await start(ledger, PLAN, "one")
    await ledger.release(job_id(), PLAN, "another")
    assert await start(ledger, PLAN, "two") == "busy"
    await ledger.release(job_id(), PLAN, "one")
    assert isinstance(await start(ledger, PLAN, "two"), Started)


async def test_a_step_that_never_ends_is_begun_a_limited_number_of_times(ledger: JobLedger) -> None:
    await ledger.submit(job_id(), fields())
    for attempt in range(MAX_STARTS):
        assert isinstance(await start(ledger, PLAN, str(attempt)), Started)
        await ledger.release(job_id(), PLAN, str(attempt))
    assert await start(ledger, PLAN, "once more") == "dead"


async def test_the_first_plan_stands(ledger: JobLedger) -> None:
    await planned(ledger, "A", "B")
    again = await ledger.planned(job_id(), Part(), ["C"], token=9, refused_by=None, carrier={})
    record = await ledger.read(job_id())
    assert not again
    assert (record.scopes, record.token, record.carrier) == (("A", "B"), 7, {"a": "b"})
    assert [(group.name, group.status) for group in record.job.groups] == [("A", "pending"), ("B", "pending")]


async def test_the_last_step_can_begin_once_all_others_are_done(ledger: JobLedger) -> None:
    await planned(ledger, "A", "B")
    assert await start(ledger, PUBLISH) == "early"
    assert await finish(ledger, 0, Part(version="v0")) == (True, False)
    assert await start(ledger, PUBLISH) == "early"
    assert await finish(ledger, 1, Part(version="v1")) == (True, True)
    assert isinstance(await start(ledger, PUBLISH), Started)


async def test_the_first_result_of_a_step_stands_and_a_repeated_call_knows_it(ledger: JobLedger) -> None:
    await planned(ledger, "A", "B")
    first = Part(version="first", bundles=3)
    assert await finish(ledger, 0, first) == (True, False)
    assert await finish(ledger, 0, Part(version="second")) == (False, False)
    assert await finish(ledger, 0, first) == (True, False)
    assert (await ledger.parts(job_id()))[step_of(0)] == first
    assert await start(ledger, step_of(0)) == "done"
    assert (await ledger.read(job_id())).job.groups[0].bundles == 3


async def test_an_error_of_a_group_travels_with_its_part(ledger: JobLedger) -> None:
    await planned(ledger, "A", "B")
    assert await finish(ledger, 0, Part(error=NotFoundError("gone"))) == (True, False)
    error = (await ledger.parts(job_id()))[step_of(0)].error
    assert isinstance(error, NotFoundError)
    assert (str(error), error.classification) == ("gone", NotFoundError.default)


async def test_an_error_that_ends_the_sync_stops_the_other_steps(ledger: JobLedger) -> None:
    await planned(ledger, "A", "B")
    await start(ledger, step_of(1), "busy one")
    assert await finish(ledger, 0, Part(error=AuthenticationError("refused"))) == (True, True)
    assert await ledger.beat(job_id(), step_of(1), "busy one", 30) == "stop"
    assert await start(ledger, step_of(1), "another") == "stopped"
    assert isinstance(await start(ledger, PUBLISH), Started)
    fatal = (await ledger.read(job_id())).fatal
    assert fatal is not None
    assert fatal["kind"] == "AuthenticationError"


async def test_a_cancelled_job_stops_and_only_its_last_step_begins(ledger: JobLedger) -> None:
    await planned(ledger, "A")
    await start(ledger, step_of(0), "one")
    await ledger.cancel(job_id())
    assert (await ledger.read(job_id())).job.cancel_requested
    assert await ledger.beat(job_id(), step_of(0), "one", 30) == "stop"
    assert await start(ledger, step_of(0), "two") == "stopped"
    assert isinstance(await start(ledger, PUBLISH, "three"), Started)
    assert await ledger.beat(job_id(), PUBLISH, "three", 30) == "ok"


async def test_a_job_ends_once_and_nothing_of_it_is_begun_any_more(ledger: JobLedger) -> None:
    await planned(ledger, "A")
    assert await ledger.end(job_id(), JobStatus.FINISHED, Outcome.COMPLETE, {"bundles": 1}, finished_at=LATER)
    assert not await ledger.end(job_id(), JobStatus.CANCELLED, None, None, finished_at=NOW)
    job = (await ledger.read(job_id())).job
    assert (job.status, job.outcome, job.finished_at) == (JobStatus.FINISHED, Outcome.COMPLETE, LATER)
    assert job.report == {"bundles": 1}
    for step in (PLAN, step_of(0), PUBLISH):
        assert await start(ledger, step) == "ended"
    assert await finish(ledger, 0, Part(version="late")) == (False, False)
    assert await ledger.active() is None


async def test_a_job_that_has_begun_is_not_ended_as_a_queued_one(ledger: JobLedger) -> None:
    await planned(ledger, "A")
    assert not await ledger.end(job_id(), JobStatus.CANCELLED, None, None, finished_at=LATER, only_queued=True)
    assert (await ledger.read(job_id())).job.status is JobStatus.RUNNING


async def test_the_lock_goes_with_the_job_that_owns_it(ledger: JobLedger, store: CatalogStore) -> None:
    await planned(ledger, "A")
    ticket = (await ledger.read(job_id())).distributed_sync()
    assert isinstance(await store.lock.acquire(CORRELATION, shared=ticket.lock_owner), LockLease)
    await ledger.end(job_id(), JobStatus.FINISHED, Outcome.COMPLETE, {}, finished_at=LATER)
    assert await store.lock.holder() is None


async def test_the_lock_of_another_run_is_left_alone(ledger: JobLedger, store: CatalogStore) -> None:
    await planned(ledger, "A")
    await store.lock.acquire("d" * 32)
    await ledger.end(job_id(), JobStatus.FINISHED, Outcome.SKIPPED_LOCKED, {}, finished_at=LATER)
    assert await store.lock.holder() is not None


async def test_a_message_is_sent_by_one_of_those_who_want_to(ledger: JobLedger) -> None:
    assert await ledger.to_send(job_id(), PLAN, at_most_every=10)
    assert not await ledger.to_send(job_id(), PLAN, at_most_every=10)
    assert await ledger.to_send(job_id(), PLAN, at_most_every=0)
    assert await ledger.to_send(job_id(), PUBLISH, at_most_every=10)


async def test_progress_is_told_until_the_result_stands(ledger: JobLedger) -> None:
    await planned(ledger, "A")
    await ledger.progress(job_id(), 0, GroupProgress("A", "running", 50))
    assert (await ledger.read(job_id())).job.groups[0] == GroupProgress("A", "running", 50)
    await finish(ledger, 0, Part(version="v", bundles=70))
    await ledger.progress(job_id(), 0, GroupProgress("A", "running", 60))
    assert (await ledger.read(job_id())).job.groups[0].status == "ok"


async def test_dead_letters_are_counted_and_the_last_ones_kept(ledger: JobLedger) -> None:
    for number in range(103):
        await ledger.add_dead_letter({"number": number})
    count, letters = await ledger.dead_letters()
    assert count == 103
    assert [letter["number"] for letter in letters[:2]] == [102, 101]
    assert len(letters) == 100


async def test_changes_name_each_job_once_however_often_it_changed(
    ledger: JobLedger, redis_server: RedisServer
) -> None:
    changes = ledger.changed()
    await ledger.submit(job_id(9), fields())
    waiting = asyncio.ensure_future(anext(changes))
    async with asyncio.timeout(60):
        while not redis_server.command("INFO", "clients")["blocked_clients"]:
            await asyncio.sleep(0.01)
    await ledger.end(job_id(9), JobStatus.FINISHED, None, None, finished_at=LATER)
    assert await waiting == [job_id(9)]
    await planned(ledger, "A", "B")
    await finish(ledger, 0, Part())
    assert await anext(changes) == [job_id()]
    assert await anext(changes) == []


@pytest.mark.parametrize(
    "damage",
    [
        ("HSET", "scopes", "{"),
        ("HSET", "kind", "unheard of"),
        ("HSET", "report", "\x00"),
        ("HSET", "scope", "[" * 5000),
        ("HDEL", "correlation_id"),
        ("SET", "no record"),
    ],
    ids=lambda damage: " ".join(damage)[:20],
)
async def test_one_unreadable_record_is_shown_as_such_and_spoils_no_list(
    ledger: JobLedger, redis_server: RedisServer, damage: tuple[str, ...]
) -> None:
    for number in (1, 2, 3):
        await ledger.submit(job_id(number), fields())
        await ledger.end(job_id(number), JobStatus.FINISHED, Outcome.COMPLETE, {"version": "v"}, finished_at=LATER)
    command, *arguments = damage
    if command == "SET":
        redis_server.command("DEL", JobKeys(job_id(2)).record)
    redis_server.command(command, JobKeys(job_id(2)).record, *arguments)

    shown = await ledger.latest(10, 0)

    assert sorted(job.id for job in shown) == [job_id(1), job_id(2), job_id(3)]
    assert {job.outcome for job in shown if job.id != job_id(2)} == {Outcome.COMPLETE}
    unreadable = await ledger.shown(job_id(2))
    assert unreadable in shown
    assert unreadable.report is not None
    assert "cannot be read" in unreadable.report["error"]["message"]
    json.dumps(unreadable.to_json())


async def test_a_job_under_way_whose_record_cannot_be_read_does_not_block_the_next(
    ledger: JobLedger, redis_server: RedisServer
) -> None:
    await planned(ledger, "A")
    redis_server.command("HSET", JobKeys(job_id()).record, "scopes", "{")

    report = await ledger.end_unreadable(finished_at=LATER)

    assert report is not None
    assert (await ledger.shown(job_id())).report == report.to_json()
    assert await ledger.active() is None
    assert await ledger.submit(job_id(2), fields()) == job_id(2)


async def test_one_unreadable_dead_letter_or_worker_spoils_no_list(
    ledger: JobLedger, redis: GuardedRedis, redis_server: RedisServer
) -> None:
    await ledger.add_dead_letter({"job": "first", "at": NOW, "step": "plan", "reason": "why"})
    for text in ("{", "7", "\x00"):
        redis_server.command("LPUSH", DEAD, text)
    redis_server.command("SET", f"{WORKER_PREFIX}good", '{"name": "good"}')
    redis_server.command("SET", f"{WORKER_PREFIX}bad", "{")

    found = await overview(redis)

    assert [letter["job"] for letter in found["dead_letters"]["last"]] == [None, None, None, "first"]
    assert "cannot be read" in found["dead_letters"]["last"][0]["reason"]
    assert [worker["name"] for worker in found["workers"]] == ["bad", "good"]
