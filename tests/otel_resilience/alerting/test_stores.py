"""Of several processes that write an incident, one succeeds: on a disk, and through Redis."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from otel_resilience.alerting import DiskStore, FallbackStore, IncidentStore, MemoryStore, RedisStore
from otel_resilience.alerting.persistence.store import MAX_AGE, Record, Swap
from otel_resilience.testing import FakeClock
from support.redis_server import RedisServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


Make = Callable[[], IncidentStore]


@pytest.fixture(params=["memory", "disk", "redis", "fallback"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Makes stores, each as in a process of its own, on the same folder and Redis."""
    if request.param == "disk":
        yield lambda: DiskStore(tmp_path)
        return
    if request.param == "memory":
        memory = MemoryStore()
        yield lambda: memory
        return
    running: RedisServer = request.getfixturevalue("server")
    running.command("FLUSHALL")
    with running.client() as client:
        if request.param == "redis":
            yield lambda: RedisStore(client)
        else:
            yield lambda: FallbackStore(RedisStore(client), DiskStore(tmp_path))


def record(identifier: str, revision: str = "1", fingerprint: str = "f", **more: Any) -> Record:
    return {"id": identifier, "fingerprint": fingerprint, "revision": revision, "saved_at": time.time(), "messages": 1,
            **more}  # fmt: skip


def known(store: IncidentStore) -> dict[str, str]:
    """ID to revision."""
    return {each["id"]: each["revision"] for each in store.load()}


