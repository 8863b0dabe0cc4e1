"""A published catalogue that is not whole any more: nothing of it is taken for the whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from catalog_sync.domain.models import Outcome, SyncKind, SyncReport, SyncRequest
from catalog_sync.store import backend
from catalog_sync.store.backend import open_store
from catalog_sync.store.keys import HASHES, VersionKeys
from catalog_sync.store.snapshot import Snapshot
from catalog_sync.sync.service import SyncService
from support.redis_server import RedisServer
from support.settings import make_settings
from support.sync_world import BUNDLES, World

PARTS = (*HASHES, "meta", "pointer", "everything but the fence", "a price", "a name in the index")


def lose(server: RedisServer, version: str, part: str) -> None:
    """As an evicting Redis does."""
    if part == "everything but the fence":
        server.command("DEL", "{cat}:current", "{cat}:fence:seq", *VersionKeys(version).all)
    elif part == "pointer":
        server.command("DEL", "{cat}:current")
    elif part == "a price":
        _change(server, VersionKeys(version).bundles, b'"price":"', b'"price":"9')
    elif part == "a name in the index":
        _change(server, VersionKeys(version).hash("countries"), b'["', b'["x')
    else:
        server.command("DEL", VersionKeys(version).hash(part))


def _change(server: RedisServer, key: str, old: bytes, new: bytes) -> None:
    field = server.command("HKEYS", key)[0]
    server.command("HSET", key, field, server.command("HGET", key, field).replace(old, new, 1))


@pytest.fixture
def without_snapshot(world: World, tmp_path: Path) -> Callable[[], World]:
    """The same world seen from a machine whose disk has no snapshot."""
    return lambda: dataclasses.replace(world, snapshot=Snapshot(tmp_path / "another machine"))


async def scope_of(world: World, kind: SyncKind) -> str:
    bundle = next(iter((await world.bundles()).values()))
    return {SyncKind.GROUP: bundle.groups[0], SyncKind.COUNTRY: bundle.countries[0], SyncKind.BUNDLE: bundle.name}[kind]


@pytest.mark.fault("S3")
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", [SyncKind.COUNTRY, SyncKind.GROUP, SyncKind.BUNDLE])
async def test_a_scoped_sync_on_a_damaged_catalogue_becomes_a_full_one(
    world: World,
    without_snapshot: Callable[[], World],
    redis_server: RedisServer,
    caplog: pytest.LogCaptureFixture,
    kind: SyncKind,
    part: str,
) -> None:
    await world.sync()
    scope = await scope_of(world, kind)
    lose(redis_server, (await world.meta()).version, part)

    report = await without_snapshot().sync(kind, scope)

    assert (report.outcome, report.kind, report.scope) == (Outcome.COMPLETE, SyncKind.FULL, None)
    assert report.bundles == BUNDLES
    assert len(await world.bundles()) == BUNDLES
    assert any("a full sync is done instead" in record.message for record in caplog.records)


async def test_a_scoped_sync_may_build_on_a_snapshot_of_the_very_version_that_is_damaged(
    world: World, redis_server: RedisServer
) -> None:
    await world.sync()
    before = await world.bundles()
    country = await scope_of(world, SyncKind.COUNTRY)
    lose(redis_server, (await world.meta()).version, "bundles")

    report = await world.sync(SyncKind.COUNTRY, country)

    assert (report.outcome, report.kind) == (Outcome.COMPLETE, SyncKind.COUNTRY)
    assert await world.bundles() == before


@pytest.mark.fault("S3")
async def test_an_older_snapshot_is_no_base_for_a_scoped_sync(
    world: World, without_snapshot: Callable[[], World], redis_server: RedisServer
) -> None:
    """What was published since, by another machine, would go back to what it was."""
    await world.sync()
    await without_snapshot().sync()
    country = await scope_of(world, SyncKind.COUNTRY)
    lose(redis_server, (await world.meta()).version, "countries")

    report = await world.sync(SyncKind.COUNTRY, country)

    assert (report.outcome, report.kind, report.bundles) == (Outcome.COMPLETE, SyncKind.FULL, BUNDLES)


@pytest.mark.fault("S3")
@pytest.mark.parametrize("kind", [SyncKind.COUNTRY, SyncKind.GROUP, SyncKind.BUNDLE])
async def test_a_scoped_sync_becomes_a_full_one_where_the_store_was_emptied_and_no_disk_remembers(
    world: World, without_snapshot: Callable[[], World], redis_server: RedisServer, kind: SyncKind
) -> None:
    """That looks like a store in which nothing was ever published, so a first sync is always a full one."""
    await world.sync()
    scope = await scope_of(world, kind)
    redis_server.command("FLUSHALL")

    report = await without_snapshot().sync(kind, scope)

    assert (report.outcome, report.kind, report.bundles) == (Outcome.COMPLETE, SyncKind.FULL, BUNDLES)


@pytest.mark.fault("S3", "A3")
@pytest.mark.parametrize("emptied", [True, False])
@pytest.mark.parametrize(
    ("kind", "scope", "error_type"),
    [(SyncKind.GROUP, "Standard - Fixd", "unknown_scope"), (SyncKind.BUNDLE, "esim_typo", "bundle_not_found")],
)
async def test_a_typo_is_refused_also_where_a_full_sync_would_be_done_instead(
    world: World,
    without_snapshot: Callable[[], World],
    redis_server: RedisServer,
    kind: SyncKind,
    scope: str,
    error_type: str,
    *,
    emptied: bool,
) -> None:
    await world.sync()
    if emptied:
        redis_server.command("FLUSHALL")
    else:
        lose(redis_server, (await world.meta()).version, "countries")

    report = await without_snapshot().sync(kind, scope)

    assert report.outcome is Outcome.FAILED
    assert report.error is not None
    assert report.error.type == error_type
    assert report.unknown_scope


@pytest.mark.fault("S3")
@pytest.mark.parametrize("part", ["bundles", "groups", "meta", "pointer"])
async def test_a_group_that_fails_over_a_damaged_catalogue_does_not_vanish(
    world: World, without_snapshot: Callable[[], World], redis_server: RedisServer, part: str
) -> None:
    """Its last good data cannot be read: the publication is refused, and --force makes it."""
    await world.sync()
    lose(redis_server, (await world.meta()).version, part)
    world.simulator.set_scenario("group-denied")

    report = await without_snapshot().sync()

    assert report.outcome is Outcome.FAILED
    assert report.error is not None
    assert report.error.type == "publish_refused"
    forced = await without_snapshot().sync(force=True)
    assert forced.outcome is Outcome.PARTIAL


async def test_a_group_that_fails_over_a_damaged_catalogue_is_kept_from_the_snapshot(
    world: World, redis_server: RedisServer
) -> None:
    await world.sync()
    before = await world.bundles()
    lose(redis_server, (await world.meta()).version, "bundles")
    world.simulator.set_scenario("group-denied")

    report = await world.sync()

    assert report.outcome is Outcome.PARTIAL
    assert set(await world.bundles()) == set(before)


@pytest.mark.parametrize("part", HASHES)
async def test_the_drop_guard_compares_with_a_damaged_catalogue_too(
    world: World, without_snapshot: Callable[[], World], redis_server: RedisServer, part: str
) -> None:
    await world.sync()
    lose(redis_server, (await world.meta()).version, part)
    world.simulator.set_scenario("big-drop")

    report = await without_snapshot().sync()

    assert report.outcome is Outcome.FAILED
    assert report.error is not None
    assert report.error.type == "publish_refused"


@pytest.mark.fault("S3")
async def test_a_full_sync_mends_a_damaged_catalogue(world: World, redis_server: RedisServer) -> None:
    await world.sync()
    redis_server.command("SET", "{cat}:current", "../not a version")

    report = await world.sync()

    assert report.outcome is Outcome.COMPLETE
    assert len(await world.bundles()) == BUNDLES


@pytest.mark.fault("S3")
async def test_a_bundle_hash_lost_between_two_looks_ends_the_run(
    world: World, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version was whole when the run began, and is copied when it is not any more."""
    await world.sync()
    country = await scope_of(world, SyncKind.COUNTRY)
    begin = world.store.begin
    version = (await world.meta()).version

    def evicts(name: str, *, ttl: int) -> object:
        lose(redis_server, version, "bundles")
        return begin(name, ttl=ttl)

    monkeypatch.setattr(world.store, "begin", evicts)
    report = await world.sync(SyncKind.COUNTRY, country)

    assert report.outcome is Outcome.FAILED
    assert report.error is not None
    assert report.error.type == "version_gone"
    assert await world.store.current_version() == version


