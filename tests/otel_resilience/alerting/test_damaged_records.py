"""A damaged record in a store or on disk affects nothing else."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_resilience import Severity
from otel_resilience._internal.stored import fits
from otel_resilience.alerting import Alert, AlertConfig, DiskStore, FallbackStore, MemoryStore, Outbox, Phase
from otel_resilience.alerting.model.alert import Notification, Status
from otel_resilience.alerting.model.incident import Incident
from otel_resilience.alerting.persistence.store import Record
from otel_resilience.testing import FakeClock
from support.alerting import EPOCH, World
from support.notifications import BEGAN, notification

ODD: tuple[Any, ...] = (
    None, True, -1, 1e300, 10**400, float("nan"), float("inf"), "", "yesterday", "\ud83d", [], [[]], [None], ["x"],
    [{"at": "x"}], {}, {"x": None}, {"x": []},
)  # fmt: skip
QUICK = AlertConfig(escalation=(), group_wait=0.0)


def stored_incident() -> Record:
    """An open one with everything in it."""
    store = MemoryStore()
    world = World(config=QUICK, store=store)
    world.report(error_type="503", context={"a": 1}, threshold=2)
    world.report(error_type="503", context={"a": 1}, threshold=2)
    world.run(10)
    for act in (world.service.acknowledge, world.service.resend):
        act(next(iter(world.book)).id, by="me", reason="why")
    world.service.silence(next(iter(world.book)).id, 60.0)
    world.run(100)
    world.service.close()
    [record] = store.load()
    assert record["phase"] == "open"
    assert record["deliveries"]
    assert record["actions"]
    return record


RECORD = stored_incident()
PLACES = [(name,) for name in RECORD] + [("alert", name) for name in RECORD["alert"]]


def damaged(record: Record, place: tuple[str, ...], value: Any) -> Record:
    copy = json.loads(json.dumps(record))
    inner = copy
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    return dict(copy)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.getLogger("otel_resilience.alerting").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("otel_resilience.alerting").setLevel(logging.NOTSET)


@pytest.mark.parametrize("place", PLACES, ids=".".join)
def test_one_bad_incident_keeps_no_other_from_being_sent(place: tuple[str, ...]) -> None:
    for value in ODD:
        store = MemoryStore()
        store.swap(RECORD["fingerprint"], damaged(RECORD, place, value), None)
        clock = FakeClock(EPOCH + 200)
        world = World(config=QUICK, store=store, clock=clock)
        world.report("another")
        world.report(error_type="503", severity=Severity.CRITICAL)
        world.run(100)
        assert "another" in {message.kind for message in world.messages()}, value
        for incident in world.book:
            json.dumps(incident.dump(), allow_nan=False, ensure_ascii=False).encode()
            message = incident.notification(QUICK, clock.now, "repeat", Status.FIRING, sender="")
            json.dumps(message.to_json(), allow_nan=False, ensure_ascii=False).encode()
        clock.advance(20_000)
        world.run(10)
        world.service.close()


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Notification)])
def test_one_bad_message_keeps_no_other_from_being_sent(name: str, tmp_path: Path) -> None:
    for number, value in enumerate(ODD):
        folder, clock = tmp_path / str(number), FakeClock(BEGAN + 60)
        left = Outbox(folder, wall_clock=clock)
        left.put(notification(id="good-1", incident="good", fingerprint="f" * 16, caused_at=BEGAN))
        left.put(notification(id="bad-1", incident="bad", caused_at=BEGAN))
        (path,) = folder.glob("outbox/*/bad-1.json")
        path.write_text(json.dumps(damaged(json.loads(path.read_text()), (name,), value)))
        left.close()
        world = World(config=QUICK, clock=clock, outbox=Outbox(folder, wall_clock=clock))
        world.run(100)
        assert "good-1" in {message.id for message in world.messages()}, value
        Outbox(folder).waiting()
        world.service.close()


def test_a_dead_letter_that_is_nested_too_deeply_hides_no_other(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.move_to_dead_letters(notification(), "refused")
    (tmp_path / "dead" / "0.json").write_text("[" * 100_000)
    assert [letter["reason"] for letter in Outbox(tmp_path).dead_letters()] == ["refused"]


@pytest.mark.parametrize(
    "odd",
    [
        {"context": {"latency": float("inf")}}, {"context": {"share": float("nan")}},
        {"context": {"iccid": 89_490_200_001_234_567_890}}, {"context": {"bytes": -(10**400)}},
        {"correlation_id": "\ud83d"}, {"span_id": "\udc00"}, {"details_url": "https://jobs.example/\ud83d"},
    ],
)  # fmt: skip
def test_whatever_an_alert_holds_is_read_again(odd: dict[str, Any], tmp_path: Path) -> None:
    store = MemoryStore()
    world = World(config=QUICK, store=store, outbox=Outbox(tmp_path))
    world.inbox.fails = ConnectionResetError()
    world.report(**odd)
    world.run(5)
    [waiting] = Outbox(tmp_path).waiting()
    [record] = store.load()
    assert Incident.load(json.loads(json.dumps(record, allow_nan=False))).id == waiting.incident


def test_what_a_later_version_stores_besides_is_read() -> None:
    later = {**RECORD, "new": {"x": 1}, "alert": {**RECORD["alert"], "new": 1}}
    assert Incident.load(later).dump() == Incident.load(RECORD).dump()
    message = notification().dump()
    assert Notification.load({**message, "new": 1, "links": {**message["links"], "new": "x"}}) == notification()


class TestWhatCannotBeReadNow:
    """Too many open files, another user's, a disk with errors: that says nothing about what is in it."""

    def test_an_incident_stays_where_it_is(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING, "otel_resilience.alerting")
        store = DiskStore(tmp_path)
        for name in "ab":
            store.swap(name, {**RECORD, "fingerprint": name}, None)
        with monkeypatch.context() as patch:
            self.refuse(patch, "a.json")
            for _ in range(3):
                assert [record["fingerprint"] for record in store.load()] == ["b"]
            with pytest.raises(OSError, match="Too many open files"):
                store.swap("a", RECORD, None)
        assert caplog.text.count("is ignored") == 1
        assert sorted(record["fingerprint"] for record in store.load()) == ["a", "b"]

    def test_an_undelivered_message_stays_and_is_sent_later(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING, "otel_resilience.alerting")
        left = Outbox(tmp_path, wall_clock=lambda: BEGAN)
        for name in "ab":
            left.put(notification(id=f"{name}-1", incident=name, caused_at=BEGAN))
        left.close()
        outbox = Outbox(tmp_path, wall_clock=lambda: BEGAN)
        with monkeypatch.context() as patch:
            self.refuse(patch, "a-1.json")
            for _ in range(3):
                outbox.waiting()
            assert [each.id for each in outbox.take()] == ["b-1"]
        assert caplog.text.count("is ignored") == 1
        assert [each.id for each in outbox.take()] == ["a-1"]

    def test_the_folder_of_another_user_does_not_hide_the_others(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING, "otel_resilience.alerting")
        foreign = tmp_path / "outbox" / "0000"
        (foreign / ".lock").mkdir(parents=True)  # cannot be opened for writing, as one of another user
        left = Outbox(tmp_path, wall_clock=lambda: BEGAN)
        left.put(notification(id="a-1", caused_at=BEGAN))
        left.close()
        outbox = Outbox(tmp_path, wall_clock=lambda: BEGAN)
        assert [each.id for each in outbox.take()] == ["a-1"]
        outbox.take()
        assert caplog.text.count("is ignored") == 1

    @staticmethod
    def refuse(patch: pytest.MonkeyPatch, name: str) -> None:
        read = Path.read_bytes

        def read_bytes(path: Path) -> bytes:
            if path.name == name:
                raise OSError(24, "Too many open files")
            return read(path)

        patch.setattr(Path, "read_bytes", read_bytes)


