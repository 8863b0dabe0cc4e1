"""The sweep sends lost messages again, and only those; it ends jobs that no worker will end."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from catalog_sync.domain.errors import SyncDeadlineError
from catalog_sync.domain.models import Outcome, SyncReport
from catalog_sync.jobs import JobStatus
from catalog_sync.jobs.keys import JobKeys
from catalog_sync.jobs.ledger import JobLedger
from catalog_sync.jobs.records import PLAN, PUBLISH, step_of
from catalog_sync.jobs.sweep import end_lost, sweep
from catalog_sync.observability.sdk import trace_of
from catalog_sync.store.catalog_store import CatalogStore
from catalog_sync.store.lock import LockLease, SharedOwner
from catalog_sync.sync.service import OnReport
from catalog_sync.sync.shared.failures import error_from_json
from catalog_sync.sync.shared.staged import Part
from support.job_records import CORRELATION, LATER, fields, finish, job_id, planned, start
from support.redis_server import RedisServer

LEASE = 10.0
DEADLINE = 900.0
NOW = datetime.datetime(2026, 11, 24, 2, 10, tzinfo=datetime.UTC)


class Sent:
    """A sender that records what it would send."""

    def __init__(self, waiting: int = 0) -> None:
        self.steps: list[str] = []
        self._waiting = waiting

    async def waiting(self) -> int:
        return self._waiting

    async def send(self, job_id: str, step: str, carrier: Any = None, *, every: float = 0) -> None:
        self.steps.append(step)


@pytest.fixture
def sent() -> Sent:
    return Sent()


async def look(ledger: JobLedger, store: CatalogStore, sent: Sent, on_report: OnReport | None = None) -> list[str]:
    """Sweeps like a worker, within the trace of the message that requested it."""
    sent.steps.clear()
    sender: Any = sent
    with trace_of("5" * 32, sampled=False):
        await sweep(ledger, store, sender, lease=LEASE, sync_deadline=DEADLINE, now=NOW, on_report=on_report)
    return sent.steps


async def test_without_a_job_there_is_nothing_to_do(ledger: JobLedger, store: CatalogStore, sent: Sent) -> None:
    assert await look(ledger, store, sent) == []


async def test_a_step_with_a_worker_is_left_alone(ledger: JobLedger, store: CatalogStore, sent: Sent) -> None:
    await ledger.submit(job_id(), fields())
    await start(ledger, PLAN)
    assert await look(ledger, store, sent) == []


async def test_a_step_whose_worker_is_silent_is_sent_again(
    ledger: JobLedger, store: CatalogStore, sent: Sent, redis_server: RedisServer
) -> None:
    await planned(ledger, "A", "B", "C")
    await finish(ledger, 0, Part())
    await start(ledger, step_of(1), "gone")
    redis_server.command("HSET", JobKeys(job_id()).steps, f"{step_of(1)}:until", 1)
    await start(ledger, step_of(2), "alive")
    assert await look(ledger, store, sent) == [step_of(1)]


async def test_a_step_that_waits_in_the_queue_is_not_sent_again(ledger: JobLedger, store: CatalogStore) -> None:
    await planned(ledger, "A", "B")
    assert await look(ledger, store, Sent(waiting=2)) == []
    assert await look(ledger, store, Sent(waiting=0)) == [step_of(0), step_of(1)]


async def test_the_last_step_is_sent_once_all_others_are_done(
    ledger: JobLedger, store: CatalogStore, sent: Sent
) -> None:
    await planned(ledger, "A")
    await finish(ledger, 0, Part())
    assert await look(ledger, store, sent) == [PUBLISH]


async def test_a_cancelled_job_gets_its_end(ledger: JobLedger, store: CatalogStore, sent: Sent) -> None:
    await planned(ledger, "A", "B")
    await ledger.cancel(job_id())
    assert await look(ledger, store, sent) == [PUBLISH]


async def test_a_sync_past_its_deadline_is_ended_by_its_last_step(
    ledger: JobLedger, store: CatalogStore, sent: Sent, redis_server: RedisServer
) -> None:
    await planned(ledger, "A")
    redis_server.command("HINCRBY", JobKeys(job_id()).record, "deadline_ms", -910_000)
    assert await look(ledger, store, sent) == [PUBLISH]
    fatal = (await ledger.read(job_id())).fatal
    assert fatal is not None
    error = error_from_json(fatal)
    assert isinstance(error, SyncDeadlineError)
    assert error.correlation_id == CORRELATION


@pytest.mark.parametrize("begun", [True, False])
async def test_a_sync_that_nobody_ends_is_given_up_and_told(
    ledger: JobLedger,
    store: CatalogStore,
    sent: Sent,
    redis_server: RedisServer,
    caplog: pytest.LogCaptureFixture,
    *,
    begun: bool,
) -> None:
    if begun:
        await planned(ledger, "A")
        redis_server.command("HINCRBY", JobKeys(job_id()).record, "deadline_ms", -970_000)
    else:
        await ledger.submit(job_id(), fields())
        redis_server.command("HINCRBY", JobKeys(job_id()).record, "created_ms", -970_000)
    reported: list[SyncReport] = []
    assert await look(ledger, store, sent, lambda report, age: reported.append(report)) == []
    job = (await ledger.read(job_id())).job
    assert (job.status, job.outcome) == (JobStatus.FINISHED, Outcome.FAILED)
    assert [report.to_json() for report in reported] == [job.report]
    assert job.report is not None
    assert job.report["error"]["type"] == "job_abandoned"
    assert job.report["correlation_id"] == job.report["error"]["correlation_id"] == CORRELATION
    assert [record.message for record in caplog.records if "finished: FAILED" in record.message]


@pytest.mark.fault("S4")
async def test_a_job_whose_record_is_gone_is_noted_and_reported_once(
    ledger: JobLedger, redis_server: RedisServer
) -> None:
    """As after FLUSHALL, seen by two steps that were under way."""
    await planned(ledger, "A", "B")
    record = await ledger.read(job_id())
    reported: list[SyncReport] = []
    assert not await end_lost(ledger, record, NOW, lambda report, age: reported.append(report))
    redis_server.command("FLUSHALL")

    seen = [await end_lost(ledger, record, NOW, lambda report, age: reported.append(report)) for _ in range(2)]

    assert seen == [True, False]
    job = (await ledger.read(job_id())).job
    assert (job.status, job.outcome) == (JobStatus.FINISHED, Outcome.FAILED)
    assert [report.to_json() for report in reported] == [job.report]
    assert job.report is not None
    assert job.report["error"]["type"] == "job_abandoned"
    assert job.report["error"]["correlation_id"] == job.correlation_id == CORRELATION
    assert await ledger.latest(10, 0) == [job]
    assert await ledger.active() is None


async def test_the_lease_is_kept_while_steps_wait_for_a_worker(
    ledger: JobLedger, store: CatalogStore, sent: Sent, redis_server: RedisServer
) -> None:
    lease = await held(ledger, store)
    redis_server.command("PEXPIRE", "{cat}:lock", 500)
    await look(ledger, store, sent)
    assert redis_server.command("PTTL", "{cat}:lock") > 20_000
    assert (await ledger.read(job_id())).token == lease.token


async def test_a_lock_that_another_run_took_meanwhile_ends_the_sync(
    ledger: JobLedger, store: CatalogStore, sent: Sent, redis_server: RedisServer
) -> None:
    await held(ledger, store)
    redis_server.command("DEL", "{cat}:lock")
    await store.lock.acquire("d" * 32)
    await look(ledger, store, sent)
    fatal = (await ledger.read(job_id())).fatal
    assert fatal is not None
    assert fatal["kind"] == "LockLostError"
    assert await look(ledger, store, sent) == [PUBLISH]


@pytest.mark.fault("W11")
async def test_a_lock_that_is_free_is_not_acquired_by_the_sweep(
    ledger: JobLedger, store: CatalogStore, sent: Sent, redis_server: RedisServer
) -> None:
    await held(ledger, store)
    redis_server.command("DEL", "{cat}:lock")
    await look(ledger, store, sent)
    assert await store.lock.holder() is None
    assert (await ledger.read(job_id())).fatal is None


@pytest.mark.fault("W11")
async def test_a_job_that_ends_while_the_sweep_looks_at_it_leaves_the_lock_free(
    ledger: JobLedger, store: CatalogStore, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the reading of the record and the extension of the lock the job ends: the next sync gets the lock."""
    await held(ledger, store)
    active = ledger.active

    async def ends_then() -> Any:
        record = await active()
        await ledger.end(job_id(), JobStatus.FINISHED, Outcome.COMPLETE, {}, finished_at=LATER)
        return record

    monkeypatch.setattr(ledger, "active", ends_then)
    await look(ledger, store, sent)

    assert isinstance(await store.lock.acquire("d" * 32), LockLease)


