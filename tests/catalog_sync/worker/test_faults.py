"""Faults of workers, messages and Redis: nothing is lost, nothing is published twice."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from catalog_sync.domain.errors import CacheConnectionError
from catalog_sync.domain.models import Outcome, SyncRequest
from catalog_sync.jobs import Job, JobNotFoundError, JobStatus
from catalog_sync.jobs.keys import JobKeys
from catalog_sync.jobs.records import PLAN, step_of
from catalog_sync.observability.sdk import trace_of
from catalog_sync.worker.celery_app import app
from catalog_sync.worker.celery_settings import QUEUE_KEY
from catalog_sync.worker.sender import CelerySender
from support.worker_world import GIVEN_UP_AFTER, WorkerProcess, WorkerWorld

MakeWorld = Callable[..., WorkerWorld]

SLOW = {"name": "slow groups", "rules": [{"fault": "latency", "delay_s": 0.5, "when": {"endpoint": "catalogue"}}]}
LONGER_THAN_A_LEASE = {
    "name": "slower",
    "rules": [{"fault": "latency", "delay_s": 7.0, "when": {"endpoint": "catalogue"}}],
}
ONE_HANGS = {
    "name": "one hangs",
    "rules": [{"fault": "latency", "delay_s": 25.0, "when": {"group": "Standard - Fixed"}}],
}


async def fetching(world: WorkerWorld, job: Job) -> Job:
    """The job once a group of it is being fetched."""
    return await world.until(job.id, lambda seen: any(group.status == "running" for group in seen.groups))


async def slow_sync(world: WorkerWorld) -> Job:
    """A job with slow groups, one of which is being fetched."""
    world.supplier.play(SLOW)
    return await fetching(world, await world.jobs.submit(SyncRequest()))


def publications(world: WorkerWorld) -> int:
    """How often the pointer was swapped: every publication raises the highest token that has published."""
    versions = {key.split(b":")[2] for key in world.redis.command("KEYS", "{cat}:v:*:meta")}
    return len(versions)


async def kill_amid_a_step(world: WorkerWorld, job: Job) -> None:
    """Kill a worker that has begun a group and not finished it. It is stopped first, so that it cannot finish it."""
    async with asyncio.timeout(GIVEN_UP_AFTER):
        while True:
            for worker in world.workers:
                children = set(worker.children)
                os.killpg(worker.process.pid, signal.SIGSTOP)
                steps = world.redis.command("HGETALL", JobKeys(job.id).steps)
                pids = {int(claim.split(b":")[1]) for name, claim in steps.items() if name.endswith(b":claim")}
                if pids & children:
                    worker.kill()
                    return
                os.killpg(worker.process.pid, signal.SIGCONT)
            await asyncio.sleep(0.1)


async def test_a_worker_killed_with_its_pool_loses_nothing(make_world: MakeWorld) -> None:
    world = make_world()
    async with world.opened():
        world.start_worker()
        world.start_worker()
        job = await slow_sync(world)
        await kill_amid_a_step(world, job)
        ended = await world.ended(job.id)
        assert ended.outcome is Outcome.COMPLETE, ended
        assert publications(world) == 1
        starts = [state.starts for state in (await world.ledger.steps(job.id)).values()]
        assert max(starts) == 2


async def test_a_process_of_the_pool_that_is_killed_is_replaced_and_its_step_done_again(make_world: MakeWorld) -> None:
    world = make_world()
    async with world.opened():
        worker = world.start_worker()
        job = await slow_sync(world)
        for pid in worker.children:
            os.kill(pid, signal.SIGKILL)
        ended = await world.ended(job.id)
        assert ended.outcome is Outcome.COMPLETE, ended
        assert publications(world) == 1
        assert worker.process.poll() is None


async def test_sigterm_lets_a_step_end_and_takes_no_other(make_world: MakeWorld) -> None:
    world = make_world()
    async with world.opened():
        worker = world.start_worker()
        job = await slow_sync(world)
        worker.terminate()
        await asyncio.to_thread(worker.process.wait, GIVEN_UP_AFTER)
        assert worker.process.returncode == 0
        left = await world.jobs.get(job.id)
        assert not left.status.ended
        done = [group for group in left.groups if group.status == "ok"]
        assert done, left
        assert not any(state.until_ms for state in (await world.ledger.steps(job.id)).values())
        world.supplier.reset()
        world.start_worker()
        assert (await world.ended(job.id)).outcome is Outcome.COMPLETE


async def test_a_step_that_outlives_its_lease_is_not_done_twice(make_world: MakeWorld) -> None:
    world = make_world(CATALOG_JOB_LEASE_MS="5000", CATALOG_ATTEMPT_TIMEOUT_MS="30000")
    async with world.opened():
        world.start_worker(concurrency=3)
        world.supplier.play(LONGER_THAN_A_LEASE)
        job = await world.jobs.submit(SyncRequest())
        ended = await world.ended(job.id)
        assert ended.outcome is Outcome.COMPLETE
        starts = {step: state.starts for step, state in (await world.ledger.steps(job.id)).items()}
        assert set(starts.values()) == {1}, starts
        assert ended.report is not None
        assert ended.report["attempts"] == world.supplier.requests()


@pytest.mark.fault("S4")
async def test_a_sync_whose_redis_is_emptied_is_reported_as_failed_and_the_next_one_completes(
    make_world: MakeWorld,
) -> None:
    world = make_world()
    async with world.opened():
        workers = [world.start_worker(), world.start_worker()]
        job = await slow_sync(world)
        world.redis.command("FLUSHALL")
        ended = await shown_again(world, job)

        assert (ended.status, ended.outcome) == (JobStatus.FINISHED, Outcome.FAILED)
        assert ended.report is not None
        assert ended.report["error"]["type"] == "job_abandoned"
        finished = [line for worker in workers for line in worker.lines() if "finished: FAILED" in line["message"]]
        assert [line["correlation_id"] for line in finished] == [job.correlation_id]
        world.supplier.reset()
        again = await world.jobs.submit(SyncRequest())
        assert (await world.ended(again.id)).outcome is Outcome.COMPLETE
        assert [worker.process.poll() for worker in workers] == [None, None]


@pytest.mark.fault("S4")
async def test_a_sync_whose_redis_comes_back_empty_is_reported_as_failed(make_world: MakeWorld) -> None:
    """No step can see at once what was lost, for Redis is away; the next sweep does."""
    world = make_world()
    async with world.opened():
        world.start_worker()
        job = await slow_sync(world)
        world.redis.kill()
        world.redis.forget()
        await asyncio.sleep(1.0)
        world.redis.start()
        ended = await shown_again(world, job)
        assert (ended.status, ended.outcome) == (JobStatus.FINISHED, Outcome.FAILED)
        world.supplier.reset()
        again = await world.jobs.submit(SyncRequest())
        assert (await world.ended(again.id)).outcome is Outcome.COMPLETE


async def shown_again(world: WorkerWorld, job: Job) -> Job:
    give_up = time.monotonic() + GIVEN_UP_AFTER
    while True:
        try:
            return await world.jobs.get(job.id)
        except (CacheConnectionError, JobNotFoundError):
            assert time.monotonic() < give_up, world.logs()
        await asyncio.sleep(0.1)


async def test_messages_that_come_twice_or_too_late_do_nothing(make_world: MakeWorld) -> None:
    world = make_world(CATALOG_JOB_LEASE_MS="20000")
    async with world.opened():
        world.start_worker(concurrency=3)
        job = await slow_sync(world)
        for _ in range(3):
            for number in range(5):
                app.tasks["catalog.fetch"].apply_async([job.id, number])
            app.tasks["catalog.plan"].apply_async([job.id])
            app.tasks["catalog.publish"].apply_async([job.id])
        ended = await world.ended(job.id)
        for task, arguments in (("plan", []), ("fetch", [0]), ("publish", [])):
            app.tasks[f"catalog.{task}"].apply_async([job.id, *arguments])
        await settled(world)
        assert ended.outcome is Outcome.COMPLETE
        assert publications(world) == 1
        assert ended.report is not None
        assert ended.report["attempts"] == world.supplier.requests()
        assert await world.jobs.get(job.id) == ended


async def test_a_message_that_kills_its_worker_is_put_aside_and_the_other_groups_are_published(
    make_world: MakeWorld,
) -> None:
    world = make_world(CATALOG_ATTEMPT_TIMEOUT_MS="30000")
    async with world.opened():
        worker = world.start_worker()
        world.supplier.play(ONE_HANGS)
        job = await world.jobs.submit(SyncRequest())
        give_up = time.monotonic() + GIVEN_UP_AFTER
        while not (await world.jobs.get(job.id)).status.ended and time.monotonic() < give_up:
            claim = world.redis.command("HGET", JobKeys(job.id).steps, f"{step_of(0)}:claim") or b""
            for pid in worker.children:
                if f":{pid}:".encode() in claim:
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.1)
        ended = await world.ended(job.id)
        assert ended.outcome is Outcome.PARTIAL
        assert ended.groups[0].error is not None
        assert ended.groups[0].error["type"] == "job_poisoned"
        count, [letter] = await world.ledger.dead_letters()
        assert count == 1
        assert (letter["job"], letter["scope"]) == (job.id, "Standard - Fixed")
        assert letter["correlation_id"] == job.correlation_id


async def test_messages_that_nobody_understands_are_put_aside(make_world: MakeWorld) -> None:
    world = make_world()
    async with world.opened():
        world.start_worker()
        app.send_task("catalog.unheard-of", args=["x"])
        app.tasks["catalog.plan"].apply_async(["0" * 16], serializer="pickle")
        letters: list[dict[str, Any]] = []
        give_up = time.monotonic() + GIVEN_UP_AFTER
        while len(letters) < 2 and time.monotonic() < give_up:
            await asyncio.sleep(0.1)
            _, letters = await world.ledger.dead_letters()
        assert {letter["reason"].partition(":")[0] for letter in letters} == {"unknown task", "unreadable message"}
        job = await world.jobs.submit(SyncRequest())
        assert (await world.ended(job.id)).outcome is Outcome.COMPLETE


NO_MESSAGES = (
    b"garbage",
    b"\xff\x00",
    b"[1]",
    b"{}",
    b'{"properties": {"delivery_tag": "x", "body_encoding": "base64"}, "body": "no base64"}',
    b'{"properties": {"delivery_tag": [], "delivery_info": {"exchange": "", "routing_key": ""}}}',
)


async def test_entries_of_the_queue_that_are_not_messages_are_put_aside(make_world: MakeWorld) -> None:
    world = make_world()
    async with world.opened():
        worker = world.start_worker()
        for entry in NO_MESSAGES:
            world.redis.command("LPUSH", QUEUE_KEY, entry)
        job = await world.jobs.submit(SyncRequest())
        assert (await world.ended(job.id)).outcome is Outcome.COMPLETE
        assert worker.process.poll() is None, "the worker goes on"
        count, letters = await world.ledger.dead_letters()
        assert count == len(letters) == len(NO_MESSAGES)
        assert {letter["reason"].partition(":")[0] for letter in letters} == {"unreadable entry"}


async def test_redis_may_be_killed_and_come_back(make_world: MakeWorld) -> None:
    world = make_world()
    async with world.opened():
        world.start_worker(concurrency=2)
        job = await slow_sync(world)
        await asyncio.sleep(1.1)  # what is written each second is on disk
        world.redis.kill()
        await asyncio.sleep(1.0)
        world.redis.start()
        ended = await world.ended(job.id)
        assert ended.outcome is Outcome.COMPLETE, ended
        assert publications(world) == 1


async def test_a_worker_whose_every_step_ends_while_redis_is_away_takes_steps_again(make_world: MakeWorld) -> None:
    world = make_world()
    async with world.opened():
        worker = world.start_worker()
        world.redis.command("CONFIG", "SET", "appendfsync", "always")  # so that nothing is lost with the kill
        job = await slow_sync(world)
        world.redis.kill()
        try:
            await said(worker, "raised unexpected")  # the step has ended; now the worker tells Redis, and cannot
            await asyncio.sleep(0.3)
        finally:
            world.redis.start()
        ended = await world.ended(job.id)
        assert ended.outcome is Outcome.COMPLETE, ended
        assert publications(world) == 1


async def test_a_sync_whose_workers_are_gone_ends_and_says_so(make_world: MakeWorld) -> None:
    world = make_world(CATALOG_SYNC_DEADLINE_MS="2000", CATALOG_ATTEMPT_TIMEOUT_MS="500")
    async with world.opened():
        job = await world.jobs.submit(SyncRequest())
        keys = JobKeys(job.id)
        world.redis.command("HINCRBY", keys.record, "created_ms", -120_000)
        with trace_of("5" * 32, sampled=False):  # another request
            following = await world.jobs.submit(SyncRequest())
        ended = await world.jobs.get(job.id)
        assert (ended.status, ended.outcome) == (JobStatus.FINISHED, Outcome.FAILED)
        assert ended.report is not None
        assert ended.report["error"]["type"] == "job_abandoned"
        assert ended.report["error"]["correlation_id"] == job.correlation_id != following.correlation_id
        assert (await world.jobs.get(following.id)).status is JobStatus.QUEUED


async def test_a_plan_that_was_never_sent_is_sent_by_the_sweep(make_world: MakeWorld) -> None:
    world = make_world(CATALOG_JOB_LEASE_MS="1000")
    async with world.opened():
        job = await world.jobs.submit(SyncRequest())
        world.redis.command("DEL", QUEUE_KEY)
        world.redis.command("HSET", JobKeys(job.id).steps, f"{PLAN}:sent", 0)
        world.start_worker()
        assert (await world.ended(job.id)).outcome is Outcome.COMPLETE


async def said(worker: WorkerProcess, words: str) -> None:
    """Waits until the worker has logged it."""
    async with asyncio.timeout(GIVEN_UP_AFTER):
        while not any(words in line["message"] for line in worker.lines()):
            await asyncio.sleep(0.05)


async def settled(world: WorkerWorld) -> None:
    """Waits until all messages are handled."""
    sender = CelerySender(world.ledger)
    give_up = time.monotonic() + GIVEN_UP_AFTER
    while await sender.waiting() or world.redis.command("HLEN", "catalog-sync:unacked"):
        assert time.monotonic() < give_up, "messages are left"
        await asyncio.sleep(0.05)