class FullDisk(MemoryStore):
    """Takes nothing more."""

    full = False

    def swap(self, fingerprint: str, record: Record, expected: str | None) -> Any:
        if self.full:
            raise OSError(28, "No space left on device")
        return super().swap(fingerprint, record, expected)


class TestAFullDisk:
    def test_takes_nothing_away_from_the_shared_store(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.WARNING, "otel_resilience.alerting")
        shared, disk = MemoryStore(), FullDisk()
        here = FallbackStore(shared, disk)
        assert here.swap("f", {"fingerprint": "f", "revision": "1"}, None).done
        disk.full = True
        assert here.swap("f", {"fingerprint": "f", "revision": "2"}, "1").done
        assert shared.swap("f", {"fingerprint": "f", "revision": "3"}, "2").done
        assert [record["revision"] for record in here.load()] == ["3"], "what another process wrote is seen"
        assert not here.degraded
        assert caplog.text.count("No space") + caplog.text.count("in the shared store only") == 1

    def test_each_message_is_sent_once(self) -> None:
        disk = FullDisk()
        disk.full = True
        world = World(config=QUICK, store=FallbackStore(MemoryStore(), disk))
        world.report()
        world.run(30)
        world.report(severity=Severity.CRITICAL)
        world.run(100)
        world.resolve(certain=True)
        world.run(400)
        assert [message.reason for message in world.messages()] == ["new", "raised", "resolved"]


@pytest.mark.parametrize(
    ("value", "kind", "good"),
    [
        (1, float, True), (True, float, False), (float("nan"), float, False), (10**400, float, False),
        (1.0, int, False), (False, bool, True), ("HIGH", Severity, True), ("high", Severity, False),
        (Severity.HIGH, Severity, True), ("open", Phase, True), (["a", None], tuple[str | None, ...], True),
        (["a"], tuple[float, str], False), ([1, "a"], tuple[float, str], True), ({"a": 1}, dict[str, int], True),
        ({1: 1}, dict[str, int], False), ("a", list[str], False), ("\udc00", str, False), (None, str | None, True),
        (object(), Alert, False),
    ],
)  # fmt: skip
def test_a_value_is_held_against_its_type(value: Any, kind: Any, *, good: bool) -> None:
    assert fits(value, kind) is good
