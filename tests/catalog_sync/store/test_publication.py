"""A version is published completely or not at all."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from catalog_sync.domain.errors import CacheWritesPausedError
from catalog_sync.domain.index import CatalogueIndex
from catalog_sync.domain.models import Bundle
from catalog_sync.store import (
    CatalogStore,
    StagingIncompleteError,
    StaleFenceError,
    VersionGoneError,
    catalog_store,
    open_store,
    scripts,
)
from catalog_sync.store.catalog_store import GRACE
from catalog_sync.store.errors import CacheReplyError
from catalog_sync.store.keys import REPLACED, VERSION_PREFIX, VersionKeys
from catalog_sync.store.reader import CatalogReader, Query
from support.cli import wait_until
from support.published import lease_of, make_bundle, make_meta, publish, quick_policy, store_settings
from support.redis_server import RedisServer

TESTS = Path(__file__).parents[2]


def bundles(count: int, mark: str = "") -> list[Bundle]:
    return [make_bundle(f"esim_{number}", description=mark) for number in range(count)]


async def test_nothing_published_reads_as_none(store: CatalogStore) -> None:
    assert await store.current() is None


async def test_a_published_version_is_current_and_never_expires(store: CatalogStore, server: RedisServer) -> None:
    meta = await publish(store, "v1", bundles(700))
    assert await store.current() == meta
    assert len([b async for b in store.iter_bundles("v1")]) == 700
    keys = [key for key in VersionKeys("v1").all if server.command("EXISTS", key)]
    assert len(keys) == 6
    assert {server.command("TTL", key) for key in [*keys, "{cat}:current"]} == {-1}


async def test_staged_keys_expire_within_15_minutes_and_are_not_seen(store: CatalogStore, server: RedisServer) -> None:
    staging = store.begin("v1")
    index = CatalogueIndex()
    await staging.put([index.add(bundle) for bundle in bundles(10)])
    await staging.seal(index, make_meta("v1", index))
    assert await store.current() is None
    assert all(0 < server.command("TTL", key) <= 900 for key in VersionKeys("v1").all)


async def test_the_replaced_version_stays_for_ten_minutes(store: CatalogStore, server: RedisServer) -> None:
    await publish(store, "v1", bundles(3))
    await publish(store, "v2", bundles(2))
    assert all(590 < server.command("TTL", key) <= 600 for key in VersionKeys("v1").all)
    assert len([b async for b in store.iter_bundles("v1")]) == 3


async def test_domain_4_4_2_a_withdrawn_bundle_is_gone_with_the_next_version(store: CatalogStore) -> None:
    await publish(store, "v1", bundles(3))
    await publish(store, "v2", bundles(2))
    assert await store.get_bundles("v2", ["esim_1", "esim_2"]) == [bundles(2)[1], None]


async def test_domain_4_4_5_neither_pointer_nor_version_has_a_ttl_equal_to_the_staleness(
    store: CatalogStore, server: RedisServer
) -> None:
    await publish(store, "v1", bundles(1))
    await publish(store, "v2", bundles(1))
    assert server.command("TTL", VersionKeys("v2").bundles) == -1


async def test_commit_says_what_it_replaced_and_may_be_repeated(store: CatalogStore) -> None:
    await publish(store, "v1", bundles(1))
    staging = store.begin("v2")
    index = CatalogueIndex()
    await staging.put([index.add(bundle) for bundle in bundles(2)])
    lease = await lease_of(store)
    meta = make_meta("v2", index, fence=lease.token)
    await staging.seal(index, meta)
    assert [await store.commit(staging, meta, lease) for _ in range(3)] == ["v1"] * 3


async def test_an_unknown_answer_to_a_commit_is_not_a_publication(
    store: CatalogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await publish(store, "v1", bundles(1))
    monkeypatch.setattr(scripts, "COMMIT", "return {'maybe', 'v1'}")
    with pytest.raises(CacheReplyError, match="version v2 got an unknown answer: 'maybe'"):
        await publish(store, "v2", bundles(2))
    assert await store.current() == old


async def test_commit_rejects_a_token_lower_than_the_highest_seen(store: CatalogStore, server: RedisServer) -> None:
    lease = await lease_of(store)
    newer = await publish(store, "v5", bundles(2), lease=lease)
    server.command("SET", "{cat}:fence", lease.token + 1)
    with pytest.raises(StaleFenceError, match=f"token {lease.token + 1}, ours is {lease.token}"):
        await publish(store, "v4", bundles(2), lease=lease)
    assert await store.current() == newer


async def test_commit_rejects_a_version_with_a_missing_field(store: CatalogStore, server: RedisServer) -> None:
    old = await publish(store, "v1", bundles(3))
    staging = store.begin("v2")
    index = CatalogueIndex()
    await staging.put([index.add(bundle) for bundle in bundles(4)])
    lease = await lease_of(store)
    meta = make_meta("v2", index, fence=lease.token)
    await staging.seal(index, meta)
    server.command("HDEL", VersionKeys("v2").bundles, "esim_3")
    with pytest.raises(StagingIncompleteError, match="3 fields, 4 were expected"):
        await store.commit(staging, meta, lease)
    assert await store.current() == old


async def test_sealing_rejects_names_other_than_those_of_the_index(store: CatalogStore) -> None:
    staging = store.begin("v1")
    index = CatalogueIndex()
    index.add(make_bundle("expected"))
    await staging.put([make_bundle("other")])
    with pytest.raises(StagingIncompleteError):
        await staging.seal(index, make_meta("v1", index))


async def test_an_unsealed_version_is_not_committed(store: CatalogStore) -> None:
    staging = store.begin("v1")
    with pytest.raises(StagingIncompleteError, match="not sealed"):
        await store.commit(staging, make_meta("v1", CatalogueIndex()), await lease_of(store))


async def test_a_partial_takes_over_what_it_did_not_fetch(store: CatalogStore, server: RedisServer) -> None:
    published = await publish(store, "v1", bundles(600))
    staging = store.begin("v2")
    assert await staging.copy_all("v1", await store.verify(published)) == 600
    assert 0 < server.command("TTL", VersionKeys("v2").bundles) <= 900
    kept = await store.get_bundles("v1", ["esim_1", "esim_2"])
    await staging.put([dataclasses.replace(bundle, stale=True) for bundle in kept if bundle])
    await staging.remove(["esim_0", "never there"])
    index = await store.load_index("v1")
    index.discard("esim_0")
    lease = await lease_of(store)
    meta = make_meta("v2", index, fence=lease.token)
    await staging.seal(index, meta)
    await store.commit(staging, meta, lease)
    found = await store.get_bundles("v2", ["esim_0", "esim_1", "esim_2", "esim_3"])
    assert [None if bundle is None else bundle.stale for bundle in found] == [None, True, True, False]


async def test_copying_keeps_an_earlier_stale_mark(store: CatalogStore) -> None:
    published = await publish(store, "v1", [make_bundle("a", stale=True)])
    staging = store.begin("v2")
    assert await staging.copy_all("v1", await store.verify(published)) == 1
    assert [b async for b in store.iter_bundles("v2")] == [make_bundle("a", stale=True)]


async def test_copying_from_a_version_that_is_gone_is_an_error(store: CatalogStore) -> None:
    staging = store.begin("v2")
    with pytest.raises(VersionGoneError):
        await staging.copy_all("v1", {})


async def test_discarding_leaves_nothing(store: CatalogStore, server: RedisServer) -> None:
    staging = store.begin("v1")
    await staging.put(bundles(3))
    await staging.discard()
    assert server.command("DBSIZE") == 0


async def test_half_a_version_is_not_read_as_a_whole_one(store: CatalogStore, server: RedisServer) -> None:
    await publish(store, "v1", bundles(3))
    server.command("DEL", VersionKeys("v1").hash("countries"))
    with pytest.raises(VersionGoneError, match="lacks a part"):
        await store.current()


async def test_the_same_works_inside_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    async with open_store(store_settings(tmp_path / "state"), quick_policy(10)) as store:
        assert (store.backend, store.degraded) == ("in-process", True)
        await publish(store, "v1", bundles(300))
        staging = store.begin("v2")
        assert await staging.copy_all("v1", {}) == 300
        assert (await store.load_index("v1")).names() == sorted(b.name for b in bundles(300))


@pytest.mark.fault("F43")
async def test_a_full_redis_keeps_the_old_version_and_says_so(store: CatalogStore, server: RedisServer) -> None:
    old = await publish(store, "v1", bundles(2000, "x" * 300))
    used = server.command("INFO", "memory")["used_memory"]
    server.command("CONFIG", "SET", "maxmemory", used + 100_000)
    with pytest.raises(CacheWritesPausedError, match="takes no writes"):
        await publish(store, "v2", bundles(2000, "x" * 300))
    assert await store.current() == old


@pytest.mark.fault("S7")
async def test_a_redis_full_of_what_it_may_evict_takes_a_new_version(store: CatalogStore, server: RedisServer) -> None:
    old = await publish(store, "v1", bundles(500, "x" * 300))
    used = server.command("INFO", "memory")["used_memory"]
    server.command("CONFIG", "SET", "maxmemory", used + 4_000_000, "maxmemory-policy", "volatile-lru")
    with server.client() as client, client.pipeline(transaction=False) as pipeline:
        for number in range(4_000):
            pipeline.set(f"others:{number}", "x" * 1000, ex=100_000)
        pipeline.execute()
    assert server.command("INFO", "memory")["used_memory"] > used + 3_500_000
    # Redis counts idle time in whole seconds: before that the lock of the run may seem as old as what is to be evicted.
    wait_until(lambda: server.command("OBJECT", "IDLETIME", "others:3999") >= 2)
    new = await publish(store, "v2", bundles(500, "x" * 300))
    assert (old.version, await store.current()) == ("v1", new)
    assert len([bundle async for bundle in store.iter_bundles("v2")]) == 500


def versions_in(server: RedisServer) -> set[str]:
    with server.client() as client:
        return {key.decode().split(":")[2] for key in client.scan_iter(f"{VERSION_PREFIX}*")}


@pytest.mark.fault("S6")
async def test_replaced_versions_are_bounded_by_number(store: CatalogStore, server: RedisServer) -> None:
    for number in range(20):
        await publish(store, f"v{number}", bundles(3))
    assert versions_in(server) == {"v16", "v17", "v18", "v19"}
    assert server.command("ZRANGE", REPLACED, 0, -1) == [b"v16", b"v17", b"v18"]
    assert 0 < server.command("TTL", REPLACED) <= GRACE


@pytest.mark.fault("S6")
async def test_replaced_versions_are_bounded_by_memory(
    store: CatalogStore, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog_store, "KEPT_BYTES", 100_000)
    for number in range(5):
        await publish(store, f"v{number}", bundles(500, "x" * 300))
    assert versions_in(server) == {"v3", "v4"}, "the last one replaced is there for readers that are under way"


@pytest.mark.fault("S6")
async def test_replaced_versions_make_room_where_redis_is_full(store: CatalogStore, server: RedisServer) -> None:
    for number in range(3):
        await publish(store, f"v{number}", bundles(2000, "x" * 300))
    used = server.command("INFO", "memory")["used_memory"]
    server.command("CONFIG", "SET", "maxmemory", used + 100_000)
    new = await publish(store, "v3", bundles(2000, "x" * 300))
    assert await store.current() == new
    assert versions_in(server) == {"v2", "v3"}


async def test_a_damaged_list_of_replaced_versions_stops_nothing(store: CatalogStore, server: RedisServer) -> None:
    await publish(store, "v1", bundles(3))
    server.command("SET", REPLACED, "no sorted set")
    assert await publish(store, "v2", bundles(3)) == await store.current()
    assert server.command("ZRANGE", REPLACED, 0, -1) == [b"v1"]


async def test_a_commit_that_finds_redis_full_leaves_only_what_expires(
    store: CatalogStore, server: RedisServer
) -> None:
    old = await publish(store, "v1", bundles(3))
    lease = await lease_of(store)
    staging, index = store.begin("v2"), CatalogueIndex()
    await staging.put([index.add(bundle) for bundle in bundles(3)])
    meta = make_meta("v2", index, fence=lease.token)
    await staging.seal(index, meta)
    server.command("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(CacheWritesPausedError):
        await store.commit(staging, meta, lease)
    assert await store.current() == old
    assert all(0 < server.command("TTL", key) <= 900 for key in VersionKeys("v2").all)


async def test_memory_that_runs_out_while_staging_keeps_the_old_version(
    store: CatalogStore, server: RedisServer
) -> None:
    old = await publish(store, "v1", bundles(10))
    staging = store.begin("v2")
    server.command("CONFIG", "SET", "maxmemory", 1_000_000)
    with pytest.raises(CacheWritesPausedError) as caught:
        await staging.put(bundles(5000, "secret text" * 30))
    assert caught.value.error_type == "redis_oom"
    assert "secret text" not in f"{caught.value} {caught.value.__cause__}"
    assert await store.current() == old
    assert await store.get_bundles("v1", ["esim_1"]) == [bundles(10)[1]]


@pytest.fixture
def killer(server: RedisServer, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the process that forks writers and kills them."""
    started: list[subprocess.Popen[str]] = []

    def start(*, kills: int, size: int, life: float) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "support.killed_writers",
                server.url,
                str(tmp_path),
                str(kills),
                str(size),
                str(life),
            ],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(TESTS)},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.fault("F51")
