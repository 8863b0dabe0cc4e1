"""An incident belongs to the store: of all processes that see it, one opens it, one escalates it, one ends it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from otel_resilience import Severity
from otel_resilience.alerting import (
    AlertConfig,
    DiskStore,
    EscalationStep,
    FallbackStore,
    IncidentStore,
    Inhibition,
    MemoryStore,
    Notification,
    Outbox,
    Phase,
    Route,
    Status,
)
from otel_resilience.alerting.model.book import CONFIRMED_WITHIN
from otel_resilience.alerting.persistence.store import Record, Swap
from otel_resilience.alerting.service import CATCH_UP_EVERY, CLOSE_WITHIN
from otel_resilience.testing import FakeClock
from support.alerting import EPOCH, Inbox, World
from support.resilience import TransientFault

CONFIG = AlertConfig(service="catalogue", escalation=(EscalationStep(after=3600.0),))
FLAPPING = AlertConfig(service="catalogue", escalation=(EscalationStep(returns=3),))


class AwayStore(MemoryStore):
    """A shared store that cannot be reached at times."""

    away = False

    def load(self) -> Iterable[Record]:
        if self.away:
            raise ConnectionError("away")
        return super().load()

    def swap(self, fingerprint: str, record: Record, expected: str | None) -> Swap:
        if self.away:
            raise ConnectionError("away")
        return super().swap(fingerprint, record, expected)


class Processes:
    """Processes of one service: a clock, a store and a receiver in common."""

    def __init__(self, store: IncidentStore | None = None, config: AlertConfig = CONFIG) -> None:
        self.clock = FakeClock(EPOCH)
        self.inbox = Inbox(self.clock, keeps_incidents=True)
        self.routes = [Route(self.inbox)]
        self.store = store or MemoryStore()
        self.config = config
        self.alive: list[World] = []

    def start(self, **options: object) -> World:
        world = World(self.routes, self.config, clock=self.clock, store=self.store, **options)
        self.alive.append(world)
        return world

    def kill(self, world: World) -> None:
        self.alive.remove(world)

    def end(self, world: World) -> None:
        self.alive.remove(world)
        world.service.close()

    def run(self, seconds: float, step: float | None = None) -> None:
        """Time passes for all of them, in turns: of five seconds at first, later as long as between two looks."""
        began = self.clock.now
        until = began + seconds
        while True:
            for world in self.alive:
                world.service.pump()
            if self.clock.now >= until:
                break
            turn = 5.0 if self.clock.now < began + 60 else CATCH_UP_EVERY
            self.clock.now = min(until, self.clock.now + (step or turn))

    def job(self, *, fails: bool, seconds: float = 2.0) -> None:
        """A process that lives for two seconds."""
        world = self.start()
        if fails:
            world.report()
        self.run(seconds, step=1.0)
        if not fails:
            world.resolve(certain=True)
        self.end(world)

    @property
    def reasons(self) -> list[str]:
        return [message.reason for message in self.inbox.messages]


@pytest.fixture(params=["memory", "disk"])
def processes(request: pytest.FixtureRequest, tmp_path: Path) -> Processes:
    return Processes(DiskStore(tmp_path) if request.param == "disk" else MemoryStore())


@pytest.mark.fault("A1")
class TestA1AnIncidentBelongsToTheStore:
    def test_what_one_process_saw_begin_another_one_ends_at_once(self, processes: Processes) -> None:
        one, two, *_ = (processes.start() for _ in range(4))
        one.report()
        processes.run(60)
        two.resolve(certain=True)
        processes.run(2)
        assert processes.reasons == ["new", "resolved"]
        processes.run(8 * 3600, step=60)
        assert processes.reasons == ["new", "resolved"]
        assert all(world.service.incidents() == [] for world in processes.alive)

    def test_even_if_the_other_one_was_started_before_and_saw_nothing_of_it(self, processes: Processes) -> None:
        two = processes.start()
        one = processes.start()
        one.report()
        one.run(6)
        two.resolve(certain=True)
        two.run(1)
        assert processes.reasons == ["new", "resolved"]

    def test_also_within_the_group_wait_and_then_there_is_no_message(self, processes: Processes) -> None:
        one, two = processes.start(), processes.start()
        one.report()
        one.run(2)
        two.resolve(certain=True)
        two.run(1)
        processes.run(3600)
        assert processes.reasons == []

    def test_also_by_two_good_signs_of_which_the_first_came_too_early(self, processes: Processes) -> None:
        one, two = processes.start(), processes.start()
        two.resolve(certain=True)
        processes.clock.advance(0.01)
        one.report()
        processes.run(30)
        assert processes.reasons == ["new"]
        two.resolve(certain=True)
        processes.run(30)
        assert processes.reasons == ["new", "resolved"]

    def test_it_is_escalated_once_by_the_first_process(self, processes: Processes) -> None:
        worlds = [processes.start() for _ in range(4)]
        for _ in range(6):
            for world in worlds:
                world.report()
                processes.run(10)
            processes.run(900)
        assert processes.reasons == ["new", "escalated"]
        assert sum(message.count for message in processes.inbox.messages) <= 24

    def test_it_is_escalated_although_who_saw_it_begin_is_gone(self, processes: Processes) -> None:
        one = processes.start()
        processes.start()
        one.report()
        processes.run(30)
        processes.kill(one)
        processes.run(3600)
        assert processes.reasons == ["new", "escalated"]

    def test_it_is_not_escalated_by_a_process_with_an_old_copy(self, processes: Processes) -> None:
        one, two = processes.start(), processes.start()
        one.report()
        processes.run(3500)
        two.resolve(certain=True)
        two.run(1)
        processes.clock.advance(200)
        one.run(3600)
        assert processes.reasons == ["new", "resolved"]

    def test_what_all_of_them_saw_is_counted(self, processes: Processes) -> None:
        worlds = [processes.start() for _ in range(4)]
        for world in worlds:
            for _ in range(3):
                world.report(error_type="503")
            world.run(1)
        processes.run(10)
        worlds[2].report(error_type="timeout")
        processes.run(20)
        worlds[1].resolve(certain=True)
        processes.run(5)
        assert sum(message.count for message in processes.inbox.messages) == 13
        last = processes.inbox.messages[-1]
        assert (last.status, last.total) == (Status.RESOLVED, 13)
        assert last.error_types == {"503": 12, "timeout": 1}

    def test_what_a_process_saw_after_the_end_is_another_incident(self, processes: Processes) -> None:
        one, two = processes.start(), processes.start()
        one.report()
        processes.run(70)
        two.resolve(certain=True)
        two.run(1)
        processes.clock.advance(1)
        one.report()
        processes.run(70)
        assert processes.reasons == ["new", "resolved", "back"]
        assert len({message.incident for message in processes.inbox.messages}) == 2

    def test_what_it_saw_before_the_end_is_not(self, processes: Processes) -> None:
        one, two = processes.start(), processes.start()
        one.report()
        processes.run(70)
        one.report()
        processes.clock.advance(1)
        two.resolve(certain=True)
        two.run(1)
        processes.run(600)
        assert processes.reasons == ["new", "resolved"]

    def test_a_row_of_partial_syncs_is_counted_over_all_processes(self, processes: Processes) -> None:
        one, two, three = (processes.start() for _ in range(3))
        one.report("partial", threshold=2, window=7 * 86_400.0)
        processes.run(20)
        two.report("partial", threshold=2, window=7 * 86_400.0)
        processes.run(20)
        assert processes.reasons == ["new"]
        three.resolve("partial", certain=True)
        processes.run(20)
        one.report("partial", threshold=2, window=7 * 86_400.0)
        processes.run(60)
        assert processes.reasons == ["new", "resolved"]

    def test_a_streak_that_another_process_broke_starts_over(self, processes: Processes) -> None:
        one, two = processes.start(), processes.start()
        one.report("partial", threshold=2, window=7 * 86_400.0)
        one.run(1)
        processes.clock.advance(1)
        two.resolve("partial", certain=True)
        two.run(1)
        processes.clock.advance(1)
        one.report("partial", threshold=2, window=7 * 86_400.0)
        processes.run(60)
        assert processes.reasons == []

    def test_a_consequence_waits_for_a_cause_that_another_process_saw(self) -> None:
        rules = (Inhibition(frozenset({"circuit_breaker"}), frozenset({"sync_failed"})),)
        processes = Processes(config=AlertConfig(escalation=(), inhibitions=rules))
        one, two = processes.start(), processes.start()
        one.report("circuit_breaker")
        processes.run(30)
        two.report("sync_failed")
        processes.run(600)
        assert [message.kind for message in processes.inbox.messages] == ["circuit_breaker"]
        one.resolve("circuit_breaker", certain=True)
        processes.run(600)
        assert processes.reasons == ["new", "resolved"]
        assert all(world.service.incidents() == [] for world in processes.alive)

    def test_an_incident_that_is_ongoing_elsewhere_outlives_a_sign_of_recovery(self, processes: Processes) -> None:
        one, two = processes.start(), processes.start()
        one.report()
        processes.run(30)
        for _ in range(100):
            two.resolve()
            processes.run(10)
            one.service.mark_ongoing("trouble", "supplier")
            processes.run(10)
        assert processes.reasons == ["new"]
        two.resolve()
        processes.run(400)
        assert processes.reasons == ["new", "resolved"]

    def test_a_store_that_forgets_everything_loses_no_end(self) -> None:
        processes = Processes()
        one, two = processes.start(), processes.start()
        one.report()
        processes.run(30)
        assert isinstance(processes.store, MemoryStore)
        processes.store._records.clear()
        processes.run(30)
        two.resolve(certain=True)
        processes.run(5)
        assert processes.reasons == ["new", "resolved"]

    def test_a_store_that_goes_back_to_an_older_state_makes_nothing_happen_twice(self) -> None:
        processes = Processes()
        one, two = processes.start(), processes.start()
        one.report()
        processes.run(30)
        assert isinstance(processes.store, MemoryStore)
        older = dict(processes.store._records)
        processes.run(3600)
        processes.store._records.update(older)
        processes.run(1800)
        assert processes.reasons == ["new", "escalated"]
        older = dict(processes.store._records)
        two.resolve(certain=True)
        processes.run(30)
        processes.store._records.update(older)
        processes.run(7200)
        assert processes.reasons == ["new", "escalated", "resolved"]
        processes.start()
        processes.run(7200)
        assert processes.reasons == ["new", "escalated", "resolved"]

    def test_a_store_that_goes_back_to_the_incident_before_loses_no_end(self) -> None:
        processes = Processes()
        one, two = processes.start(), processes.start()
        assert isinstance(processes.store, MemoryStore)
        one.report()
        processes.run(30)
        two.resolve(certain=True)
        processes.run(600)
        older = dict(processes.store._records)
        one.report()
        processes.run(60)
        processes.store._records.update(older)
        processes.run(60)
        two.resolve(certain=True)
        processes.run(3600)
        assert processes.reasons == ["new", "resolved", "back", "resolved"]

    @pytest.mark.parametrize("replaced", [False, True])
    def test_one_that_began_while_the_shared_store_was_away_has_an_end(self, replaced: bool, tmp_path: Path) -> None:
        """Also where that comes back with the incident before it, which is over."""
        shared, processes = AwayStore(), Processes()

        def machine(name: str) -> IncidentStore:
            local = DiskStore(tmp_path / name, wall_clock=processes.clock)
            return FallbackStore(shared, local, clock=processes.clock)

        processes.store = machine("one")
        one = processes.start()
        processes.store = machine("two")
        two = processes.start()
        one.report()
        processes.run(30)
        two.resolve(certain=True)
        processes.run(600)
        shared.away = True
        processes.run(30)
        one.report()
        one.run(30)
        if replaced:
            processes.kill(one)
            processes.store = machine("one")
            one = processes.start()
        shared.away = False
        processes.run(60)
        assert [each.phase for each in two.service.incidents()] == [Phase.OPEN]
        two.resolve(certain=True)
        processes.run(3600)
        assert processes.reasons == ["new", "resolved", "back", "resolved"]
        assert one.service.incidents() == []

    def test_what_is_over_for_a_day_is_looked_at_no_more(self, processes: Processes) -> None:
        one, two = processes.start(), processes.start()
        one.report()
        processes.run(30)
        two.resolve(certain=True)
        processes.run(30)
        processes.clock.advance(86_400)
        processes.start()
        processes.run(60)
        for world in processes.alive:
            assert len(world.book) == 0
            assert world.service._next_look() > processes.clock.now

    def test_a_killed_process_has_not_sent_what_the_store_did_not_accept(self, tmp_path: Path) -> None:
        """It keeps its first message for the case that it is killed; another process sends that."""
        processes = Processes(config=CONFIG)
        one = processes.start(outbox=Outbox(tmp_path, wall_clock=processes.clock))
        processes.start()
        one.report()
        one.run(1)
        archive = one.service._archive
        assert archive._outbox is not None
        archive._outbox.close()
        processes.kill(one)
        processes.run(60)
        assert processes.reasons == ["new"]
        processes.start(outbox=Outbox(tmp_path, wall_clock=processes.clock))
        processes.run(60)
        assert processes.reasons == ["new"]
        assert Outbox(tmp_path).waiting() == []


@pytest.mark.fault("A3")
class TestA3ProcessesThatLiveForSeconds:
    def test_a_good_job_of_two_seconds_ends_what_a_bad_one_opened(self, processes: Processes) -> None:
        processes.job(fails=True)
        processes.clock.advance(600)
        processes.job(fails=False)
        assert processes.reasons == ["new", "resolved"]

    def test_an_incident_that_came_back_ends_too(self) -> None:
        processes = Processes(config=FLAPPING)
        for _ in range(2):
            processes.job(fails=True)
            processes.clock.advance(3600)
            processes.job(fails=False)
            processes.clock.advance(3600)
        assert processes.reasons == ["new", "resolved", "back", "resolved"]

    def test_what_ends_by_silence_ends_in_a_job_that_has_seen_nothing_of_it(self, processes: Processes) -> None:
        one = processes.start()
        one.report("errors", quiet_after=300.0)
        processes.run(10)
        processes.end(one)
        for _ in range(3):
            processes.clock.advance(120)
            processes.end(processes.start())
        assert processes.reasons == ["new", "resolved"]

    def test_a_first_good_sign_is_kept_for_the_jobs_that_follow(self, processes: Processes) -> None:
        processes.job(fails=True)
        processes.clock.advance(60)
        world = processes.start()
        world.resolve()
        processes.end(world)
        assert processes.reasons == ["new"]
        processes.clock.advance(300)
        processes.end(processes.start())
        assert processes.reasons == ["new", "resolved"]

    def test_a_daily_job_that_works_again_is_resolved_and_not_escalated_before(self, processes: Processes) -> None:
        processes.job(fails=True)
        processes.clock.advance(86_400)
        processes.job(fails=False, seconds=20)
        assert processes.reasons == ["new", "resolved"]

    def test_one_that_still_fails_is_escalated_when_that_is_seen(self, processes: Processes) -> None:
        processes.job(fails=True)
        processes.clock.advance(86_400)
        processes.job(fails=True)
        assert processes.reasons == ["new", "escalated"]

    def test_a_process_that_only_looks_escalates_nothing(self, processes: Processes) -> None:
        processes.job(fails=True)
        for _ in range(10):
            processes.clock.advance(3600)
            processes.end(processes.start())
        assert processes.reasons == ["new"]

    def test_what_no_process_has_seen_for_a_week_is_over(self, processes: Processes) -> None:
        processes.job(fails=True)
        for _ in range(8):
            processes.clock.advance(86_400)
            processes.end(processes.start())
        assert processes.reasons == ["new", "resolved"]


@pytest.mark.fault("A4")
class TestA4TwoServicesWithOneStore:
    def make(self, clock: FakeClock, store: IncidentStore, folder: Path, **identity: str) -> World:
        config = AlertConfig(escalation=(), group_wait=0, **identity)  # type: ignore[arg-type]
        inbox = Inbox(clock, keeps_incidents=True)
        world = World([Route(inbox)], config, clock=clock, store=store, outbox=Outbox(folder, wall_clock=clock))
        world.inbox = inbox
        return world

    @pytest.mark.parametrize(
        "identities",
        [
            ({"service": "shop"}, {"service": "warehouse"}),
            ({"service": "shop", "environment": "staging"}, {"service": "shop", "environment": "production"}),
            ({"service": "shop"}, {"service": "shop", "environment": "production"}),
        ],
    )
    def test_each_notifies_its_own_channel_of_its_own_incidents(
        self, tmp_path: Path, identities: tuple[dict[str, str], dict[str, str]]
    ) -> None:
        clock, store = FakeClock(EPOCH), DiskStore(tmp_path / "incidents")
        one, two = (self.make(clock, store, tmp_path, **identity) for identity in identities)
        one.report()
        one.run(30)
        two.report()
        two.run(30)
        assert [len(world.inbox.messages) for world in (one, two)] == [1, 1]
        assert one.inbox.messages[0].fingerprint != two.inbox.messages[0].fingerprint
        one.resolve(certain=True)
        one.run(30)
        two.run(30)
        assert [world.inbox.reported[-1][1] for world in (one, two)] == ["resolved", "firing"]
        assert len(two.service.incidents()) == 1

    def test_what_one_could_not_deliver_the_other_one_does_not_send(self, tmp_path: Path) -> None:
        clock, store = FakeClock(EPOCH), MemoryStore()
        one = self.make(clock, store, tmp_path, service="shop")
        one.report(severity=Severity.CRITICAL)
        assert one.service._archive._outbox is not None
        one.service._archive._outbox.close()  # as by SIGKILL
        two = self.make(clock, store, tmp_path, service="warehouse")
        two.run(60)
        assert two.inbox.messages == []
        again = self.make(clock, store, tmp_path, service="shop")
        again.run(60)
        assert len(again.inbox.messages) == 1


@pytest.mark.parametrize("one_at_a_time", [True, False])
def test_an_end_that_is_late_does_not_close_the_incident_after_it(one_at_a_time: bool, tmp_path: Path) -> None:
    processes = Processes()
    processes.inbox.keeps_incidents = one_at_a_time
    one, two = processes.start(outbox=Outbox(tmp_path, wall_clock=processes.clock)), processes.start()
    two.report()
    processes.run(70)
    one.resolve(certain=True)
    processes.inbox.fails = TransientFault()
    one.run(1)
    assert one.service._archive._outbox is not None
    one.service._archive._outbox.close()
    processes.kill(one)
    processes.inbox.fails = None
    processes.clock.advance(60)
    two.report()
    processes.run(70)
    assert processes.reasons == ["new", "back"]
    processes.start(outbox=Outbox(tmp_path, wall_clock=processes.clock))
    processes.run(10)
    assert processes.reasons == (["new", "back"] if one_at_a_time else ["new", "back", "resolved"])
    assert Outbox(tmp_path).waiting() == []


@pytest.mark.fault("A3")
class TestWhatAPersonDecides:
    """It holds for every process, also for one that writes down something else at the same time."""

    @pytest.fixture
    def incident(self, processes: Processes) -> str:
        one = processes.start()
        processes.start()
        one.report()
        processes.run(30)
        return one.service.incidents()[0].id

    def test_an_acknowledged_incident_is_neither_escalated_nor_repeated(
        self, processes: Processes, incident: str
    ) -> None:
        one, two = processes.alive
        assert two.service.acknowledge(incident) is not None
        one.report()
        one.run(1)
        processes.run(10 * 3600, step=60)
        assert processes.reasons == ["new"]
        one.report(severity=Severity.CRITICAL)
        processes.run(60)
        one.resolve(certain=True)
        processes.run(60)
        assert processes.reasons == ["new", "raised", "resolved"]

    def test_of_a_silenced_one_only_the_end_is_sent(self, processes: Processes, incident: str) -> None:
        one, two = processes.alive
        assert two.service.silence(incident, 7200) is not None
        two.run(1)
        one.report(severity=Severity.CRITICAL)
        processes.run(7000, step=60)
        assert processes.reasons == ["new"]
        processes.run(300, step=60)
        assert processes.reasons == ["new", "raised"]

    def test_a_closed_one_is_over_even_if_it_came_back_before(self, processes: Processes, incident: str) -> None:
        one, two = processes.alive
        one.resolve(certain=True)
        processes.run(70)
        one.report()
        processes.run(70)
        (again,) = two.service.incidents()
        assert two.service.close_incident(again.fingerprint) is not None
        processes.run(20)
        assert processes.reasons == ["new", "resolved", "back", "resolved"]
        assert two.service.close_incident(again.id) is None

    def test_one_is_sent_again(self, processes: Processes, incident: str) -> None:
        _, two = processes.alive
        assert two.service.resend(incident) is not None
        processes.run(600)
        assert processes.reasons == ["new", "repeat"]


@pytest.mark.fault("A1")
class TestMessagesThatOvertakeEachOther:
    """A receiver that holds incidents open must not be left with one that another process ended."""

    @pytest.mark.parametrize(
        ("keeps_incidents", "severity", "received"),
        [
            (False, Severity.CRITICAL, ["resolved"]),
            (True, Severity.HIGH, ["resolved"]),
            (True, Severity.CRITICAL, ["resolved", "new", "resolved"]),
        ],
    )
    @pytest.mark.parametrize("killed", [False, True])
    def test_a_message_follows_the_end_only_where_a_critical_incident_would_go_unseen(
        self, killed: bool, keeps_incidents: bool, severity: Severity, received: list[str], tmp_path: Path
    ) -> None:
        """A receiver that keeps incidents ignores the end of one that it does not know."""
        processes = Processes()
        processes.inbox.keeps_incidents = keeps_incidents
        outbox = Outbox(tmp_path, wall_clock=processes.clock)
        one, two = processes.start(outbox=outbox), processes.start()
        processes.inbox.fails = TransientFault()
        one.report(severity=severity)
        one.run(20)
        processes.inbox.fails = None
        two.resolve(certain=True)
        two.run(1)
        assert processes.reasons == ["resolved"]
        if killed:
            outbox.close()
            processes.kill(one)
            processes.start(outbox=Outbox(tmp_path, wall_clock=processes.clock))
        processes.clock.advance(CATCH_UP_EVERY)
        processes.run(900)
        assert processes.reasons == received
        assert len({message.incident for message in processes.inbox.messages}) == 1
        assert Outbox(tmp_path).waiting() == []

    def test_a_living_process_sends_what_a_killed_one_could_not_before_the_end(self, tmp_path: Path) -> None:
        processes = Processes(DiskStore(tmp_path / "incidents", wall_clock=lambda: processes.clock.now))  # type: ignore[attr-defined]  # the local one
        outbox = Outbox(tmp_path, wall_clock=processes.clock)
        one = processes.start(outbox=outbox)
        processes.start(outbox=Outbox(tmp_path, wall_clock=processes.clock))
        one.report(severity=Severity.CRITICAL)
        one.service._dispatch()
        outbox.close()
        processes.kill(one)
        two = processes.alive[0]
        two.resolve(certain=True)
        processes.run(60)
        assert processes.reasons == ["new", "resolved"]
        assert Outbox(tmp_path).waiting() == []

    @pytest.mark.parametrize("learned", ["before", "after"])
    @pytest.mark.parametrize("took", [3.0, 8.0])
    def test_the_end_waits_a_while_for_a_message_that_is_under_way(self, took: float, learned: str) -> None:
        """Where that takes longer, the end is sent once more: which of the two came first is not known."""
        processes = Processes()
        one, two = processes.start(), processes.start()
        deliver = processes.inbox.deliver

        def slow(notification: Notification, *, timeout: float) -> None:
            processes.inbox.deliver = deliver  # type: ignore[method-assign]
            two.resolve(certain=True)
            two.run(took)
            if learned == "before":
                one.service._catch_up()
            deliver(notification, timeout=timeout)

        processes.inbox.deliver = slow  # type: ignore[method-assign]
        one.report(severity=Severity.CRITICAL)
        processes.run(60)
        if took < CONFIRMED_WITHIN:
            assert processes.reasons == ["new", "resolved"]
        else:
            assert processes.reasons == ["resolved", "new", "resolved"]
            assert processes.inbox.messages[-1].count == 0

    @pytest.mark.parametrize("ahead", [-3.0, 3.0])
    def test_clocks_that_differ_make_no_second_end(self, ahead: float) -> None:
        processes = Processes()
        one, two = processes.start(), processes.start()
        one.service._epoch += ahead
        one.report(severity=Severity.CRITICAL)
        processes.clock.advance(4.0)
        one.run(1)
        two.resolve(certain=True)
        two.run(1)
        processes.run(60)
        assert processes.reasons == ["new", "resolved"]

    def test_the_end_waits_for_each_channel(self) -> None:
        processes = Processes()
        chat = Inbox(processes.clock, "chat")
        processes.routes.append(Route(chat))
        one, two = processes.start(), processes.start()
        deliver = chat.deliver

        def slow(notification: Notification, *, timeout: float) -> None:
            chat.deliver = deliver  # type: ignore[method-assign]
            one.service._share()
            assert processes.reasons == ["new"]
            two.resolve(certain=True)
            two.run(3.0)
            deliver(notification, timeout=timeout)

        chat.deliver = slow  # type: ignore[method-assign]
        one.report(severity=Severity.CRITICAL)
        processes.run(60)
        assert [message.reason for message in chat.messages] == processes.reasons == ["new", "resolved"]

    def test_a_process_that_ends_waits_a_little(self) -> None:
        processes = Processes()
        one, two = processes.start(), processes.start()
        one.report(severity=Severity.CRITICAL)
        one.service._dispatch()
        two.resolve(certain=True)

        def sleep(seconds: float) -> None:
            processes.clock.sleep(seconds)
            for _ in range(2):  # the other one's sign of recovery came first, so it is written down again
                one.service.pump()

        two.service._sleep = sleep
        before = processes.clock.now
        processes.end(two)
        assert processes.reasons == ["new", "resolved"]
        assert processes.clock.now < before + CLOSE_WITHIN
        processes.run(60)
        assert processes.reasons == ["new", "resolved"]

    def test_a_process_that_ends_sends_it_all_the_same(self) -> None:
        processes = Processes()
        one, two = processes.start(), processes.start()
        one.report(severity=Severity.CRITICAL)
        one.service._dispatch()
        two.resolve(certain=True)
        processes.end(two)
        assert processes.reasons == ["resolved"]
        processes.run(60)
        assert processes.reasons == ["resolved", "new", "resolved"]


class SlowStore(MemoryStore):
    """Another process is faster, now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.between: list[World] = []

    def swap(self, fingerprint: str, record: dict[str, object], expected: str | None) -> Swap:
        if self.between:
            self.between.pop().service.pump()
        return super().swap(fingerprint, record, expected)


