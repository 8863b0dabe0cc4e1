"""Where answers come from, which age they state, and that an outage never looks like an empty list."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from catalog_sync.domain.errors import BundleNotFoundError, CatalogUnavailableError
from catalog_sync.domain.index import CatalogueIndex
from catalog_sync.domain.models import Bundle, CatalogueMeta
from catalog_sync.store import CatalogStore, Snapshot, open_store
from catalog_sync.store.reader import CatalogReader, CatalogTooOldError, Query
from support.published import AS_OF, lines_of, make_bundle, make_meta, publish, quick_policy, store_settings
from support.redis_server import RedisServer

FETCHED = dt.datetime.fromisoformat(AS_OF).timestamp()
DAY = 86400.0
CATALOGUE = [
    make_bundle("esim_1GB_7D_PT_V2", description="eSIM, 1GB, 7 Days, Portugal, V2", duration_days=7),
    make_bundle("esim_3GB_30D_PT_V2", description="eSIM, 3GB, 30 Days, Portugal, V2", duration_days=30),
    make_bundle(
        "esim_ULP_7D_RNOR_V2",
        description="eSIM, Unlimited Plus, 7 Days, Nordics, V2",
        groups=("Standard - Unlimited Plus",),
        countries=("NO", "SE"),
    ),
    make_bundle("esim_1GB_3D_US-HI_V2", countries=("US-HI",), region="North America", duration_days=3),
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "server") as running:
        yield running


@pytest.fixture
async def store(server: RedisServer, tmp_path: Path) -> AsyncIterator[CatalogStore]:
    async with open_store(store_settings(tmp_path / "state", server.url), quick_policy()) as opened:
        yield opened


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return Snapshot(tmp_path / "state")


def reader_of(
    store: CatalogStore | None, snapshot: Snapshot | None = None, *, now: float = FETCHED + 60
) -> CatalogReader:
    return CatalogReader(store, snapshot, stale_after=DAY, clock=lambda: now)


def names(bundles: tuple[Bundle, ...]) -> list[str]:
    return [bundle.name for bundle in bundles]


async def save(snapshot: Snapshot, version: str, bundles: list[Bundle]) -> CatalogueMeta:
    index = CatalogueIndex()
    stored = [index.add(bundle) for bundle in bundles]
    meta = make_meta(version, index)
    await snapshot.write_version(meta, lines_of(stored))
    return meta


QUERIES = [
    (Query(), ["esim_1GB_3D_US-HI_V2", "esim_1GB_7D_PT_V2", "esim_3GB_30D_PT_V2", "esim_ULP_7D_RNOR_V2"]),
    (Query(country="pt"), ["esim_1GB_7D_PT_V2", "esim_3GB_30D_PT_V2"]),
    (Query(country="us-hi"), ["esim_1GB_3D_US-HI_V2"]),
    (Query(group="standard unlimited-plus"), ["esim_ULP_7D_RNOR_V2"]),
    (Query(region="north america"), ["esim_1GB_3D_US-HI_V2"]),
    (Query(min_days=7, max_days=7), ["esim_1GB_7D_PT_V2", "esim_ULP_7D_RNOR_V2"]),
    (Query(country="PT", min_days=8), ["esim_3GB_30D_PT_V2"]),
    (Query(text="unlimited NORDICS"), ["esim_ULP_7D_RNOR_V2"]),
    (Query(text="esim_1gb", country="PT"), ["esim_1GB_7D_PT_V2"]),
    (Query(country="XX"), []),
    (Query(group="no such group"), []),
]


@pytest.mark.parametrize(("query", "expected"), QUERIES)
async def test_store_and_snapshot_give_the_same_answers(
    query: Query, expected: list[str], store: CatalogStore, snapshot: Snapshot
) -> None:
    await publish(store, "v1", CATALOGUE)
    await save(snapshot, "v1", CATALOGUE)
    live = await reader_of(store, snapshot).search(query)
    saved = await reader_of(None, snapshot).search(query)
    assert names(live.bundles) == names(saved.bundles) == expected
    assert live.total == saved.total == len(expected)
    assert (live.source, live.stale, live.as_of, live.version) == ("fresh", False, AS_OF, "v1")
    assert (saved.source, saved.stale, saved.as_of, saved.version) == ("snapshot", True, AS_OF, "v1")


@pytest.mark.parametrize("text", [None, "esim"])
async def test_limit_and_offset_page_through_a_stable_order(
    text: str | None, store: CatalogStore, snapshot: Snapshot
) -> None:
    many = [make_bundle(f"esim_{number:04}") for number in range(130)]
    await publish(store, "v1", many)
    await save(snapshot, "v1", many[::-1])
    for reader in (reader_of(store), reader_of(None, snapshot)):
        first = await reader.search(Query(text=text))
        assert names(first.bundles) == [f"esim_{number:04}" for number in range(50)]
        rest = await reader.search(Query(text=text, offset=120))
        assert names(rest.bundles) == [f"esim_{number:04}" for number in range(120, 130)]
        everything = await reader.search(Query(text=text, limit=0, offset=1))
        assert len(everything.bundles) == 129
        assert {first.total, rest.total, everything.total} == {130}


async def test_show_finds_by_exact_name(store: CatalogStore, snapshot: Snapshot) -> None:
    await publish(store, "v1", CATALOGUE)
    await save(snapshot, "v1", CATALOGUE)
    for reader in (reader_of(store), reader_of(None, snapshot)):
        assert (await reader.show("esim_1GB_7D_PT_V2")).bundle == CATALOGUE[0]
        with pytest.raises(BundleNotFoundError):
            await reader.show("ESIM_1GB_7D_PT_V2")


async def test_old_data_is_stale_and_says_since_when(store: CatalogStore) -> None:
    await publish(store, "v1", CATALOGUE)
    answer = await reader_of(store, now=FETCHED + DAY + 1).search(Query())
    assert (answer.source, answer.stale, answer.as_of) == ("stale", True, AS_OF)


async def test_a_stale_part_makes_the_answer_stale(store: CatalogStore) -> None:
    await publish(store, "v1", [*CATALOGUE, make_bundle("kept", groups=("Regional",), stale=True)])
    reader = reader_of(store)
    assert (await reader.search(Query(group="regional"))).source == "stale"
    assert (await reader.search(Query(country="NO"))).source == "fresh"


async def test_the_price_path_may_refuse_data_that_is_too_old(store: CatalogStore, snapshot: Snapshot) -> None:
    await publish(store, "v1", CATALOGUE)
    await save(snapshot, "v1", CATALOGUE)
    for reader in (reader_of(store), reader_of(None, snapshot)):
        assert await reader.show("esim_1GB_7D_PT_V2", max_age=61)
        with pytest.raises(CatalogTooOldError):
            await reader.show("esim_1GB_7D_PT_V2", max_age=59)


async def test_domain_4_3_an_outage_is_never_an_empty_list(store: CatalogStore, server: RedisServer) -> None:
    await publish(store, "v1", CATALOGUE)
    server.kill()
    for query in (Query(), Query(country="PT"), Query(group="x"), Query(min_days=1)):
        with pytest.raises(CatalogUnavailableError) as caught:
            await reader_of(store).search(query)
        assert caught.value.__cause__ is not None


async def test_an_outage_is_answered_from_the_snapshot(
    store: CatalogStore, server: RedisServer, snapshot: Snapshot
) -> None:
    await save(snapshot, "v1", CATALOGUE)
    server.kill()
    answer = await reader_of(store, snapshot).search(Query(limit=0))
    assert (answer.source, answer.total) == ("snapshot", 4)


async def test_an_outage_is_answered_with_what_this_process_read_last(
    store: CatalogStore, server: RedisServer, snapshot: Snapshot
) -> None:
    await publish(store, "v1", CATALOGUE)
    reader = reader_of(store, snapshot)
    before = await reader.search(Query(country="PT"))
    server.kill()
    after = await reader.search(Query(country="PT"))
    assert (after.source, after.stale, after.bundles) == ("stale", True, before.bundles)
    with pytest.raises(CatalogUnavailableError):
        await reader.search(Query(country="NO"))
    await save(snapshot, "v2", CATALOGUE[:1])
    newer = await reader.search(Query(country="PT"))
    assert (newer.source, newer.version) == ("snapshot", "v2")


@pytest.mark.parametrize(
    ("key", "field"),
    [
        ("bundles", "esim_1GB_7D_PT_V2"),
        ("countries", "PT"),
        ("groups", "Standard Fixed"),
        ("durations", "7"),
        ("meta", "json"),
    ],
)
@pytest.mark.parametrize("value", ["", "{half", "[1, 2]", "null"])
async def test_domain_4_3_corrupt_json_falls_back_and_is_never_an_empty_list(
    key: str, field: str, value: str, store: CatalogStore, server: RedisServer, snapshot: Snapshot
) -> None:
    await publish(store, "v1", CATALOGUE)
    server.command("HSET", f"{{cat}}:v:v1:{key}", field, value)
    query = Query(country="PT", group="Standard Fixed", max_days=7)
    with pytest.raises(CatalogUnavailableError):
        await reader_of(store, snapshot).search(query)
    await save(snapshot, "v1", CATALOGUE)
    answer = await reader_of(store, snapshot).search(query)
    assert (answer.source, names(answer.bundles)) == ("snapshot", ["esim_1GB_7D_PT_V2"])


async def test_an_evicted_part_of_a_version_falls_back(
    store: CatalogStore, server: RedisServer, snapshot: Snapshot
) -> None:
    await publish(store, "v1", CATALOGUE)
    await save(snapshot, "v1", CATALOGUE)
    server.command("DEL", "{cat}:v:v1:bundles")
    assert (await reader_of(store, snapshot).search(Query())).source == "snapshot"
    assert (await reader_of(store, snapshot).show("esim_1GB_7D_PT_V2")).source == "snapshot"


async def test_a_flushed_redis_is_not_an_empty_catalogue(store: CatalogStore, snapshot: Snapshot) -> None:
    with pytest.raises(CatalogUnavailableError, match="nothing was published"):
        await reader_of(store, snapshot).search(Query())
    await save(snapshot, "v1", CATALOGUE)
    assert (await reader_of(store, snapshot).search(Query())).total == 4


class PointerMoves:
    """A store whose version is replaced, and no longer kept, right after the pointer was read."""

    def __init__(self, store: CatalogStore, replace: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._replace: Callable[[], Awaitable[None]] | None = replace
        self.select = store.select
        self.get_bundles = store.get_bundles

    async def current(self) -> CatalogueMeta | None:
        meta = await self._store.current()
        if self._replace is not None:
            replace, self._replace = self._replace, None
            await replace()
        return meta


@pytest.mark.parametrize("what", ["search", "search all", "show"])
async def test_a_version_that_ends_in_mid_read_makes_the_reader_read_the_pointer_again(
    what: str, store: CatalogStore, server: RedisServer
) -> None:
    await publish(store, "v1", CATALOGUE)

    async def replace() -> None:
        await publish(store, "v2", CATALOGUE)
        for key in server.command("KEYS", "{cat}:v:v1:*"):
            server.command("DEL", key)

    reader = CatalogReader(PointerMoves(store, replace), None, stale_after=DAY, clock=lambda: FETCHED)
    if what == "show":
        answer = await reader.show("esim_1GB_7D_PT_V2")
        assert (answer.version, answer.source) == ("v2", "fresh")
    else:
        found = await reader.search(Query(country="PT") if what == "search" else Query())
        assert (found.version, found.source, found.total) == ("v2", "fresh", 2 if what == "search" else 4)


async def test_nothing_at_all_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(CatalogUnavailableError):
        await reader_of(None, None).search(Query())
    with pytest.raises(CatalogUnavailableError):
        await reader_of(None, Snapshot(tmp_path)).show("a")


async def test_answers_have_the_fields_of_the_command_line(store: CatalogStore) -> None:
    await publish(store, "v1", CATALOGUE)
    found = await reader_of(store).search(Query())
    assert list(found.to_json()) == ["source", "as_of", "stale", "version", "total", "bundles"]
    shown = await reader_of(store).show("esim_1GB_7D_PT_V2")
    assert {"source", "as_of", "stale", "bundle"} <= set(shown.to_json())


def test_negative_limits_are_refused() -> None:
    with pytest.raises(ValueError, match="limit"):
        Query(limit=-1)
    with pytest.raises(ValueError, match="offset"):
        Query(offset=-1)
