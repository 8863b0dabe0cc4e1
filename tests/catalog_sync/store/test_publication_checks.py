"""Everything that a publication checks and writes."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from catalog_sync.domain.errors import CatalogSyncError, LockLostError
from catalog_sync.domain.index import CatalogueIndex
from catalog_sync.domain.models import CatalogueMeta
from catalog_sync.store import CatalogStore, LockLease, StagingIncompleteError, StaleFenceError, open_store, scripts
from catalog_sync.store.client import GuardedRedis, connect_url
from catalog_sync.store.errors import AlreadyPublishedError
from catalog_sync.store.keys import (
    CURRENT,
    FENCE,
    FENCE_SEQ,
    HASHES,
    LOCK,
    REPLACED,
    VERSION_HASHES,
    VERSION_PREFIX,
    VersionKeys,
    receipt_key,
)
from catalog_sync.store.staging import Staging
from support.published import lease_of, make_bundle, make_meta, publish, quick_policy, store_settings
from support.redis_server import RedisServer

DAY = 86_400


@pytest.fixture
async def store(server: RedisServer, tmp_path: Path) -> AsyncIterator[CatalogStore]:
    """A store with long timeouts: no test here is about time limits."""
    async with open_store(store_settings(tmp_path / "state", server.url), quick_policy(60)) as opened:
        yield opened


async def sealed(store: CatalogStore, version: str, lease: LockLease) -> tuple[Staging, CatalogueMeta]:
    """Three bundles with an entry in every index, ready to be committed."""
    staging = store.begin(version)
    index = CatalogueIndex()
    await staging.put([index.add(make_bundle(f"esim_{number}")) for number in range(3)])
    meta = make_meta(version, index, fence=lease.token)
    await staging.seal(index, meta)
    return staging, meta


def ttls(server: RedisServer, version: str) -> set[int]:
    return {server.command("TTL", key) for key in VersionKeys(version).all}


@pytest.mark.parametrize("name", HASHES)
async def test_each_hash_must_have_all_its_fields(store: CatalogStore, server: RedisServer, name: str) -> None:
    lease = await lease_of(store)
    staging, meta = await sealed(store, "v1", lease)
    assert staging.manifest is not None
    expected = staging.manifest[name]
    key = VersionKeys("v1").hash(name)
    server.command("HDEL", key, server.command("HKEYS", key)[0])
    with pytest.raises(StagingIncompleteError) as caught:
        await store.commit(staging, meta, lease)
    assert str(caught.value).startswith(f"{key} has {expected - 1} fields, {expected} were expected")
    assert await store.current() is None


@pytest.mark.parametrize("name", HASHES)
async def test_no_hash_may_have_a_field_too_many(store: CatalogStore, server: RedisServer, name: str) -> None:
    lease = await lease_of(store)
    staging, meta = await sealed(store, "v1", lease)
    key = VersionKeys("v1").hash(name)
    server.command("HSET", key, "one more", "{}")
    with pytest.raises(StagingIncompleteError, match=f"{key} has "):
        await store.commit(staging, meta, lease)
    assert await store.current() is None


async def test_the_meta_must_be_there(store: CatalogStore, server: RedisServer) -> None:
    lease = await lease_of(store)
    staging, meta = await sealed(store, "v1", lease)
    server.command("HDEL", VersionKeys("v1").meta, "json")
    with pytest.raises(StagingIncompleteError, match=r"\{cat\}:v:v1:meta has 0 fields, 1 were expected"):
        await store.commit(staging, meta, lease)
    assert not server.command("EXISTS", CURRENT, FENCE)


async def test_a_publication_is_noted_in_its_meta_and_in_both_tokens(store: CatalogStore, server: RedisServer) -> None:
    await publish(store, "v1", [])
    lease = await lease_of(store)
    staging, meta = await sealed(store, "v2", lease)
    server.command("SET", FENCE_SEQ, 3)
    assert await store.commit(staging, meta, lease) == "v1"
    token = str(lease.token).encode()
    assert server.command("HMGET", VersionKeys("v2").meta, "committed", "previous") == [token, b"v1"]
    assert server.command("MGET", CURRENT, FENCE, FENCE_SEQ) == [b"v2", token, token]
    assert ttls(server, "v2") == {-1}


async def test_a_counter_of_tokens_that_is_ahead_stays(store: CatalogStore, server: RedisServer) -> None:
    lease = await lease_of(store)
    staging, meta = await sealed(store, "v1", lease)
    server.command("SET", FENCE_SEQ, lease.token + 5)
    await store.commit(staging, meta, lease)
    assert server.command("GET", FENCE_SEQ) == str(lease.token + 5).encode()


async def test_the_first_publication_replaces_nothing_also_when_it_is_repeated(store: CatalogStore) -> None:
    lease = await lease_of(store)
    staging, meta = await sealed(store, "v1", lease)
    assert [await store.commit(staging, meta, lease) for _ in range(2)] == [None, None]


async def test_a_repeated_commit_is_answered_although_the_lock_is_gone_and_a_later_run_has_published(
    store: CatalogStore, server: RedisServer
) -> None:
    await publish(store, "v1", [])
    lease = await lease_of(store)
    staging, meta = await sealed(store, "v2", lease)
    await store.commit(staging, meta, lease)
    server.command("DEL", LOCK)
    server.command("SET", FENCE, lease.token + 1)
    assert await store.commit(staging, meta, lease) == "v1"


async def test_the_token_that_published_last_may_publish_again(store: CatalogStore) -> None:
    lease = await lease_of(store)
    await publish(store, "v1", [], lease=lease)
    staging, meta = await sealed(store, "v2", lease)
    assert await store.commit(staging, meta, lease) == "v1"


async def test_a_later_publication_is_named_before_the_lost_lock_and_by_its_whole_number(
    store: CatalogStore, server: RedisServer
) -> None:
    lease = await lease_of(store)
    staging, meta = await sealed(store, "v1", lease)
    server.command("DEL", LOCK)
    server.command("SET", FENCE, 2**53 - 1)
    with pytest.raises(StaleFenceError, match=f"token {2**53 - 1},") as caught:
        await store.commit(staging, meta, lease)
    assert caught.value.context["highest"] == 2**53 - 1


@pytest.mark.parametrize("damaged", ["no number", "-5", "0", str(2**53), "1e400"])
async def test_a_damaged_token_blocks_no_publication(store: CatalogStore, server: RedisServer, damaged: str) -> None:
    lease = await lease_of(store)
    staging, meta = await sealed(store, "v1", lease)
    server.command("SET", FENCE, damaged)
    server.command("SET", FENCE_SEQ, damaged)
    await store.commit(staging, meta, lease)
    assert server.command("MGET", FENCE, FENCE_SEQ) == [str(lease.token).encode()] * 2


async def test_keys_of_another_type_block_no_publication(store: CatalogStore, server: RedisServer) -> None:
    lease = await lease_of(store)
    staging, meta = await sealed(store, "v1", lease)
    for key in (CURRENT, FENCE, FENCE_SEQ):
        server.command("DEL", key)
        server.command("LPUSH", key, "x")
    assert await store.commit(staging, meta, lease) is None
    assert server.command("GET", CURRENT) == b"v1"


async def test_a_lock_of_another_owner_with_the_same_token_is_not_ours(
    store: CatalogStore, server: RedisServer
) -> None:
    lease = await lease_of(store)
    staging, meta = await sealed(store, "v1", lease)
    held = server.command("GET", LOCK)
    server.command("SET", LOCK, held.replace(b"a" * 32, b"b" * 32))
    with pytest.raises(LockLostError):
        await store.commit(staging, meta, lease)
    server.command("SET", LOCK, held)
    await store.commit(staging, meta, lease)


async def test_a_version_that_replaces_itself_stays(store: CatalogStore, server: RedisServer) -> None:
    await publish(store, "v1", [])
    lease = await lease_of(store)
    staging, meta = await sealed(store, "v1", lease)
    assert await store.commit(staging, meta, lease) == "v1"
    assert ttls(server, "v1") == {-1}


async def test_the_replaced_version_stays_for_the_grace_that_was_asked_for(
    store: CatalogStore, server: RedisServer
) -> None:
    first = await lease_of(store)
    staging, meta = await sealed(store, "v1", first)
    await store.commit(staging, meta, first)
    await first.release()
    second = await lease_of(store)
    staging, meta = await sealed(store, "v2", second)
    await store.commit(staging, meta, second, grace=77)
    assert {40 < ttl <= 77 for ttl in ttls(server, "v1")} == {True}
    assert ttls(server, "v2") == {-1}


async def test_under_one_receipt_one_version_is_published_and_the_receipt_lasts_a_day(
    store: CatalogStore, server: RedisServer
) -> None:
    lease = await lease_of(store)
    staging, meta = await sealed(store, "v1", lease)
    await store.commit(staging, meta, lease, receipt="sync")
    assert await store.receipt("sync") == "v1"
    assert DAY - 60 < server.command("TTL", receipt_key("sync")) <= DAY
    other, its_meta = await sealed(store, "v2", lease)
    with pytest.raises(AlreadyPublishedError) as caught:
        await store.commit(other, its_meta, lease, receipt="sync")
    assert "v1" in str(caught.value)
    assert await store.current() == meta
    await store.commit(other, its_meta, lease, receipt="another sync")


async def test_the_version_of_the_receipt_may_be_committed_under_a_new_token(store: CatalogStore) -> None:
    first = await lease_of(store)
    staging, meta = await sealed(store, "v1", first)
    await store.commit(staging, meta, first, receipt="sync")
    await first.release()
    second = await lease_of(store)
    again = dataclasses.replace(meta, fence=second.token)
    assert await store.commit(staging, again, second, receipt="sync") == "v1"


async def test_copying_replaces_what_was_staged_and_lasts_as_long_as_staging(
    store: CatalogStore, server: RedisServer
) -> None:
    await publish(store, "v1", [make_bundle("kept")])
    staging = store.begin("v2")
    await staging.put([make_bundle("staged before")])
    assert await staging.copy_all("v1", {}) == 1
    key = VersionKeys("v2").bundles
    assert server.command("HKEYS", key) == [b"kept"]
    assert 800 < server.command("TTL", key) <= 900


async def test_an_empty_version_is_copied_as_an_empty_one(store: CatalogStore) -> None:
    await publish(store, "v1", [])
    assert await store.begin("v2").copy_all("v1", {}) == 0


async def test_a_server_without_copy_is_served_field_by_field(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "server", "--rename-command", "COPY", "") as old:
        async with open_store(store_settings(tmp_path / "state", old.url), quick_policy(60)) as store:
            await publish(store, "v1", [make_bundle(f"esim_{number}") for number in range(3)])
            staging = store.begin("v2")
            assert await staging.copy_all("v1", {}) == 3
            assert old.command("HLEN", VersionKeys("v2").bundles) == 3


async def test_an_error_of_the_copy_is_not_taken_for_an_old_server(store: CatalogStore, server: RedisServer) -> None:
    await publish(store, "v1", [make_bundle("esim_1")])
    staging = store.begin("v2")
    server.command("CONFIG", "RESETSTAT")
    server.command("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(CatalogSyncError):
        await staging.copy_all("v1", {})
    server.command("CONFIG", "SET", "maxmemory", 0)
    assert "cmdstat_hscan" not in server.command("INFO", "commandstats"), "it was not copied field by field"
    assert not server.command("EXISTS", VersionKeys("v2").bundles)


async def test_what_is_staged_expires_after_the_time_of_its_part(store: CatalogStore, server: RedisServer) -> None:
    part = store.begin("v1", ttl=50)
    await part.put([make_bundle("a"), make_bundle("b")])
    key = VersionKeys("v1").bundles
    assert server.command("HLEN", key) == 2
    assert 20 < server.command("TTL", key) <= 50


async def test_a_version_that_is_published_again_is_not_a_replaced_one(
    store: CatalogStore, server: RedisServer
) -> None:
    for version in ("v1", "v2", "v1"):
        await publish(store, version, [make_bundle("esim_1")])
    assert server.command("ZRANGE", REPLACED, 0, -1) == [b"v2"]
    assert ttls(server, "v1") <= {-1, -2}


async def test_the_list_of_replaced_versions_expires_even_if_none_is_replaced(
    store: CatalogStore, server: RedisServer
) -> None:
    for version in ("v1", "v2", "v2"):
        await publish(store, version, [make_bundle("esim_1")])
    assert server.command("ZRANGE", REPLACED, 0, -1) == [b"v1"]
    assert server.command("TTL", REPLACED) > 0


class TestMakingRoom:
    """What a full Redis deletes, so that the publication goes on."""

    @staticmethod
    async def freed(server: RedisServer) -> int:
        redis = GuardedRedis(connect_url(server.url), quick_policy(60))
        try:
            args = [VERSION_PREFIX, *VERSION_HASHES]
            return int(await redis.script("make room", scripts.FORGET_REPLACED, keys=[REPLACED], args=args))
        finally:
            await redis.aclose()

    async def test_deletes_all_of_each_replaced_version_and_nothing_else(
        self, store: CatalogStore, server: RedisServer
    ) -> None:
        for version in ("v1", "v2", "v3"):
            await publish(store, version, [make_bundle("esim_1")])
        keys = {version: VersionKeys(version).all for version in ("v1", "v2", "v3")}
        before = {version: server.command("EXISTS", *keys[version]) for version in keys}
        assert await self.freed(server) == before["v1"] + before["v2"] + 1
        left = {version: server.command("EXISTS", *keys[version]) for version in keys}
        assert left == {"v1": 0, "v2": 0, "v3": before["v3"]}
        assert not server.command("EXISTS", REPLACED)
        assert await self.freed(server) == 0

    async def test_deletes_a_list_that_is_none(self, server: RedisServer) -> None:
        server.command("SET", REPLACED, "no list")
        assert await self.freed(server) == 1
