"""The small parts: the broker's URL, errors between processes, the lease between steps."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from catalog_sync.domain.errors import (
    AuthenticationError,
    CatalogSyncError,
    ConfigurationError,
    LockLostError,
    RateLimitError,
)
from catalog_sync.domain.index import CatalogueIndex
from catalog_sync.domain.models import LockHolder
from catalog_sync.jobs.keys import JobKeys
from catalog_sync.jobs.ledger import JobLedger
from catalog_sync.jobs.port import JobStatus
from catalog_sync.store.catalog_store import CatalogStore
from catalog_sync.store.errors import AlreadyPublishedError, SyncEndedError, VersionGoneError
from catalog_sync.store.lock import LockLease
from catalog_sync.sync.run import FATAL
from catalog_sync.sync.shared.distributed import DistributedSync, adopt_lease
from catalog_sync.sync.shared.failures import error_from_json, error_to_json
from catalog_sync.worker.celery_settings import broker_url, celery_settings
from otel_resilience import classify
from support.job_records import LATER, job_id, planned
from support.published import lease_of, make_bundle, make_meta, publish
from support.redis_server import RedisServer
from support.settings import make_settings

SINCE = "2026-11-24T02:00:00.000Z"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("redis://localhost:6379/2", "redis://localhost:6379/2"),
        ("redis://:pw@host/0", "redis://:pw@host/0"),
        ("rediss://host/0", "rediss://host/0?ssl_cert_reqs=required"),
        ("rediss://host/0?ssl_cert_reqs=none", "rediss://host/0?ssl_cert_reqs=none"),
        ("unix:///run/redis.sock", "redis+socket:///run/redis.sock?virtual_host=0"),
        ("unix://:p%40w@/run/redis.sock?db=3", "redis+socket://:p%40w@/run/redis.sock?virtual_host=3"),
    ],
)
def test_the_broker_is_the_redis_of_the_store(given: str, expected: str) -> None:
    assert broker_url(given) == expected


def test_without_a_redis_there_are_no_workers() -> None:
    with pytest.raises(ConfigurationError, match="REDIS_URL"):
        broker_url(None)


def test_a_message_is_given_out_again_only_after_three_times_the_longest_job(tmp_path: Path) -> None:
    settings = make_settings("http://127.0.0.1:9", tmp_path, redis_url="redis://127.0.0.1:9")
    found = celery_settings(settings)
    longest = found["task_time_limit"]
    assert longest > settings.sync_deadline
    assert found["broker_transport_options"]["visibility_timeout"] >= 3 * longest
    assert found["task_acks_late"]
    assert found["task_reject_on_worker_lost"]
    assert found["worker_prefetch_multiplier"] == 1


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationError("refused"),
        RateLimitError("slower", retry_after=30.0),
        VersionGoneError("gone"),
        AlreadyPublishedError("v1"),
        CatalogSyncError("anything"),
    ],
)
def test_an_error_is_the_same_in_the_next_process(error: CatalogSyncError) -> None:
    arrived = error_from_json(error_to_json(error))
    assert type(arrived) is type(error)
    assert (str(arrived), arrived.classification) == (str(error), error.classification)
    assert arrived.correlation_id == error.correlation_id
    assert isinstance(arrived, FATAL) == isinstance(error, FATAL)


def test_a_defect_arrives_classified_and_without_a_secret() -> None:
    arrived = error_from_json(error_to_json(KeyError("https://user:s3cretpassword@host/")))
    assert type(arrived) is CatalogSyncError
    assert arrived.classification == classify(KeyError("x"))
    assert "s3cretpassword" not in str(arrived)


def distributed(token: int | None = None, job: str = "a" * 16) -> DistributedSync:
    return DistributedSync(job=job, correlation_id="c" * 32, since=SINCE, started_at=SINCE, token=token)


async def test_steps_share_one_lease_and_one_token(store: CatalogStore) -> None:
    first = await adopt_lease(store, distributed())
    assert isinstance(first, LockLease)
    second = await adopt_lease(store, distributed(first.token))
    assert isinstance(second, LockLease)
    assert second.token == first.token
    assert isinstance(await adopt_lease(store, distributed(job="b" * 16)), LockHolder)


async def test_an_expired_lease_is_taken_again_if_nobody_published(
    store: CatalogStore, redis_server: RedisServer
) -> None:
    first = await adopt_lease(store, distributed())
    assert isinstance(first, LockLease)
    redis_server.command("DEL", "{cat}:lock")
    again = await adopt_lease(store, distributed(first.token))
    assert isinstance(again, LockLease)
    assert again.token > first.token


async def test_a_lease_that_another_run_has_is_lost(store: CatalogStore, redis_server: RedisServer) -> None:
    first = await adopt_lease(store, distributed())
    assert isinstance(first, LockLease)
    redis_server.command("DEL", "{cat}:lock")
    await store.lock.acquire("d" * 32)
    with pytest.raises(LockLostError, match="ran out"):
        await adopt_lease(store, distributed(first.token))


async def test_a_publication_of_another_run_between_two_steps_ends_the_sync(
    store: CatalogStore, redis_server: RedisServer
) -> None:
    first = await adopt_lease(store, distributed())
    assert isinstance(first, LockLease)
    redis_server.command("DEL", "{cat}:lock")
    await publish(store, "other", [make_bundle("a")])
    with pytest.raises(LockLostError, match="has published"):
        await adopt_lease(store, distributed(first.token))
    assert await store.lock.holder() is None


async def test_one_version_at_most_is_published_under_a_receipt(store: CatalogStore) -> None:
    async def attempt(version: str) -> None:
        lease = await lease_of(store)
        async with lease.hold():
            staging = store.begin(version)
            index = CatalogueIndex()
            await staging.put([index.add(make_bundle("a"))])
            meta = make_meta(version, index, fence=lease.token)
            await staging.seal(index, meta)
            await store.commit(staging, meta, lease, receipt="a" * 16)

    await attempt("first")
    await attempt("first")
    with pytest.raises(AlreadyPublishedError) as published:
        await attempt("second")
    assert published.value.version == "first"
    assert await store.current_version() == await store.receipt("a" * 16) == "first"


def job_ticket(token: int | None = None) -> DistributedSync:
    return dataclasses.replace(distributed(token, job_id()), record=JobKeys(job_id()).record)


@pytest.mark.parametrize("owned_before", [True, False])
async def test_a_late_step_of_a_job_that_ended_does_not_take_the_lock(
    ledger: JobLedger, store: CatalogStore, *, owned_before: bool
) -> None:
    """The step read the record while the job was under way, and asks for the lock when it is over."""
    await planned(ledger, "A")
    token = None
    if owned_before:
        lease = await adopt_lease(store, job_ticket())
        assert isinstance(lease, LockLease)
        token = lease.token
    await ledger.end(job_id(), JobStatus.FINISHED, None, None, finished_at=LATER)

    with pytest.raises(SyncEndedError):
        await adopt_lease(store, job_ticket(token))

    assert await store.lock.holder() is None
    assert isinstance(await store.lock.acquire("d" * 32), LockLease)


async def test_a_renewal_after_the_end_of_its_job_extends_nothing(
    ledger: JobLedger, store: CatalogStore, redis_server: RedisServer
) -> None:
    await planned(ledger, "A")
    lease = await adopt_lease(store, job_ticket())
    assert isinstance(lease, LockLease)
    redis_server.command("HSET", JobKeys(job_id()).record, "status", "cancelled")
    redis_server.command("PEXPIRE", "{cat}:lock", 500)

    assert not await lease.renew()

    assert redis_server.command("PTTL", "{cat}:lock") <= 500


async def test_a_job_whose_record_is_lost_gets_no_lock(store: CatalogStore) -> None:
    with pytest.raises(SyncEndedError, match="gone"):
        await adopt_lease(store, job_ticket(7))
    assert await store.lock.holder() is None
