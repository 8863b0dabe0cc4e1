"""Undelivered notifications outlive the process, once; those that nobody accepts are kept as dead letters."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import pytest

from otel_resilience import Severity
from otel_resilience.alerting import AlertConfig, DiskStore, MemoryStore, Outbox, Route
from otel_resilience.alerting.model.alert import Notification
from otel_resilience.alerting.persistence import outbox as module
from otel_resilience.testing import FakeClock
from support.alerting import EPOCH, Inbox, World
from support.notifications import BEGAN, SAMPLES, notification
from support.resilience import TransientFault

QUICK = AlertConfig(escalation=(), group_wait=0.0)


def now() -> float:
    return BEGAN + 60


def box(folder: Path) -> Outbox:
    return Outbox(folder, wall_clock=now)


def caused(number: int) -> Notification:
    return notification(id=f"id-{number}", caused_at=BEGAN + number)


class TestTheFolder:
    def test_keeps_everything_until_it_is_removed(self, tmp_path: Path) -> None:
        outbox = box(tmp_path)
        for sample in SAMPLES.values():
            outbox.put(dataclasses.replace(sample, caused_at=BEGAN))
        assert {each.id for each in outbox.waiting()} == {each.id for each in SAMPLES.values()}
        for sample in SAMPLES.values():
            outbox.remove(sample)
        assert box(tmp_path).waiting() == []

    @pytest.mark.parametrize("name", SAMPLES)
    def test_gives_back_what_was_put(self, tmp_path: Path, name: str) -> None:
        sample = dataclasses.replace(SAMPLES[name], caused_at=BEGAN)
        first = box(tmp_path)
        first.put(sample)
        first.close()
        assert box(tmp_path).take() == [sample]

    def test_the_same_id_replaces(self, tmp_path: Path) -> None:
        outbox = box(tmp_path)
        outbox.put(notification(title="old"))
        outbox.put(notification(title="new"))
        assert [each.title for each in outbox.waiting()] == ["new"]

    def test_what_a_living_process_is_at_is_not_taken(self, tmp_path: Path) -> None:
        first = box(tmp_path)
        first.put(caused(1))
        second = box(tmp_path)
        assert second.take() == []
        assert len(second.waiting()) == 1
        first.close()
        assert second.take() == [caused(1)]
        assert box(tmp_path).take() == []

    def test_the_oldest_comes_first(self, tmp_path: Path) -> None:
        first = box(tmp_path)
        for number in (3, 1, 2):
            first.put(caused(number))
        first.close()
        assert [each.id for each in box(tmp_path).take()] == ["id-1", "id-2", "id-3"]

    def test_of_several_that_come_at_once_one_takes_each(self, tmp_path: Path) -> None:
        for owner in range(5):
            outbox = box(tmp_path)
            for number in range(10):
                outbox.put(caused(10 * owner + number))
            outbox.close()
        takers = [box(tmp_path) for _ in range(8)]
        taken: list[str] = []
        barrier = threading.Barrier(8)

        def take(outbox: Outbox) -> None:
            barrier.wait(60)
            taken.extend(each.id for each in outbox.take())

        threads = [threading.Thread(target=take, args=(taker,)) for taker in takers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        for taker in takers:
            taken.extend(each.id for each in taker.take())
        assert sorted(taken) == sorted(f"id-{number}" for number in range(50))

    def test_nothing_remains_of_those_that_are_done(self, tmp_path: Path) -> None:
        for number in range(3):
            outbox = box(tmp_path)
            outbox.take()
            outbox.put(caused(number))
            if number:
                outbox.remove(caused(number))
            outbox.close()
        last = box(tmp_path)
        last.take()
        last.remove(caused(0))
        last.close()
        assert list((tmp_path / "outbox").iterdir()) == []

    def test_many_notifications_need_no_more_open_files_than_one(self, tmp_path: Path) -> None:
        outbox = box(tmp_path)
        outbox.put(caused(0))
        before = len(list(Path("/proc/self/fd").iterdir()))
        for number in range(50):
            outbox.put(caused(number))
        assert len(list(Path("/proc/self/fd").iterdir())) == before

    def test_a_damaged_one_is_set_aside_and_the_others_are_read(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        first = box(tmp_path)
        for number in range(2):
            first.put(caused(number))
        first.close()
        (path,) = (tmp_path / "outbox").glob("*/id-0.json")
        path.write_text("[1, 2")
        second = box(tmp_path)
        assert [each.id for each in second.take()] == ["id-1"]
        assert "set aside" in caplog.text
        assert len(list((tmp_path / "outbox").glob("*/*.damaged"))) == 1

    def test_it_is_for_its_owner_alone(self, tmp_path: Path) -> None:
        outbox = box(tmp_path / "alerts")
        outbox.put(caused(1))
        (path,) = (tmp_path / "alerts" / "outbox").glob("*/*.json")
        assert path.stat().st_mode & 0o077 == 0
        assert path.parent.stat().st_mode & 0o077 == 0


class TestDeadLetters:
    def test_what_no_process_tried_for_a_week_is_one(self, tmp_path: Path) -> None:
        first = box(tmp_path)
        first.put(notification(id="old-1", caused_at=now() - 7 * 86_400 - 1))
        first.put(notification(id="new-1", caused_at=now() - 86_000))
        first.close()
        second = box(tmp_path)
        assert [each.id for each in second.take()] == ["new-1"]
        (letter,) = second.dead_letters()
        assert (letter["id"], letter["reason"]) == ("old-1", "no channel took it within a week")

    def test_a_job_that_runs_daily_tries_what_the_last_one_left(self, tmp_path: Path) -> None:
        clock = FakeClock(EPOCH)
        for is_well in (False, True):
            world = World(clock=clock, outbox=Outbox(tmp_path, wall_clock=clock))
            world.inbox.fails = None if is_well else TransientFault()
            if clock.now == EPOCH:
                world.report()
            world.run(10)
            world.service.close()
            clock.advance(86_401)
            if is_well:
                assert [message.reason for message in world.messages()] == ["new"]
        assert Outbox(tmp_path).dead_letters() == []

    def test_what_was_tried_without_success_after_a_day_is_one(self, tmp_path: Path) -> None:
        clock = FakeClock(EPOCH)
        for _ in range(2):
            world = World(clock=clock, outbox=Outbox(tmp_path, wall_clock=clock))
            world.inbox.fails = TransientFault()
            if clock.now == EPOCH:
                world.report()
            world.run(10)
            world.service.close()
            clock.advance(86_401)
        (letter,) = Outbox(tmp_path, wall_clock=clock).dead_letters()
        assert letter["reason"] == "no channel took it within a day"

    def test_the_oldest_give_way(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MAX_DEAD_LETTERS", 3)
        clock = FakeClock(BEGAN)
        outbox = Outbox(tmp_path, wall_clock=clock)
        for name in "edcba":
            outbox.move_to_dead_letters(notification(id=name), "refused")
            clock.advance(1)
        assert [letter["id"] for letter in outbox.dead_letters()] == ["c", "b", "a"]

    def test_they_hold_no_secret(self, tmp_path: Path) -> None:
        outbox = box(tmp_path)
        outbox.move_to_dead_letters(notification(), "POST https://user:hunter2@example.com/?token=abcdef failed")
        text = "".join(path.read_text() for path in tmp_path.rglob("*.json"))
        assert "hunter2" not in text
        assert "abcdef" not in text

    def test_a_damaged_one_hides_no_other(self, tmp_path: Path) -> None:
        outbox = box(tmp_path)
        outbox.move_to_dead_letters(notification(), "refused")
        (tmp_path / "dead" / "0.json").write_text("{}")
        (tmp_path / "dead" / "1.json").write_text("[]")
        assert [letter["reason"] for letter in outbox.dead_letters()] == ["refused"]


class Process:
    """What one process after the other has in common: a folder, a clock, a receiver."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock(EPOCH)
        self.inbox = Inbox(self.clock)

    def start(self, config: AlertConfig = QUICK, *, store: bool = True) -> World:
        return World(
            [Route(self.inbox)],
            config,
            clock=self.clock,
            outbox=Outbox(self.folder, wall_clock=self.clock),
            store=DiskStore(self.folder / "incidents", wall_clock=self.clock) if store else MemoryStore(),
        )

    def die(self, world: World) -> None:
        """As by SIGKILL: nothing is written any more, and the locks fall."""
        outbox = world.service._archive._outbox
        assert outbox is not None
        outbox.close()