async def test_a_job_whose_record_cannot_be_read_is_ended_and_reported_once(
    ledger: JobLedger, store: CatalogStore, sent: Sent, redis_server: RedisServer
) -> None:
    reports: list[SyncReport] = []
    await planned(ledger, "A")
    redis_server.command("HSET", JobKeys(job_id()).record, "scopes", "{")
    for _ in range(2):
        assert await look(ledger, store, sent, lambda report, _: reports.append(report)) == []
    redis_server.command("HSET", JobKeys(job_id()).record, "scopes", '["A"]')

    [report] = reports
    assert (report.outcome, report.correlation_id) == (Outcome.FAILED, CORRELATION)
    job = await ledger.shown(job_id())
    assert (job.status, job.outcome) == (JobStatus.FINISHED, Outcome.FAILED)
    assert job.report == report.to_json(), "also where it can be read again"


@pytest.mark.fault("W4")
async def test_a_record_that_is_none_is_ended_and_reported_under_a_new_id(
    ledger: JobLedger, store: CatalogStore, sent: Sent, redis_server: RedisServer
) -> None:
    reports: list[SyncReport] = []
    await planned(ledger, "A")
    redis_server.command("DEL", JobKeys(job_id()).record)
    redis_server.command("SET", JobKeys(job_id()).record, "no hash")
    for _ in range(2):
        assert await look(ledger, store, sent, lambda report, _: reports.append(report)) == []
    assert [report.outcome for report in reports] == [Outcome.FAILED]
    assert await ledger.active() is None


async def held(ledger: JobLedger, store: CatalogStore) -> LockLease:
    """The lock of the job, with a plan that knows its token."""
    owner = SharedOwner(f"job:{job_id()}", "2026-11-24T02:00:00.000Z")
    lease = await store.lock.acquire(CORRELATION, shared=owner)
    assert isinstance(lease, LockLease)
    await planned(ledger, "A", token=lease.token)
    return lease
