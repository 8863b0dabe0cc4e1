"""Unobserved time, wrong clocks, and incidents that come and go."""

from __future__ import annotations

import math
from typing import Any

import pytest

from otel_resilience import Severity
from otel_resilience.alerting import AlertConfig, EscalationStep, MemoryStore, Phase, Silence, Status, fingerprint
from otel_resilience.alerting.service import GAP
from otel_resilience.testing import FakeClock
from support.alerting import EPOCH, World

HOUR = 3600.0
CONFIG = AlertConfig(escalation=(EscalationStep(after=HOUR),))
TROUBLE = fingerprint("trouble", "supplier")


def most_in_an_hour(world: World) -> int:
    times = world.inbox.times
    return max(sum(at - HOUR < other <= at for other in times) for at in times)


class TestFlapping:
    @pytest.mark.parametrize("period", [400, 420, 720, 900, 1250, 1500, 2400])
    @pytest.mark.parametrize("certain", [True, False])
    def test_sends_at_most_four_messages_an_hour(self, period: int, certain: bool) -> None:
        world = World(config=AlertConfig(escalation=()))
        for _ in range(int(6 * HOUR / period)):
            world.report()
            world.run(20)
            world.resolve(certain=certain)
            world.run(period - 20)
        assert most_in_an_hour(world) <= 4
        world.run(2 * HOUR)
        assert world.inbox.messages[-1].status is Status.RESOLVED, "it ends once it stays calm"
        assert world.inbox.count == int(6 * HOUR / period), "every occurrence is in a message"

    def test_in_jobs_that_run_one_after_another_counts_too(self) -> None:
        clock, store = FakeClock(EPOCH), MemoryStore()
        times: list[float] = []
        for number in range(30):
            world = World(config=AlertConfig(escalation=()), clock=clock, store=store)
            if number % 2:
                world.resolve(certain=True)
            else:
                world.report()
            world.run(10)
            world.service.close()
            times += world.inbox.times
            clock.advance(350)
        assert max(sum(at - HOUR < other <= at for other in times) for at in times) <= 4

    def test_does_not_hold_up_what_is_critical(self) -> None:
        world = World(config=AlertConfig(escalation=()))
        for _ in range(4):
            world.report(severity=Severity.CRITICAL)
            world.run(20)
            world.resolve()
            world.run(700)
        assert [message.status.value for message in world.messages()] == ["firing", "resolved"] * 4

    def test_does_not_hold_up_what_becomes_critical_while_it_waits(self) -> None:
        world = World(config=AlertConfig(escalation=()))
        for _ in range(2):
            world.report()
            world.run(20)
            world.service.close_incident(TROUBLE)
            world.run(100)
        assert len(world.messages()) == 4
        world.report()
        world.run(600)
        assert world.messages() == []
        world.report(severity=Severity.CRITICAL)
        world.run(60)
        assert [message.severity for message in world.messages()] == [Severity.CRITICAL]

    def test_a_person_who_closes_it_waits_for_nothing(self) -> None:
        world = World(config=AlertConfig(escalation=()))
        for _ in range(2):
            world.report()
            world.run(20)
            world.resolve(certain=True)
            world.run(300)
        world.report()
        world.run(70)
        world.messages()
        world.service.close_incident(TROUBLE)
        world.run()
        assert [message.status for message in world.messages()] == [Status.RESOLVED]


class TestAProcessThatStoodStill:
    def test_judges_nothing_at_its_first_look(self) -> None:
        world = World(config=CONFIG)
        world.report()
        world.run(60)
        world.messages()
        world.clock.advance(5 * HOUR)
        world.service.woke_up(5 * HOUR)
        world.run(60)
        assert world.messages() == []
        world.resolve(certain=True)
        world.run()
        assert [message.status for message in world.messages()] == [Status.RESOLVED]

    def test_escalates_what_goes_on_after_it(self) -> None:
        world = World(config=CONFIG)
        world.report()
        world.run(60)
        world.clock.advance(5 * HOUR)
        world.service.woke_up(5 * HOUR)
        world.messages()
        world.report()
        world.run(60)
        assert [message.reason for message in world.messages()] == ["escalated"]

    def test_does_not_expire_what_is_quiet(self) -> None:
        world = World(config=CONFIG)
        world.report(quiet_after=120.0)
        world.run(60)
        world.messages()
        world.clock.advance(HOUR)
        world.service.woke_up(HOUR)
        world.run(100)
        assert world.messages() == []
        world.run(30)
        assert [message.status for message in world.messages()] == [Status.RESOLVED]

    def test_a_short_pause_is_none(self) -> None:
        world = World(config=CONFIG)
        world.report()
        world.run(HOUR)
        world.service.woke_up(GAP - 1)
        world.run(60)
        assert [message.reason for message in world.messages()] == ["new", "escalated"]


