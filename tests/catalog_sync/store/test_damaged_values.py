"""With any damaged value in Redis, readers use what is intact, report what is not, and show nothing wrong.

``DAMAGED_VALUES`` is the number of mutations that are tried, for a longer run.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog_sync.api.catalogue import LiveCatalogue
from catalog_sync.cli.status import _collect, _print
from catalog_sync.domain.errors import BundleNotFoundError, CatalogSyncError
from catalog_sync.domain.freshness import Freshness
from catalog_sync.domain.models import Bundle, Outcome, SyncKind
from catalog_sync.domain.times import rfc3339
from catalog_sync.history import History
from catalog_sync.jobs.keys import WORKER_PREFIX
from catalog_sync.jobs.ledger import JobLedger
from catalog_sync.jobs.overview import overview
from catalog_sync.jobs.port import JobStatus
from catalog_sync.jobs.records import dead_letter
from catalog_sync.jobs.sweep import sweep
from catalog_sync.observability.traces import SpanRecord
from catalog_sync.store import CatalogStore, Snapshot, open_store
from catalog_sync.store.keys import VersionKeys
from catalog_sync.store.reader import CatalogReader, Query
from catalog_sync.store.traces import SharedTraces, push_failed
from otel_resilience.alerting import RedisStore
from support.job_records import fields, finish, job_id, planned
from support.published import lines_of, make_bundle, publish, quick_policy
from support.redis_server import RedisServer
from support.settings import make_settings
from support.sync_reports import report

TRIED = int(os.environ.get("DAMAGED_VALUES", "40"))
NOW = 1_900_000_000.0
CATALOGUE = {
    bundle.name: bundle
    for bundle in (
        make_bundle("a"),
        make_bundle("b", groups=("Standard Fixed", "Other"), countries=("PT", "ES")),
        make_bundle("c", groups=("Other",), countries=("US-HI",), region=None, duration_days=30),
    )
}
EARLIER = [dataclasses.replace(bundle, price="1.00", region="Asia") for bundle in CATALOGUE.values()]
"""What ``v0`` has, which ``v1`` has replaced."""
QUERIES = (
    Query(),
    Query(country="pt"),
    Query(group="other"),
    Query(region="Europe"),
    Query(min_days=8),
    Query(text="esim"),
)

ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, -1, 10**400, 1e300, "", "1_000", "٣", "../x", "yesterday", "x" * 999, [], [[]], {}, {"n": 1}]
)
GARBAGE = st.sampled_from(
    [
        b"", b"null", b"[]", b"{}", b"{", b"\xff\xfe", b'"text"', b"true", b"-1", b"1e999", b"9" * 5000, b"../x",
        b"NaN", b"0", b"[" * 5000, b'{"name": "\\ud83d"}', b'["\\ud83d"]', "٣".encode(),
        b"1_000", b"\x00", b"yesterday",
    ]
)  # fmt: skip


class NoSender:
    """Sends nothing."""

    async def waiting(self) -> int:
        return 0

    async def send(self, *_: Any, **__: Any) -> None: ...


@dataclasses.dataclass
class World:
    """A Redis with every kind of value that this application stores, and a state folder."""

    client: Any
    url: str
    state_dir: Path
    dumps: dict[bytes, bytes]

    @property
    def settings(self) -> Any:
        return make_settings("http://127.0.0.1:9/v2.5", self.state_dir, redis_url=self.url)

    def restore(self) -> None:
        with self.client.pipeline(transaction=False) as pipeline:
            pipeline.flushall()
            for key, dump in self.dumps.items():
                pipeline.restore(key, 0, dump)
            pipeline.execute()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("damaged")
    with RedisServer(folder / "redis") as server, server.client() as client:
        found = World(client, server.url, folder / "state", {})
        asyncio.run(_fill(found))
        found.dumps = {key: client.dump(key) for key in client.keys("*")}
        kinds = {key.decode().split(":")[1] for key in found.dumps if key.startswith(b"{cat}")}
        assert kinds >= {"current", "v", "lock", "fence", "job", "jobs", "syncs", "traces", "trace"}
        yield found


async def _fill(world: World) -> None:
    async with open_store(world.settings, quick_policy()) as store:
        await publish(store, "v0", EARLIER, as_of=rfc3339(NOW - 3000))
        meta = await publish(store, "v1", CATALOGUE.values(), as_of=rfc3339(NOW - 60))
        await Snapshot(world.state_dir).write_version(meta, lines_of(CATALOGUE.values()))
        await store.lock.acquire("ab" * 16)
        ledger = JobLedger(store.redis)
        for number in (2, 3):
            await ledger.submit(job_id(number), fields())
            done = report(Outcome.COMPLETE).to_json()
            await ledger.end(job_id(number), JobStatus.FINISHED, Outcome.COMPLETE, done, finished_at=rfc3339(NOW))
        await planned(ledger, "Other", "Standard Fixed")
        await finish(ledger, 0, _part())
        for reason in ("one", "two"):
            await ledger.add_dead_letter(dead_letter(_moment(), reason))
    for name in ("w1@host", "w2@host"):
        world.client.set(f"{WORKER_PREFIX}{name}", json.dumps({"name": name, "host": "host", "pid": 1, "since": 1}))
    span = SpanRecord(
        trace_id="ab" * 16, span_id="cd" * 8, parent_id=None, name="catalog.sync", kind="INTERNAL", service="s",
        start=1.0, end=2.0, status="error", message=None, attributes={}, events=(), links=(),
    )  # fmt: skip
    push_failed(world.client, [span])
    with History(world.settings, "catalog-sync") as history:
        for outcome in (Outcome.COMPLETE, Outcome.FAILED):
            history.sync_ended(report(outcome, correlation_id=f"{len(outcome):032x}"))
    RedisStore(world.client, prefix="catalog:alerts:").swap("f", {"revision": "1", "saved_at": NOW}, None)


def _part() -> Any:
    from catalog_sync.sync.shared.staged import Part

    return Part(version="p1", bundles=2)


def _moment() -> Any:
    import datetime

    return datetime.datetime.fromtimestamp(NOW, datetime.UTC)


def damage(world: World, draw: Any) -> bytes:
    """Damages one value. Returns its key."""
    client = world.client
    key = draw(st.sampled_from(sorted(world.dumps)), label="key")
    kind = client.type(key).decode()
    how = draw(st.sampled_from(["gone", "other type", "exchanged", "value", "value", "value", "value"]), label="how")
    earlier = key.replace(b":v:v1:", b":v:v0:")
    if how == "exchanged" and earlier != key:
        _exchange(client, key, earlier, draw)
    elif how == "gone":
        client.delete(key)
    elif how == "other type":
        client.delete(key)
        client.set(key, "x") if kind != "string" else client.hset(key, "x", "y")
    elif kind == "string":
        client.set(key, _spoilt(client.get(key), draw))
    elif kind == "hash":
        values = client.hgetall(key)
        field = draw(st.sampled_from(sorted(values)), label="field")
        what = draw(st.sampled_from(["value", "value", "value", "gone", "more"]), label="what")
        if what == "value":
            client.hset(key, field, _spoilt(values[field], draw))
        elif what == "gone":
            client.hdel(key, field)
        else:
            client.hset(key, draw(GARBAGE, label="name"), draw(GARBAGE, label="text"))
    elif kind == "list":
        client.lset(key, 0, _spoilt(client.lindex(key, 0), draw))
    elif kind == "zset":
        client.zadd(key, {_spoilt(client.zrange(key, 0, 0)[0], draw): 4e12})
    else:
        client.xadd(key, {draw(GARBAGE, label="name"): draw(GARBAGE, label="text")})
    return bytes(key)


def _exchange(client: Any, key: bytes, earlier: bytes, draw: Any) -> None:
    """Replaces one or all values of the live version by those of the version before it."""
    ours, theirs = client.hgetall(key), client.hgetall(earlier)
    fields = sorted(ours.keys() & theirs.keys())
    if fields and draw(st.booleans(), label="one"):
        field = draw(st.sampled_from(fields), label="field")
        client.hset(key, field, theirs[field])
        client.hset(earlier, field, ours[field])
    else:
        client.rename(key, "between")
        client.rename(earlier, key)
        client.rename("between", earlier)


def _spoilt(text: bytes, draw: Any) -> bytes:
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    choices = ["garbage", "cut", "character", "character"]
    choices += ["odd"] * 4 if isinstance(document, dict | list) and document else []
    how = draw(st.sampled_from(choices), label="spoilt")
    if how == "garbage":
        return bytes(draw(GARBAGE, label="garbage"))
    if how == "cut":
        return text[: len(text) // 2]
    if how == "character":
        at = draw(st.sampled_from([at for at, each in enumerate(text) if chr(each).isalnum()] or [0]), label="at")
        return b"".join((text[:at], draw(st.sampled_from([b"0", b"7", b"a", b"B"]), label="character"), text[at + 1 :]))
    places = list(_places(document))
    container, place = places[draw(st.integers(0, len(places) - 1), label="place")]
    if draw(st.booleans(), label="lacks"):
        del container[place]
    else:
        container[place] = draw(ODD, label="odd")
    return json.dumps(document).encode()


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    for place in list(document) if isinstance(document, dict) else range(len(document)):
        yield document, place
        if isinstance(document[place], dict | list):
            yield from _places(document[place])


@settings(
    max_examples=TRIED,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.data())
@pytest.mark.fault("S11", "W4")
def test_no_damaged_value_takes_a_reader_down_or_shows_a_wrong_catalogue(world: World, data: st.DataObject) -> None:
    world.restore()
    key = damage(world, data.draw)
    asyncio.run(_everyone_looks(world, key))


async def _everyone_looks(world: World, key: bytes) -> None:
    async with open_store(world.settings, quick_policy()) as store:
        await _readers(world, store, key)
        await _api(world, store)
        await _jobs(world, store)
    with History(world.settings, "catalog-api") as history:
        for sync in history.latest().syncs:
            json.dumps(sync.line(), ensure_ascii=False).encode()
    for record in RedisStore(world.client, prefix="catalog:alerts:").load() if b"alerts" not in key else ():
        assert isinstance(record, dict)
    seen = await _collect(world.settings)
    json.dumps(seen, ensure_ascii=False).encode()
    _print(seen)


async def _readers(world: World, store: CatalogStore, key: bytes) -> None:
    reader = CatalogReader(store, Snapshot(world.state_dir), stale_after=3600, clock=lambda: NOW)
    for query in QUERIES:
        found = await reader.search(query)
        if found.version != "v1":
            assert key == b"{cat}:current", "only the pointer decides which version it is"
            continue
        assert found.as_of == rfc3339(NOW - 60)
        assert list(found.bundles) == [bundle for bundle in CATALOGUE.values() if query.matches(_profile(bundle))]
    for name, bundle in CATALOGUE.items():
        try:
            shown = await reader.show(name)
        except BundleNotFoundError:
            pytest.fail(f"{name} is not gone")
        assert shown.bundle == bundle or shown.version != "v1"
    typed: list[Callable[[], Awaitable[Any]]] = [
        store.current,
        store.has_published,
        store.lock.holder,
        lambda: store.load_index("v1"),
    ]
    typed += [lambda: store.values("v1", "countries"), lambda: store.receipt("x")]
    for ask in typed:
        await _or_typed(ask())
    await _or_typed(_all(store))


def _profile(bundle: Bundle) -> Any:
    from catalog_sync.domain.index import profile_of

    return profile_of(bundle)


async def _all(store: CatalogStore) -> None:
    async for bundle in store.iter_bundles("v1"):
        assert bundle == CATALOGUE[bundle.name]


async def _api(world: World, store: CatalogStore) -> None:
    live = LiveCatalogue(store, Snapshot(world.state_dir), stale_after=3600, wall_clock=lambda: NOW)
    await live.start()
    assert live.meta is not None
    assert Freshness.of(live.meta, live.source, now=NOW, stale_after=3600).as_of
    if live.meta.version == "v1":
        assert [live.copy.bundle(live.copy.place_of(name)) for name in CATALOGUE] == list(CATALOGUE.values())
    state = live.store_state()
    if not state.reachable:
        assert state.error is not None
        assert state.error.message
        assert live.source != "fresh"
    await live.aclose()


async def _jobs(world: World, store: CatalogStore) -> None:
    ledger = JobLedger(store.redis)
    await _or_typed(overview(store.redis))
    for job in await _or_typed(ledger.latest(50, 0)) or ():
        json.dumps(job.to_json(), ensure_ascii=False).encode()
    for number in (1, 2, 3):
        shown = await _or_typed(ledger.shown(job_id(number)))
        if shown is not None:
            json.dumps(shown.to_json(), ensure_ascii=False).encode()
        await _or_typed(ledger.parts(job_id(number)))
        await _or_typed(ledger.steps(job_id(number)))
    traces = SharedTraces(store.redis)
    for summary in await _or_typed(traces.failed()) or ():
        json.dumps(summary.to_json()).encode()
    await _or_typed(traces.get("ab" * 16))
    await _or_typed(sweep(ledger, store, NoSender(), lease=15, sync_deadline=900, now=_moment()))
    await ledger.submit(f"{random.randrange(16**16):016x}", fields(kind=SyncKind.FULL))


async def _or_typed(answer: Awaitable[Any]) -> Any:
    try:
        return await answer
    except CatalogSyncError:
        return None


@pytest.mark.fault("S11")
@pytest.mark.parametrize("damaged", [{"groups": []}, {"as_of": None}, {"as_of": "yesterday"}, {"bundles": "3"}])
async def test_health_says_what_is_damaged_while_the_last_good_copy_is_served(
    world: World, damaged: dict[str, Any]
) -> None:
    world.restore()
    async with open_store(world.settings, quick_policy()) as store:
        live = LiveCatalogue(store, Snapshot(world.state_dir), stale_after=3600, wall_clock=lambda: NOW)
        await live.start()
        assert (live.source, live.store_state().reachable) == ("fresh", True)
        key = VersionKeys("v1").meta
        meta = json.loads(world.client.hget(key, "json"))
        world.client.hset(key, "json", json.dumps({**meta, **damaged}))
        await live.refresh()
        state = live.store_state()
        assert (live.source, state.reachable) == ("stale", False)
        assert state.error is not None
        assert "meta of version v1 cannot be read" in state.error.message
        assert len(live.copy) == len(CATALOGUE)
        await live.aclose()
