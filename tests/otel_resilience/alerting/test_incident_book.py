"""The incidents of one process without a service: which message is due when, and how they are stored."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from otel_resilience import Severity
from otel_resilience.alerting import AlertConfig, EscalationStep, Inhibition, Phase, Silence, Status
from otel_resilience.alerting.model.book import (
    CONFIRM_EVERY,
    CONFIRMED_WITHIN,
    HEAD_START,
    LONG_WATCH,
    OVERFLOW_KIND,
    IncidentBook,
    RecoverySign,
)
from otel_resilience.alerting.model.incident import HOUR, Incident
from support.alerting import alert

T = 1_000_000.0
CRITICAL, HIGH, MEDIUM = Severity.CRITICAL, Severity.HIGH, Severity.MEDIUM
CONFIG = AlertConfig(
    service="shop",
    min_severity=MEDIUM,
    group_wait=5.0,
    rate_limit=60.0,
    keep_firing=300.0,
    repeat_interval=1000.0,
    remember=5000.0,
    more_from=3,
    escalation=(),
)
WITH_CAUSES = dataclasses.replace(
    CONFIG, inhibitions=(Inhibition(frozenset({"outage"}), frozenset({"errors", "slow"})),)
)


def changed(**fields: Any) -> AlertConfig:
    return dataclasses.replace(CONFIG, **fields)


class Life:
    """A book and the messages that it had sent, as ``(seconds after T, reason)``."""

    def __init__(self, config: AlertConfig = CONFIG, *, sender: str = "") -> None:
        self.book = IncidentBook(config, sender=sender)
        self.told: list[tuple[float, str]] = []

    def report(self, at: float = 0.0, kind: str = "trouble", **changes: Any) -> str | None:
        return self.book.report(alert(kind, **changes), T + at).suppressed

    def resolve(self, at: float, kind: str = "trouble", **options: Any) -> Incident | None:
        return self.book.resolve(self.print_of(kind), T + at, **options)

    def due(self, at: float) -> list[str]:
        """The reasons of what is due."""
        found = [message.reason for _, message in self.book.due(T + at)]
        self.told += [(at, reason) for reason in found]
        return found

    def until(self, at: float) -> list[tuple[float, str]]:
        """All messages so far, each sent when the book says that something is due."""
        for _ in range(100):
            due = self.book.next_due() - T
            if due > at:
                return self.told
            self.due(due)
        raise AssertionError("something is due for ever")

    def opened(self, kind: str = "trouble", at: float = 0.0, **changes: Any) -> Incident:
        """An incident whose first message was sent."""
        self.report(at, kind, **changes)
        self.due(at + 5)
        incident = self.one(kind)
        assert incident.phase is Phase.OPEN
        return incident

    def one(self, kind: str = "trouble") -> Incident:
        found = self.book.get(self.print_of(kind))
        assert found is not None
        return found

    def knows(self, kind: str) -> bool:
        return self.book.get(self.print_of(kind)) is not None

    def print_of(self, kind: str) -> str:
        return self.book.config.identify(alert(kind).fingerprint)


@pytest.fixture
def life() -> Life:
    return Life()


def stored_copy(incident: Incident, revision: str = "2", **fields: Any) -> Incident:
    """As another process wrote it."""
    copy = Incident.load(incident.dump())
    copy.revision = revision
    for name, value in fields.items():
        setattr(copy, name, value)
    return copy


class TestWhatAReportLeadsTo:
    def test_it_opens_an_incident_and_the_next_joins_it(self, life: Life) -> None:
        first = life.book.report(alert(), T)
        assert (first.suppressed, first.incident) == (None, life.one())
        assert (life.one().phase, life.one().due) == (Phase.PENDING, T + 5)
        assert life.report(1) == "grouped"
        assert life.one().total == 2

    def test_below_the_least_severity_nothing(self, life: Life) -> None:
        outcome = life.book.report(alert(severity=Severity.LOW), T)
        assert (outcome.incident, outcome.suppressed, len(life.book)) == (None, "below_severity", 0)
        assert life.book.report(alert(severity=MEDIUM), T, lowest=HIGH).suppressed == "below_severity"
        assert life.book.report(alert(severity=Severity.LOW), T, lowest=Severity.LOW).suppressed is None

    def test_below_the_threshold_it_is_watched(self, life: Life) -> None:
        assert [life.report(at, threshold=3, window=60.0) for at in (0, 10, 20)] == ["threshold", "threshold", None]
        assert life.one().due == T + 25

    def test_a_critical_one_and_one_that_says_so_is_due_at_once(self) -> None:
        for changes in ({"severity": CRITICAL}, {"at_once": True}):
            life = Life()
            life.report(**changes)
            assert life.one().due == T
            life = Life()
            life.report()
            assert life.report(2, **changes) == "grouped"
            assert life.one().due == T + 2
            life.report(3, **changes)
            assert life.one().due == T + 2

    def test_what_is_open_is_a_repetition(self, life: Life) -> None:
        life.opened()
        assert life.report(9) == "dedup"

    def test_a_rise_is_told_after_the_rate_limit_and_one_to_critical_at_once(self, life: Life) -> None:
        life.opened(severity=MEDIUM)
        assert life.report(9, severity=HIGH) == "rate_limit"
        assert life.one().due == T + 65
        assert life.report(10, severity=CRITICAL) == "dedup"
        assert life.one().due == T + 10
        assert life.due(10) == ["raised"]

    def test_a_rise_after_the_rate_limit_is_told_at_once(self, life: Life) -> None:
        life.opened(severity=MEDIUM)
        assert life.report(65, severity=HIGH) == "dedup"
        assert life.due(65) == ["raised"]

    def test_silenced_it_keeps_what_is_open_going(self) -> None:
        life = Life()
        incident = life.opened()
        life.report(6, "other")
        life.book.config = changed(silences=(Silence(dependency="supplier", until=T + 100),))
        outcome = life.book.report(alert(), T + 50)
        assert (outcome.incident, outcome.suppressed) == (None, "silenced")
        assert (incident.last_seen, incident.total) == (T + 50, 2)
        assert life.report(51, "other") == life.report(52, "third") == "silenced"
        assert life.one("other").total == 1, "nobody was told of it yet"
        assert life.book.get(life.print_of("third")) is None

    def test_one_that_came_back_waits_and_says_so(self, life: Life) -> None:
        life.opened()
        life.resolve(50, certain=True)
        assert life.due(50) == ["resolved"]
        assert life.report(60) == "cooldown"
        assert life.report(61, severity=CRITICAL) == "cooldown"
        assert life.one().due == T + 110
        assert life.report(110) == "grouped"
        assert life.due(110) == ["back"]

    @pytest.mark.parametrize(("at", "suppressed"), [(109, "cooldown"), (110, None)])
    def test_one_that_came_back_later_does_not_wait(self, life: Life, at: float, suppressed: str | None) -> None:
        life.opened()
        life.resolve(50, certain=True)
        life.due(50)
        assert life.report(at) == suppressed

    def test_one_that_comes_back_when_the_rate_limit_ends_waits_for_its_group_alone(self, life: Life) -> None:
        life.opened()
        life.resolve(50, certain=True)
        life.due(50)
        assert life.report(110) is None
        assert life.one().due == T + 115


class TestTheEnd:
    def test_of_nothing_is_nothing(self, life: Life) -> None:
        assert life.resolve(0) is None
        life.opened()
        life.resolve(10, certain=True)
        life.due(10)
        assert life.resolve(11) is None

    def test_of_what_is_open_comes_once_it_was_calm(self, life: Life) -> None:
        incident = life.opened()
        assert life.resolve(10) is incident
        assert life.book.next_due() == T + 310
        assert life.due(309) == []
        (pair,) = life.book.due(T + 310)
        assert (pair[0], pair[1].status, incident.phase) == (incident, Status.RESOLVED, Phase.OVER)

    def test_before_the_first_message_drops_it(self, life: Life) -> None:
        life.report()
        incident = life.one()
        assert life.resolve(2) is incident
        assert (incident.phase, list(life.book.suppressed)) == (Phase.OVER, [("cancelled", 1)])
        assert life.until(4000) == []

    def test_before_the_threshold_drops_it_silently(self, life: Life) -> None:
        life.report(threshold=3)
        assert life.resolve(2) is not None
        assert (len(life.book), list(life.book.suppressed)) == (0, [])

    def test_before_the_threshold_is_kept_where_others_know_of_it(self) -> None:
        for fields in ({"revision": "1"}, {"returns": 1}):
            life = Life()
            life.report(threshold=3)
            for name, value in fields.items():
                setattr(life.one(), name, value)
            life.resolve(2)
            assert life.one().phase is Phase.OVER

    def test_what_flaps_before_its_first_message_is_told_at_once(self) -> None:
        for again, due in ((302, 302), (303, 308)):
            life = Life()
            life.report()
            life.resolve(2)
            life.report(again)
            assert life.one().due == T + due
            life.resolve(again, certain=True)
            life.report(again + 1)
            assert life.one().due == T + again + 6, "flapping is forgotten once it was told, and a certain end is none"

    def test_is_forgotten_in_the_end(self, life: Life) -> None:
        life.opened()
        life.resolve(10, certain=True)
        life.due(10)
        assert life.book.next_due() == T + 5000
        life.due(4999)
        assert len(life.book) == 1
        life.due(5000)
        assert len(life.book) == 0


class TestSignsOfRecovery:
    def test_end_what_they_are_about(self) -> None:
        for fields, concerned in (
            ({"dependency": "supplier"}, {"trouble", "errors"}),
            ({"kinds": frozenset({"errors"})}, {"errors", "elsewhere"}),
            ({"dependency": "supplier", "kinds": frozenset({"errors"})}, {"errors"}),
            ({"dependency": "nothing"}, set()),
        ):
            life = Life()
            life.report()
            life.report(0, "errors")
            life.book.report(alert("errors", dependency="other"), T)
            found = life.book.apply(RecoverySign(at=T + 1, **fields))
            names = {"elsewhere" if each.dependency == "other" else each.kind for each in found}
            assert names == concerned

    def test_may_name_one_fingerprint(self, life: Life) -> None:
        life.report()
        life.report(0, "errors")
        (found,) = life.book.apply(RecoverySign(at=T + 1, fingerprint=life.print_of("errors")))
        assert found.kind == "errors"

    def test_say_nothing_of_what_was_seen_later(self, life: Life) -> None:
        life.opened()
        life.report(20)
        assert life.book.apply(RecoverySign(at=T + 19)) == []
        assert life.book.apply(RecoverySign(at=T + 20)) == [life.one()]

    def test_applied_again_concern_what_others_saw_at_that_time_but_not_what_this_process_saw(self, life: Life) -> None:
        incident = life.opened()
        assert life.book.apply_again(RecoverySign(at=T)) == []
        assert life.book.apply_again(RecoverySign(at=T + 0.5)) == [incident]
        incident.observed_here = False
        assert life.book.apply_again(RecoverySign(at=T)) == [incident]
        incident.observed_here = False
        assert life.book.apply_again(RecoverySign(at=T - 0.001)) == []

    def test_certain_ones_end_at_once(self, life: Life) -> None:
        life.opened()
        life.book.apply(RecoverySign(at=T + 9, certain=True))
        assert life.due(9) == ["resolved"]

    def test_with_the_same_subject_stand_for_each_other(self) -> None:
        fields: dict[str, Any] = {"fingerprint": "f", "dependency": "d", "kinds": frozenset({"k"})}
        assert RecoverySign(at=1, **fields).subject == RecoverySign(at=2, certain=True, **fields).subject
        for name in fields:
            assert RecoverySign(at=1, **fields).subject != RecoverySign(at=1, **{**fields, name: None}).subject

    def test_of_cause_and_consequence_free_no_consequence(self) -> None:
        life = Life(WITH_CAUSES)
        life.report(0, "outage")
        life.report(0, "errors")
        life.book.apply(RecoverySign(at=T + 1))
        assert list(life.book.suppressed) == [("cancelled", 1)]
        assert life.until(4000) == []

    def test_end_watching_ones_too(self, life: Life) -> None:
        life.report(threshold=3)
        assert len(life.book.apply(RecoverySign(at=T + 1))) == 1


class TestThatItGoesOn:
    def test_is_noted_of_what_is_open_now_and_then(self, life: Life) -> None:
        incident = life.opened()
        for at, noted in ((CONFIRM_EVERY - 1, 0.0), (CONFIRM_EVERY, CONFIRM_EVERY)):
            life.book.mark_ongoing(incident.fingerprint, T + at)
            assert incident.last_seen == T + noted

    def test_is_noted_at_once_where_that_says_something_new(self, life: Life) -> None:
        incident = life.opened()
        life.resolve(10)
        life.book.mark_ongoing(incident.fingerprint, T + 11)
        assert (incident.last_seen, incident.calm_since) == (T + 11, None)
        incident.observed_here = False
        life.book.mark_ongoing(incident.fingerprint, T + 12)
        assert incident.last_seen == T + 12

    def test_is_nothing_for_what_is_not_open(self, life: Life) -> None:
        life.book.mark_ongoing("unknown", T)
        life.report()
        life.book.mark_ongoing(life.print_of("trouble"), T + 4000)
        assert life.one().last_seen == T


class TestMessages:
    def test_are_in_the_order_in_which_they_became_due(self, life: Life) -> None:
        life.report(0, "second")
        life.report(1, "first", severity=CRITICAL)
        assert [message.kind for _, message in life.book.due(T + 9)] == ["first", "second"]

    def test_name_the_process_that_sends_them(self) -> None:
        life = Life(sender="host-1")
        life.report()
        ((_, message),) = life.book.due(T + 5)
        assert (message.sender, message.service) == ("host-1", "shop")

    def test_of_a_process_without_a_name_name_none(self, life: Life) -> None:
        life.report()
        ((_, message),) = life.book.due(T + 5)
        assert message.sender == IncidentBook(CONFIG).sender == ""

    def test_sent_together_end_together(self, life: Life) -> None:
        for kind in ("a", "b"):
            life.report(0, kind)
        life.due(5)
        assert life.one("a").batch == life.one("b").batch == life.one("a").id
        life.resolve(10, "a")
        life.resolve(110, "b")
        assert life.until(409) == [(5, "new"), (5, "new")]
        assert life.until(410)[2:] == [(410, "resolved"), (410, "resolved")]
        assert life.due(500) == []

    def test_even_if_they_came_back_together(self, life: Life) -> None:
        for kind in ("a", "b"):
            life.opened(kind)
            life.resolve(10, kind, certain=True)
        life.due(10)
        for kind in ("a", "b"):
            life.report(200, kind)
        assert life.due(205) == ["back", "back"]
        assert life.one("a").batch == life.one("b").batch == life.one("a").id

    def test_sent_alone_end_alone(self, life: Life) -> None:
        life.opened("a")
        assert life.one("a").batch is None
        life.opened("b", 20)
        life.resolve(30, "a")
        assert life.until(330) == [(5, "new"), (25, "new"), (330, "resolved")]

    def test_one_waits_for_the_others_no_longer_than_it_was_calm_itself(self, life: Life) -> None:
        for kind in ("a", "b"):
            life.report(0, kind)
        life.due(5)
        life.resolve(10, "a")
        assert life.until(700)[2:] == [(610, "resolved")]

    def test_that_is_certainly_over_waits_for_none(self, life: Life) -> None:
        for kind in ("a", "b"):
            life.report(0, kind)
        life.due(5)
        life.resolve(10, "a", certain=True)
        assert life.due(10) == ["resolved"]

    def test_an_ongoing_one_is_repeated_but_not_a_calm_or_acknowledged_one(self, life: Life) -> None:
        incident = life.opened()
        assert life.until(1005) == [(5, "new"), (1005, "repeat")]
        incident.acknowledge(T + 1006)
        assert len(life.until(4000)) == 2
        incident.acknowledged_at = None
        incident.becomes_calm(T + 4000, certain=False)
        assert life.until(4300)[2:] == [(4300, "resolved")]

    def test_one_is_sent_again_on_demand_also_when_it_is_calm(self, life: Life) -> None:
        incident = life.opened()
        life.resolve(6)
        incident.resend = True
        assert life.book.next_due() == -math.inf
        assert life.due(7) == ["repeat"]
        assert life.due(8) == []

    def test_a_first_one_that_could_not_wait_is_followed_by_one_with_the_rest(self, life: Life) -> None:
        life.report(severity=CRITICAL)
        life.due(0)
        for at in (1, 2):
            life.report(at)
        assert life.book.next_notification_at(life.one()) == math.inf
        life.report(3)
        assert life.book.next_notification_at(life.one()) == T + 60
        for at in range(4, 20):
            life.report(at)
        assert life.until(900) == [(0, "new"), (60, "more")]

    def test_that_is_sent_once(self, life: Life) -> None:
        life.report(severity=CRITICAL)
        life.due(0)
        for at in (1, 2, 3):
            life.report(at)
        assert life.until(1060) == [(0, "new"), (60, "more"), (1060, "repeat")]
        for _ in range(50):
            life.report(1061)
        assert life.until(2000)[3:] == []

    def test_that_is_sent_also_after_a_message_for_another_reason(self, life: Life) -> None:
        life.report(at_once=True)
        life.due(0)
        life.report(10, severity=CRITICAL)
        assert life.due(10) == ["raised"]
        for at in (11, 12, 13):
            life.report(at)
        assert life.until(900) == [(0, "new"), (10, "raised"), (70, "more")]
        for _ in range(20):
            life.report(901)
        assert life.until(1000)[3:] == []

    def test_one_that_waited_for_its_group_is_not_followed_by_more(self, life: Life) -> None:
        life.opened()
        for at in range(6, 20):
            life.report(at)
        assert life.until(900) == [(5, "new")]
        assert life.book.next_notification_at(life.one()) == math.inf

    def test_more_is_measured_by_what_the_last_one_told(self, life: Life) -> None:
        life.report()
        life.report(1)
        life.report(1, severity=CRITICAL)
        life.due(1)
        for _ in range(8):
            life.report(2)
        assert life.until(900) == [(1, "new")]
        life.report(901)
        assert life.due(901) == ["more"]

    @pytest.mark.parametrize("bounded", [True, False])
    def test_of_what_is_not_critical_are_at_most_four_in_an_hour(self, bounded: bool) -> None:
        life = Life(changed(repeat_interval=100.0))
        life.opened(severity=HIGH if bounded else CRITICAL)
        times = [at for at, _ in life.until(1500)]
        if bounded:
            assert times == [5, 105, 205], "the fourth is kept for its end"
        else:
            assert times == [5 + 100 * number for number in range(15)]

    def test_a_rise_that_has_no_room_is_told_once_there_is(self, life: Life) -> None:
        incident = life.opened(severity=MEDIUM)
        incident.sent_at = (T + 1, T + 2, T + 3, T + 4)
        life.report(100, severity=HIGH)
        assert life.until(2 + HOUR)[1:] == [(2 + HOUR, "raised")]

    def test_what_has_no_room_is_told_once_there_is(self) -> None:
        life = Life(changed(repeat_interval=100.0))
        life.opened()
        life.report(300, severity=HIGH)
        assert life.until(4000)[3:] == [(3605, "repeat"), (3705, "repeat"), (3805, "repeat")]


class TestSilences:
    def test_hold_back_everything_but_the_end(self) -> None:
        life = Life(
            changed(silences=(Silence(kind="trouble", until=T + 3000),), escalation=(EscalationStep(after=50),))
        )
        incident = Incident.of(alert(), T)
        incident.phase, incident.observed_here = Phase.OPEN, True
        life.book.adopt(incident, T)
        assert life.until(2999) == []
        assert life.until(3000) == [(3000, "escalated")]
        incident.becomes_calm(T + 3001, certain=True)
        assert life.due(3001) == ["resolved"]

    def test_by_a_person_hold_back_the_same(self) -> None:
        life = Life(changed(escalation=(EscalationStep(after=50),)))
        incident = life.opened()
        incident.silence(T + 500)
        life.report(6, severity=CRITICAL)
        assert life.until(499) == [(5, "new")]
        assert life.until(500)[1:] == [(500, "raised")]

    @pytest.mark.parametrize("calm", [False, True])
    def test_a_rise_under_one_is_sent_when_it_ends_if_it_goes_on(self, calm: bool) -> None:
        life = Life()
        life.opened()
        life.book.config = changed(silences=(Silence(kind="trouble", until=T + 500),))
        assert life.report(6, severity=CRITICAL) == "silenced"
        if calm:
            life.resolve(450)
        assert life.until(499) == [(5, "new")]
        assert life.until(700)[1:] == ([] if calm else [(500, "raised")])

    def test_a_lesser_rise_waits_for_the_rate_limit_too(self) -> None:
        life = Life()
        life.opened(severity=MEDIUM)
        life.book.config = changed(silences=(Silence(dependency="supplier", until=T + 20),))
        assert life.report(10, severity=HIGH) == "silenced"
        assert life.until(999) == [(5, "new"), (65, "raised")]

    def test_hold_back_what_a_process_left_out_when_it_ends(self) -> None:
        life = Life()
        life.opened().silence(T + 500)
        for _ in range(3):
            life.report(6)
        life.book.flush(T + 7)
        assert life.due(7) == []

    def test_of_others_do_not_matter(self) -> None:
        life = Life(changed(silences=(Silence(kind="other"),)))
        life.opened()
        assert life.until(1005) == [(5, "new"), (1005, "repeat")]


class TestEscalation:
    def test_is_told_after_its_time_and_the_rate_limit(self) -> None:
        steps = (EscalationStep(after=30), EscalationStep(after=500, channels=("boss",)))
        life = Life(changed(escalation=steps))
        life.opened()
        assert life.until(900) == [(5, "new"), (65, "escalated"), (500, "escalated")]
        assert life.one().steps == (0, 1)

    def test_of_what_came_back_often_is_told_with_its_first_message(self) -> None:
        life = Life(changed(escalation=(EscalationStep(returns=1, channels=("boss",)),)))
        life.opened()
        life.resolve(50, certain=True)
        life.due(50)
        life.report(200)
        assert (life.one().severity, life.one().channels, life.one().due) == (CRITICAL, ("boss",), T + 200)

    def test_is_not_for_what_is_calm_or_acknowledged(self) -> None:
        for fields in ({"acknowledged_at": T + 9}, {"calm_since": T + 9}):
            life = Life(changed(escalation=(EscalationStep(after=100),), keep_firing=5000.0))
            incident = life.opened()
            for name, value in fields.items():
                setattr(incident, name, value)
            assert life.until(500) == [(5, "new")]

    def test_that_changes_nothing_is_not_told_but_taken(self) -> None:
        life = Life(changed(escalation=(EscalationStep(after=100),)))
        life.opened(severity=CRITICAL)
        assert [reason for _, reason in life.until(500)] == ["new"]
        assert life.one().steps == (0,)

    def test_that_changes_nothing_does_not_keep_what_else_is_due(self) -> None:
        life = Life(changed(escalation=(EscalationStep(after=1005),)))
        life.report(severity=CRITICAL)
        life.due(5)
        assert life.due(1005) == ["repeat"]

    def test_by_several_steps_at_once_is_told_where_one_of_them_matters(self) -> None:
        life = Life(changed(escalation=(EscalationStep(after=100, channels=("boss",)), EscalationStep(after=110))))
        life.opened()
        assert life.due(120) == ["escalated"]
        assert (life.one().steps, life.one().severity) == ((0, 1), CRITICAL)


class TestCausesAndConsequences:
    @pytest.fixture
    def life(self) -> Life:
        return Life(WITH_CAUSES)

    def test_a_consequence_waits_behind_its_cause(self, life: Life) -> None:
        life.opened("outage")
        assert life.report(6, "errors") == "inhibited"
        assert life.report(7, "errors") == "inhibited"
        assert (life.one("errors").phase, life.book.next_notification_at(life.one("errors"))) == (
            Phase.INHIBITED, math.inf,
        )  # fmt: skip
        assert life.until(900) == [(5, "new")]

    def test_what_no_rule_names_does_not(self, life: Life) -> None:
        life.opened("outage")
        assert life.report(6, "other") is None
        assert life.book.report(alert("errors", dependency="elsewhere"), T + 6).suppressed is None
        assert life.book.report(alert("errors", dependency=None), T + 6).suppressed is None

    def test_nor_is_anything_its_own_cause(self) -> None:
        rule = Inhibition(frozenset({"errors"}), frozenset({"errors"}))
        life = Life(changed(inhibitions=(rule,)))
        life.report(0, "errors")
        assert life.due(5) == ["new"]

    def test_a_cause_that_is_milder_or_over_holds_nothing_back(self, life: Life) -> None:
        life.opened("outage", severity=MEDIUM)
        assert life.report(6, "errors") is None
        life = Life(WITH_CAUSES)
        life.opened("outage")
        life.resolve(6, "outage", certain=True)
        life.due(6)
        assert life.report(7, "errors") is None

    def test_a_consequence_that_gets_worse_is_told(self, life: Life) -> None:
        life.opened("outage")
        life.report(6, "errors")
        assert life.report(7, "errors", severity=CRITICAL) is None
        assert life.due(7) == ["new"]

    def test_one_that_gets_worse_and_cannot_wait_is_due_at_once(self, life: Life) -> None:
        for at_once, due in ((True, 7), (False, 12)):
            life = Life(WITH_CAUSES)
            life.opened("outage", severity=MEDIUM)
            life.report(6, "errors", severity=MEDIUM)
            life.report(7, "errors", at_once=at_once)
            assert life.one("errors").due == T + due

    def test_one_whose_cause_comes_within_its_group_wait_is_taken_back(self, life: Life) -> None:
        life.report(0, "errors")
        incident = life.one("errors")
        incident.unsaved = False
        life.report(1, "outage", severity=CRITICAL)
        life.due(1)
        assert life.due(5) == []
        assert (incident.phase, incident.unsaved) == (Phase.INHIBITED, True)
        assert (list(life.book.suppressed), list(life.book.withdrawn)) == ([("inhibited", 1)], [incident])

    def test_it_is_over_with_a_cause_that_was_told(self, life: Life) -> None:
        life.opened("outage")
        life.report(6, "errors")
        life.report(6, "slow")
        life.one("slow").revision = "1"
        life.resolve(10, "outage", certain=True)
        assert life.due(10) == ["resolved"]
        assert life.book.get(life.print_of("errors")) is None
        assert (life.one("slow").phase, life.one("slow").calm_since) == (Phase.OVER, T + 10), "the store knows it"

    def test_it_is_told_where_nobody_was_told_of_the_cause(self, life: Life) -> None:
        life.report(0, "outage")
        life.report(0, "errors")
        life.report(0, "slow", quiet_after=60.0)
        life.resolve(2, "outage")
        assert life.until(60) == [(7, "new")]
        assert life.book.get(life.print_of("slow")) is None, "it passes by itself"

    def test_another_cause_still_holds_it_back(self) -> None:
        rules = (Inhibition(frozenset({"outage", "login"}), frozenset({"errors"})),)
        life = Life(changed(inhibitions=rules))
        for kind in ("outage", "login"):
            life.opened(kind)
        life.report(6, "errors")
        life.resolve(7, "outage", certain=True)
        life.due(7)
        assert life.one("errors").phase is Phase.INHIBITED

    def test_the_end_of_a_cause_in_another_process_counts(self, life: Life) -> None:
        life.opened("outage")
        life.report(6, "errors")
        life.report(6, "slow")
        life.one("slow").revision = "1"
        life.book.forget(life.print_of("outage"))
        life.book.settle(T + 9)
        assert not life.knows("errors")
        assert (life.one("slow").phase, life.one("slow").calm_since) == (Phase.OVER, T + 9)


class TestTooManyIncidents:
    CONFIG = changed(max_incidents=2, keep_firing=70.0)

    def full(self) -> Life:
        life = Life(self.CONFIG)
        for kind in ("a", "b"):
            life.report(0, kind)
        return life

    def test_what_there_is_no_room_for_is_counted_in_one(self) -> None:
        life = self.full()
        given = alert("c", MEDIUM, error_type="503", error_class="transient", correlation_id="c" * 32, span_id="1" * 16)
        outcome = life.book.report(given, T + 1)
        assert outcome.suppressed is None
        overflow = outcome.incident
        assert overflow is not None
        assert (overflow.kind, overflow.severity, overflow.dependency) == (OVERFLOW_KIND, MEDIUM, None)
        assert overflow.alert.title == "More than 2 different incidents at once"
        assert overflow.alert.summary == "Further incidents are counted in this one."
        assert (overflow.alert.error_type, overflow.alert.error_class) == ("503", "transient")
        assert (overflow.alert.correlation_id, overflow.alert.span_id) == ("c" * 32, "1" * 16)
        assert overflow.alert.quiet_after == 70.0
        assert life.book.get(self.CONFIG.identify(overflow.alert.fingerprint)) is overflow
        assert life.report(1, "d") == "overflow"
        assert (overflow.total, len(life.book)) == (2, 3)
        assert life.report(1, "a") == "grouped", "what is known stays known"

    @pytest.mark.parametrize(("at", "room"), [(69, False), (70, True)])
    def test_what_is_over_and_no_longer_limited_makes_room(self, at: float, room: bool) -> None:
        life = Life(self.CONFIG)
        life.opened("a")
        life.opened("b")
        life.resolve(10, "a", certain=True)
        life.due(10)
        life.report(at, "c")
        assert life.knows("c") is room
        assert life.knows("a") is not room

    @pytest.mark.parametrize(("at", "room"), [(60, False), (61, True)])
    def test_what_was_watched_without_need_makes_room(self, at: float, room: bool) -> None:
        life = Life(self.CONFIG)
        life.report(0, "a", threshold=3, window=60.0)
        life.report(0, "b")
        life.report(at, "c")
        assert life.knows("c") is room

    def test_what_waits_for_its_first_message_makes_none(self) -> None:
        life = self.full()
        life.report(4000, "c")
        assert (life.knows("a"), life.knows("b"), life.knows("c")) == (True, True, False)

    @pytest.mark.parametrize(("at", "room"), [(1.4, False), (1.5, True)])
    def test_room_is_looked_for_once_a_second(self, at: float, room: bool) -> None:
        life = self.full()
        life.report(0.5, "c")
        for kind in ("a", "b"):
            life.resolve(0.6, kind, certain=True)
            life.one(kind).last_notified_at = T - 1000
        life.report(at, "d")
        assert life.knows("d") is room

    def test_what_was_cancelled_is_remembered_in_bounds(self) -> None:
        life = Life(self.CONFIG)
        for kind, at in (("a", 0), ("b", 50), ("c", 60)):
            life.report(at, kind)
            life.resolve(at, kind)
            life.book.forget(life.print_of(kind))
        for kind, due in (("c", 66), ("b", 61), ("a", 61)):
            life.report(61, kind)
            assert life.one(kind).due == T + due, kind
            life.book.forget(life.print_of(kind))

    def test_what_may_still_flap_is_not_forgotten_for_others(self) -> None:
        life = Life(self.CONFIG)
        for kind, at in (("a", 0), ("b", 50), ("c", 70)):
            life.report(at, kind)
            life.resolve(at, kind)
            life.book.forget(life.print_of(kind))
        life.report(70, "a")
        assert life.one("a").due == T + 70

    def test_what_was_cancelled_long_ago_makes_room_for_others(self) -> None:
        life = Life(self.CONFIG)
        for kind, at in (("a", 0), ("b", 50), ("c", 71)):
            life.report(at, kind)
            life.resolve(at, kind)
            life.book.forget(life.print_of(kind))
        for kind in ("b", "c"):
            life.report(72, kind)
            assert life.one(kind).due == T + 72
            life.book.forget(life.print_of(kind))


class TestTheProcessEnds:
    def test_what_waits_for_its_group_is_due(self, life: Life) -> None:
        life.report()
        life.report(0, "limited")
        life.one("limited").not_before = T + 50
        life.report(0, "loaded")
        life.one("loaded").observed_here = False
        life.book.flush(T + 1)
        assert [life.one(kind).due - T for kind in ("trouble", "limited", "loaded")] == [1, 5, 5]

    def test_what_is_due_already_stays_so(self, life: Life) -> None:
        life.report()
        life.book.flush(T + 9)
        assert life.one().due == T + 5

    def test_what_was_left_out_of_a_message_of_this_process_is_due(self, life: Life) -> None:
        life.opened()
        for _ in range(3):
            life.report(6)
        life.book.flush(T + 7)
        assert life.due(7) == ["more"]

    def test_but_not_a_little_of_it_or_of_another_process(self) -> None:
        for count, here in ((2, True), (3, False)):
            life = Life()
            incident = life.opened()
            incident.started_here = here
            for _ in range(count):
                life.report(6)
            life.book.flush(T + 7)
            assert life.due(7) == []

    def test_what_was_left_out_waits_for_room_within_the_hour_all_the_same(self, life: Life) -> None:
        life.report(at_once=True)
        life.due(0)
        life.one().sent_at = (T - 30, T - 20, T)
        for at in (1, 2, 3):
            life.report(at)
        life.book.flush(T + 4)
        assert life.until(HOUR - 30)[1:] == [(HOUR - 30, "more")]

    def test_what_has_nothing_to_tell_is_not_due(self, life: Life) -> None:
        incident = life.opened()
        life.book.flush(T + 7)
        assert life.book.next_notification_at(incident) == math.inf

    def test_a_rise_is_due(self, life: Life) -> None:
        life.opened(severity=MEDIUM)
        life.report(6, severity=HIGH)
        life.book.flush(T + 7)
        assert life.due(7) == ["raised"]

    def test_what_was_calm_for_long_enough_ends(self, life: Life) -> None:
        life.opened(quiet_after=200.0)
        life.book.flush(T + 199)
        assert life.due(199) == []
        life.book.flush(T + 200)
        assert life.due(200) == ["resolved"]


class TestAMessageUnderWayFromAnotherProcess:
    def ended(self, **fields: Any) -> Life:
        life = Life(sender="here")
        life.opened()
        incident = life.one()
        incident.senders, incident.last_notified_at = ("there",), T + 5
        for name, value in fields.items():
            setattr(incident, name, value)
        incident.becomes_calm(T + 6, certain=True)
        return life

    def test_the_end_waits_for_it_a_while(self) -> None:
        life = self.ended()
        assert life.book.next_due() == T + 5 + CONFIRMED_WITHIN
        assert [life.book.awaits_confirmation(T + at) for at in (5.9, 6, 9.9, 10)] == [False, True, True, False]
        assert life.due(9.9) == []
        assert life.due(10) == ["resolved"]

    def test_even_if_the_clock_of_the_other_is_ahead(self) -> None:
        assert self.ended(last_notified_at=T + 60).book.next_due() == T + 6 + CONFIRMED_WITHIN

    def test_but_not_for_one_that_was_confirmed_or_is_our_own(self) -> None:
        for fields in (
            {"confirmed": 1},
            {"senders": ("here",)},
            {"senders": ()},
        ):
            life = self.ended(**fields)
            assert life.book.next_due() == T + 6
            assert not life.book.awaits_confirmation(T + 6)

    def test_nor_where_the_process_ends_now(self) -> None:
        life = self.ended()
        life.book.flush(T + 6)
        assert life.due(6) == ["resolved"]

    def test_a_process_that_ends_soon_waits_no_longer_than_it_has_time(self) -> None:
        for by, ends in ((T + 7, T + 7), (T + 60, T + 5 + CONFIRMED_WITHIN)):
            life = self.ended()
            life.book.flush(T + 6, send_ends_by=by)
            assert life.book.next_due() == ends
            assert [life.book.awaits_confirmation(at) for at in (T + 6, ends)] == [True, False]


class TestOneThatFlaps:
    def test_ends_only_once_its_end_fits_into_the_hour(self) -> None:
        for fields, ends in (({"returns": 1}, 2 + HOUR), ({"returns": 1, "closed": True}, 400.0), ({}, 400.0)):
            life = Life()
            incident = life.opened()
            incident.sent_at = (T + 1, T + 2, T + 3, T + 4)
            for name, value in fields.items():
                setattr(incident, name, value)
            incident.calm_since = T + 100
            assert life.book.next_due() == T + ends, fields


class TestAdopting:
    def test_takes_in_what_is_not_known(self, life: Life) -> None:
        incident = stored_copy(Life().opened())
        assert life.book.adopt(incident, T + 50)
        assert (life.one(), incident.watched_since) == (incident, T + 50)
        assert not life.book.adopt(incident, T + 60)

    def test_takes_the_place_of_what_was_only_watched_or_is_over(self, life: Life) -> None:
        mine = Life().opened()
        for phase, taken in ((Phase.WATCHING, True), (Phase.OVER, True), (Phase.PENDING, False), (Phase.OPEN, False)):
            life = Life()
            life.report()
            life.one().phase = phase
            assert life.book.adopt(stored_copy(mine), T) is taken

    def test_what_is_not_open_needs_room_and_an_empty_place(self) -> None:
        life = Life(changed(max_incidents=1))
        pending = stored_copy(Life().opened(), phase=Phase.PENDING)
        assert life.book.adopt(pending, T)
        other = stored_copy(Life().opened("other"), phase=Phase.PENDING)
        assert not life.book.adopt(other, T)
        assert life.book.adopt(dataclasses.replace(other, phase=Phase.OPEN), T), "a message was sent about it"
        life = Life()
        life.report(threshold=3)
        assert not life.book.adopt(pending, T)


class TestMerging:
    def test_takes_in_what_another_process_began_and_lets_it_send_first(self, life: Life) -> None:
        other = Life()
        other.report()
        life.book.merge(stored_copy(other.one(), "1"), T + 1)
        assert (life.one().phase, life.one().due) == (Phase.PENDING, T + 5 + HEAD_START)
        life = Life()
        other.due(5)
        life.book.merge(stored_copy(other.one(), "1"), T + 6)
        assert (life.one().phase, life.one().due) == (Phase.OPEN, math.inf)

    def test_forgets_what_was_over_for_long(self, life: Life) -> None:
        over = Life().opened()
        life.book.merge(stored_copy(over, phase=Phase.OVER), T + 5000)
        assert len(life.book) == 0
        life.book.merge(stored_copy(over, phase=Phase.OVER), T + 4999)
        assert len(life.book) == 1
        life = Life()
        life.book.merge(stored_copy(over), T + 5000)
        assert len(life.book) == 1, "it is open"

    def test_puts_right_what_a_clock_that_was_ahead_wrote(self, life: Life) -> None:
        life.book.merge(stored_copy(Life().opened()), T - 50)
        assert life.one().last_seen == T - 50

    def test_of_what_is_known_already_changes_nothing(self, life: Life) -> None:
        mine = life.opened()
        mine.revision = "2"
        life.book.merge(stored_copy(mine, "2", total=99), T + 9)
        assert life.one() is mine

    def test_adds_what_this_process_saw_meanwhile(self, life: Life) -> None:
        mine = life.opened()
        mine.fresh = type(mine.fresh)()
        theirs = stored_copy(mine, total=5)
        life.report(7)
        life.book.merge(theirs, T + 9)
        assert life.one() is theirs
        assert (theirs.total, theirs.last_seen) == (6, T + 7)
        assert (theirs.observed_here, theirs.started_here, theirs.watched_since) == (True, True, T)
        assert not mine.fresh

    def test_a_rise_that_only_this_process_saw_is_told(self, life: Life) -> None:
        mine = life.opened()
        mine.fresh = type(mine.fresh)()
        theirs = stored_copy(mine)
        life.report(7, severity=CRITICAL)
        life.book.merge(theirs, T + 9)
        assert theirs.due == T + 9
        assert life.due(9) == ["raised"]

    def test_a_rise_that_another_process_saw_is_planned_by_that_one(self, life: Life) -> None:
        mine = life.opened(severity=MEDIUM)
        mine.fresh = type(mine.fresh)()
        theirs = stored_copy(mine, severity=HIGH, due=T + 50)
        life.book.merge(theirs, T + 9)
        assert theirs.due == T + 50

    @pytest.mark.parametrize("severity", [Severity.LOW, MEDIUM])
    def test_an_occurrence_that_cannot_wait_hurries_what_another_process_is_about_to_send(
        self, severity: Severity
    ) -> None:
        life = Life(changed(min_severity=Severity.LOW))
        life.report(severity=severity)
        mine = life.one()
        mine.fresh = type(mine.fresh)()
        theirs = stored_copy(mine)
        life.report(1, severity=severity, at_once=True)
        life.book.merge(theirs, T + 2)
        assert (life.one(), theirs.due) == (theirs, T + 2)

    def test_what_this_process_was_about_to_begin_is_withdrawn_for_that_of_another(self, life: Life) -> None:
        other = Life().opened()
        life.report(1)
        mine = life.one()
        life.book.merge(stored_copy(other), T + 6)
        assert list(life.book.withdrawn) == [mine]
        assert (life.one().id, life.one().total, life.one().started_here) == (other.id, 2, False)

    def test_what_this_process_cannot_wait_to_tell_hurries_that_of_another(self, life: Life) -> None:
        other = Life()
        other.report()
        life.report(1, at_once=True)
        life.book.merge(stored_copy(other.one(), "1"), T + 2)
        assert (life.one().id, life.one().phase, life.one().due) == (other.one().id, Phase.PENDING, T + 2)

    def test_the_occurrences_of_all_processes_reach_the_threshold(self, life: Life) -> None:
        given: dict[str, Any] = {"threshold": 3, "window": 2 * LONG_WATCH}
        other = Life()
        other.report(0, **given)
        other.report(1, **given)
        life.report(2, **given)
        life.book.merge(stored_copy(other.one(), "1"), T + 3)
        assert (life.one().phase, life.one().total, life.one().due) == (Phase.PENDING, 3, T + 8)

    def test_and_what_cannot_wait_is_due_at_once_then(self, life: Life) -> None:
        given: dict[str, Any] = {"threshold": 2, "window": 2 * LONG_WATCH, "at_once": True}
        other = Life()
        other.report(0, **given)
        life.report(2, **given)
        life.book.merge(stored_copy(other.one(), "1"), T + 3)
        assert (life.one().phase, life.one().due) == (Phase.PENDING, T + 3)

    def test_one_that_ended_elsewhere_is_over_here(self, life: Life) -> None:
        mine = life.opened()
        mine.fresh = type(mine.fresh)()
        mine.confirm("chat", T + 6, 1.0, message=1)
        theirs = stored_copy(mine, phase=Phase.OVER, over_at=T + 9, messages=2)
        life.book.merge(theirs, T + 10)
        assert life.one() is theirs
        assert list(life.book.withdrawn) == [mine]
        assert list(life.book.ended_elsewhere) == [(theirs, {"chat"})]
        assert theirs.watched_since == mine.watched_since
        assert life.until(4000) == [(5, "new")]

    def test_what_was_seen_after_that_end_is_the_next_incident(self, life: Life) -> None:
        mine = life.opened()
        mine.fresh = type(mine.fresh)()
        theirs = stored_copy(mine, phase=Phase.OVER, over_at=T + 9, messages=2, last_notified_at=T + 9)
        life.report(12)
        life.report(14)
        life.book.merge(theirs, T + 20)
        back = life.one()
        assert back.id != mine.id
        assert (back.first_seen, back.total, back.returns, back.revision) == (T + 12, 2, 1, "2")
        assert (back.phase, back.due) == (Phase.PENDING, T + 9 + 60)

    def test_and_due_at_once_where_it_cannot_wait(self, life: Life) -> None:
        for at_once, due in ((True, 20), (False, 25)):
            life = Life()
            mine = life.opened()
            mine.fresh = type(mine.fresh)()
            theirs = stored_copy(mine, phase=Phase.OVER, over_at=T + 9, messages=1, last_notified_at=T - 100)
            life.report(12, at_once=at_once)
            life.book.merge(theirs, T + 20)
            assert life.one().due == T + due

    def test_what_was_seen_before_it_is_not(self, life: Life) -> None:
        mine = life.opened()
        mine.fresh = type(mine.fresh)()
        theirs = stored_copy(mine, phase=Phase.OVER, over_at=T + 9, messages=2)
        life.report(9)
        life.book.merge(theirs, T + 20)
        assert life.one() is theirs

    def test_one_that_was_only_pending_here_did_not_end_elsewhere(self, life: Life) -> None:
        life.report()
        life.book.merge(stored_copy(life.one(), phase=Phase.OVER, over_at=T + 1), T + 2)
        assert (life.one().phase, list(life.book.ended_elsewhere)) == (Phase.OVER, [])

    def test_with_a_cause_that_ended_elsewhere_its_consequences_end(self) -> None:
        life = Life(WITH_CAUSES)
        cause = life.opened("outage")
        life.report(6, "errors")
        cause.fresh = type(cause.fresh)()
        life.book.merge(stored_copy(cause, phase=Phase.OVER, over_at=T + 9, messages=2), T + 9)
        assert not life.knows("errors")

    def test_with_a_cause_that_was_cancelled_elsewhere_they_go_on(self) -> None:
        life = Life(WITH_CAUSES)
        life.report(0, "outage")
        life.report(1, "errors")
        life.book.merge(stored_copy(life.one("outage"), phase=Phase.OVER, calm_since=T + 2), T + 3)
        assert (life.one("errors").phase, life.one("errors").due) == (Phase.PENDING, T + 8)

    def test_a_store_that_went_back_is_put_right(self, life: Life) -> None:
        mine = life.opened()
        mine.messages = 3
        life.book.merge(stored_copy(mine, "0", messages=2), T + 9)
        assert life.one() is mine
        assert (mine.revision, mine.unsaved) == ("0", True)

    def test_also_one_that_went_back_to_the_incident_before(self, life: Life) -> None:
        mine = life.opened()
        before = stored_copy(mine, "0", id="before", phase=Phase.OVER, over_at=T - 9)
        life.book.merge(before, T + 9)
        assert (life.one(), mine.revision, mine.unsaved) == (mine, "0", True)
        later = stored_copy(mine, "3", id="later", phase=Phase.OVER, over_at=T)
        life.book.merge(later, T + 9)
        assert life.one() is not mine

    @pytest.mark.parametrize("ended", [0, 2])
    def test_what_ended_here_stays_over_where_the_store_knows_nothing_newer(self, ended: float) -> None:
        for phase, unsaved in ((Phase.PENDING, True), (Phase.OVER, False)):
            life = Life()
            life.report()
            mine = life.one()
            life.resolve(ended)
            mine.unsaved = False
            life.book.merge(stored_copy(mine, phase=phase), T + 3)
            assert life.one() is mine
            assert (mine.phase, mine.revision, mine.unsaved) == (Phase.OVER, "2", unsaved)

    def test_but_ends_once_more_where_another_process_has_told_of_it_by_now(self, life: Life) -> None:
        life.report()
        mine = life.one()
        life.resolve(2)
        mine.fresh = type(mine.fresh)()
        theirs = stored_copy(mine, phase=Phase.OPEN, calm_since=None, messages=1, senders=("there",))
        life.book.merge(theirs, T + 6)
        assert (life.one(), theirs.calm_since) == (theirs, T + 2)
        assert life.until(302) == [(302, "resolved")]


class TestSaving:
    def test_others_learn_of_what_is_told_and_of_long_watches(self, life: Life) -> None:
        for phase, shared in ((Phase.WATCHING, False), (Phase.INHIBITED, False), (Phase.PENDING, True),
                              (Phase.OPEN, True), (Phase.OVER, False)):  # fmt: skip
            incident = Incident.of(alert(window=LONG_WATCH), T)
            incident.phase = phase
            assert life.book.is_shared(incident) is shared, phase
            incident.revision = "1"
            assert life.book.is_shared(incident)
        watched = Incident.of(alert(threshold=2, window=LONG_WATCH + 1), T)
        assert life.book.is_shared(watched)
        watched.phase = Phase.INHIBITED
        assert not life.book.is_shared(watched)

    def test_what_changed_is_saved(self, life: Life) -> None:
        life.report()
        life.report(0, "watched", threshold=3)
        assert life.book.to_save() == [life.one()]
        assert life.one().unsaved
        life.one().fresh, life.one().unsaved = type(life.one().fresh)(), False
        assert life.book.to_save() == []

    def test_what_a_store_has_lost_is_written_again_unless_it_is_over(self, life: Life) -> None:
        before = {
            "lost": ("1", Phase.OPEN), "kept": ("1", Phase.OPEN), "new": (None, Phase.OPEN), "over": ("1", Phase.OVER),
        }  # fmt: skip
        for kind, (revision, phase) in before.items():
            life.report(0, kind)
            incident = life.one(kind)
            incident.revision, incident.phase, incident.unsaved = revision, phase, False
        life.book.restore_lost({life.print_of("kept")})
        after = {kind: (life.one(kind).revision, life.one(kind).unsaved) for kind in before}
        assert after == {"lost": (None, True), "kept": ("1", False), "new": (None, False), "over": (None, False)}

    def test_after_a_gap_nothing_counts_as_observed(self, life: Life) -> None:
        incident = life.opened()
        life.book.woke_up(T + 50)
        assert (incident.observed_here, incident.watched_since) == (False, T + 50)

    def test_a_clock_that_is_put_right_concerns_every_incident(self, life: Life) -> None:
        for kind in ("a", "b"):
            life.report(0, kind)
        life.book.clock_was_set(T - 50)
        assert {each.last_seen for each in life.book} == {T - 50}

    def test_a_book_knows_what_it_holds(self, life: Life) -> None:
        life.report()
        life.report(0, "other")
        assert len(life.book) == 2
        for each in life.book:
            life.book.forget(each.fingerprint)
        life.book.forget("unknown")
        assert (len(life.book), life.book.next_due()) == (0, math.inf)