async def test_f51_a_writer_killed_while_staging_leaves_only_what_expires(
    server: RedisServer, store: CatalogStore, killer: Callable[..., subprocess.Popen[str]]
) -> None:
    old = await publish(store, "v0", bundles(5))
    process = killer(kills=1, size=500_000, life=0.3)
    out, _ = await asyncio.to_thread(process.communicate)
    assert "killed=1" in out
    orphans = [key for key in server.command("KEYS", "{cat}:v:*") if b":v0:" not in key]
    assert orphans
    assert all(0 < server.command("TTL", key) <= 900 for key in orphans)
    assert await store.current() == old
    assert len([b async for b in store.iter_bundles("v0")]) == 5


@pytest.mark.fault("F51")
async def test_100_writers_killed_while_publishing_never_show_a_reader_a_mixed_catalogue(
    server: RedisServer, store: CatalogStore, killer: Callable[..., subprocess.Popen[str]]
) -> None:
    await publish(store, "v0", [make_bundle(f"esim_{n}", description="v0") for n in range(60)])
    process = killer(kills=100, size=60, life=0.05)
    reads, versions = 0, set()
    reader = CatalogReader(store, None, stale_after=1e12, clock=time.time)
    killing = asyncio.create_task(asyncio.to_thread(process.communicate))
    while not killing.done():
        answer = await reader.search(Query(country="PT", limit=0))
        assert answer.total == len(answer.bundles) == 60
        assert {bundle.description for bundle in answer.bundles} == {answer.version}
        reads += 1
        versions.add(answer.version)
    out, _ = killing.result()
    assert "killed=100" in out
    assert reads > 100
    assert len(versions) > 3
    forever = {key.decode() for key in server.command("KEYS", "*") if server.command("TTL", key) == -1}
    current = await store.current_version()
    assert current is not None
    assert forever <= {*VersionKeys(current).all, "{cat}:current", "{cat}:fence", "{cat}:fence:seq"}
