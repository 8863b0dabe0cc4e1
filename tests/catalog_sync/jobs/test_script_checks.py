"""Everything that each script of the ledger checks and writes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from catalog_sync.domain.errors import AuthenticationError, SyncDeadlineError
from catalog_sync.domain.models import Outcome
from catalog_sync.jobs import GroupProgress, JobStatus
from catalog_sync.jobs.keys import ACTIVE, CHANGES, DEAD, DEAD_COUNT, INDEX, JobKeys
from catalog_sync.jobs.ledger import KEPT_SECONDS, MAX_STARTS, JobLedger, Started
from catalog_sync.jobs.records import PLAN, PUBLISH, step_of
from catalog_sync.sync.shared.failures import error_to_json
from catalog_sync.sync.shared.staged import Part
from support.job_records import LATER, NOW, fields, finish, job_id, planned, start
from support.redis_server import RedisServer

HOUR = 3_600
FETCH = step_of(0)


def texts(raw: dict[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in raw.items()}


def record_of(server: RedisServer, number: int = 1) -> dict[str, str]:
    return texts(server.command("HGETALL", JobKeys(job_id(number)).record))


def steps_of(server: RedisServer, number: int = 1) -> dict[str, str]:
    return texts(server.command("HGETALL", JobKeys(job_id(number)).steps))


def changes(server: RedisServer) -> list[str]:
    """The jobs that were announced as changed, so far."""
    return [entry[b"job"].decode() for _, entry in server.command("XRANGE", CHANGES, "-", "+")]


async def submit(ledger: JobLedger, number: int = 1) -> str:
    return await ledger.submit(job_id(number), fields())


async def end(ledger: JobLedger, number: int = 1, *, only_queued: bool = False) -> bool:
    return await ledger.end(
        job_id(number), JobStatus.FINISHED, Outcome.COMPLETE, {}, finished_at=LATER, only_queued=only_queued
    )


async def plan(ledger: JobLedger, number: int = 1) -> bool:
    return await ledger.planned(job_id(number), Part(), ["A"], token=None, refused_by=None, carrier={})


class TestAnnouncements:
    async def test_each_change_of_a_job_is_announced_once(self, ledger: JobLedger, redis_server: RedisServer) -> None:
        life: list[Callable[[], Awaitable[object]]] = [
            lambda: submit(ledger),
            lambda: start(ledger, PLAN),
            lambda: plan(ledger),
            lambda: ledger.progress(job_id(), 0, GroupProgress("A", "running", 5)),
            lambda: finish(ledger, 0, Part(version="v")),
            lambda: ledger.cancel(job_id()),
            lambda: end(ledger),
        ]
        for count, change in enumerate(life, start=1):
            await change()
            assert changes(redis_server) == [job_id()] * count

    async def test_what_changes_nothing_is_not_announced(self, ledger: JobLedger, redis_server: RedisServer) -> None:
        await planned(ledger, "A")
        await start(ledger, FETCH)
        await finish(ledger, 0, Part(version="v"))
        before = changes(redis_server)
        await submit(ledger)
        await submit(ledger, 2)
        await plan(ledger)
        await start(ledger, FETCH)
        await start(ledger, PUBLISH)
        await ledger.progress(job_id(), 0, GroupProgress("A", "running", 5))
        await finish(ledger, 0, Part(version="v"))
        assert changes(redis_server) == before
        await end(ledger)
        ended = record_of(redis_server)
        await plan(ledger)
        await ledger.progress(job_id(), 0, GroupProgress("A", "running", 5))
        await finish(ledger, 0, Part(version="v"))
        await ledger.cancel(job_id())
        await end(ledger)
        assert changes(redis_server) == [*before, job_id()]
        assert record_of(redis_server) == ended


class TestAKeyThatHoldsSomethingElse:
    @pytest.mark.parametrize("key", [ACTIVE, INDEX, CHANGES])
    async def test_is_replaced_when_a_job_is_submitted(
        self, ledger: JobLedger, redis_server: RedisServer, key: str
    ) -> None:
        redis_server.command("HSET", key, "not", "ours")
        assert await submit(ledger) == job_id()
        active = await ledger.active()
        assert active is not None
        assert active.job.id == job_id()
        assert [job.id for job in await ledger.latest(10, 0)] == [job_id()]
        assert changes(redis_server) == [job_id()]

    async def test_the_record_of_the_active_job_blocks_no_other(
        self, ledger: JobLedger, redis_server: RedisServer
    ) -> None:
        redis_server.command("SET", ACTIVE, job_id(1))
        redis_server.command("SET", JobKeys(job_id(1)).record, "no record")
        assert await submit(ledger, 2) == job_id(2)

    @pytest.mark.parametrize("key", [DEAD, DEAD_COUNT])
    async def test_is_replaced_by_a_dead_letter(self, ledger: JobLedger, redis_server: RedisServer, key: str) -> None:
        redis_server.command("HSET", key, "not", "ours")
        await ledger.add_dead_letter({"number": 1})
        await ledger.add_dead_letter({"number": 2})
        count, letters = await ledger.dead_letters()
        assert (count, [letter["number"] for letter in letters]) == (2, [2, 1])

    async def test_a_count_of_dead_letters_that_is_not_a_number_starts_again(
        self, ledger: JobLedger, redis_server: RedisServer
    ) -> None:
        redis_server.command("SET", DEAD_COUNT, "many")
        await ledger.add_dead_letter({"number": 1})
        assert (await ledger.dead_letters())[0] == 1


async def test_of_the_dead_letters_the_last_ones_are_kept(
    ledger: JobLedger, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catalog_sync.jobs.ledger.KEPT_LETTERS", 2)
    for number in range(4):
        await ledger.add_dead_letter({"number": number})
    assert redis_server.command("LRANGE", DEAD, 0, -1) == [b'{"number": 3}', b'{"number": 2}']


class TestSubmit:
    async def test_a_running_job_is_the_one_job_too(self, ledger: JobLedger) -> None:
        await planned(ledger, "A")
        assert await submit(ledger, 2) == job_id(1)

    async def test_a_late_repetition_does_not_queue_the_job_again(
        self, ledger: JobLedger, redis_server: RedisServer
    ) -> None:
        await submit(ledger, 1)
        await end(ledger, 1)
        await submit(ledger, 2)
        assert await submit(ledger, 1) == job_id(1)
        assert record_of(redis_server, 1)["status"] == "finished"
        active = await ledger.active()
        assert active is not None
        assert active.job.id == job_id(2)

    async def test_the_job_is_dated_by_the_clock_of_redis(self, ledger: JobLedger, redis_server: RedisServer) -> None:
        before = await ledger.now_ms()
        await submit(ledger)
        after = await ledger.now_ms()
        assert before - 1 <= (await ledger.read(job_id())).created_ms <= after
        assert before - 1 <= redis_server.command("ZSCORE", INDEX, job_id()) <= after

    async def test_of_an_old_job_nothing_is_kept(
        self, ledger: JobLedger, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("catalog_sync.jobs.ledger.KEPT_JOBS", 2)
        for number in (1, 2, 3):
            await submit(ledger, number)
            await start(ledger, PLAN, job=job_id(number))
            await plan(ledger, number)
            await start(ledger, FETCH, job=job_id(number))
            await end(ledger, number)
        kept = {number: redis_server.command("EXISTS", *JobKeys(job_id(number)).all) for number in (1, 2, 3)}
        assert kept == {1: 0, 2: 3, 3: 3}
        assert redis_server.command("ZRANGE", INDEX, 0, -1) == [job_id(2).encode(), job_id(3).encode()]


class TestStart:
    async def test_of_a_job_that_is_not_there(self, ledger: JobLedger, redis_server: RedisServer) -> None:
        assert await start(ledger, PLAN) == "gone"
        assert redis_server.command("DBSIZE") == 0

    async def test_the_last_step_waits_for_a_plan(self, ledger: JobLedger) -> None:
        await submit(ledger)
        await start(ledger, PLAN)
        assert await start(ledger, PUBLISH) == "early"

    async def test_the_same_claim_starts_once_and_holds_longer(
        self, ledger: JobLedger, redis_server: RedisServer
    ) -> None:
        await submit(ledger)
        await start(ledger, PLAN, "one", lease=30)
        before = await ledger.now_ms()
        again = await start(ledger, PLAN, "one", lease=90)
        after = await ledger.now_ms()
        assert isinstance(again, Started)
        assert again.starts == 1
        assert before + 90_000 <= (await ledger.steps(job_id()))[PLAN].until_ms + 1 <= after + 90_001

    async def test_the_last_allowed_claim_goes_on_where_another_is_refused(self, ledger: JobLedger) -> None:
        await submit(ledger)
        for number in range(MAX_STARTS):
            await ledger.release(job_id(), PLAN, str(number - 1))
            await start(ledger, PLAN, str(number))
        again = await start(ledger, PLAN, str(MAX_STARTS - 1))
        assert isinstance(again, Started)
        assert again.starts == MAX_STARTS

    async def test_only_the_first_one_starts_the_time_of_the_job(
        self, ledger: JobLedger, redis_server: RedisServer
    ) -> None:
        await submit(ledger)
        await start(ledger, PLAN)
        first = record_of(redis_server)
        later = await ledger.start(job_id(), FETCH, "me", lease=30, now=LATER, time_limit=9_000)
        assert isinstance(later, Started)
        assert later.left <= 900
        assert record_of(redis_server) == first
        assert first["started_at"] == NOW

    async def test_without_a_deadline_on_record_no_time_is_left(
        self, ledger: JobLedger, redis_server: RedisServer
    ) -> None:
        await planned(ledger, "A")
        redis_server.command("HDEL", JobKeys(job_id()).record, "deadline_ms")
        started = await start(ledger, FETCH)
        assert isinstance(started, Started)
        assert started.left < -1_000_000_000

    async def test_an_error_noted_from_outside_stops_all_steps_but_the_last(self, ledger: JobLedger) -> None:
        await planned(ledger, "A")
        await ledger.fail(job_id(), error_to_json(SyncDeadlineError("late")))
        assert await start(ledger, FETCH) == "stopped"
        assert isinstance(await start(ledger, PUBLISH), Started)


class TestPlanned:
    async def test_the_first_plan_is_the_one_that_counts(self, ledger: JobLedger) -> None:
        await submit(ledger)
        await start(ledger, PLAN)
        assert await plan(ledger)
        assert not await plan(ledger)
        assert await ledger.parts(job_id()) == {PLAN: Part()}
        assert await start(ledger, PLAN) == "done"


class TestBeat:
    async def test_extends_the_claim(self, ledger: JobLedger) -> None:
        await planned(ledger, "A")
        await start(ledger, FETCH, "one", lease=5)
        before = await ledger.now_ms()
        assert await ledger.beat(job_id(), FETCH, "one", 60) == "ok"
        after = await ledger.now_ms()
        assert before + 60_000 <= (await ledger.steps(job_id()))[FETCH].until_ms + 1 <= after + 60_001

    async def test_of_an_ended_job_says_stop_and_extends_nothing(
        self, ledger: JobLedger, redis_server: RedisServer
    ) -> None:
        await planned(ledger)
        await start(ledger, PUBLISH, "one")
        await end(ledger)
        before = steps_of(redis_server)
        assert await ledger.beat(job_id(), PUBLISH, "one", 60) == "stop"
        assert steps_of(redis_server) == before

    async def test_of_another_claim_extends_nothing(self, ledger: JobLedger, redis_server: RedisServer) -> None:
        await planned(ledger, "A")
        await start(ledger, FETCH, "one")
        before = steps_of(redis_server)
        assert await ledger.beat(job_id(), FETCH, "two", 60) == "lost"
        assert steps_of(redis_server) == before


class TestWhatIsDoneGivesItsClaimBack:
    async def test_the_plan(self, ledger: JobLedger, redis_server: RedisServer) -> None:
        await planned(ledger, "A")
        assert steps_of(redis_server) == {"plan:starts": "1"}

    async def test_a_scope(self, ledger: JobLedger, redis_server: RedisServer) -> None:
        await planned(ledger, "A")
        await start(ledger, FETCH)
        await finish(ledger, 0, Part(version="v"))
        assert steps_of(redis_server) == {"plan:starts": "1", f"{FETCH}:starts": "1"}

    async def test_a_step_that_is_released(self, ledger: JobLedger, redis_server: RedisServer) -> None:
        await submit(ledger)
        await start(ledger, PLAN)
        await ledger.release(job_id(), PLAN, "me")
        assert steps_of(redis_server) == {"plan:starts": "1"}

    async def test_but_not_that_of_a_repeated_result(self, ledger: JobLedger, redis_server: RedisServer) -> None:
        await planned(ledger, "A", "B")
        await finish(ledger, 0, Part(version="v"))
        redis_server.command("HSET", JobKeys(job_id()).steps, f"{FETCH}:claim", "another")
        await finish(ledger, 0, Part(version="v"))
        assert steps_of(redis_server)[f"{FETCH}:claim"] == "another"


class TestAJobThatHasNotStarted:
    async def test_has_neither_plan_nor_progress_nor_result(self, ledger: JobLedger, redis_server: RedisServer) -> None:
        await submit(ledger)
        before = record_of(redis_server)
        assert not await plan(ledger)
        await ledger.progress(job_id(), 0, GroupProgress("A", "running", 5))
        assert await finish(ledger, 0, Part(version="v")) == (False, False)
        assert record_of(redis_server) == before
        assert await ledger.parts(job_id()) == {}

    async def test_can_be_cancelled(self, ledger: JobLedger) -> None:
        await submit(ledger)
        await ledger.cancel(job_id())
        assert (await ledger.read(job_id())).job.cancel_requested

    async def test_can_be_ended_as_a_queued_one(self, ledger: JobLedger) -> None:
        await submit(ledger)
        assert await end(ledger, only_queued=True)
        assert (await ledger.read(job_id())).job.status is JobStatus.FINISHED


class TestTheErrorThatEndsASync:
    async def test_is_the_first_one_that_is_noted(self, ledger: JobLedger) -> None:
        await planned(ledger, "A", "B")
        await ledger.fail(job_id(), error_to_json(SyncDeadlineError("first")))
        await ledger.fail(job_id(), error_to_json(SyncDeadlineError("second")))
        await finish(ledger, 0, Part(error=AuthenticationError("third")))
        fatal = (await ledger.read(job_id())).fatal
        assert fatal is not None
        assert fatal["message"] == "first"

    async def test_lets_the_last_step_begin_after_any_result(self, ledger: JobLedger) -> None:
        await planned(ledger, "A", "B")
        await ledger.fail(job_id(), error_to_json(SyncDeadlineError("late")))
        assert await finish(ledger, 0, Part(version="v")) == (True, True)

    async def test_so_does_a_cancellation(self, ledger: JobLedger) -> None:
        await planned(ledger, "A", "B")
        await ledger.cancel(job_id())
        assert await finish(ledger, 0, Part(version="v")) == (True, True)


class TestEnd:
    async def test_of_a_job_that_is_not_there_leaves_nothing(
        self, ledger: JobLedger, redis_server: RedisServer
    ) -> None:
        assert not await end(ledger)
        assert redis_server.command("DBSIZE") == 0

    async def test_the_record_is_kept_for_days_and_the_rest_for_an_hour(
        self, ledger: JobLedger, redis_server: RedisServer
    ) -> None:
        await planned(ledger, "A")
        await end(ledger)
        ttls = [redis_server.command("TTL", key) for key in JobKeys(job_id()).all]
        assert ttls == [pytest.approx(KEPT_SECONDS, abs=60), *[pytest.approx(HOUR, abs=0.9)] * 2]

    async def test_another_active_job_stays_active(self, ledger: JobLedger, redis_server: RedisServer) -> None:
        await submit(ledger)
        redis_server.command("SET", ACTIVE, job_id(2))
        await end(ledger)
        assert redis_server.command("GET", ACTIVE) == job_id(2).encode()

    async def test_the_job_is_active_no_more(self, ledger: JobLedger, redis_server: RedisServer) -> None:
        await submit(ledger)
        await end(ledger)
        assert redis_server.command("EXISTS", ACTIVE) == 0


class TestEndOfALostJob:
    async def test_is_noted_as_that_of_any_other(self, ledger: JobLedger, redis_server: RedisServer) -> None:
        await planned(ledger, "A")
        lost = await ledger.read(job_id())
        redis_server.command("FLUSHALL")
        redis_server.command("SET", INDEX, "no index")
        before = await ledger.now_ms()
        assert await ledger.end_lost(lost, {"version": "v"}, finished_at=LATER)
        after = await ledger.now_ms()
        (job,) = await ledger.latest(10, 0)
        assert (job.id, job.status, job.outcome, job.report) == (
            job_id(),
            JobStatus.FINISHED,
            Outcome.FAILED,
            {"version": "v"},
        )
        assert before - 1 <= (await ledger.read(job_id())).created_ms <= after
        assert before - 1 <= redis_server.command("ZSCORE", INDEX, job_id()) <= after
        assert redis_server.command("TTL", JobKeys(job_id()).record) == pytest.approx(KEPT_SECONDS, abs=60)
        assert changes(redis_server) == [job_id()]

    async def test_joins_the_jobs_that_are_listed(self, ledger: JobLedger, redis_server: RedisServer) -> None:
        await submit(ledger, 1)
        await end(ledger, 1)
        await submit(ledger, 2)
        lost = await ledger.read(job_id(2))
        redis_server.command("DEL", JobKeys(job_id(2)).record)
        assert await ledger.end_lost(lost, {}, finished_at=LATER)
        assert {job.id for job in await ledger.latest(10, 0)} == {job_id(1), job_id(2)}

    async def test_is_none_where_the_record_is_there(self, ledger: JobLedger, redis_server: RedisServer) -> None:
        await submit(ledger)
        before = record_of(redis_server)
        assert not await ledger.end_lost(await ledger.read(job_id()), {}, finished_at=LATER)
        assert record_of(redis_server) == before
        assert changes(redis_server) == [job_id()]


async def test_a_message_that_is_sent_is_dated_by_the_clock_of_redis(ledger: JobLedger) -> None:
    before = await ledger.now_ms()
    await ledger.to_send(job_id(), PLAN, at_most_every=10)
    assert before - 1 <= (await ledger.steps(job_id()))[PLAN].sent_ms <= await ledger.now_ms()