@pytest.fixture(params=[True, False], ids=["incidents are stored", "they are not"])
def stored(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


class TestTheNextProcess:
    @pytest.fixture
    def process(self, tmp_path: Path) -> Process:
        return Process(tmp_path)

    @pytest.mark.parametrize("severity", [Severity.HIGH, Severity.CRITICAL])
    def test_sends_what_the_last_one_could_not(self, process: Process, stored: bool, severity: Severity) -> None:
        process.inbox.fails = TransientFault()
        world = process.start(store=stored)
        world.report("a", severity)
        world.run(100)
        assert not world.service.close()
        process.inbox.fails = None
        process.clock.advance(3600)
        world = process.start(store=stored)
        world.run(1)
        assert [(m.kind, m.severity, m.caused_at) for m in process.inbox.messages] == [("a", severity, EPOCH)]
        assert world.service.close()
        process.start(store=stored).run(100)
        assert len(process.inbox.messages) == 1

    @pytest.mark.fault("A9")
    @pytest.mark.parametrize("days", [1, 2, 6])
    @pytest.mark.parametrize("severity", [Severity.HIGH, Severity.CRITICAL])
    @pytest.mark.parametrize("lives", [0.0, 2.0])
    def test_of_a_daily_job_tries_it_before_it_is_put_aside(
        self, process: Process, stored: bool, severity: Severity, days: int, lives: float
    ) -> None:
        process.inbox.fails = TransientFault()
        for day in range(2):
            world = process.start(store=stored)
            tried = len(process.inbox.tried)
            if day == 0:
                world.report("a", severity)
            world.run(lives)
            assert not world.service.close()
            assert len(process.inbox.tried) > tried
            process.clock.advance(days * 86_400 + 60 - process.clock.now % 60)
        (letter,) = Outbox(process.folder).dead_letters()
        assert letter["reason"] == "no channel took it within a day"

    @pytest.mark.fault("A9")
    @pytest.mark.parametrize("days", [1, 6])
    @pytest.mark.parametrize("lives", [0.0, 2.0])
    def test_of_a_daily_job_delivers_it_once_the_receiver_is_back(
        self, process: Process, stored: bool, days: int, lives: float
    ) -> None:
        process.inbox.fails = TransientFault()
        for _ in range(2):
            world = process.start(store=stored)
            if process.inbox.fails is not None:
                world.report("a", Severity.CRITICAL)
            world.run(lives)
            world.service.close()
            process.inbox.fails = None
            process.clock.advance(days * 86_400)
        assert [message.kind for message in process.inbox.messages] == ["a"]
        assert Outbox(process.folder).dead_letters() == []

    @pytest.mark.parametrize("at", ["reported", "told", "failed"])
    def test_even_if_that_one_was_killed(self, process: Process, stored: bool, at: str) -> None:
        world = process.start(AlertConfig(escalation=()), store=stored)
        world.report("a", Severity.CRITICAL)
        identifier = world.service.incidents()[0].next_id
        process.inbox.fails = TransientFault()
        if at == "told":
            world.service._dispatch()
        if at == "failed":
            world.run(60)
        process.die(world)
        process.inbox.fails = None
        world = process.start(store=stored)
        world.run(1)
        assert [(m.id, m.kind, m.count) for m in process.inbox.messages] == [(identifier, "a", 1)]
        world.resolve("a", certain=True)
        world.run(1)
        assert [(m.id, m.status.value) for m in process.inbox.messages[1:]] == [(identifier[:-1] + "2", "resolved")]

    def test_notifies_the_rise_of_an_incident_that_was_notified_already(self, process: Process, stored: bool) -> None:
        world = process.start(store=stored)
        world.report("a")
        world.run(1)
        world.report("a", Severity.CRITICAL)
        process.die(world)
        world = process.start(store=stored)
        world.run(1)
        assert [(m.id[-2:], m.severity) for m in process.inbox.messages] == [
            ("-1", Severity.HIGH),
            ("-2", Severity.CRITICAL),
        ]
        world.resolve("a", certain=True)
        world.run(1)
        assert [m.id[-2:] for m in process.inbox.messages] == ["-1", "-2", "-3"]

    def test_an_incident_that_is_remembered_does_not_hide_that_it_is_back(self, process: Process) -> None:
        world = process.start()
        world.report("a", Severity.CRITICAL)
        world.run(100)
        world.resolve("a", certain=True)
        world.run(100)
        world.report("a", Severity.CRITICAL)
        process.die(world)
        world = process.start()
        world.run(1)
        assert [m.status.value for m in process.inbox.messages] == ["firing", "resolved", "firing"]
        (incident,) = world.service.incidents()
        assert incident.returns == 1

    def test_the_end_of_an_incident_is_notified_too(self, process: Process, stored: bool) -> None:
        world = process.start(store=stored)
        world.report("a")
        world.run(10)
        process.inbox.fails = TransientFault()
        world.resolve("a", certain=True)
        world.run(10)
        process.die(world)
        process.inbox.fails = None
        world = process.start(store=stored)
        world.run(1000)
        assert [m.status.value for m in process.inbox.messages] == ["firing", "resolved"]
        process.start(store=stored).run(1000)
        assert len(process.inbox.messages) == 2

    def test_what_is_over_within_the_group_wait_leaves_nothing(self, process: Process) -> None:
        world = process.start(AlertConfig())
        world.report("a", at_once=False)
        assert len(Outbox(process.folder).waiting()) == 1
        world.resolve("a")
        assert Outbox(process.folder).waiting() == []

    def test_what_a_cause_inhibits_leaves_nothing(self, process: Process) -> None:
        world = process.start(AlertConfig(escalation=()))
        world.report("errors")
        world.run(1)
        world.report("circuit_breaker")
        world.run(100)
        assert [m.kind for m in process.inbox.messages] == ["circuit_breaker"]
        assert Outbox(process.folder).waiting() == []

    def test_an_incident_that_ends_by_silence_does_so_there_too(self, process: Process, stored: bool) -> None:
        world = process.start(store=stored)
        world.report("errors", quiet_after=300.0)
        process.die(world)
        world = process.start(store=stored)
        world.run(1)
        world.run(300)
        assert [m.status.value for m in process.inbox.messages] == ["firing", "resolved"]

    def test_what_is_less_severe_ends_with_its_process_and_says_so(
        self, process: Process, caplog: pytest.LogCaptureFixture
    ) -> None:
        process.inbox.fails = TransientFault()
        world = process.start(AlertConfig(min_severity=Severity.LOW, group_wait=0))
        world.report("a", Severity.MEDIUM)
        world.run(1)
        assert not world.service.close()
        assert "was not delivered and is lost" in caplog.text
        assert Outbox(process.folder).waiting() == []

    def test_a_channel_that_has_it_does_not_get_it_again(self, process: Process) -> None:
        down = Inbox(process.clock, "down")
        down.fails = TransientFault()
        routes = [Route(process.inbox), Route(down)]
        outbox = Outbox(process.folder, wall_clock=process.clock)
        world = World(routes, QUICK, clock=process.clock, outbox=outbox)
        world.report("a")
        world.run(100)
        process.die(world)
        down.fails = None
        world = World(routes, QUICK, clock=process.clock, outbox=Outbox(process.folder, wall_clock=process.clock))
        world.run(100)
        assert ([m.kind for m in process.inbox.messages], [m.kind for m in down.messages]) == (["a"], ["a"])
        assert Outbox(process.folder).waiting() == []

    def test_a_full_disk_keeps_no_one_from_being_notified(
        self, process: Process, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        world = process.start()
        monkeypatch.setattr(module, "write_synced", full)
        monkeypatch.setattr("otel_resilience.alerting.persistence.store.write_synced", full)
        world.report("a", Severity.CRITICAL)
        world.run(1)
        assert [m.kind for m in process.inbox.messages] == ["a"]
        assert "could not be written to the outbox: OSError" in caplog.text
        assert world.service.close()
