"""A value in Redis that was changed but is still readable counts as damaged."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog_sync.api.catalogue import LiveCatalogue
from catalog_sync.store import CatalogStore, Snapshot
from catalog_sync.store.checksums import Total, checksum
from catalog_sync.store.errors import CorruptEntryError, VersionGoneError
from catalog_sync.store.keys import META_CHECKSUMS_PREFIX, META_DIGEST, META_MANIFEST, VersionKeys
from catalog_sync.store.reader import CatalogReader, Query
from support.published import lines_of, make_bundle, publish
from support.redis_server import RedisServer

pytestmark = pytest.mark.fault("S11")

NOW = 1_795_000_000.0
V1, V2 = VersionKeys("v1"), VersionKeys("v2")
BUNDLES = [make_bundle("a"), make_bundle("b", countries=("PT", "ES")), make_bundle("c", groups=("Other",))]
CHEAPER = [dataclasses.replace(bundle, price="1.00", region="Asia") for bundle in BUNDLES]


async def _read_all(store: CatalogStore) -> None:
    await store.verify(await store.meta("v2"))
    await store.load_index("v2")


async def _damaged(store: CatalogStore, tmp_path: Path) -> None:
    """Asserts that every read of ``v2`` finds the damage, and that readers use the snapshot."""
    snapshot = Snapshot(tmp_path / "state")
    reader = CatalogReader(store, snapshot, stale_after=1e12, clock=lambda: NOW)
    with pytest.raises((CorruptEntryError, VersionGoneError)):
        await _read_all(store)
    assert list((await reader.search(Query(country="PT"))).bundles) == BUNDLES
    assert (await reader.show("a")).bundle == BUNDLES[0]


@pytest.fixture
async def two(store: CatalogStore, tmp_path: Path) -> CatalogStore:
    await publish(store, "v1", CHEAPER)
    meta = await publish(store, "v2", BUNDLES)
    await Snapshot(tmp_path / "state").write_version(meta, lines_of(BUNDLES))
    return store


async def test_what_is_as_it_was_published_is_read(two: CatalogStore) -> None:
    meta = await two.meta("v2")
    assert sorted(await two.verify(meta)) == ["a", "b", "c"]
    assert (await two.load_index("v2")).names() == ["a", "b", "c"]
    reader = CatalogReader(two, None, stale_after=1e12, clock=lambda: NOW)
    assert (await reader.search(Query(country="ES"))).bundles == (BUNDLES[1],)


async def test_a_changed_digit_of_a_price(two: CatalogStore, server: RedisServer, tmp_path: Path) -> None:
    text = server.command("HGET", V2.bundles, "a")
    server.command("HSET", V2.bundles, "a", text.replace(b"6.90", b"0.90"))
    await _damaged(two, tmp_path)


@pytest.mark.parametrize("where", ["bundles", "groups", "countries", "regions", "durations"])
async def test_a_hash_of_another_version(two: CatalogStore, server: RedisServer, tmp_path: Path, where: str) -> None:
    if where in {"groups", "countries", "durations"}:  # which are the same in both: there it has to be damaged
        field = server.command("HKEYS", V1.hash(where))[0]
        server.command("HSET", V1.hash(where), field, '["a"]')
    server.command("COPY", V1.hash(where), V2.hash(where), "REPLACE")
    with pytest.raises((CorruptEntryError, VersionGoneError)):
        await _read_all(two)


async def test_rows_exchanged_between_versions(two: CatalogStore, server: RedisServer, tmp_path: Path) -> None:
    server.command("HSET", V2.bundles, "a", server.command("HGET", V1.bundles, "a"))
    await _damaged(two, tmp_path)


async def test_a_bundle_under_another_name(two: CatalogStore, server: RedisServer, tmp_path: Path) -> None:
    text = server.command("HGET", V2.bundles, "a")
    server.command("HDEL", V2.bundles, "a")
    server.command("HSET", V2.bundles, "z", text)
    await _damaged(two, tmp_path)


async def test_an_index_that_leaves_a_bundle_out(two: CatalogStore, server: RedisServer, tmp_path: Path) -> None:
    server.command("HSET", V2.hash("countries"), "PT", '["b","c"]')
    await _damaged(two, tmp_path)


async def test_an_index_under_another_value(two: CatalogStore, server: RedisServer, tmp_path: Path) -> None:
    text = server.command("HGET", V2.hash("countries"), "PT")
    server.command("HDEL", V2.hash("countries"), "PT")
    server.command("HSET", V2.hash("countries"), "PX", text)
    await _damaged(two, tmp_path)


@pytest.mark.parametrize("change", [{"as_of": "2026-11-27T02:00:00Z"}, {"last_full_sync": None}, {"kind": "bundle"}])
async def test_a_changed_meta(two: CatalogStore, server: RedisServer, tmp_path: Path, change: dict[str, Any]) -> None:
    meta = json.loads(server.command("HGET", V2.meta, "json"))
    server.command("HSET", V2.meta, "json", json.dumps({**meta, **change}))
    with pytest.raises(CorruptEntryError, match="not as it was published"):
        await two.current()


@pytest.mark.parametrize("lost", [META_DIGEST, f"{META_CHECKSUMS_PREFIX}7"])
async def test_checksums_that_are_lost(two: CatalogStore, server: RedisServer, lost: str) -> None:
    server.command("HDEL", V2.meta, lost)
    with pytest.raises(CorruptEntryError):
        await two.verify(await two.meta("v2"))


async def test_a_manifest_without_its_checksums(two: CatalogStore, server: RedisServer) -> None:
    manifest = json.loads(server.command("HGET", V2.meta, META_MANIFEST))
    del manifest["checksums"]
    server.command("HSET", V2.meta, META_MANIFEST, json.dumps(manifest))
    with pytest.raises(CorruptEntryError):
        await two.meta("v2")


async def test_the_api_serves_what_it_had(two: CatalogStore, server: RedisServer, tmp_path: Path) -> None:
    live = LiveCatalogue(two, Snapshot(tmp_path / "state"), stale_after=1e12)
    text = server.command("HGET", V2.bundles, "a")
    server.command("HSET", V2.bundles, "a", text.replace(b"6.90", b"6.91"))
    await live.start()
    state = live.store_state()
    assert (live.source, state.reachable) == ("snapshot", False)
    assert state.error is not None
    assert "not as it was published" in state.error.message
    assert live.copy.bundle(live.copy.place_of("a")) == BUNDLES[0]
    await live.aclose()


async def test_a_snapshot_is_not_made_of_damaged_rows(two: CatalogStore, server: RedisServer, tmp_path: Path) -> None:
    server.command("HSET", V2.bundles, "a", server.command("HGET", V1.bundles, "a"))
    snapshot = Snapshot(tmp_path / "state")
    with pytest.raises(CorruptEntryError):
        await snapshot.write_version(await two.meta("v2"), two.iter_lines("v2"))
    found = await snapshot.load()
    assert found is not None
    assert list(found.bundles()) == BUNDLES


async def test_a_version_of_an_older_release_is_read(two: CatalogStore, server: RedisServer) -> None:
    fields = server.command("HKEYS", V2.meta)
    server.command("HDEL", V2.meta, META_DIGEST, *(field for field in fields if field.startswith(b"sums:")))
    manifest = json.loads(server.command("HGET", V2.meta, META_MANIFEST))
    del manifest["checksums"]
    server.command("HSET", V2.meta, META_MANIFEST, json.dumps(manifest))
    meta = await two.current()
    assert meta is not None
    assert sorted(await two.verify(meta)) == ["a", "b", "c"]
    found = await CatalogReader(two, None, stale_after=1e12, clock=lambda: NOW).search(Query(country="es"))
    assert found.bundles == (BUNDLES[1],)


@given(st.binary(max_size=20), st.binary(max_size=200), st.integers(0), st.integers(1, 255))
def test_any_other_byte_gives_another_checksum(field: bytes, value: bytes, place: int, change: int) -> None:
    if value:
        at = place % len(value)
        other = value[:at] + bytes([value[at] ^ change]) + value[at + 1 :]
        assert checksum("bundles", field, other) != checksum("bundles", field, value)
    assert checksum("bundles", field, value) != checksum("groups", field, value)
    assert checksum("bundles", field + b"x", value) != checksum("bundles", field, value)


@given(st.lists(st.tuples(st.binary(), st.binary()), unique=True), st.randoms())
def test_a_total_does_not_depend_on_the_order(rows: list[tuple[bytes, bytes]], random: Any) -> None:
    one, other = Total(), Total(checksum("bundles", *row) for row in rows)
    for row in random.sample(rows, len(rows)):
        one.add(checksum("bundles", *row))
    assert str(one) == str(other)
