"""Reading and writing a catalogue of any size yields to the event loop every few bundles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from catalog_sync.domain.index import CatalogueIndex
from catalog_sync.domain.pieces import PIECE
from catalog_sync.store import CatalogStore, checksums, staging
from catalog_sync.store.checksums import BUCKETS, checksum, manifest_entry
from catalog_sync.store.errors import CorruptEntryError
from catalog_sync.store.staging import Staging, encode
from support.instant_redis import InstantRedis, encode_json
from support.published import make_bundle, make_meta
from support.turns import Turns

ROWS = 3000


def rows_of(count: int = ROWS) -> list[tuple[bytes, bytes]]:
    made = (make_bundle(f"esim_{number}") for number in range(count))
    return [(bundle.name.encode(), encode(bundle)) for bundle in made]


def reading(rows: Sequence[tuple[bytes, bytes]]) -> CatalogStore:
    redis: Any = InstantRedis(rows)
    return CatalogStore(redis, backend="redis")


async def test_staging_and_sealing(monkeypatch: pytest.MonkeyPatch) -> None:
    redis: Any = InstantRedis()
    index, staged = CatalogueIndex(), Staging(redis, "v1")
    turns = Turns()
    monkeypatch.setattr(staging, "encode", turns.counting(encode))
    async with turns.watched():
        await staged.put(
            [index.add(make_bundle(f"esim_{number}", countries=(f"C{number % 40}",))) for number in range(ROWS)]
        )
    assert turns.steps == ROWS
    assert turns.longest <= 2 * PIECE
    sealing = Turns()
    monkeypatch.setattr(checksums, "_bucket", sealing.counting(checksums._bucket))
    async with sealing.watched():
        await staged.seal(index, make_meta("v1", index))
    assert sealing.steps > ROWS
    assert sealing.longest <= 10 * PIECE


async def test_the_index_is_written_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    redis: Any = InstantRedis()
    index, staged = CatalogueIndex(), Staging(redis, "v1")
    await staged.put([index.add(make_bundle(f"e{number}", countries=COUNTRIES)) for number in range(ROWS)])
    turns, checks = Turns(), checksums.checksum
    monkeypatch.setattr(checksums, "checksum", turns.counting(checks))
    async with turns.watched():
        await staged.seal(index, make_meta("v1", index))
    assert turns.steps == len(COUNTRIES) + 3
    assert turns.longest <= 2, "an entry of every bundle is a piece of its own"


COUNTRIES = tuple(f"C{number}" for number in range(30))


async def test_verifying_and_reading_lines_and_bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of()
    store = reading(rows)
    turns = Turns()
    monkeypatch.setattr(checksums, "checksum", turns.counting(checksum))
    index = CatalogueIndex()
    for name, _ in rows:
        index.add(make_bundle(name.decode()))
    async with turns.watched():
        found = await store.verify(make_meta("v1", index))
        blocks = [block async for block in store.iter_lines("v1")]
        bundles = [bundle async for bundle in store.iter_bundles("v1")]
    assert len(found) == len(bundles) == sum(count for count, _ in blocks) == ROWS
    assert b"".join(block for _, block in blocks) == b"".join(text + b"\n" for _, text in rows)
    assert turns.steps == 3 * ROWS
    assert turns.longest <= 2 * PIECE


async def test_bundles_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of()
    store = reading(rows)
    turns = Turns()
    monkeypatch.setattr("catalog_sync.store.catalog_store.decode", turns.counting(staging.decode))
    async with turns.watched():
        found = await store.get_bundles("v1", [name.decode() for name, _ in rows])
    assert len(found) == turns.steps == ROWS
    assert turns.longest <= 2 * PIECE


def checksums_of(rows: Sequence[tuple[bytes, bytes]]) -> checksums.Checksums:
    packed = checksums.Packed()
    packed.add((name, checksum("bundles", name, text)) for name, text in rows)
    known = checksums.read("v1", [encode_json(manifest_entry({})), *(bucket for _, bucket in packed.fields())])
    assert known is not None
    return known


def test_a_field_that_comes_again_is_recognised_without_a_list_of_those_that_came() -> None:
    rows = rows_of(2 * BUCKETS)
    known = checksums_of(rows)
    assert all(known.take("bundles", *row) == checksum("bundles", *row) for row in rows)
    assert [known.take("bundles", *row) for row in rows] == [None] * len(rows)


def test_what_was_never_published_is_refused_before_and_after_the_others_came() -> None:
    rows = rows_of(BUCKETS)
    known = checksums_of(rows)
    for _ in range(2):
        with pytest.raises(CorruptEntryError):
            known.take("bundles", rows[0][0], rows[1][1])
        for row in rows:
            known.take("bundles", *row)
