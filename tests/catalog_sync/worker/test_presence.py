"""The heartbeat of a worker: it registers, and requests sweeps, more often while a job runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fakeredis
import pytest
from kombu.asynchronous.semaphore import LaxBoundedSemaphore
from redis.exceptions import NoPermissionError

from catalog_sync.jobs.keys import ACTIVE, SWEPT, SWEPT_IDLE, WORKER_PREFIX
from catalog_sync.settings.settings import Settings
from catalog_sync.worker import presence
from catalog_sync.worker.presence import IDLE_SWEEP, PRESENT_FOR, Presence


@pytest.fixture
def redis(monkeypatch: pytest.MonkeyPatch) -> fakeredis.FakeRedis:
    client = fakeredis.FakeRedis()
    monkeypatch.setattr(presence, "connect_blocking", lambda _: client)
    return client


@pytest.fixture
def sweeps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []
    monkeypatch.setattr(Presence, "_ask_for_sweep", lambda self: asked.append("sweep"))
    return asked


def _presence(tmp_path: Path, lease_ms: int = 15_000) -> Presence:
    environ = {"CATALOG_STATE_DIR": str(tmp_path), "CATALOG_JOB_LEASE_MS": str(lease_ms), "REDIS_URL": "redis://x"}
    return Presence(Settings.from_env(environ), "w1@here")


def test_sweeps_follow_each_other_at_every_heartbeat_while_a_job_is_under_way(
    tmp_path: Path, redis: fakeredis.FakeRedis, sweeps: list[str]
) -> None:
    worker = _presence(tmp_path)
    redis.set(ACTIVE, "job")
    worker.beat()
    assert sweeps == ["sweep"]
    assert 0 < redis.pttl(SWEPT) < worker.beat_every * 1000, "the next heartbeat is not too early"
    assert worker.beat_every * 3 <= 15, "so that a lost step is taken over a lease and 5 s after its last sign"
    assert redis.ttl(f"{WORKER_PREFIX}w1@here") == PRESENT_FOR
    worker.beat()
    assert sweeps == ["sweep"]


def test_an_idle_worker_asks_seldom(tmp_path: Path, redis: fakeredis.FakeRedis, sweeps: list[str]) -> None:
    worker = _presence(tmp_path)
    worker.beat()
    worker.beat()
    assert sweeps == ["sweep"]
    assert redis.pttl(SWEPT_IDLE) > 1000 * (IDLE_SWEEP - 5)


def test_a_job_that_begins_after_an_idle_sweep_is_swept_at_the_next_heartbeat(
    tmp_path: Path, redis: fakeredis.FakeRedis, sweeps: list[str]
) -> None:
    worker = _presence(tmp_path)
    worker.beat()
    redis.set(ACTIVE, "a-job")
    worker.beat()
    assert sweeps == ["sweep", "sweep"]
    redis.delete(ACTIVE)
    worker.beat()
    assert sweeps == ["sweep", "sweep"]


@pytest.mark.parametrize("under_way", [True, False])
@pytest.mark.parametrize("found", ["text", "list"])
def test_a_mark_that_would_never_expire_ends_no_sweeps(
    tmp_path: Path, redis: fakeredis.FakeRedis, sweeps: list[str], *, under_way: bool, found: str
) -> None:
    worker = _presence(tmp_path)
    if under_way:
        redis.set(ACTIVE, "job")
    mark = SWEPT if under_way else SWEPT_IDLE
    redis.set(mark, "w2") if found == "text" else redis.rpush(mark, "x")
    worker.beat()
    assert sweeps == []
    assert 0 < redis.pttl(mark) <= 1000 * IDLE_SWEEP
    redis.pexpire(mark, 0)
    worker.beat()
    assert sweeps == ["sweep"]


def test_what_the_acl_forbids_is_named(
    tmp_path: Path, redis: fakeredis.FakeRedis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise NoPermissionError("User w has no permissions to run the 'set' command")

    monkeypatch.setattr(redis, "set", refuse)
    _presence(tmp_path).beat()
    [line] = caplog.messages
    assert "NOPERM, the ACL of this user forbids SET" in line


@pytest.mark.parametrize(("lease_ms", "every"), [(15_000, 5.0), (60_000, 5.0), (6_000, 2.0), (500, 1.0)])
def test_heartbeats_follow_the_lease(tmp_path: Path, redis: fakeredis.FakeRedis, lease_ms: int, every: float) -> None:
    assert _presence(tmp_path, lease_ms).beat_every == every


class Consumer:
    """What Celery passes when the consumer is connected; the semaphore counts the running steps."""

    def __init__(self, slots: int) -> None:
        self.controller = self
        self.semaphore = LaxBoundedSemaphore(slots)
        self.pool = self
        self.ends: Any = None

    def apply_async(self, *_: object, callback: Any, **__: object) -> None:
        self.ends = callback


def test_a_worker_says_how_many_steps_it_does(tmp_path: Path, redis: fakeredis.FakeRedis, sweeps: list[str]) -> None:
    """The probe of its pool takes the place of a step, and is none."""
    worker, consumer = _presence(tmp_path), Consumer(3)

    def load() -> tuple[object, object]:
        said = json.loads(redis.get(f"{WORKER_PREFIX}w1@here") or "{}")
        return said["busy"], said["slots"]

    worker.started(consumer)
    assert (load(), consumer.semaphore.value) == ((0, 3), 2)
    for _ in range(2):
        consumer.semaphore.acquire(lambda: None)
    worker.beat()
    assert load() == (2, 3)
    consumer.semaphore.release()
    consumer.ends(None)
    worker.beat()
    assert load() == (2, 3)
