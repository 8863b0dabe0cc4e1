"""How a notification reaches its channels: retried, in order, not too fast, and elsewhere if one is down."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest

from otel_resilience import CircuitBreakerConfig, RetryConfig, Severity
from otel_resilience.alerting import AlertConfig, DeliveryConfig, DiskStore, Outbox, Receipt, Route, Status
from otel_resilience.alerting.delivery.dispatch import DISABLED_KIND
from otel_resilience.testing import FakeClock
from support.alerting import EPOCH, Inbox, RefusedFault, RevokedFault, World
from support.notifications import notification
from support.resilience import ThrottledFault, TransientFault

PATIENT = DeliveryConfig(breaker=CircuitBreakerConfig(consecutive_failures=1000, minimum_calls=1000))
QUICK = AlertConfig(escalation=(), group_wait=0.0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(EPOCH)


def critical(world: World, *kinds: str) -> None:
    for kind in kinds:
        world.report(kind, Severity.CRITICAL)


class TestOneChannel:
    def test_a_transient_failure_is_repeated(self) -> None:
        world = World()
        world.inbox.next_outcomes = [TransientFault(), TransientFault()]
        critical(world, "a")
        world.run(5)
        assert len(world.inbox.tried) == 3
        assert [m.kind for m in world.messages()] == ["a"]

    def test_one_that_was_given_up_is_tried_again_later_and_less_and_less_often(self) -> None:
        world = World(delivery=DeliveryConfig(retry=RetryConfig(max_attempts=1), first_pause=15, longest_pause=100,
                                              breaker=PATIENT.breaker))  # fmt: skip
        world.inbox.fails = TransientFault()
        critical(world, "a")
        world.run(1000)
        times = [at - EPOCH for at, _ in world.inbox.tried]
        assert times[:7] == [0, 15, 45, 105, 205, 305, 405]
        world.inbox.fails = None
        world.run(100)
        assert [m.kind for m in world.messages()] == ["a"]

    def test_while_its_circuit_is_open_it_is_left_alone(self) -> None:
        config = DeliveryConfig(breaker=CircuitBreakerConfig(consecutive_failures=2, reset_timeout=60.0))
        world = World(delivery=config)
        world.inbox.fails = TransientFault()
        critical(world, "a", "b", "c")
        world.run(30)
        assert len(world.inbox.tried) == 2
        world.inbox.fails = None
        world.run(90)
        assert [m.kind for m in world.messages()] == ["a", "b", "c"]

    def test_order_is_kept_when_one_fails(self) -> None:
        world = World(delivery=PATIENT)
        world.inbox.next_outcomes = [TransientFault()] * 4
        critical(world, *"abcd")
        world.run(100)
        assert [m.kind for m in world.messages()] == list("abcd")

    def test_no_message_is_sooner_after_another_than_the_channel_wants(self, clock: FakeClock) -> None:
        inbox = Inbox(clock, min_interval=1.0)
        inbox.next_outcomes = [None, TransientFault(), TransientFault(), None, TransientFault()]
        world = World([Route(inbox)], clock=clock, delivery=PATIENT)
        critical(world, *"abcdef")
        world.run(60)
        times = [at for at, _ in inbox.tried]
        assert len(times) == 9
        assert all(later - earlier >= 1.0 for earlier, later in itertools.pairwise(times))

    def test_no_more_than_so_many_messages_leave_in_any_minute(self, clock: FakeClock) -> None:
        inbox = Inbox(clock)
        world = World([Route(inbox)], clock=clock, delivery=DeliveryConfig(per_minute=10))
        critical(world, *(f"kind {number}" for number in range(35)))
        world.run(59.9)
        assert len(inbox.messages) == 10
        world.run(200)
        assert len(inbox.messages) == 35
        times = inbox.times
        assert all(times[at + 10] - times[at] >= 60.0 for at in range(25))

    def test_what_waits_together_leaves_together(self, clock: FakeClock) -> None:
        inbox = Inbox(clock, min_interval=1.0, coalesce_from=2)
        world = World([Route(inbox)], clock=clock)
        critical(world, "a")
        world.run()
        critical(world, *"bcd")
        world.run(1)
        first, rest = inbox.messages
        assert (first.kind, rest.kind, rest.count) == ("a", "digest", 3)
        assert len(rest.merged) == 3

    def test_a_queue_that_is_full_becomes_shorter_without_losing_anything(self) -> None:
        world = World(delivery=DeliveryConfig(max_queue=10, breaker=PATIENT.breaker))
        world.inbox.fails = TransientFault()
        critical(world, *(f"kind {number}" for number in range(50)))
        world.run(10)
        assert world.service.queue_sizes() == {"inbox": 10}
        world.inbox.fails = None
        world.run(100)
        assert world.inbox.count == 50
        assert [m.kind for m in world.messages()][1:] == [f"kind {number}" for number in range(41, 50)]


class TestThrottling:
    """F47."""

    @pytest.mark.fault("F47")
    def test_the_wait_that_was_asked_for_is_kept_and_what_came_meanwhile_leaves_as_one(self, clock: FakeClock) -> None:
        inbox = Inbox(clock, min_interval=1.0, coalesce_from=2)
        inbox.next_outcomes = [ThrottledFault(retry_after=30.0)]
        world = World([Route(inbox)], clock=clock)
        critical(world, "a")
        world.clock.sleep = lambda seconds: critical_while_asleep(world, seconds)  # type: ignore[method-assign]
        worker = world.service._dispatcher.workers["inbox"]
        worker.policy.sleep = world.clock.sleep
        world.run(60)
        assert inbox.times[0] - EPOCH >= 30.0
        assert all(later - earlier >= 1.0 for earlier, later in itertools.pairwise(inbox.times))
        first, rest = inbox.messages
        assert (first.kind, len(rest.merged), rest.count) == ("a", 4, 4)
        assert world.service.queue_sizes() == {"inbox": 0}

    def test_a_wait_that_is_too_long_sends_it_elsewhere_meanwhile(self, clock: FakeClock) -> None:
        slow, other = Inbox(clock, "slow"), Inbox(clock, "other")
        slow.next_outcomes = [ThrottledFault(retry_after=200.0)]
        world = World([Route(slow), Route(other, fallback=True)], clock=clock)
        critical(world, "a")
        world.run(199)
        assert [m.kind for m in other.messages] == ["a"]
        assert slow.messages == []
        world.run(1)
        assert [m.kind for m in slow.messages] == ["a"]


def critical_while_asleep(world: World, seconds: float) -> None:
    world.clock.advance(seconds)
    critical(world, *"bcde")
    world.service._dispatch()


class TestSeveralChannels:
    def test_severity_decides_who_gets_what(self, clock: FakeClock) -> None:
        chat, pager, low = Inbox(clock, "chat"), Inbox(clock, "pager"), Inbox(clock, "low")
        routes = [
            Route(chat),
            Route(pager, lowest=Severity.CRITICAL),
            Route(low, only=frozenset({Severity.MEDIUM})),
        ]
        world = World(routes, AlertConfig(min_severity=Severity.MEDIUM, group_wait=0), clock=clock)
        for severity in (Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL):
            world.report(severity.value, severity)
        world.run()
        assert {m.kind for m in chat.messages} == {"MEDIUM", "HIGH", "CRITICAL"}
        assert [m.kind for m in pager.messages] == ["CRITICAL"]
        assert [m.kind for m in low.messages] == ["MEDIUM"]

    def test_an_escalation_goes_to_its_further_channels(self, clock: FakeClock) -> None:
        chat, boss = Inbox(clock, "chat"), Inbox(clock, "boss")
        world = World([Route(chat), Route(boss, fallback=True)], clock=clock)
        world.service.send(notification(further_channels=("boss",)))
        world.run()
        assert (len(chat.messages), len(boss.messages)) == (1, 1)

    def test_a_message_for_certain_channels_goes_nowhere_else(self, clock: FakeClock) -> None:
        chat, pager = Inbox(clock, "chat"), Inbox(clock, "pager")
        pager.fails = RefusedFault()
        world = World([Route(chat), Route(pager)], clock=clock)
        world.service.send(notification(channels=("pager",), reason="test"))
        world.run(100)
        assert chat.messages == []

    def test_one_that_is_down_keeps_what_the_others_took(self, clock: FakeClock) -> None:
        chat, pager = Inbox(clock, "chat"), Inbox(clock, "pager")
        pager.fails = TransientFault()
        world = World([Route(chat), Route(pager)], clock=clock)
        critical(world, "a")
        world.run(60)
        assert ([m.kind for m in chat.messages], pager.messages) == (["a"], [])
        pager.fails = None
        world.run(60)
        assert [m.kind for m in pager.messages] == ["a"]
        assert len(chat.messages) == 1

    def test_each_name_stands_for_one_channel(self, clock: FakeClock) -> None:
        with pytest.raises(ValueError, match="must be unique"):
            World([Route(Inbox(clock)), Route(Inbox(clock))], clock=clock)


class TestFallback:
    """F46."""

    @pytest.fixture
    def down(self, clock: FakeClock) -> Inbox:
        down = Inbox(clock, "down")
        down.fails = TransientFault()
        return down

    @pytest.fixture
    def fallback(self, clock: FakeClock) -> Inbox:
        return Inbox(clock, "fallback")

    @pytest.fixture
    def world(self, clock: FakeClock, down: Inbox, fallback: Inbox) -> World:
        return World([Route(down), Route(fallback, fallback=True)], QUICK, clock=clock)

    def test_gets_nothing_while_all_is_well(self, world: World, down: Inbox, fallback: Inbox) -> None:
        down.fails = None
        critical(world, "a")
        world.run(100)
        assert (len(down.messages), fallback.messages) == (1, [])

    @pytest.mark.fault("F46")
    def test_takes_over_once_and_the_channel_gets_it_after_its_recovery(
        self, world: World, down: Inbox, fallback: Inbox
    ) -> None:
        critical(world, "a")
        world.run(10)
        assert [m.kind for m in fallback.messages] == ["a"]
        world.run(600)
        assert len(fallback.messages) == 1
        down.fails = None
        world.run(300)
        assert [m.kind for m in down.messages] == ["a"]
        assert world.service.dead_letter_count() == 0

    def test_where_it_is_down_too_either_one_takes_it_first(self, world: World, down: Inbox, fallback: Inbox) -> None:
        fallback.fails = TransientFault()
        critical(world, "a")
        world.run(200)
        assert (down.messages, fallback.messages) == ([], [])
        fallback.fails = None
        world.run(700)
        assert ([m.kind for m in fallback.messages], down.messages) == (["a"], [])

    def test_the_end_is_notified_where_the_beginning_was(self, clock: FakeClock) -> None:
        down, keeper = Inbox(clock, "down"), Inbox(clock, "keeper", keeps_incidents=True)
        down.fails = TransientFault()
        world = World([Route(down), Route(keeper, fallback=True)], QUICK, clock=clock)
        critical(world, "a")
        world.run(10)
        down.fails = None
        world.run(600)
        world.resolve("a", certain=True)
        world.run(10)
        assert [m.status.value for m in keeper.messages] == ["firing", "resolved"]
        assert [m.status.value for m in down.messages] == ["firing", "resolved"]

    def test_another_channel_takes_over_where_there_is_no_fallback(self, clock: FakeClock) -> None:
        down, pager = Inbox(clock, "down"), Inbox(clock, "pager")
        down.fails = TransientFault()
        world = World([Route(down), Route(pager, lowest=Severity.CRITICAL)], QUICK, clock=clock)
        world.report()
        world.run(10)
        assert [m.severity for m in pager.messages] == [Severity.HIGH]


class TestTheEndWhileAChannelIsDown:
    """F56."""

    @pytest.mark.fault("F56")
    def test_is_one_message_with_the_duration_and_all_occurrences(self) -> None:
        world = World(config=QUICK)
        world.inbox.fails = TransientFault()
        critical(world, "a")
        world.run(1)
        for _ in range(20):
            critical(world, "a")
        world.run(100)
        world.resolve("a", certain=True)
        world.run(50)
        world.inbox.fails = None
        world.run(600)
        (message,) = world.messages()
        assert (message.status, message.duration, message.count, message.total) == (Status.RESOLVED, 101.0, 21, 21)
        assert world.service._dispatcher._ledger._tracked == {}

    def test_even_if_it_comes_while_the_beginning_is_on_its_way(self, tmp_path: Path) -> None:
        world = World(config=QUICK, outbox=Outbox(tmp_path))
        critical(world, "a")
        world.inbox.fails = TransientFault()
        world.clock.sleep = lambda seconds: end_while_asleep(world, seconds)  # type: ignore[method-assign]
        world.service._dispatcher.workers["inbox"].policy.sleep = world.clock.sleep
        world.run(1)
        world.inbox.fails = None
        world.run(60)
        assert [(m.status.value, m.count) for m in world.messages()] == [("resolved", 1)]
        assert Outbox(tmp_path).waiting() == []

    @pytest.mark.parametrize("asleep", [False, True])
    def test_does_not_stand_for_a_critical_message_at_a_receiver_that_keeps_incidents(self, asleep: bool) -> None:
        """It would ignore the end of one that it does not know, and no one would see it."""
        world = World(config=QUICK)
        world.inbox.keeps_incidents = True
        world.inbox.fails = TransientFault()
        critical(world, "a")
        if asleep:
            world.clock.sleep = lambda seconds: end_while_asleep(world, seconds)  # type: ignore[method-assign]
            world.service._dispatcher.workers["inbox"].policy.sleep = world.clock.sleep
        world.run(1)
        if not asleep:
            world.resolve("a", certain=True)
        world.run(50)
        world.inbox.fails = None
        world.run(600)
        assert [(m.reason, m.count) for m in world.messages()] == [("new", 1), ("resolved", 0)]
        assert world.service._dispatcher._ledger._tracked == {}


def end_while_asleep(world: World, seconds: float) -> None:
    world.clock.advance(seconds)
    world.resolve("a", certain=True)
    world.service._dispatch()


class TestRevocation:
    """F48."""

    @pytest.mark.parametrize("status", ["401", "403", "404", "410"])
    @pytest.mark.fault("F48")
    def test_disables_the_channel_and_says_so_elsewhere(self, clock: FakeClock, status: str) -> None:
        gone, fallback = Inbox(clock, "gone"), Inbox(clock, "fallback")
        gone.fails = RevokedFault(error_type=status)
        world = World([Route(gone), Route(fallback, fallback=True)], QUICK, clock=clock)
        critical(world, "a")
        world.run(10)
        assert len(gone.tried) == 1
        assert sorted(m.kind for m in fallback.messages) == ["a", DISABLED_KIND]
        assert [m.error_type for m in fallback.messages if m.kind == DISABLED_KIND] == [status]
        assert world.service.revoked() == ["gone"]
        critical(world, "b")
        world.run(10)
        assert len(gone.tried) == 2, "a critical one is tried all the same"
        assert [m.kind for m in fallback.messages][2:] == ["b"]

    def test_what_is_queued_there_goes_elsewhere(self, clock: FakeClock) -> None:
        gone, fallback = Inbox(clock, "gone", min_interval=1.0), Inbox(clock, "fallback")
        gone.next_outcomes = [None]
        gone.fails = RevokedFault()
        world = World([Route(gone), Route(fallback, fallback=True)], QUICK, clock=clock)
        critical(world, *"abc")
        world.run(10)
        assert [m.kind for m in gone.messages] == ["a"]
        assert {m.kind for m in fallback.messages} == {"b", "c", DISABLED_KIND}

    def test_of_the_only_channel_makes_dead_letters(self, tmp_path: Path) -> None:
        world = World(config=QUICK, outbox=Outbox(tmp_path))
        world.inbox.fails = RevokedFault()
        critical(world, "a")
        world.run(10)
        assert {letter["kind"] for letter in Outbox(tmp_path).dead_letters()} == {"a", DISABLED_KIND}
        assert world.service.dead_letter_count() == 2
        assert Outbox(tmp_path).waiting() == []

    def test_is_over_when_the_channel_takes_something_again(self, clock: FakeClock, tmp_path: Path) -> None:
        gone, fallback = Inbox(clock, "gone"), Inbox(clock, "fallback")
        gone.fails = RevokedFault()
        routes = [Route(gone), Route(fallback, fallback=True)]
        world = World(routes, QUICK, clock=clock, store=DiskStore(tmp_path))
        critical(world, "a")
        world.run(10)
        world.service.close()
        gone.fails = None
        world = World(routes, QUICK, clock=clock, store=DiskStore(tmp_path))
        critical(world, "b")
        world.run(10)
        assert [(m.kind, m.status.value) for m in gone.messages] == [("b", "firing"), (DISABLED_KIND, "resolved")]


class TestUndeliverable:
    def test_is_a_dead_letter(self, clock: FakeClock, tmp_path: Path) -> None:
        one, two = Inbox(clock, "one"), Inbox(clock, "two")
        one.fails = two.fails = RefusedFault()
        world = World([Route(one), Route(two, fallback=True)], QUICK, clock=clock, outbox=Outbox(tmp_path))
        critical(world, "a")
        world.run(100)
        (letter,) = Outbox(tmp_path).dead_letters()
        assert (letter["kind"], letter["reason"]) == ("a", "400")
        assert (len(one.tried), len(two.tried)) == (1, 1)
        assert world.service.dead_letter_count() == 1

    def test_even_if_no_channel_is_there_for_it(self, clock: FakeClock, tmp_path: Path) -> None:
        world = World([], QUICK, clock=clock, outbox=Outbox(tmp_path))
        critical(world, "a")
        world.run(1)
        assert [letter["kind"] for letter in Outbox(tmp_path).dead_letters()] == ["a"]

    def test_what_one_refused_for_good_waits_for_the_other(self, clock: FakeClock) -> None:
        one, two = Inbox(clock, "one"), Inbox(clock, "two")
        one.fails, two.fails = RefusedFault(), TransientFault()
        world = World([Route(one), Route(two)], QUICK, clock=clock)
        critical(world, "a")
        world.run(300)
        two.fails = None
        world.run(300)
        assert (len(one.tried), [m.kind for m in two.messages]) == (1, ["a"])
        assert world.service.dead_letter_count() == 0


class TestReceipts:
    def test_report_every_confirmation_and_failure(self, clock: FakeClock) -> None:
        receipts: list[Receipt] = []
        down, fallback = Inbox(clock, "down"), Inbox(clock, "fallback")
        down.fails = TransientFault()
        world = World([Route(down), Route(fallback, fallback=True)], QUICK, clock=clock, on_receipt=receipts.append)
        critical(world, "a")
        world.run(200)
        down.fails = None
        world.run(300)
        told = [(each.channel, each.delivered, each.error_type) for each in receipts]
        assert told == [("down", False, "503"), ("fallback", True, None), ("down", True, None)]
        assert [each.notification.kind for each in receipts] == ["a"] * 3
        incident = world.book.get(receipts[0].notification.fingerprint)
        assert incident is not None
        assert [each["channel"] for each in incident.deliveries] == ["fallback", "down"]
        assert round(receipts[2].seconds, 3) == incident.deliveries[1]["seconds"] > 200

    def test_a_receiver_that_breaks_does_no_harm(self) -> None:
        def broken(_: Receipt) -> None:
            raise RuntimeError("broken")

        world = World(on_receipt=broken)
        critical(world, "a", "b")
        world.run(1)
        assert len(world.messages()) == 2

    def test_each_message_in_a_digest_has_its_own(self, clock: FakeClock) -> None:
        receipts: list[Receipt] = []
        inboxes = [Inbox(clock, name, min_interval=1.0, coalesce_from=2) for name in ("one", "two")]
        world = World([Route(each) for each in inboxes], QUICK, clock=clock, on_receipt=receipts.append)
        critical(world, "x")
        world.run()
        critical(world, *"abc")
        world.run(10)
        for inbox in inboxes:
            mine = [each.notification.kind for each in receipts if each.channel == inbox.name]
            assert mine == ["x", "a", "b", "c"]
            assert len(inbox.messages) == 2
        assert world.service._dispatcher._ledger._tracked == {}
        assert world.service._dispatcher._ledger._merged == {}


def test_a_later_message_about_an_incident_can_join_an_earlier_one(clock: FakeClock) -> None:
    inbox = Inbox(clock, min_interval=1.0, coalesce_from=2)
    world = World([Route(inbox)], QUICK, clock=clock)
    one = notification(id="one-1", incident="one", count=3, total=3)
    world.service.send(notification(id="zero-1", incident="zero"))
    world.run()
    world.service.send(one)
    world.service.send(dataclasses.replace(one, id="one-2", count=4, total=7))
    world.run(5)
    assert [(m.incident, m.count, m.total) for m in inbox.messages] == [("zero", 1, 1), ("one", 7, 7)]
