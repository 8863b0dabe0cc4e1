"""The snapshot on disk is complete or absent."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from catalog_sync.domain.index import CatalogueIndex
from catalog_sync.domain.models import Bundle, CatalogueMeta
from catalog_sync.store import CatalogStore, Snapshot
from catalog_sync.store.errors import CorruptEntryError
from support.published import lines_of, make_bundle, make_meta, publish


def catalogue(version: str, count: int) -> tuple[CatalogueMeta, list[Bundle]]:
    index = CatalogueIndex()
    bundles = [index.add(make_bundle(f"esim_{number}", description="Åland")) for number in range(count)]
    return make_meta(version, index), bundles


async def written(directory: Path, *versions: str, count: int = 2500) -> Snapshot:
    snapshot = Snapshot(directory, wall_clock=lambda: 77.0)
    for version in versions:
        meta, bundles = catalogue(version, count)
        await snapshot.write_version(meta, lines_of(bundles))
    return snapshot


async def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    snapshot = await written(tmp_path / "state", "v1")
    file = await snapshot.load()
    assert file is not None
    assert (file.meta, list(file.bundles())) == catalogue("v1", 2500)
    assert snapshot.path.stat().st_mode & 0o777 == 0o600


async def test_a_version_is_copied_from_the_store(tmp_path: Path, store: CatalogStore) -> None:
    meta, bundles = catalogue("v1", 1200)
    await publish(store, "v1", bundles)
    snapshot = Snapshot(tmp_path)
    await snapshot.write_version(meta, store.iter_lines("v1"))
    file = await snapshot.load()
    assert file is not None
    assert sorted(file.bundles(), key=str) == sorted(bundles, key=str)


class Rearranging:
    """A Redis that gives a field twice, as it does while it rearranges a hash."""

    def __init__(self, *pages: list[Any]) -> None:
        self.pages = [*pages]

    async def script(self, *_: Any, **__: Any) -> list[Any]:
        return self.pages.pop(0)

    async def command(self, *asked: Any) -> list[Any]:
        """The version has no checksums."""
        return [None] * (len(asked) - 3)


async def pages_as_lines(*pages: list[Any]) -> list[tuple[int, bytes]]:
    redis: Any = Rearranging(*pages)
    store = CatalogStore(redis, backend="redis")
    return [block async for block in store.iter_lines("v1")]


async def test_a_bundle_that_comes_twice_is_one_line() -> None:
    found = await pages_as_lines(
        [b"7", 2, b"a\nb", b"1\n2"], [b"9", 2, b"b\nc", b"2\n3"], [b"5", 1, b"a", b"1"], [b"0", 0, b"", b""]
    )
    assert found == [(3, b"1\n2\n3\n")]


@pytest.mark.parametrize("page", [[b"0", 1, b"a", b"1\n"], [b"0", 2, b"a\nb\nc", b"1\n2"], [b"0", 1, b"a\nb", b"1"]])
async def test_a_bundle_of_several_lines_is_not_part_of_a_snapshot(page: list[Any]) -> None:
    with pytest.raises(CorruptEntryError):
        await pages_as_lines(page)


async def test_no_file_reads_as_absent(tmp_path: Path) -> None:
    assert await Snapshot(tmp_path / "not there").load() is None


async def test_an_empty_catalogue_is_a_catalogue(tmp_path: Path) -> None:
    file = await (await written(tmp_path, "v1", count=0)).load()
    assert file is not None
    assert list(file.bundles()) == []


@pytest.mark.parametrize("keep", [0, 10, 200, -1, -9, -40])
@pytest.mark.fault("F53")
async def test_f53_a_truncated_file_is_set_aside_and_the_previous_one_is_read(
    tmp_path: Path, keep: int, caplog: pytest.LogCaptureFixture
) -> None:
    snapshot = await written(tmp_path, "v1", "v2")
    snapshot.path.write_bytes(snapshot.path.read_bytes()[:keep])
    file = await snapshot.load()
    assert file is not None
    assert file.meta.version == "v1"
    assert snapshot.path.with_name(snapshot.path.name + ".corrupt-77").exists()
    assert "is damaged" in caplog.text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"price":"6.90"', b'"price":"0.01"'),
        (b'"format":1', b'"format":9'),
        (b'"bundles":3', b'"bundles":2'),
        (b'"sha256":"', b'"sha256":"f'),
        (b"{", b"["),
    ],
)
async def test_a_file_that_was_changed_reads_as_absent(tmp_path: Path, old: bytes, new: bytes) -> None:
    snapshot = await written(tmp_path, "v1", count=3)
    text = gzip.decompress(snapshot.path.read_bytes())
    assert old in text
    snapshot.path.write_bytes(gzip.compress(text.replace(old, new, 1)))
    assert await snapshot.load() is None


async def test_lines_after_the_end_are_damage(tmp_path: Path) -> None:
    snapshot = await written(tmp_path, "v1", count=3)
    text = gzip.decompress(snapshot.path.read_bytes())
    snapshot.path.write_bytes(gzip.compress(text + b"{}\n"))
    assert await snapshot.load() is None


async def test_a_writer_that_fails_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    snapshot = await written(tmp_path, "v1", count=3)
    meta, bundles = catalogue("v2", 3)
    with pytest.raises(ValueError, match="3 bundles were announced"):
        await snapshot.write_version(meta, lines_of(bundles[:2]))
    assert [path.name for path in tmp_path.iterdir()] == [snapshot.path.name]
    file = await snapshot.load()
    assert file is not None
    assert file.meta.version == "v1"


async def test_leftovers_of_killed_writers_are_removed(tmp_path: Path) -> None:
    leftover = tmp_path / ".catalogue.snapshot.jsonl.gz.99999999.abc.tmp"
    leftover.write_text("half")
    await written(tmp_path, "v1", count=1)
    assert not leftover.exists()


async def test_readers_beside_a_writer_see_one_version_or_the_other(tmp_path: Path) -> None:
    snapshot = await written(tmp_path, "v0", count=300)
    done = asyncio.Event()

    async def write() -> None:
        for number in range(1, 15):
            meta, bundles = catalogue(f"v{number}", 300)
            await snapshot.write_version(meta, lines_of(bundles))
        done.set()

    writing = asyncio.create_task(write())
    while not done.is_set():
        file = await Snapshot(tmp_path).load()
        assert file is not None
    await writing
    assert not list(tmp_path.glob("*.corrupt-*"))
    assert json.loads(gzip.decompress(snapshot.path.read_bytes()).splitlines()[0])["meta"]["version"] == "v14"