@pytest.mark.fault("S3")
@pytest.mark.parametrize("predecessor", [True, False])
async def test_a_damaged_snapshot_that_was_the_only_copy_makes_a_scoped_sync_a_full_one(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, predecessor: bool
) -> None:
    """Without any Redis the snapshot is the published catalogue; the one before it is an older one."""
    monkeypatch.setattr("catalog_sync.store.backend.shutil.which", lambda _: None)
    settings = make_settings(world.settings.base_url, tmp_path / "state")

    async def sync(*request: Any) -> SyncReport:
        backend._servers.clear()  # a process of its own
        async with open_store(settings) as store:
            service = SyncService(settings, world.supplier, store, Snapshot(settings.state_dir))
            return await service.run(SyncRequest(*request))

    await sync()
    if predecessor:
        await sync()
    Snapshot(settings.state_dir).path.write_bytes(b"cut short")

    report = await sync(SyncKind.COUNTRY, "PT")

    assert (report.outcome, report.kind, report.bundles) == (Outcome.COMPLETE, SyncKind.FULL, BUNDLES)
    again = await sync(SyncKind.COUNTRY, "PT")
    assert (again.outcome, again.kind, again.bundles) == (Outcome.COMPLETE, SyncKind.COUNTRY, BUNDLES)


@pytest.mark.fault("S11")
@pytest.mark.parametrize(
    "key", ["{cat}:lock", "{cat}:owner", "{cat}:fence", "{cat}:fence:seq", "{cat}:current", "{cat}:replaced"]
)
async def test_a_key_of_another_type_is_replaced_by_the_next_sync(
    world: World, redis_server: RedisServer, key: str
) -> None:
    await world.sync()
    redis_server.command("DEL", key)
    redis_server.command("LPUSH", key, "x")

    report = await world.sync()

    assert (report.outcome, report.bundles) == (Outcome.COMPLETE, BUNDLES)
    assert (await world.meta()).version == report.version
    assert await world.store.lock.holder() is None