def test_of_two_that_judge_at_the_same_time_one_sends() -> None:
    store = SlowStore()
    processes = Processes(store)
    one, two = processes.start(), processes.start()
    for world in (one, two):
        world.report(severity=Severity.CRITICAL)
    store.between = [two]
    one.service.pump()
    assert processes.reasons == ["new"]
    processes.run(60)
    processes.clock.advance(5)
    one.resolve(certain=True)
    two.resolve(certain=True)
    store.between = [two]
    one.service.pump()
    processes.run(60)
    assert processes.reasons == ["new", "resolved"]
    assert processes.inbox.count == 2


class SharedIncidents(RuleBasedStateMachine):
    """Three processes that report, recover, die and are replaced in any order."""

    @initialize()
    def begin(self) -> None:
        steps = (EscalationStep(after=900.0), EscalationStep(returns=2))
        config = AlertConfig(service="catalogue", remember=4000.0, repeat_interval=2000.0, escalation=steps)
        self.store = SlowStore()
        self.processes = Processes(self.store, config)
        for _ in range(3):
            self.processes.start()

    def pick(self, number: int) -> World:
        return self.processes.alive[number]

    @rule(number=st.integers(0, 2), kind=st.sampled_from("ab"), severity=st.sampled_from(["HIGH", "CRITICAL"]))
    def report(self, number: int, kind: str, severity: str) -> None:
        self.pick(number).report(kind, Severity(severity))
        self.processes.clock.advance(0.01)

    @rule(number=st.integers(0, 2), kind=st.sampled_from("ab"), certain=st.booleans())
    def resolve(self, number: int, kind: str, certain: bool) -> None:
        self.pick(number).resolve(kind, certain=certain)
        self.processes.clock.advance(0.01)

    @rule(number=st.integers(0, 2))
    def one_works(self, number: int) -> None:
        self.pick(number).service.pump()
        self.processes.clock.advance(0.01)

    @rule(number=st.integers(0, 2), faster=st.integers(0, 2))
    def one_works_and_another_is_faster(self, number: int, faster: int) -> None:
        if number != faster:
            self.store.between = [self.pick(faster)]
        self.one_works(number)
        self.store.between = []

    @rule(seconds=st.sampled_from([1.0, 10.0, 70.0, 400.0, 1000.0]))
    def time_passes(self, seconds: float) -> None:
        self.processes.run(seconds, step=max(1.0, seconds / 20))

    @rule(number=st.integers(0, 2), killed=st.booleans())
    def one_is_replaced(self, number: int, killed: bool) -> None:
        world = self.pick(number)
        (self.processes.kill if killed else self.processes.end)(world)
        self.processes.start()

    def by_incident(self) -> dict[str, list[Notification]]:
        found: dict[str, list[Notification]] = {}
        for message in self.processes.inbox.messages:
            found.setdefault(message.incident, []).append(message)
        return found

    @invariant()
    def each_incident_is_opened_once_and_nothing_follows_its_end(self) -> None:
        for messages in self.by_incident().values():
            assert [message.id.rpartition("-")[2] for message in messages] == [
                str(number) for number in range(1, len(messages) + 1)
            ]
            assert [message.reason in {"new", "back"} for message in messages] == [True] + [False] * (len(messages) - 1)
            assert Status.RESOLVED not in [message.status for message in messages[:-1]]
            assert messages[-1].total == sum(message.count for message in messages)

    @invariant()
    def of_a_fingerprint_one_incident_is_open(self) -> None:
        open_ones = [messages[-1].fingerprint for messages in self.by_incident().values()
                     if messages[-1].status is Status.FIRING]  # fmt: skip
        assert len(open_ones) == len(set(open_ones))

    def teardown(self) -> None:
        if not hasattr(self, "processes"):
            return
        self.processes.clock.advance(1)
        for kind in "ab":
            self.pick(0).resolve(kind)
        self.processes.run(1500)
        self.processes.run(3600, step=60)  # what flaps is held open for up to an hour
        assert all(messages[-1].status is Status.RESOLVED for messages in self.by_incident().values())
        known = itertools.chain.from_iterable(world.service.incidents() for world in self.processes.alive)
        assert [each for each in known if each.phase is Phase.OPEN] == []


SharedIncidents.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestSharedIncidents = SharedIncidents.TestCase


@pytest.mark.parametrize("raised", [False, True], ids=["first message", "raised"])
def test_what_another_process_has_sent_does_not_wait_in_the_outbox_of_those_that_saw_it_too(
    tmp_path: Path, raised: bool
) -> None:
    """Each that sees an incident writes its message down, in case it is the only one that lives on."""
    processes = Processes()
    worlds = [processes.start(outbox=Outbox(tmp_path)) for _ in range(3)]
    for world in worlds:
        world.report(severity=Severity.HIGH)
    assert len(Outbox(tmp_path).waiting()) == 3
    processes.run(60)
    if raised:
        for world in worlds:
            world.report(severity=Severity.CRITICAL)
        assert Outbox(tmp_path).waiting()
    processes.run(2 * CATCH_UP_EVERY + 60)
    assert [message.reason for message in processes.inbox.messages] == ["new", "raised"][: 1 + raised]
    assert Outbox(tmp_path).waiting() == []
    processes.kill(worlds[0])
    processes.run(2 * CATCH_UP_EVERY)
    assert len(processes.inbox.messages) == 1 + raised
