"""When people are notified of an incident, again, by escalation, or not at all."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from otel_resilience import Severity
from otel_resilience.alerting import (
    AlertConfig,
    DiskStore,
    EscalationStep,
    Inhibition,
    Phase,
    Silence,
    Status,
    fingerprint,
)
from otel_resilience.alerting.model.alert import rfc3339
from otel_resilience.alerting.model.book import OVERFLOW_KIND, IncidentBook
from otel_resilience.alerting.model.incident import Incident
from otel_resilience.alerting.model.observed import MAX_ERROR_TYPES
from otel_resilience.testing import FakeClock
from support.alerting import EPOCH, World, alert

CONFIG = AlertConfig(escalation=())
TROUBLE = fingerprint("trouble", "supplier")
CAUSE_AND_CONSEQUENCE = AlertConfig(
    escalation=(), inhibitions=(Inhibition(frozenset({"outage"}), frozenset({"sync_failed", "errors"})),)
)


@pytest.fixture
def world() -> World:
    return World(config=CONFIG)


class TestTheFirstMessage:
    def test_waits_for_others_to_group_with(self, world: World) -> None:
        for _ in range(4):
            world.report()
        world.run(4.9)
        assert world.messages() == []
        world.run(0.1)
        (message,) = world.messages()
        assert (message.reason, message.count, message.total) == ("new", 4, 4)

    def test_goes_at_once_where_it_is_critical(self, world: World) -> None:
        world.report(severity=Severity.CRITICAL)
        world.run()
        assert [message.severity for message in world.messages()] == [Severity.CRITICAL]

    def test_goes_at_once_where_the_alert_says_so(self, world: World) -> None:
        world.report()
        world.report(at_once=True)
        world.run()
        assert [message.count for message in world.messages()] == [2]

    def test_a_critical_one_does_not_wait_for_the_group_that_it_joins(self, world: World) -> None:
        world.report()
        world.run(1)
        world.report(severity=Severity.CRITICAL, title="worse")
        world.run()
        (message,) = world.messages()
        assert (message.severity, message.title, message.count) == (Severity.CRITICAL, "worse", 2)

    def test_shows_the_first_alert_with_its_cause_and_time(self, world: World) -> None:
        world.report(correlation_id="a" * 32, error_type="503")
        world.clock.advance(2)
        world.report(correlation_id="b" * 32, error_type="timeout")
        world.run(10)
        (message,) = world.messages()
        assert (message.correlation_id, message.first_seen, message.last_seen) == ("a" * 32, EPOCH, EPOCH + 2)
        assert message.caused_at == EPOCH
        assert message.error_types == {"503": 1, "timeout": 1}
        assert "2 times in 2 s, 2 error types." in message.summary

    def test_below_the_least_severity_there_is_none(self, world: World) -> None:
        world.report(severity=Severity.MEDIUM)
        world.run(1000)
        assert world.messages() == []
        assert len(world.book) == 0


class TestTheThreshold:
    def test_counts_within_its_window(self, world: World) -> None:
        for _ in range(4):
            world.report(threshold=5, window=60.0)
            world.run(16)
        world.report(threshold=5, window=60.0)  # the first is 64 s ago
        world.run(30)
        assert world.messages() == []
        for _ in range(3):
            world.report(threshold=5, window=60.0)
        world.run(10)
        (message,) = world.messages()
        assert (message.count, message.total) == (5, 5)

    def test_what_lies_before_the_window_is_not_part_of_the_incident(self, world: World) -> None:
        for _ in range(30):
            world.report(threshold=3, window=60.0, error_type="503")
            world.run(50)
        began = world.service.now()
        for _ in range(2):
            world.report(threshold=3, window=60.0, error_type="timeout")
        world.run(10)
        (message,) = world.messages()
        assert message.error_types == {"503": 1, "timeout": 2}
        assert message.total == 3
        assert message.first_seen == began - 50
        world.run(10)
        assert world.messages() == []

    def test_a_sign_of_recovery_restarts_the_count(self, world: World) -> None:
        for _ in range(2):
            world.report(threshold=3, window=1e6)
        world.resolve()
        for _ in range(2):
            world.report(threshold=3, window=1e6)
        world.run(100)
        assert world.messages() == []


class TestFurtherMessages:
    def test_a_repetition_is_none(self, world: World) -> None:
        for _ in range(200):
            world.report()
            world.run(4)
        assert [message.count for message in world.messages()] == [2]

    def test_a_rise_to_critical_is_notified_at_once(self, world: World) -> None:
        world.report()
        world.run(6)
        world.report(severity=Severity.CRITICAL)
        world.run()
        assert [(m.reason, m.severity, m.count) for m in world.messages()] == [
            ("new", Severity.HIGH, 1),
            ("raised", Severity.CRITICAL, 1),
        ]

    def test_any_other_rise_waits_for_the_rate_limit(self) -> None:
        world = World(config=AlertConfig(escalation=(), min_severity=Severity.MEDIUM))
        world.report(severity=Severity.MEDIUM)
        world.run(10)
        world.report(severity=Severity.HIGH)
        world.run(54.9)
        assert [m.reason for m in world.messages()] == ["new"]
        world.run(0.1)
        assert [(m.reason, m.severity) for m in world.messages()] == [("raised", Severity.HIGH)]

    def test_a_first_message_that_could_not_wait_is_followed_by_one_with_the_rest(self, world: World) -> None:
        for _ in range(412):
            world.report(severity=Severity.CRITICAL)
            world.run(0.1)
        world.run(60)
        told = world.messages()
        assert [(m.reason, m.count) for m in told] == [("new", 1), ("more", 411)]
        assert told[1].total == 412
        world.run(3600)
        assert world.messages() == []

    def test_an_ongoing_one_is_notified_again_after_a_long_time(self, world: World) -> None:
        world.report()
        world.run(5 + CONFIG.repeat_interval)
        assert [m.reason for m in world.messages()] == ["new", "repeat"]
        world.run(CONFIG.repeat_interval)
        assert [(m.reason, m.count) for m in world.messages()] == [("repeat", 0)]

    def test_a_message_has_the_latest_correlation_id(self, world: World) -> None:
        world.report(correlation_id="a" * 32, span_id="1" * 16)
        world.run(6)
        world.report(correlation_id="b" * 32, span_id="2" * 16, severity=Severity.CRITICAL)
        world.run()
        assert [(m.correlation_id, m.span_id) for m in world.messages()] == [
            ("a" * 32, "1" * 16),
            ("b" * 32, "2" * 16),
        ]


class TestTheEnd:
    def test_is_notified_once_it_was_calm_for_long_enough_with_the_duration(self, world: World) -> None:
        world.report()
        world.run(65)
        world.messages()
        world.resolve()
        world.run(CONFIG.keep_firing - 0.1)
        assert world.messages() == []
        world.run(0.1)
        (message,) = world.messages()
        assert (message.status, message.reason, message.count) == (Status.RESOLVED, "resolved", 0)
        assert message.duration == 65
        assert message.to_json()["duration_s"] == 65
        assert "Resolved after 65 s." in message.summary

    @pytest.mark.fault("F55")
    def test_flapping_is_one_incident(self, world: World) -> None:
        for _ in range(20):
            world.report()
            world.run(20)
            world.resolve()
            world.run(20)
        assert [m.status for m in world.messages()] == [Status.FIRING]
        world.run(CONFIG.keep_firing)
        (message,) = world.messages()
        assert (message.status, message.count, message.total) == (Status.RESOLVED, 19, 20)

    def test_carries_what_was_not_reported_before(self, world: World) -> None:
        world.report()
        world.run(5)
        for _ in range(7):
            world.report()
        world.resolve(certain=True)
        world.run()
        assert [m.count for m in world.messages()] == [1, 7]

    def test_a_certain_one_is_at_once(self, world: World) -> None:
        world.report()
        world.run(30)
        world.resolve(certain=True)
        world.run()
        assert [m.status for m in world.messages()] == [Status.FIRING, Status.RESOLVED]

    def test_a_certain_one_is_believed_only_the_first_time(self, world: World) -> None:
        for _ in range(2):
            world.report()
            world.run(70)
            world.resolve(certain=True)
            world.run()
        assert [m.status.value for m in world.messages()] == ["firing", "resolved", "firing"]
        world.run(3600)
        assert [m.status.value for m in world.messages()] == ["resolved"]

    def test_comes_by_itself_where_silence_means_that(self, world: World) -> None:
        world.report(quiet_after=120.0)
        world.run(60)
        world.report(quiet_after=120.0)
        world.run(119.9)
        assert [m.status for m in world.messages()] == [Status.FIRING]
        world.run(0.1)
        (message,) = world.messages()
        assert message.status is Status.RESOLVED
        assert message.duration == 60  # the trouble, without the silence after it

    def test_does_not_come_by_itself_elsewhere(self, world: World) -> None:
        world.report()
        world.run(CONFIG.repeat_interval - 1)
        assert len(world.messages()) == 1
        assert world.book.get(TROUBLE) is not None

    def test_without_a_beginning_is_nothing(self, world: World) -> None:
        world.resolve()
        world.run(1000)
        assert world.messages() == []


class TestWithinTheGroupWait:
    @pytest.mark.fault("F56")
    def test_what_ends_before_it_was_notified_is_not_notified(self, world: World) -> None:
        world.report()
        world.run(4)
        world.resolve()
        world.run(3600)
        assert world.messages() == []

    def test_what_flaps_within_it_is_notified(self, world: World) -> None:
        world.report()
        world.run(3)
        world.resolve()
        world.run(30)
        world.report()
        world.run()
        assert [(m.reason, m.count) for m in world.messages()] == [("new", 1)]

    def test_a_certain_end_forgets_it(self, world: World) -> None:
        world.report()
        world.resolve(certain=True)
        world.report()
        world.run(4.9)
        assert world.messages() == []

    def test_a_cancelled_return_does_not_forget_when_it_was_notified_last(self, world: World) -> None:
        world.report()
        world.run(70)
        world.resolve(certain=True)
        world.run()
        over = world.service.now()
        world.messages()
        world.report()
        world.run(5)
        world.resolve(certain=True)
        world.report(severity=Severity.CRITICAL)
        world.run(100)
        (message,) = world.messages()
        assert message.reason == "back"
        assert world.inbox.times[-1] == over + CONFIG.rate_limit


class TestComingBack:
    def test_is_another_incident_with_the_same_fingerprint(self, world: World) -> None:
        for _ in range(2):
            world.report()
            world.run(100)
            world.resolve()
            world.run(3600)
        first, _, second, _ = world.messages()
        assert first.fingerprint == second.fingerprint
        assert first.incident != second.incident
        assert second.reason == "back"
        assert "Reopened (1st time)." in second.summary

    def test_waits_for_the_rate_limit_even_if_it_is_critical(self, world: World) -> None:
        world.report(severity=Severity.CRITICAL)
        world.run(10)
        world.resolve(certain=True)
        world.run()
        over = world.service.now()
        world.report(severity=Severity.CRITICAL)
        world.run(200)
        assert [m.reason for m in world.messages()] == ["new", "resolved", "back"]
        assert world.inbox.times[-1] == over + CONFIG.rate_limit

    def test_is_noticed_for_a_day(self, world: World) -> None:
        world.report()
        world.run(10)
        world.resolve(certain=True)
        world.run(CONFIG.remember + 20)
        assert len(world.book) == 0
        world.report()
        world.run(10)
        assert [m.reason for m in world.messages()] == ["new", "resolved", "new"]


class TestEscalation:
    def test_an_ongoing_incident_is_escalated_to_further_channels(self) -> None:
        steps = (
            EscalationStep(after=600.0, severity=Severity.CRITICAL, channels=("pager",)),
            EscalationStep(after=1200.0, channels=("boss", "pager")),
        )
        world = World(config=AlertConfig(escalation=steps))
        world.report()
        world.run(599)
        world.messages()
        world.run(1)
        (message,) = world.messages()
        assert (message.reason, message.severity, message.escalation) == ("escalated", Severity.CRITICAL, 1)
        assert message.further_channels == ("pager",)
        world.run(600)
        (message,) = world.messages()
        assert (message.escalation, message.further_channels) == (2, ("pager", "boss"))
        world.resolve(certain=True)
        world.run()
        (message,) = world.messages()
        assert (message.severity, message.further_channels) == (Severity.CRITICAL, ("pager", "boss"))

    def test_each_step_is_kept_with_its_time_and_what_it_changed(self) -> None:
        steps = (
            EscalationStep(after=600.0, severity=Severity.CRITICAL),
            EscalationStep(after=900.0, channels=("boss",)),
        )
        world = World(config=AlertConfig(escalation=steps))
        world.report()
        world.run(1000)
        (incident,) = world.service.incidents()
        assert incident.escalations == [
            {"at": rfc3339(EPOCH + 600), "severity": "CRITICAL", "channels": []},
            {"at": rfc3339(EPOCH + 900), "severity": "CRITICAL", "channels": ["boss"]},
        ]
        stored = json.loads(json.dumps(incident.dump()))
        assert Incident.load(stored).escalations == incident.escalations
        del stored["escalations"]  # an earlier version wrote it
        assert Incident.load(stored).escalations == []

    def test_a_step_that_changes_nothing_is_not_notified(self) -> None:
        world = World(config=AlertConfig(escalation=(EscalationStep(after=600.0),)))
        world.report(severity=Severity.CRITICAL)
        world.run(1000)
        assert [m.reason for m in world.messages()] == ["new"]

    def test_one_that_is_reopened_often_starts_escalated_in_one_message(self) -> None:
        world = World(config=AlertConfig(escalation=(EscalationStep(returns=2, channels=("boss",)),)))
        for _ in range(3):
            world.report()
            world.run(100)
            world.resolve()
            world.run(3600)
        told = [(m.reason, m.severity, m.escalation, m.further_channels) for m in world.messages()]
        assert told[::2] == [
            ("new", Severity.HIGH, 0, ()),
            ("back", Severity.HIGH, 0, ()),
            ("back", Severity.CRITICAL, 1, ("boss",)),
        ]
        assert [each[0] for each in told[1::2]] == ["resolved"] * 3

    def test_is_not_within_the_rate_limit(self) -> None:
        world = World(config=AlertConfig(escalation=(EscalationStep(after=10.0),)))
        world.report()
        world.run(200)
        assert [m.reason for m in world.messages()] == ["new", "escalated"]
        assert world.inbox.times == [EPOCH + 5, EPOCH + 65]


class TestInhibition:
    @pytest.fixture
    def world(self) -> World:
        return World(config=CAUSE_AND_CONSEQUENCE)

    def test_a_consequence_is_not_notified_while_its_cause_is(self, world: World) -> None:
        world.report("outage")
        world.run(10)
        for _ in range(5):
            world.report("sync_failed")
            world.run(60)
        assert [m.kind for m in world.messages()] == ["outage"]

    def test_nor_where_the_cause_comes_within_its_group_wait(self, world: World) -> None:
        world.report("sync_failed")
        world.run(2)
        world.report("outage")
        world.run(60)
        assert [m.kind for m in world.messages()] == ["outage"]

    def test_it_is_over_with_its_cause(self, world: World) -> None:
        world.report("outage")
        world.run(10)
        world.report("sync_failed")
        world.resolve("outage", certain=True)
        world.run(1000)
        assert [(m.kind, m.reason) for m in world.messages()] == [("outage", "new"), ("outage", "resolved")]
        assert [each.phase for each in world.book] == [Phase.OVER]

    def test_seen_after_the_end_of_the_cause_it_is_an_incident_of_its_own(self, world: World) -> None:
        world.report("outage")
        world.run(10)
        world.report("sync_failed")
        world.resolve("outage", certain=True)
        world.run(1)
        world.report("sync_failed")
        world.run(10)
        assert [(m.kind, m.reason) for m in world.messages()][2:] == [("sync_failed", "new")]

    def test_where_no_one_was_notified_of_the_cause_the_consequence_is_notified(self, world: World) -> None:
        world.report("outage")
        world.run(1)
        world.report("sync_failed")
        world.run(1)
        world.resolve("outage")
        world.run(100)
        assert [(m.kind, m.count) for m in world.messages()] == [("sync_failed", 1)]

    def test_unless_it_is_one_that_passes_by_itself(self, world: World) -> None:
        world.report("outage")
        world.run(1)
        world.report("errors", quiet_after=300.0)
        world.run(1)
        world.resolve("outage")
        world.run(100)
        assert world.messages() == []

    def test_a_consequence_that_is_worse_than_its_cause_is_notified(self, world: World) -> None:
        world.report("outage")
        world.run(10)
        world.report("sync_failed")
        world.report("sync_failed", severity=Severity.CRITICAL)
        world.run()
        assert [(m.kind, m.severity, m.count) for m in world.messages()] == [
            ("outage", Severity.HIGH, 1),
            ("sync_failed", Severity.CRITICAL, 2),
        ]

    def test_other_dependencies_are_not_concerned(self, world: World) -> None:
        world.report("outage")
        world.report("sync_failed", dependency="redis")
        world.run(10)
        assert {m.dependency for m in world.messages()} == {"supplier", "redis"}

    def test_its_own_end_ends_it(self, world: World) -> None:
        world.report("outage")
        world.run(10)
        world.report("sync_failed")
        world.resolve("sync_failed")
        assert [each.kind for each in world.book] == ["outage"]


class TestSilences:
    @pytest.mark.parametrize(
        ("silence", "kept"),
        [
            (Silence(kind="trouble"), ["other"]),
            (Silence(dependency="supplier"), []),
            (Silence(error_type="503"), ["other"]),
            (Silence(severity=Severity.CRITICAL), ["trouble", "other"]),
            (Silence(kind="trouble", error_type="404"), ["trouble", "other"]),
        ],
    )
    def test_all_given_fields_must_fit(self, silence: Silence, kept: list[str]) -> None:
        world = World(config=AlertConfig(silences=(silence,)))
        world.report("trouble", error_type="503")
        world.report("other", error_type="404")
        world.run(10)
        assert [m.kind for m in world.messages()] == kept

    def test_one_ends_when_it_says(self) -> None:
        world = World(config=AlertConfig(silences=(Silence(kind="trouble", until=EPOCH + 100),)))
        world.report()
        world.run(99.9)
        assert world.messages() == []
        world.run(0.1)
        world.report()
        world.run(10)
        assert [m.count for m in world.messages()] == [1]

    def test_of_an_open_incident_only_the_end_is_sent(self, tmp_path: Path) -> None:
        clock = FakeClock(EPOCH)
        for silences in ((), (Silence(kind="trouble", until=EPOCH + 90_000),)):
            store = DiskStore(tmp_path, wall_clock=clock)
            world = World(config=AlertConfig(silences=silences), clock=clock, store=store)
            world.report()
            world.run(60)
            told = [m.reason for m in world.messages()]
            assert told == ([] if silences else ["new"])
        world.report(severity=Severity.CRITICAL)
        world.run(86_400)
        assert world.messages() == []
        world.resolve(certain=True)
        world.run(1)
        assert [m.reason for m in world.messages()] == ["resolved"]

    def test_after_it_the_open_incident_continues_as_usual(self) -> None:
        silences = (Silence(kind="trouble", until=EPOCH + 7200),)
        book = IncidentBook(AlertConfig(silences=silences))
        incident = Incident.of(alert(), EPOCH)
        incident.phase, incident.observed_here = Phase.OPEN, True
        book.adopt(incident, EPOCH)
        assert book.due(EPOCH + 7199) == []
        assert [message.reason for _, message in book.due(EPOCH + 7200)] == ["escalated"]

    def test_after_it_people_learn_that_the_open_incident_became_worse(self, tmp_path: Path) -> None:
        clock = FakeClock(EPOCH)
        for silences in ((), (Silence(dependency="supplier", until=EPOCH + 1800),)):
            store = DiskStore(tmp_path, wall_clock=clock)
            world = World(config=AlertConfig(silences=silences), clock=clock, store=store)
            world.report()
            world.run(60)
        world.report(severity=Severity.CRITICAL)
        for _ in range(27):  # it goes on, silently
            world.run(60)
            world.report(severity=Severity.CRITICAL)
        assert world.messages() == []
        world.run(120)
        assert [(m.reason, m.severity) for m in world.messages()] == [("raised", Severity.CRITICAL)]

    def test_one_needs_a_field(self) -> None:
        with pytest.raises(ValueError, match="at least one"):
            Silence()


LONG = "the provider of payments refuses every order since its certificate changed"


class TestWhatIsKeptDiffersFromWhatWasGiven:
    """Alerts have names that are shortened, on one line, and without secrets: the same words must find them again."""

    @pytest.mark.parametrize(
        ("kind", "dependency", "parts"),
        [
            (LONG, None, ()),
            ("order  refused\n", "bank", ()),
            ("refused", "https://user:hunter22@bank.example/orders", ()),
            ("refused", f"{LONG} " * 5, ("order 1",)),
            ("refused", "bank", ("token=hunter22hunter22",)),
        ],
        ids=["long", "blanks", "address", "long dependency", "secret"],
    )
    def test_an_incident_ends_by_the_words_that_opened_it(
        self, world: World, kind: str, dependency: str | None, parts: tuple[str, ...]
    ) -> None:
        def opened() -> str:
            world.report(kind=kind, dependency=dependency, fingerprint_by=parts)
            (incident,) = world.service.incidents()
            return incident.alert.fingerprint

        assert opened() == fingerprint(kind, dependency, *parts)
        world.service.resolve(kind, dependency, *parts, certain=True)
        assert world.service.incidents() == []
        opened()
        world.service.resolve_kinds(frozenset({kind}), certain=True)
        assert world.service.incidents() == []
        if dependency is not None:
            opened()
            world.service.resolve_dependency(dependency, certain=True)
            assert world.service.incidents() == []

    def test_so_do_silences_and_inhibitions(self) -> None:
        silence = Silence(kind=LONG, dependency="https://user:hunter22@bank.example/orders")
        assert silence.matches(alert(kind=LONG, dependency="https://user:hunter22@bank.example/orders"))
        assert not silence.matches(alert(kind=LONG, dependency="https://bank.example/orders"))
        inhibition = Inhibition(frozenset({LONG}), frozenset({"order  refused"}))
        world = World(config=AlertConfig(escalation=(), inhibitions=(inhibition,)))
        world.report(kind=LONG, severity=Severity.CRITICAL)
        world.run(1)
        world.report(kind="order  refused")
        world.run(60)
        assert [message.kind for message in world.messages()] == [alert(kind=LONG).kind]


class TestTooManyIncidents:
    CONFIG = AlertConfig(escalation=(), max_incidents=20)

    def test_what_there_is_no_room_for_is_counted_in_one_incident(self) -> None:
        world = World(config=self.CONFIG)
        for number in range(100):
            world.report(fingerprint_by=(str(number),))
        world.run(10)
        told = world.messages()
        assert len(told) == 21
        assert len(world.book) == 21
        assert sum(m.count for m in told) == 100
        assert [(m.kind, m.count) for m in told if m.kind == OVERFLOW_KIND] == [(OVERFLOW_KIND, 80)]

    def test_that_one_rises_and_ends_like_any_other(self) -> None:
        world = World(config=self.CONFIG)
        for number in range(21):
            world.report(fingerprint_by=(str(number),))
        world.run(10)
        world.messages()
        world.report(fingerprint_by=("worse",), severity=Severity.CRITICAL, correlation_id="c" * 32)
        world.run()
        (message,) = world.messages()
        assert (message.kind, message.reason, message.severity) == (OVERFLOW_KIND, "raised", Severity.CRITICAL)
        assert message.correlation_id == "c" * 32
        world.run(2 * self.CONFIG.keep_firing)  # it was told together with others, and waits for them for a while
        assert [(m.kind, m.status) for m in world.messages()] == [(OVERFLOW_KIND, Status.RESOLVED)]

    def test_what_ended_or_was_never_notified_makes_room(self) -> None:
        world = World(config=self.CONFIG)
        for number in range(20):
            world.report(fingerprint_by=(str(number),), threshold=2 if number % 2 else 1)
        world.run(10)
        for number in range(0, 20, 2):
            world.service.resolve("trouble", "supplier", str(number), certain=True)
        world.run(400)
        world.messages()
        for number in range(20):
            world.report(fingerprint_by=(f"new {number}",))
        world.run(10)
        assert {m.kind for m in world.messages()} == {"trouble"}


class TestMemory:
    def test_of_one_incident_is_bounded(self) -> None:
        incident = Incident.of(alert(), 0.0)
        for number in range(1000):
            incident.see(alert(error_type=f"type {number}"), float(number))
            incident.confirm(f"channel {number % 3}", float(number), 1.0)
        assert len(incident.error_types) == MAX_ERROR_TYPES
        assert len(incident.deliveries) == 10
        assert incident.total == 1000


def test_everything_of_an_incident_survives_a_dump() -> None:
    book = IncidentBook(CONFIG)
    for number in range(3):
        book.report(alert(threshold=5, context={"a": number}, error_type="503"), float(number))
    (incident,) = book
    assert Incident.load(incident.dump()).dump() == incident.dump()
    book.report(alert(severity=Severity.CRITICAL), 4.0)
    book.due(4.0)
    incident.confirm("pager", 5.0, 1.0, held=True)
    assert Incident.load(incident.dump()) == Incident.load(Incident.load(incident.dump()).dump())
    assert Incident.load(incident.dump()).holders == ("pager",)


def test_a_record_of_an_earlier_version_is_read() -> None:
    incident = Incident.of(alert(), 0.0)
    incident.see(alert(), 3.0)
    stored = incident.dump()
    former = {
        "last_notified_at": "told_at",
        "last_reported_count": "told_count",
        "notified_severity": "told_severity",
        "unreported_count": "untold",
        "unreported_since": "untold_since",
        "sent_without_grouping": "rushed",
    }
    assert former.keys() <= stored.keys()
    earlier = {former.get(name, name): value for name, value in stored.items()}
    assert Incident.load(earlier).dump() == stored


@pytest.mark.parametrize("damage", [{"first_seen": "yesterday"}, {"phase": "?"}, {"alert": {}}, {"recent": [1]}])
def test_a_damaged_dump_is_refused(damage: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Incident.load({**Incident.of(alert(), 0.0).dump(), **damage})


def test_nothing_is_planned_where_there_is_nothing() -> None:
    assert math.isinf(IncidentBook(CONFIG).next_due())