class TestEveryStore:
    def test_the_first_to_write_a_record_is_the_one(self, make: Make) -> None:
        one, two = make(), make()
        first = record("a")
        assert one.swap("f", first, None) == Swap(True, None)
        assert two.swap("f", record("b"), None) == Swap(False, first)
        assert known(two) == {"a": "1"}

    def test_a_record_is_replaced_by_who_read_it_last(self, make: Make) -> None:
        one, two = make(), make()
        one.swap("f", record("a"), None)
        second = record("a", "2")
        assert two.swap("f", second, "1").done
        assert one.swap("f", record("a", "3"), "1") == Swap(False, second)
        assert known(one) == {"a": "2"}

    def test_what_is_gone_is_said_to_be(self, make: Make) -> None:
        assert make().swap("f", record("a", "2"), "1") == Swap(False, None)
        assert known(make()) == {}

    def test_records_of_different_incidents_are_apart(self, make: Make) -> None:
        one = make()
        assert one.swap("f", record("a"), None).done
        assert one.swap("g", record("b", fingerprint="g"), None).done
        assert known(make()) == {"a": "1", "b": "1"}

    def test_of_many_at_once_one_gets_it(self, make: Make) -> None:
        stores = [make() for _ in range(8)]
        barrier = threading.Barrier(8)
        done: list[tuple[int, bool]] = []

        def work(number: int, store: IncidentStore) -> None:
            expected: str | None = None
            for round_ in range(6):
                barrier.wait(60)
                done.append((round_, store.swap("f", record(f"{number}", f"{round_}"), expected).done))
                expected = f"{round_}"

        threads = [threading.Thread(target=work, args=pair) for pair in enumerate(stores)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(100)
        assert len(done) == 48
        assert sorted(round_ for round_, first in done if first) == list(range(6))


class TestTheDisk:
    def test_a_record_is_whole_or_not_there(self, tmp_path: Path) -> None:
        store = DiskStore(tmp_path)
        store.swap("f", record("a"), None)
        store.swap("f", record("a", "2"), "1")
        assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "f.json"]

    @pytest.mark.parametrize("damage", ["", "[]", "{", "\x00"])
    def test_a_damaged_record_is_set_aside(self, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
        store = DiskStore(tmp_path)
        store.swap("f", record("a"), None)
        (tmp_path / "f.json").write_text(damage)
        assert store.swap("f", record("b"), None).done
        assert known(store) == {"b": "1"}
        assert (tmp_path / "f.json.damaged").read_text() == damage
        assert "set aside" in caplog.text

    def test_what_was_not_written_for_long_is_dropped(self, tmp_path: Path) -> None:
        clock = FakeClock(1e9)
        store = DiskStore(tmp_path, wall_clock=clock)
        for number in (1, 2):
            store.swap(f"{number}", record(f"{number}", fingerprint=f"{number}"), None)
        os.utime(tmp_path / "1.json", (clock.now, clock.now))
        os.utime(tmp_path / "2.json", (clock.now + 10, clock.now + 10))
        clock.advance(MAX_AGE + 5)
        assert known(store) == {"2": "1"}

    def test_a_process_that_was_killed_while_it_wrote_blocks_no_other(self, tmp_path: Path) -> None:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:  # pragma: no cover  # another process
            tmp_path.mkdir(exist_ok=True)
            fcntl.flock(os.open(tmp_path / ".lock", os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX)
            os.write(writing, b"!")
            time.sleep(60)
            os._exit(0)
        assert os.read(reading, 1) == b"!"
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert DiskStore(tmp_path).swap("f", record("a"), None).done

    def test_one_that_hangs_while_it_writes_is_waited_for_a_while(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("otel_resilience.alerting.persistence.store.LOCK_WITHIN", 0.05)
        descriptor = os.open(tmp_path / ".lock", os.O_RDWR | os.O_CREAT)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            with pytest.raises(TimeoutError):
                DiskStore(tmp_path).swap("f", record("a"), None)
        finally:
            os.close(descriptor)

    def test_nothing_there_is_nothing(self, tmp_path: Path) -> None:
        assert list(DiskStore(tmp_path / "none").load()) == []


class TestRedis:
    def test_records_expire_by_themselves(self, server: RedisServer) -> None:
        server.command("FLUSHALL")
        clock = FakeClock(time.time())
        with server.client() as client:
            store = RedisStore(client, prefix="p:", max_age=100, wall_clock=clock)
            store.swap("f", record("a"), None)
            clock.advance(60)
            store.swap("g", record("b", fingerprint="g", saved_at=clock.now), None)
            assert server.command("KEYS", "*") == [b"p:incidents"]
            assert 0 < server.command("TTL", "p:incidents") <= 100
            clock.advance(60)
            assert known(store) == {"b": "1"}
            assert server.command("HKEYS", "p:incidents") == [b"g"]

    @pytest.mark.parametrize("damage", ["x", "[]", "7", ""])
    def test_a_damaged_record_counts_as_none(self, server: RedisServer, damage: str) -> None:
        server.command("FLUSHALL")
        server.command("HSET", "alerts:incidents", "f", damage)
        with server.client() as client:
            store = RedisStore(client)
            assert store.swap("f", record("a"), None).done
            assert known(store) == {"a": "1"}

    @pytest.mark.parametrize("trouble", ["nobody there", "wrong type"])
    def test_what_goes_wrong_is_a_connection_error(self, server: RedisServer, trouble: str) -> None:
        server.command("FLUSHALL")
        client = server.client()
        if trouble == "nobody there":
            client = redis.Redis(port=1, retry=Retry(NoBackoff(), 0))
        else:
            server.command("LPUSH", "alerts:incidents", "x")
        with client, pytest.raises(ConnectionError):
            RedisStore(client).swap("f", record("a"), None)


class Shared(MemoryStore):
    """A store that can be away; counts how often it is asked."""

    def __init__(self, folder: Path) -> None:
        self.away = False
        self.asked = 0
        super().__init__()
        self._store = DiskStore(folder)

    def load(self) -> Iterable[Record]:
        self._answer()
        return self._store.load()

    def swap(self, fingerprint: str, record: Record, expected: str | None) -> Swap:
        self._answer()
        return self._store.swap(fingerprint, record, expected)

    def _answer(self) -> None:
        self.asked += 1
        if self.away:
            raise ConnectionError("away")


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
        first = record("a")
        assert store.swap("f", first, None).done
        clock.advance(60)
        neighbour = FallbackStore(shared, DiskStore(tmp_path / "local"), clock=clock)
        assert neighbour.swap("f", record("b"), None) == Swap(False, first)
        clock.advance(60)
        assert store.swap("g", record("c", fingerprint="g"), None).done
        assert store.degraded
        assert caplog.text.count("the shared store of incidents is unreachable") == 2  # once by each of the two

    def test_it_is_not_asked_all_the_time(self, store: FallbackStore, shared: Shared, clock: FakeClock) -> None:
        shared.away = True
        for number in range(50):
            store.swap(f"{number}", record("a", fingerprint=f"{number}"), None)
        assert shared.asked == 1
        clock.advance(5)
        store.swap("f", record("a"), None)
        assert shared.asked == 2

    def test_what_began_without_the_shared_store_is_there_when_it_is_back(
        self, store: FallbackStore, shared: Shared, clock: FakeClock
    ) -> None:
        shared.away = True
        store.swap("f", record("a"), None)
        shared.away = False
        clock.advance(60)
        assert known(store) == {"a": "1"}
        assert known(shared) == {"a": "1"}  # so that other machines see it, and its end
        assert store.swap("f", record("a", "2"), "1").done
        assert known(shared) == {"a": "2"}

    def test_what_ended_elsewhere_is_not_open_again_where_the_shared_store_forgets_it(
        self, store: FallbackStore, shared: Shared, clock: FakeClock, tmp_path: Path
    ) -> None:
        store.swap("f", record("a"), None)
        other = FallbackStore(shared, DiskStore(tmp_path / "other machine"), clock=clock)
        assert other.swap("f", record("a", "2", messages=2), "1").done
        assert known(store) == {"a": "2"}
        (tmp_path / "shared" / "f.json").unlink()
        assert known(store) == {"a": "2"}

    def test_what_ended_without_it_is_not_open_there_when_it_is_back(
        self, store: FallbackStore, shared: Shared, clock: FakeClock
    ) -> None:
        store.swap("f", record("a"), None)
        shared.away = True
        assert store.swap("f", record("a", "2", messages=2), "1").done
        shared.away = False
        clock.advance(60)
        assert known(store) == {"a": "2"}
        assert known(shared) == {"a": "2"}

    def test_what_another_machine_wrote_is_known_when_it_is_away(
        self, store: FallbackStore, shared: Shared, clock: FakeClock, tmp_path: Path
    ) -> None:
        other = FallbackStore(shared, DiskStore(tmp_path / "other machine"))
        other.swap("f", record("b"), None)
        assert not store.swap("f", record("a"), None).done
        assert store.swap("f", record("b", "2"), "1").done
        shared.away = True
        assert known(store) == {"b": "2"}

    def test_what_was_lost_there_is_written_again_on_both_sides(
        self, store: FallbackStore, shared: Shared, tmp_path: Path
    ) -> None:
        store.swap("f", record("a"), None)
        (tmp_path / "shared" / "f.json").unlink()
        assert store.swap("f", record("a", "2"), None).done
        for folder in ("shared", "local"):
            assert json.loads((tmp_path / folder / "f.json").read_text())["revision"] == "2"

    def test_its_recovery_is_said(
        self, store: FallbackStore, shared: Shared, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        shared.away = True
        store.load()
        shared.away = False
        clock.advance(5)
        store.load()
        assert "the shared store of incidents is reachable again" in caplog.text
        assert not store.degraded


def test_where_a_system_has_no_locks_everything_else_works(tmp_path: Path) -> None:
    code = """
import sys
sys.modules["fcntl"] = None  # as on Windows
from otel_resilience import Severity
from otel_resilience.alerting import Alert, AlertConfig, AlertService, DiskStore, Outbox, Route
from otel_resilience.alerting.channels import LogChannel
folder = __import__("pathlib").Path(sys.argv[1])
receipts = []
parts = {"store": DiskStore(folder), "outbox": Outbox(folder), "on_receipt": receipts.append}
with AlertService(AlertConfig(), [Route(LogChannel())], **parts) as service:
    service.report(Alert(kind="trouble", title="Trouble", severity=Severity.HIGH))
print([receipt.delivered for receipt in receipts], len(list(DiskStore(folder).load())))
"""
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert (run.stdout, run.returncode) == ("[True] 1\n", 0), run.stderr