class TestAClockThatWasAhead:
    def test_delays_no_later_message(self) -> None:
        store = MemoryStore()
        ahead = World(config=CONFIG, clock=FakeClock(EPOCH + HOUR), store=store)
        ahead.report()
        ahead.run(10)
        ahead.resolve(certain=True)
        ahead.run(10)
        ahead.service.close()
        right = World(config=CONFIG, clock=FakeClock(EPOCH), store=store)
        right.report(severity=Severity.CRITICAL)
        right.run(70)
        assert [message.severity for message in right.messages()] == [Severity.CRITICAL]

    def test_ends_what_is_over_and_repeats_in_time(self) -> None:
        store = MemoryStore()
        ahead = World(config=CONFIG, clock=FakeClock(EPOCH + 9 * HOUR), store=store)
        ahead.report()
        ahead.run(10)
        ahead.service.close()
        right = World(config=CONFIG, clock=FakeClock(EPOCH), store=store)
        incident = right.book.get(TROUBLE)
        assert incident is not None
        assert max(incident.first_seen, incident.last_seen, incident.last_notified_at) <= EPOCH
        right.resolve(certain=True)
        right.run(10)
        assert [message.status for message in right.messages()] == [Status.RESOLVED]

    def test_of_this_process_is_put_right(self) -> None:
        clock, wall = FakeClock(EPOCH), FakeClock(EPOCH + HOUR)
        world = World(config=AlertConfig(escalation=()), clock=clock)
        world.service._wall_clock = wall
        world.service._set_clock()
        assert world.service.now() == EPOCH + HOUR
        world.report()
        world.run(10)
        wall.now = clock.now
        world.service._set_clock()
        assert world.service.now() == clock.now
        incident = world.book.get(TROUBLE)
        assert incident is not None
        assert incident.last_notified_at <= clock.now

    @pytest.mark.parametrize("severity", [Severity.HIGH, Severity.CRITICAL])
    @pytest.mark.parametrize("shared", [True, False])
    def test_does_not_hold_up_a_first_message_that_waits_for_its_group(self, severity: Severity, shared: bool) -> None:
        """As where the clock is set at the start of a machine, a moment after something failed."""
        clock = FakeClock(EPOCH)
        store = MemoryStore() if shared else None
        world = World(config=AlertConfig(escalation=(), group_wait=30.0), clock=clock, store=store)
        world.service._wall_clock = lambda: clock.now + 9 * HOUR
        world.service._set_clock()
        world.report(severity=severity)
        world.service._share(everything=True)
        world.service._wall_clock = clock
        world.service._set_clock()
        world.run(70)
        assert [message.reason for message in world.messages()] == ["new"]

    def test_silences_for_as_long_as_was_asked_for(self) -> None:
        store = MemoryStore()
        ahead = World(config=AlertConfig(escalation=()), clock=FakeClock(EPOCH + 9 * HOUR), store=store)
        ahead.report()
        ahead.run(10)
        assert ahead.service.silence(TROUBLE, 600.0) is not None
        ahead.service.close()
        right = World(config=AlertConfig(escalation=()), clock=FakeClock(EPOCH), store=store)
        right.report(severity=Severity.CRITICAL)
        right.run(500)
        assert right.messages() == []
        right.service.close()
        later = World(config=AlertConfig(escalation=()), clock=FakeClock(EPOCH + 500), store=store)
        later.run(130)
        assert [message.reason for message in later.messages()] == ["raised"]

    def test_of_this_process_silences_for_as_long_as_was_asked_for(self) -> None:
        clock = FakeClock(EPOCH)
        world = World(config=AlertConfig(escalation=()), clock=clock)
        world.service._wall_clock = lambda: clock.now + 9 * HOUR
        world.service._set_clock()
        world.report()
        clock.now += 60
        world.run()
        assert [message.reason for message in world.messages()] == ["new"]
        assert world.service.silence(TROUBLE, 600.0) is not None
        world.service._wall_clock = clock
        world.report(severity=Severity.CRITICAL)
        world.run(500)
        assert world.messages() == []
        world.run(130)
        assert [message.reason for message in world.messages()] == ["raised"]


class TestASilence:
    @pytest.mark.parametrize("seconds", [0, -1, math.inf, math.nan, 1e12, "60", None, True])
    def test_that_cannot_be_kept_is_refused(self, seconds: Any) -> None:
        world = World(config=AlertConfig(escalation=()))
        world.report()
        world.run(30)
        with pytest.raises((TypeError, ValueError), match="seconds"):
            world.service.silence(TROUBLE, seconds)

    def test_of_an_open_incident_does_not_end_it(self) -> None:
        world = World(config=AlertConfig(escalation=()))
        world.report(quiet_after=60.0)
        world.run(30)
        world.messages()
        world.book.config = AlertConfig(escalation=(), silences=(Silence(kind="trouble"),))
        for _ in range(10):
            world.report(quiet_after=60.0)
            world.run(30)
        assert world.messages() == []
        incident = world.book.get(TROUBLE)
        assert incident is not None
        assert (incident.phase, incident.total) == (Phase.OPEN, 11)
        world.run(120)
        assert [(message.status, message.count) for message in world.messages()] == [(Status.RESOLVED, 10)]


class TestAnAcknowledgedIncident:
    def test_is_escalated_again_once_it_gets_worse(self) -> None:
        world = World(config=CONFIG)
        world.report(severity=Severity.MEDIUM)
        world.report()
        world.run(60)
        world.service.acknowledge(TROUBLE)
        world.run(6 * HOUR)
        assert [message.reason for message in world.messages()] == ["new"]
        world.report(severity=Severity.CRITICAL)
        world.run(5 * HOUR)
        assert [message.reason for message in world.messages()] == ["raised", "repeat"]
