"""Processes agree on who tells of an incident, and on who tells of its end: on a disk, and through Redis."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from otel_resilience.alerting import DiskStore, FallbackStore, IncidentStore, MemoryStore, RedisStore
from otel_resilience.alerting.store import Record
from otel_resilience.testing import FakeClock
from support.redis_server import RedisServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


Make = Callable[[], IncidentStore]


@pytest.fixture(params=["disk", "redis", "fallback"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Makes stores, each as in a process of its own, on the same folder and Redis."""
    if request.param == "disk":
        yield lambda: DiskStore(tmp_path)
        return
    running: RedisServer = request.getfixturevalue("server")
    running.command("FLUSHALL")
    with running.client() as client:
        if request.param == "redis":
            yield lambda: RedisStore(client)
        else:
            yield lambda: FallbackStore(RedisStore(client), DiskStore(tmp_path))


def record(identifier: str, fingerprint: str = "f", **more: Any) -> Record:
    return {"id": identifier, "fingerprint": fingerprint, "phase": "open", "messages": 1, **more}


def known(store: IncidentStore) -> dict[str, str]:
    """ID to phase."""
    return {each["id"]: each["phase"] for each in store.load()}


class TestEveryStore:
    def test_one_process_tells_of_an_incident(self, make: Make) -> None:
        one, two = make(), make()
        assert one.claim("f", record("a")) is None
        assert two.claim("f", record("b")) == record("a")
        assert known(two) == {"a": "open"}

    def test_one_process_tells_of_its_end(self, make: Make) -> None:
        one, two = make(), make()
        one.claim("f", record("a"))
        assert two.release("f", record("a", phase="over"))
        assert not one.release("f", record("a", phase="over"))
        assert known(one) == {"a": "over"}

    def test_what_is_over_can_be_claimed_anew(self, make: Make) -> None:
        one, two = make(), make()
        one.claim("f", record("a"))
        one.release("f", record("a", phase="over"))
        assert two.claim("f", record("b")) is None
        assert known(one) == {"b": "open"}

    def test_a_late_word_about_an_earlier_incident_does_not_end_the_present_one(self, make: Make) -> None:
        one, two = make(), make()
        one.claim("f", record("a"))
        one.release("f", record("a", phase="over"))
        one.claim("f", record("b"))
        assert not two.release("f", record("a", phase="over"))
        assert known(two) == {"b": "open"}

    def test_the_end_is_told_although_the_store_forgot_the_beginning(self, make: Make) -> None:
        one, two = make(), make()
        assert one.release("f", record("a", phase="over"))
        assert not two.release("f", record("a", phase="over"))

    def test_a_record_is_replaced_while_it_is_claimed(self, make: Make) -> None:
        one = make()
        one.save("f", record("a"))
        assert known(one) == {}
        one.claim("f", record("a"))
        one.save("f", record("a", messages=2))
        assert [each["messages"] for each in make().load()] == [2]

    def test_what_is_watched_is_kept_until_it_is_claimed_or_forgotten(self, make: Make) -> None:
        one, two = make(), make()
        one.watch("f", record("a", phase="watching"))
        assert known(two) == {"a": "watching"}
        two.forget("f")
        assert known(one) == {}
        one.watch("f", record("a", phase="watching"))
        assert two.claim("f", record("b")) is None
        assert known(one) == {"b": "open"}

    def test_of_many_at_once_one_gets_it(self, make: Make) -> None:
        stores = [make() for _ in range(8)]
        barrier = threading.Barrier(8)
        claims: list[bool] = []
        releases: list[bool] = []

        def work(number: int, store: IncidentStore) -> None:
            for round_ in range(5):
                barrier.wait(60)
                claims.append(store.claim(f"{round_}", record(f"{number} of {round_}", f"{round_}")) is None)
                barrier.wait(60)
                mine = next(each["id"] for each in store.load() if each["fingerprint"] == f"{round_}")
                barrier.wait(60)
                releases.append(store.release(f"{round_}", record(mine, f"{round_}", phase="over")))

        threads = [threading.Thread(target=work, args=pair) for pair in enumerate(stores)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(100)
        assert (len(claims), sum(claims)) == (40, 5)
        assert (len(releases), sum(releases)) == (40, 5)


class TestTheDisk:
    def test_a_record_is_whole_or_not_there(self, tmp_path: Path) -> None:
        store = DiskStore(tmp_path)
        store.claim("f", record("a"))
        store.save("f", record("a", messages=2))
        store.release("f", record("a", phase="over"))
        assert [path.name for path in tmp_path.iterdir()] == ["f.over.json"]

    @pytest.mark.parametrize("damage", ["", "[]", "{", "\x00"])
    def test_a_damaged_record_is_set_aside(self, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
        store = DiskStore(tmp_path)
        store.claim("f", record("a"))
        (tmp_path / "f.json").write_text(damage)
        assert store.claim("f", record("b")) is None
        assert known(store) == {"b": "open"}
        assert (tmp_path / "f.json.damaged").read_text() == damage
        assert "set aside" in caplog.text

    def test_what_nobody_touched_for_a_week_is_dropped(self, tmp_path: Path) -> None:
        clock = FakeClock(1e9)
        store = DiskStore(tmp_path, wall_clock=clock)
        for number in (1, 2):
            store.claim(f"{number}", record(f"{number}", f"{number}"))
        os.utime(tmp_path / "1.json", (clock.now, clock.now))
        os.utime(tmp_path / "2.json", (clock.now + 10, clock.now + 10))
        clock.advance(7 * 86_400 + 5)
        assert known(store) == {"2": "open"}

    def test_a_process_that_was_killed_within_a_release_leaves_an_incident_that_is_over(self, tmp_path: Path) -> None:
        store = DiskStore(tmp_path)
        store.claim("f", record("a"))
        (tmp_path / "f.json").rename(tmp_path / "f.over.json")
        assert known(store) == {"a": "over"}
        assert not store.release("f", record("a", phase="over"))

    def test_nothing_there_is_nothing(self, tmp_path: Path) -> None:
        assert list(DiskStore(tmp_path / "none").load()) == []


class TestRedis:
    def test_records_expire_by_themselves(self, server: RedisServer) -> None:
        server.command("FLUSHALL")
        with server.client() as client:
            store = RedisStore(client, prefix="p:", max_age=100)
            store.claim("f", record("a"))
            store.claim("g", record("b", "g"))
            store.release("g", record("b", "g", phase="over"))
            store.watch("h", record("c", "h"))
            keys = server.command("KEYS", "*")
            assert sorted(keys) == [b"p:f", b"p:over:g", b"p:over:h"]
            assert all(0 < server.command("TTL", key) <= 100 for key in keys)

    @pytest.mark.parametrize("trouble", ["nobody there", "wrong type", "no JSON"])
    def test_what_goes_wrong_is_a_connection_error(self, server: RedisServer, trouble: str) -> None:
        server.command("FLUSHALL")
        client = server.client()
        if trouble == "nobody there":
            client = redis.Redis(port=1, retry=None)
        elif trouble == "wrong type":
            server.command("LPUSH", "alerts:incident:f", "x")
        else:
            server.command("SET", "alerts:incident:f", "x")
        with client, pytest.raises(ConnectionError):
            RedisStore(client).claim("f", record("a"))


class Shared(MemoryStore):
    """A store that can be away; counts how often it is asked."""

    def __init__(self, folder: Path) -> None:
        self.away = False
        self.asked = 0
        self._store = DiskStore(folder)

    def __getattribute__(self, name: str) -> Any:
        if name not in {"load", "claim", "save", "release", "watch", "forget"}:
            return super().__getattribute__(name)
        self.asked += 1
        if self.away:
            raise ConnectionError("away")
        return getattr(self._store, name)


class TestFallback:
    @pytest.fixture
    def shared(self, tmp_path: Path) -> Shared:
        return Shared(tmp_path / "shared")

    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def store(self, shared: Shared, tmp_path: Path, clock: FakeClock) -> FallbackStore:
        return FallbackStore(shared, DiskStore(tmp_path / "local"), clock=clock)

    def test_the_local_store_decides_while_the_shared_one_is_away_and_that_is_said_once(
        self, store: FallbackStore, shared: Shared, caplog: pytest.LogCaptureFixture, tmp_path: Path, clock: FakeClock
    ) -> None:
        shared.away = True
        assert store.claim("f", record("a")) is None
        clock.advance(60)
        neighbour = FallbackStore(shared, DiskStore(tmp_path / "local"), clock=clock)
        assert neighbour.claim("f", record("b")) == record("a")
        clock.advance(60)
        assert store.claim("g", record("c", "g")) is None
        assert store.degraded
        assert caplog.text.count("the shared store of incidents is away") == 2  # once by each of the two

    def test_it_is_not_asked_all_the_time(self, store: FallbackStore, shared: Shared, clock: FakeClock) -> None:
        shared.away = True
        for number in range(50):
            store.claim(f"{number}", record("a", f"{number}"))
        assert shared.asked == 1
        clock.advance(5)
        store.claim("f", record("a"))
        assert shared.asked == 2

    def test_an_incident_that_began_without_the_shared_store_ends_with_it(
        self, store: FallbackStore, shared: Shared, clock: FakeClock
    ) -> None:
        shared.away = True
        store.claim("f", record("a"))
        shared.away = False
        clock.advance(60)
        assert store.release("f", record("a", phase="over"))

    def test_also_where_another_machine_has_one_of_its_own(
        self, store: FallbackStore, shared: Shared, clock: FakeClock, tmp_path: Path
    ) -> None:
        shared.away = True
        store.claim("f", record("a"))
        shared.away = False
        other = FallbackStore(shared, DiskStore(tmp_path / "other machine"), clock=clock)
        other.claim("f", record("b"))
        clock.advance(60)
        assert store.release("f", record("a", phase="over"))
        assert other.release("f", record("b", phase="over"))

    def test_an_incident_that_began_with_it_ends_without_it(
        self, store: FallbackStore, shared: Shared, clock: FakeClock
    ) -> None:
        store.claim("f", record("a"))
        shared.away = True
        assert store.release("f", record("a", phase="over"))
        assert not store.release("f", record("a", phase="over"))

    def test_what_another_machine_told_is_remembered_as_that(
        self, store: FallbackStore, shared: Shared, clock: FakeClock, tmp_path: Path
    ) -> None:
        FallbackStore(shared, DiskStore(tmp_path / "other machine")).claim("f", record("b"))
        assert store.claim("f", record("a")) == record("b")
        shared.away = True
        assert known(store) == {"b": "open"}

    def test_what_was_lost_there_is_claimed_anew_on_both_sides(
        self, store: FallbackStore, shared: Shared, tmp_path: Path
    ) -> None:
        store.claim("f", record("a"))
        (tmp_path / "shared" / "f.json").unlink()
        assert store.claim("f", record("a", messages=2)) is None
        for folder in ("shared", "local"):
            assert json.loads((tmp_path / folder / "f.json").read_text())["messages"] == 2

    def test_its_recovery_is_said(
        self, store: FallbackStore, shared: Shared, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        shared.away = True
        store.load()
        shared.away = False
        clock.advance(5)
        store.load()
        assert "the shared store of incidents is back" in caplog.text
        assert not store.degraded


def test_memory_is_for_one_process() -> None:
    store = MemoryStore()
    assert store.claim("f", record("a")) is None
    assert store.claim("f", record("b")) is None
    assert store.release("f", record("a"))
    assert list(store.load()) == []
