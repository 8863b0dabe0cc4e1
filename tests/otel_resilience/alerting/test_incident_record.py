"""One incident without a book: what is known about it, its messages, its end, and its stored form."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from typing import Any

import pytest

from otel_resilience import Severity
from otel_resilience.alerting import AlertConfig, EscalationStep, Links, Notification, Phase, Status
from otel_resilience.alerting.model.alert import format_duration, rfc3339
from otel_resilience.alerting.model.incident import (
    HOUR,
    MAX_ACTIONS,
    MAX_SENDERS,
    SETTLE,
    Incident,
    escalated_severity,
    message_number,
    ordinal,
    step_at,
)
from otel_resilience.alerting.model.observed import Observed
from support.alerting import alert

CONFIG = AlertConfig(keep_firing=300.0, expire_after=10_000.0, rate_limit=60.0, remember=5_000.0, escalation=())
NEVER = -math.inf
T = 1_000_000.0


def incident(**fields: Any) -> Incident:
    """One that was seen once, at ``T``; with other fields where they are given."""
    made = Incident.of(alert(**fields.pop("alert", {})), T)
    made.see(made.alert, T)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def stored(**fields: Any) -> Incident:
    """One as the store holds it: nothing of it is observed by this process alone."""
    return incident(fresh=Observed(), observed_here=False, revision="1", **fields)


class TestItsBeginning:
    def test_nothing_was_seen_or_sent_yet(self) -> None:
        made = Incident.of(alert(severity=Severity.MEDIUM), T)
        assert (made.first_seen, made.last_seen, made.watched_since) == (T, T, T)
        assert (made.phase, made.severity, made.kind, made.dependency) == (
            Phase.WATCHING, Severity.MEDIUM, "trouble", "supplier",
        )  # fmt: skip
        assert (made.total, made.unreported_count, made.messages, made.needs_saving) == (0, 0, 0, False)
        assert made.fingerprint == alert().fingerprint

    def test_its_id_is_its_own_and_its_fingerprint_may_be_given(self) -> None:
        one, two = (Incident.of(alert(), T, "0" * 16) for _ in range(2))
        assert one.id != two.id
        assert len(one.id) == 16
        assert (one.fingerprint, one.next_id) == ("0" * 16, f"{one.id}-1")


class TestOccurrences:
    def test_are_counted_with_their_types_and_keep_the_first_and_the_last_time(self) -> None:
        seen = Incident.of(alert(), T)
        for at, error_type in ((1.0, "503"), (5.0, None), (3.0, "503")):
            seen.see(alert(error_type=error_type), T + at)
        assert (seen.total, seen.unreported_count, seen.unreported_since, seen.last_seen) == (3, 3, T + 1, T + 5)
        assert seen.error_types == {"503": 2}
        assert (seen.observed_here, seen.needs_saving) == (True, True)

    def test_of_one_that_was_reported_start_again(self) -> None:
        seen = incident()
        seen.next_message(CONFIG, T + 1, "new")
        seen.see(alert(), T + 9)
        assert (seen.total, seen.unreported_count, seen.unreported_since) == (2, 1, T + 9)

    def test_a_worse_one_is_what_the_incident_is_about_and_takes_back_an_acknowledgement(self) -> None:
        seen = incident()
        seen.acknowledge(T)
        seen.see(alert(title="the same"), T + 1)
        assert (seen.alert.title, seen.acknowledged_at) == ("trouble at the supplier", T)
        seen.see(alert(title="worse", severity=Severity.CRITICAL), T + 2)
        assert (seen.alert.title, seen.severity) == ("worse", Severity.CRITICAL)
        assert (seen.acknowledged_at, seen.fresh.acknowledged_at) == (None, None)
        seen.see(alert(title="milder"), T + 3)
        assert (seen.alert.title, seen.severity) == ("worse", Severity.CRITICAL)

    def test_the_latest_with_a_correlation_id_is_known(self) -> None:
        seen = Incident.of(alert(), T)
        seen.see(alert(correlation_id="a" * 32, span_id="1" * 16), T + 1)
        seen.see(alert(), T + 2)
        assert (seen.latest_correlation_id, seen.latest_span_id) == ("a" * 32, "1" * 16)
        seen.see(alert(correlation_id="b" * 32, span_id="2" * 16), T + 2)
        assert (seen.latest_correlation_id, seen.latest_span_id) == ("b" * 32, "2" * 16)
        seen.see(alert(correlation_id="c" * 32), T)
        assert seen.latest_correlation_id == "b" * 32, "an older one"

    def test_one_after_the_recovery_takes_that_back(self) -> None:
        seen = incident(calm_since=T + 10, over_at=T + 10, closed=True)
        seen.see(alert(), T + 9)
        assert (seen.calm_since, seen.over_at, seen.closed) == (T + 10, T + 10, True)
        seen.see(alert(), T + 10)
        assert (seen.calm_since, seen.over_at, seen.closed) == (None, None, False)

    def test_that_it_goes_on_counts_as_none(self) -> None:
        seen = stored(calm_since=T + 1)
        seen.mark_ongoing(T + 7)
        assert (seen.last_seen, seen.total, seen.calm_since) == (T + 7, 1, None)
        assert (seen.observed_here, seen.fresh.last_bad, seen.fresh.count) == (True, T + 7, 0)


class TestTheThreshold:
    def seen(self, *times: float, threshold: int = 3, revision: str | None = None) -> Incident:
        given = alert(threshold=threshold, window=60.0, error_type="503")
        made = Incident.of(given, T)
        made.revision = revision
        for at in times:
            made.see(given, T + at)
        return made

    def test_is_reached_by_enough_within_the_window(self) -> None:
        assert not self.seen(0, 1).threshold_reached()
        assert not self.seen(0, 1, 60.1).threshold_reached()
        assert self.seen(0, 1, 60).threshold_reached()

    def test_the_incident_is_those_within_it(self) -> None:
        made = self.seen(0, 50, 80, 90)
        assert made.threshold_reached()
        assert (made.first_seen, made.unreported_since) == (T + 50, T + 50)
        assert (made.total, made.unreported_count, made.error_types) == (3, 3, {"503": 3})
        assert (made.fresh.count, made.fresh.first_at, made.fresh.error_types) == (3, T + 50, {"503": 3})
        assert not made.recent

    def test_what_the_store_holds_of_it_stays(self) -> None:
        made = self.seen(0, 50, 80, 90, revision="1")
        assert made.threshold_reached()
        assert (made.fresh.count, made.fresh.first_at, made.fresh.error_types) == (4, T, {"503": 4})

    def test_is_none_where_it_was_reached_before_or_is_one(self) -> None:
        made = self.seen(0)
        made.phase = Phase.OPEN
        assert made.threshold_reached()
        assert self.seen(0, threshold=1).threshold_reached()

    def test_what_comes_after_it_is_not_kept_apart(self) -> None:
        made = self.seen(0, 1)
        made.phase = Phase.OPEN
        made.see(made.alert, T + 2)
        assert len(made.recent) == 2


class TestSignsOfRecovery:
    def test_the_first_one_counts(self) -> None:
        seen = stored()
        seen.becomes_calm(T + 5, certain=False)
        seen.becomes_calm(T + 9, certain=False)
        assert (seen.calm_since, seen.fresh.calm_since, seen.over_at) == (T + 5, T + 5, None)
        assert seen.observed_here

    def test_a_certain_one_ends_it_and_the_first_of_those_counts(self) -> None:
        seen = stored()
        seen.becomes_calm(T + 5, certain=False)
        seen.fresh = Observed()
        seen.becomes_calm(T + 9, certain=True)
        seen.becomes_calm(T + 11, certain=True)
        assert (seen.calm_since, seen.over_at) == (T + 5, T + 9)
        assert (seen.fresh.calm_since, seen.fresh.over_at) == (T + 5, T + 9)

    def test_but_not_one_that_came_back_before(self) -> None:
        seen = stored(returns=1)
        seen.becomes_calm(T + 5, certain=True)
        assert (seen.calm_since, seen.over_at) == (T + 5, None)

    def test_it_ended_at_the_end_else_at_the_first_sign_else_with_the_last_occurrence(self) -> None:
        assert incident(calm_since=T + 5, over_at=T + 9).ended_at == T + 9
        assert incident(calm_since=T + 5).ended_at == T + 5
        assert incident().ended_at == T


class TestWhatPeopleDecide:
    def test_who_takes_it_first_has_it(self) -> None:
        seen = stored()
        seen.acknowledge(T + 5)
        seen.acknowledge(T + 9)
        assert (seen.acknowledged_at, seen.fresh.acknowledged_at, seen.unsaved) == (T + 5, T + 5, True)

    def test_the_longer_silence_holds(self) -> None:
        seen = stored()
        seen.silence(T + 90)
        seen.silence(T + 50)
        assert (seen.silenced_until, seen.fresh.silenced_until, seen.unsaved) == (T + 90, T + 90, True)

    def test_who_did_what_and_why_is_kept_of_the_last_actions(self) -> None:
        seen = stored()
        for number in range(MAX_ACTIONS + 3):
            seen.note_action("acknowledge", f"person {number}", "on it", 0.0)
        assert len(seen.actions) == MAX_ACTIONS
        last = {"action": "acknowledge", "by": f"person {MAX_ACTIONS + 2}", "reason": "on it"}
        assert seen.actions[-1] == seen.fresh.actions[-1] == {**last, "at": "1970-01-01T00:00:00.000Z"}
        assert seen.actions[0]["by"] == "person 3"
        assert seen.unsaved
        seen.note_action("close", None, None, 0.0)
        assert seen.fresh.actions[0]["by"] == "person 0", "nothing that the store does not hold is dropped"

    @pytest.mark.parametrize(("at", "ended"), [(T + 50, T + 50), (T - 50, T)])
    def test_what_is_closed_ends_then_but_not_before_it_was_seen_last(self, at: float, ended: float) -> None:
        seen = stored()
        seen.close(at)
        assert (seen.calm_since, seen.over_at, seen.closed) == (ended, ended, True)
        assert (seen.fresh.calm_since, seen.fresh.over_at, seen.fresh.closed) == (ended, ended, True)


class TestMessages:
    def test_say_everything(self) -> None:
        config = AlertConfig(
            service="checkout",
            environment="production",
            trace_url="t/{trace_id}",
            dashboard_url="d/{name}",
            runbook_url="r/{name}",
            incident_url="i/{id}",
        )
        given = alert(
            summary="It fails.",
            error_type="503",
            error_class="transient",
            correlation_id="a" * 32,
            span_id="1" * 16,
            details_url="https://jobs/1",
            quiet_after=120.0,
            context={"page": 3},
        )
        seen = Incident.of(given, T, "f" * 16)
        seen.see(given, T + 1)
        seen.see(alert(error_type="timeout"), T + 4)
        seen.channels, seen.steps, seen.returns = ("pager",), (0,), 2
        assert seen.next_message(config, T + 9, "back", sender="host-1") == Notification(
            id=f"{seen.id}-1",
            status=Status.FIRING,
            severity=Severity.HIGH,
            kind="trouble",
            title="trouble at the supplier",
            summary="It fails. 2 times in 3 s, 2 error types. Reopened (2nd time).",
            dependency="supplier",
            error_type="503",
            error_class="transient",
            correlation_id="a" * 32,
            span_id="1" * 16,
            fingerprint="f" * 16,
            incident=seen.id,
            count=2,
            total=2,
            first_seen=T,
            last_seen=T + 4,
            escalation=1,
            links=Links(
                trace=f"t/{'a' * 32}",
                dashboard="d/trouble",
                runbook="r/trouble",
                incident=f"i/{seen.id}",
                details="https://jobs/1",
            ),
            context={"page": 3, "returns": 2},
            service="checkout",
            environment="production",
            reason="back",
            error_types={"503": 1, "timeout": 1},
            further_channels=("pager",),
            quiet_after=120.0,
            caused_at=T + 1,
            sender="host-1",
        )

    def test_what_is_told_is_told_once(self) -> None:
        seen = incident(due=T, resend=True)
        first = seen.next_message(CONFIG, T + 5, "new", sender="a")
        second = seen.next_message(CONFIG, T + 9, "repeat", sender="b")
        assert (first.count, second.count, second.total) == (1, 0, 1)
        assert (first.id, second.id, seen.next_id) == (f"{seen.id}-1", f"{seen.id}-2", f"{seen.id}-3")
        assert (seen.last_notified_at, seen.last_reported_count, seen.notified_severity) == (T + 9, 1, Severity.HIGH)
        assert (seen.due, seen.resend, seen.sent_at, seen.senders) == (math.inf, False, (T + 5, T + 9), ("a", "b"))

    def test_the_first_shows_the_first_trace_and_later_ones_the_latest(self) -> None:
        seen = Incident.of(alert(), T)
        seen.see(alert(correlation_id="b" * 32, span_id="2" * 16), T + 1)
        first = seen.next_message(CONFIG, T + 5, "new")
        assert (first.correlation_id, first.span_id) == ("b" * 32, None), "the first alert had none of its own"
        second = seen.next_message(CONFIG, T + 6, "raised")
        assert (second.correlation_id, second.span_id) == ("b" * 32, "2" * 16)
        seen = incident(alert={"correlation_id": "a" * 32, "span_id": "1" * 16})
        seen.see(alert(correlation_id="b" * 32, span_id="2" * 16), T + 1)
        traces = [seen.next_message(CONFIG, T + 2, reason).correlation_id for reason in ("new", "repeat")]
        assert traces == ["a" * 32, "b" * 32]

    def test_name_no_process_unless_one_is_given(self) -> None:
        seen = incident()
        assert (seen.next_message(CONFIG, T, "new").sender, seen.senders) == ("", ("",))

    def test_shows_the_trace_of_the_latest_occurrence_once_there_was_a_message(self) -> None:
        seen = incident(alert={"correlation_id": "a" * 32, "span_id": "1" * 16})
        seen.see(alert(correlation_id="b" * 32, span_id="2" * 16), T + 1)
        shown = [seen.next_message(CONFIG, T + 2, reason) for reason in ("new", "repeat")]
        assert [(each.correlation_id, each.span_id) for each in shown] == [("a" * 32, "1" * 16), ("b" * 32, "2" * 16)]

    def test_counts_error_types_where_there_are_several(self) -> None:
        seen = incident(alert={"summary": "It fails.", "error_type": "503"})
        seen.see(seen.alert, T + 3)
        assert seen.next_message(CONFIG, T + 3, "new").summary == "It fails. 2 times in 3 s."

    def test_of_a_process_without_a_name_names_none(self) -> None:
        assert incident().next_message(CONFIG, T, "new").sender == ""

    def test_the_end_shows_the_first_trace_again_and_goes_to_all_who_hold_it_open(self) -> None:
        given = alert(correlation_id="a" * 32, span_id="1" * 16)
        seen = Incident.of(given, T)
        seen.see(given, T)
        seen.see(alert(correlation_id="b" * 32, span_id="2" * 16), T + 1)
        seen.channels, seen.holders, seen.messages, seen.over_at = ("pager",), ("desk",), 3, T + 30
        end = seen.next_message(CONFIG, T + 99, "resolved", Status.RESOLVED)
        assert (end.correlation_id, end.span_id, end.ended_at) == ("a" * 32, "1" * 16, T + 30)
        assert (end.further_channels, end.caused_at) == (("pager", "desk"), T + 99)
        assert seen.notification(CONFIG, T, "repeat", Status.FIRING, sender="").further_channels == ("pager",)

    @pytest.mark.parametrize("reason", ["new", "back", "raised"])
    def test_what_tells_of_an_occurrence_was_caused_by_it(self, reason: str) -> None:
        assert incident().next_message(CONFIG, T + 9, reason).caused_at == T

    @pytest.mark.parametrize("reason", ["more", "escalated", "repeat", "resolved"])
    def test_other_messages_are_caused_by_the_time(self, reason: str) -> None:
        assert incident().next_message(CONFIG, T + 9, reason).caused_at == T + 9

    def test_the_ten_most_frequent_types_are_shown(self) -> None:
        seen = incident(error_types={str(number): number for number in range(1, 13)})
        shown = seen.next_message(CONFIG, T, "new").error_types
        assert list(shown.items()) == [(str(number), number) for number in range(12, 2, -1)]

    @pytest.mark.parametrize(
        ("reason", "fields", "summary"),
        [
            ("new", {}, ""),
            ("new", {"unreported_count": 2, "last_seen": T + 60}, "2 times in 60 s."),
            ("new", {"unreported_count": 1234, "last_seen": T + 180}, "1,234 times in 3 min."),
            ("repeat", {}, "Ongoing for 5 min (since 1970-01-12T13:46:40.000Z)."),
            ("escalated", {"returns": 1}, "Reopened (1st time). Ongoing for 5 min (since 1970-01-12T13:46:40.000Z)."),
            ("resolved", {"over_at": T + 30}, "Resolved after 30 s."),
        ],
    )
    def test_the_summary(self, reason: str, fields: dict[str, Any], summary: str) -> None:
        assert incident(**fields).next_message(CONFIG, T + 300, reason).summary == summary

    def test_the_summary_begins_with_that_of_the_alert(self) -> None:
        seen = incident(alert={"summary": "It fails."}, over_at=T + 1)
        assert seen.next_message(CONFIG, T, "resolved").summary == "It fails. Resolved after 1 s."

    def test_which_of_its_incident_a_message_is(self) -> None:
        message = incident().next_message(CONFIG, T, "new")
        assert message_number(message) == 1
        for other in ("something-else-7", f"{message.incident}-x", message.incident, f"{message.incident}-", "-1"):
            assert message_number(dataclasses.replace(message, id=other)) == 0

    def test_who_sent_the_last_of_them_is_known(self) -> None:
        seen = incident()
        for number in range(1, MAX_SENDERS + 3):
            seen.next_message(CONFIG, T, "repeat", sender=f"host-{number}")
        known = [seen.sender_of(number) for number in range(MAX_SENDERS + 4)]
        assert known == [None] * 3 + [f"host-{number}" for number in range(3, MAX_SENDERS + 3)] + [None]

    def test_the_times_of_the_last_four_are_known(self) -> None:
        seen = incident()
        for number in range(6):
            seen.next_message(CONFIG, T + number, "repeat")
        assert seen.sent_at == (T + 2, T + 3, T + 4, T + 5)


class TestConfirmations:
    def test_say_which_channel_took_which_message_when(self) -> None:
        seen = stored(messages=2)
        seen.confirm("chat", 0.0, 1.23456, message=1)
        taken = {"channel": "chat", "message": 1, "at": "1970-01-01T00:00:00.000Z", "seconds": 1.235}
        assert seen.deliveries == seen.fresh.deliveries == [taken]
        assert (seen.holders, seen.fresh.holders, seen.is_confirmed) == ((), (), False)

    def test_of_the_last_message_by_all_its_channels_make_it_a_confirmed_one(self) -> None:
        for confirmed_by_all, confirmed in ((False, False), (True, True)):
            seen = stored(messages=2)
            seen.confirm("chat", 0.0, 1.0, message=2, by_all=confirmed_by_all)
            seen.confirm("pager", 0.0, 1.0, message=1, by_all=True)
            assert seen.is_confirmed is confirmed
            assert seen.confirmed == seen.fresh.confirmed == 1 + confirmed
            seen.next_message(CONFIG, T, "repeat")
            assert not seen.is_confirmed

    def test_of_no_message_in_particular_confirm_none(self) -> None:
        seen = stored(messages=1)
        seen.confirm("chat", 0.0, 1.0, by_all=True)
        assert seen.deliveries[0]["message"] == 0
        assert not seen.is_confirmed

    def test_of_receivers_that_hold_it_open_are_kept_once_each(self) -> None:
        seen = stored(holders=("desk",))
        for channel in ("pager", "desk", "pager"):
            seen.confirm(channel, 0.0, 1.0, held=True)
        assert seen.holders == ("desk", "pager")
        assert seen.fresh.holders == ("pager", "desk")

    def test_ten_are_kept(self) -> None:
        seen = stored()
        for number in range(13):
            seen.confirm(f"channel {number}", 0.0, 1.0)
        assert [each["channel"] for each in seen.deliveries] == [f"channel {number}" for number in range(3, 13)]


class TestTheBoundOfAnHour:
    def test_leaves_room_once_the_oldest_message_is_an_hour_old(self) -> None:
        sent = (T + 1, T + 2, T + 3, T + 4)
        assert incident(sent_at=sent).room_for(1) == T + 1 + HOUR
        assert incident(sent_at=sent).room_for(2) == T + 2 + HOUR
        assert incident(sent_at=sent[:3]).room_for(1) == NEVER
        assert incident(sent_at=sent[:3]).room_for(2) == T + 1 + HOUR
        assert incident(sent_at=sent[:2]).room_for(2) == NEVER

    def test_does_not_concern_what_is_critical(self) -> None:
        assert incident(sent_at=(T, T, T, T), severity=Severity.CRITICAL).room_for(1) == NEVER
        assert incident(sent_at=(T, T, T, T), severity=Severity.HIGH).room_for(1) == T + HOUR


class TestAClockThatWasAhead:
    TIMES = ("first_seen", "last_seen", "last_notified_at", "unreported_since", "watched_since",
             "calm_since", "over_at", "acknowledged_at")  # fmt: skip

    def test_what_it_wrote_down_happened_now(self) -> None:
        seen = incident(sent_at=(T - 5, T + 5), **dict.fromkeys(self.TIMES, T + 9))
        seen.recent.extend([(T - 1, "503"), (T + 1, None)])
        seen.not_after(T, CONFIG)
        assert {name: getattr(seen, name) for name in self.TIMES} == dict.fromkeys(self.TIMES, T)
        assert seen.sent_at == (T - 5, T)
        assert list(seen.recent) == [(T - 1, "503"), (T, None)]

    def test_what_lies_before_stays(self) -> None:
        seen = incident(**dict.fromkeys(self.TIMES, T - 9))
        seen.not_after(T, CONFIG)
        assert {name: getattr(seen, name) for name in self.TIMES} == dict.fromkeys(self.TIMES, T - 9)

    def test_what_did_not_happen_still_did_not(self) -> None:
        seen = incident()
        seen.not_after(T, CONFIG)
        assert (seen.calm_since, seen.over_at, seen.acknowledged_at) == (None, None, None)

    def test_the_first_message_follows_an_earlier_one_by_the_rate_limit_and_four_within_an_hour(self) -> None:
        assert incident().earliest(CONFIG) == NEVER
        assert incident(sent_at=(T, T + 5, T + 9)).earliest(CONFIG) == T + 69
        assert incident(sent_at=(T, T + 5, T + 9, T + 10)).earliest(CONFIG) == T + HOUR

    def test_what_it_planned_is_planned_from_now_on(self) -> None:
        seen = incident(due=T + 9 * HOUR, not_before=T + 9 * HOUR, sent_at=(T + 8 * HOUR,))
        seen.not_after(T, CONFIG)
        assert (seen.not_before, seen.due) == (T + 60, T + 60)
        seen = incident(due=T + 9 * HOUR)
        seen.not_after(T, CONFIG)
        assert seen.due == T + 60
        unsent = incident(not_before=T + 9 * HOUR)
        unsent.not_after(T, CONFIG)
        assert unsent.not_before == T + 60
        flapping = incident(due=T + HOUR, not_before=T + HOUR, sent_at=(T, T, T, T))
        flapping.not_after(T, CONFIG)
        assert (flapping.not_before, flapping.due) == (T + HOUR, T + HOUR), "the bound of an hour stays"

    def test_what_is_planned_for_soon_stays(self) -> None:
        seen = incident(due=T + 5)
        seen.not_after(T, CONFIG)
        assert (seen.due, seen.not_before) == (T + 5, NEVER)
        seen = incident()
        seen.not_after(T, CONFIG)
        assert seen.due == math.inf

    def test_a_threshold_is_counted_on(self) -> None:
        seen = incident(alert={"threshold": 2, "window": 60.0})
        seen.not_after(T, CONFIG)
        for number in range(1, 4):
            seen.see(seen.alert, T + number)
        assert [at for at, _ in seen.recent] == [T + 2, T + 3]


class TestWhatAnotherProcessAdds:
    def observed(self, *times: float, **changes: Any) -> Observed:
        seen = Observed()
        for at in times:
            seen.see(alert(**changes), T + at)
        return seen

    def test_occurrences_are_added_with_their_types_and_their_latest_trace(self) -> None:
        seen = stored(alert={"error_type": "503"})
        seen.absorb(self.observed(5, 7, error_type="503", correlation_id="a" * 32, span_id="1" * 16))
        assert (seen.total, seen.unreported_count, seen.last_seen) == (3, 3, T + 7)
        assert seen.error_types == {"503": 3}
        assert (seen.latest_correlation_id, seen.latest_span_id) == ("a" * 32, "1" * 16)
        assert (seen.observed_here, seen.needs_saving, seen.fresh.count) == (True, True, 2)

    def test_the_first_of_them_is_where_the_next_message_begins(self) -> None:
        seen = stored(unreported_count=0)
        seen.absorb(self.observed(5, 7))
        assert (seen.unreported_count, seen.unreported_since) == (2, T + 5)

    def test_that_it_goes_on_is_noted(self) -> None:
        seen = stored(calm_since=T + 1)
        ongoing = Observed()
        ongoing.mark_ongoing(T + 5)
        seen.absorb(ongoing)
        assert (seen.total, seen.last_seen, seen.calm_since) == (1, T + 5, None)

    def test_a_recovery_counts_from_the_first_sign_unless_it_was_seen_later(self) -> None:
        for before, calm_since in ((None, T + 5), (T + 3, T + 3), (T + 9, T + 5)):
            seen = stored(calm_since=before)
            seen.absorb(Observed(calm_since=T + 5))
            assert (seen.calm_since, seen.over_at) == (calm_since, None)
        seen = stored(last_seen=T + 6)
        seen.absorb(Observed(calm_since=T + 5, over_at=T + 5))
        assert (seen.calm_since, seen.over_at) == (None, None)

    def test_an_end_counts_from_the_first_one(self) -> None:
        for before, over_at in ((None, T + 5), (T + 3, T + 3), (T + 9, T + 5)):
            seen = stored(calm_since=before, over_at=before)
            seen.absorb(Observed(calm_since=T, over_at=T + 5))
            assert (seen.calm_since, seen.over_at) == (T, over_at)

    def test_what_people_decided_holds_for_all(self) -> None:
        seen = stored(silenced_until=T + 50)
        action = {"action": "close", "by": "ops", "reason": None, "at": "now"}
        seen.absorb(Observed(acknowledged_at=T + 5, silenced_until=T + 90, closed=True, actions=[action]))
        assert (seen.acknowledged_at, seen.silenced_until, seen.closed) == (T + 5, T + 90, True)
        assert seen.actions == [action]
        seen.absorb(Observed(acknowledged_at=T + 9, silenced_until=T + 60))
        assert (seen.acknowledged_at, seen.silenced_until, seen.closed) == (T + 5, T + 90, True)

    def test_confirmations_are_added_with_those_that_hold_it_open(self) -> None:
        seen = stored(holders=("desk",))
        seen.absorb(Observed(deliveries=[{"channel": "pager", "message": 1}], holders=("pager",), confirmed=1))
        assert (seen.deliveries, seen.holders) == ([{"channel": "pager", "message": 1}], ("desk", "pager"))
        assert seen.confirmed == 1
        seen.absorb(Observed())
        assert seen.confirmed == 1

    def test_below_the_threshold_the_occurrences_of_all_processes_are_counted(self) -> None:
        seen = stored(alert={"threshold": 3, "window": 60.0})
        seen.absorb(self.observed(5, 7, threshold=3))
        assert [at for at, _ in seen.recent] == [T, T + 5, T + 7]
        seen.absorb(self.observed(8, 9, threshold=3))
        assert [at for at, _ in seen.recent] == [T + 7, T + 8, T + 9]
        seen = stored(alert={"threshold": 3, "window": 60.0}, phase=Phase.OPEN)
        seen.absorb(self.observed(5, 7, threshold=3))
        assert [at for at, _ in seen.recent] == [T]

    def test_nothing_observed_changes_nothing(self) -> None:
        seen = stored(calm_since=T + 1)
        before = seen.dump()
        seen.absorb(Observed())
        assert (seen.dump(), seen.observed_here, seen.needs_saving) == (before, False, False)
        seen.observed_here = True
        seen.absorb(Observed())
        assert seen.observed_here


class TestItsEnd:
    def test_comes_when_it_was_calm_for_long_enough(self) -> None:
        assert incident(calm_since=T + 50).ends_at(CONFIG) == T + 350
        assert incident(calm_since=T + 50, over_at=T + 60).ends_at(CONFIG) == T + 60

    def test_waits_until_a_process_that_loaded_it_has_watched_for_long_enough(self) -> None:
        for observed_here, ends in ((False, T + 500), (True, T + 350)):
            seen = incident(calm_since=T + 50, watched_since=T + 200, observed_here=observed_here)
            assert seen.ends_at(CONFIG) == ends

    def test_comes_when_nobody_has_seen_it_for_very_long(self) -> None:
        assert incident().ends_at(CONFIG) == T + 10_000
        assert incident(calm_since=T + 9_900).ends_at(CONFIG) == T + 10_000

    def test_comes_by_itself_where_silence_means_that(self) -> None:
        assert incident(alert={"quiet_after": 120.0}).ends_at(CONFIG) == T + 120
        assert incident(alert={"quiet_after": 500.0}, calm_since=T + 10).ends_at(CONFIG) == T + 310

    @pytest.mark.parametrize(
        ("quiet_after", "watched_since", "ends"),
        [
            (None, T + 1_000, T + 1_300),
            (120.0, T + 1_000, T + 1_120),
            (900.0, T + 1_000, T + 1_300),
            (None, T, T + 350),
        ],
    )
    def test_a_process_that_only_loaded_it_watches_for_a_while_first(
        self, quiet_after: float | None, watched_since: float, ends: float
    ) -> None:
        seen = stored(alert={"quiet_after": quiet_after}, calm_since=T + 50, watched_since=watched_since)
        assert seen.ends_at(CONFIG) == ends

    def test_with_the_process_what_was_calm_for_long_enough_ends_where_it_was_seen_last(self) -> None:
        for at, over_at in ((T + 299, None), (T + 300, T + 10)):
            seen = stored(calm_since=T + 10)
            seen.end_with_process(CONFIG, at)
            assert (seen.over_at, seen.fresh.over_at) == (over_at, over_at)
        assert seen.fresh.calm_since == T + 10

    @pytest.mark.parametrize(
        ("quiet_after", "calm_since", "ends"),
        [(120.0, None, T + 120), (500.0, T, T + 300), (120.0, T, T + 120), (None, None, T + 10_000)],
    )
    def test_with_the_process_what_is_quiet_for_long_enough_ends(
        self, quiet_after: float | None, calm_since: float | None, ends: float
    ) -> None:
        for at, over_at in ((ends - 1, None), (ends, T)):
            seen = stored(alert={"quiet_after": quiet_after}, calm_since=calm_since)
            seen.end_with_process(CONFIG, at)
            assert (seen.over_at, seen.fresh.over_at) == (over_at, over_at)

    def test_with_the_process_an_end_that_is_known_stays(self) -> None:
        seen = stored(calm_since=T, over_at=T + 50)
        seen.end_with_process(CONFIG, T + 9_000)
        assert seen.over_at == T + 50

    def test_before_a_message_leaves_nothing_to_tell(self) -> None:
        seen = incident(alert={"threshold": 2, "window": 60.0}, due=T + 5)
        seen.withdraw(T + 3)
        assert (seen.phase, seen.calm_since, seen.unreported_count, seen.due) == (Phase.OVER, T + 3, 0, math.inf)
        assert not seen.recent
        assert seen.unsaved


class TestEscalation:
    def test_waits_until_a_process_that_loaded_it_knows_how_it_stands(self) -> None:
        assert incident().may_escalate_from(CONFIG) == NEVER
        assert stored(watched_since=T + 5).may_escalate_from(CONFIG) == T + 5 + SETTLE
        patient = AlertConfig(keep_firing=SETTLE + 100)
        assert stored(watched_since=T + 5).may_escalate_from(patient) == T + 5 + SETTLE + 100

    def test_takes_each_step_once_and_says_whether_it_matters(self) -> None:
        seen = incident(channels=("pager",))
        assert seen.take_step(0, EscalationStep(after=60, channels=("boss", "pager")), T)
        assert (seen.severity, seen.channels, seen.steps, seen.escalation) == (
            Severity.CRITICAL, ("pager", "boss"), (0,), 1,
        )  # fmt: skip
        assert not seen.take_step(1, EscalationStep(after=90, channels=("boss",)), T)
        assert (seen.steps, seen.escalation) == ((0, 1), 2)
        assert seen.take_step(2, EscalationStep(after=90, channels=("chief",)), T)
        seen.severity = Severity.LOW
        assert seen.take_step(3, EscalationStep(after=90, severity=Severity.HIGH), T)
        assert seen.severity is Severity.HIGH

    def test_rises_one_step_or_as_far_as_it_says_but_never_falls(self) -> None:
        rises = [escalated_severity(severity, None) for severity in Severity]
        assert rises == [Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL, Severity.CRITICAL]
        assert escalated_severity(Severity.LOW, Severity.HIGH) is Severity.HIGH
        assert escalated_severity(Severity.HIGH, Severity.LOW) is Severity.HIGH

    def test_is_due_after_its_time_or_when_it_came_back_often_enough(self) -> None:
        assert step_at(incident(), EscalationStep(after=60)) == T + 60
        often = EscalationStep(returns=2)
        assert [step_at(incident(returns=returns), often) for returns in (1, 2, 3)] == [math.inf, T, T]


class TestComingBack:
    def test_makes_another_incident_that_remembers_the_one_before(self) -> None:
        over = stored(messages=2, returns=1, sent_at=(T,), last_notified_at=T + 30, fingerprint="f" * 16)
        back = over.reopened_as(alert(title="again"), T + 100, CONFIG)
        assert back.id != over.id
        assert (back.fingerprint, back.alert.title, back.first_seen) == ("f" * 16, "again", T + 100)
        assert (back.revision, back.sent_at, back.returns, back.not_before) == ("1", (T,), 2, T + 90)

    def test_is_forgotten_after_a_while(self) -> None:
        over = stored(messages=1, last_notified_at=T)
        assert over.reopened_as(alert(), T + 4_999, CONFIG).returns == 1
        late = over.reopened_as(alert(), T + 5_000, CONFIG)
        assert (late.returns, late.not_before) == (0, NEVER)

    def test_of_one_that_nobody_was_told_of_is_not_a_return(self) -> None:
        assert stored(not_before=T + 77).reopened_as(alert(), T + 10, CONFIG).not_before == NEVER
        again = stored(returns=2, not_before=T + 77).reopened_as(alert(), T + 10, CONFIG)
        assert (again.returns, again.not_before) == (2, T + 77)

    def test_waits_for_room_within_the_hour(self) -> None:
        over = stored(messages=4, sent_at=(T - 9, T - 8, T - 7, T - 6), last_notified_at=T - 6)
        assert over.reopened_as(alert(), T + 100, CONFIG).not_before == T - 9 + HOUR


class TestASilenceThatAClockAheadWroteDown:
    @staticmethod
    def silenced(ahead: float, **fields: Any) -> Incident:
        """For an hour from ``T + ahead``, between two other decisions."""
        asked = [("acknowledge", T - 9), ("silence", T + ahead), ("resend", T - 5)]
        actions = [{"action": action, "by": "ops", "reason": None, "at": rfc3339(at)} for action, at in asked]
        return stored(silenced_until=T + ahead + HOUR, actions=actions, **fields)

    @pytest.mark.parametrize("ahead", [1.001, 2 * HOUR])
    def test_begins_now_and_that_is_stored(self, ahead: float) -> None:
        made = self.silenced(ahead)
        made.not_after(T, CONFIG)
        assert made.silenced_until == pytest.approx(T + HOUR)
        assert [(each["action"], each["at"]) for each in made.actions] == [
            ("acknowledge", rfc3339(T - 9)), ("silence", rfc3339(T)), ("resend", rfc3339(T - 5)),
        ]  # fmt: skip
        assert made.unsaved is True
        assert made.fresh.silenced_until == NEVER

    def test_is_as_long_as_was_asked_for_even_if_it_was_asked_here(self) -> None:
        made = self.silenced(2 * HOUR)
        made.fresh.silenced_until = made.silenced_until
        made.not_after(T, CONFIG)
        assert made.fresh.silenced_until == made.silenced_until == T + HOUR

    @pytest.mark.parametrize("ahead", [-30.0, 0.5, 1.0])
    def test_stays_as_it_is_where_clocks_may_differ_so_much(self, ahead: float) -> None:
        made = self.silenced(ahead)
        before = list(made.actions)
        made.not_after(T, CONFIG)
        assert (made.silenced_until, made.actions, made.unsaved) == (T + ahead + HOUR, before, False)


class TestItsRecord:
    def test_holds_everything_but_what_concerns_one_process(self) -> None:
        seen = incident(
            alert={"fingerprint_by": ("a",), "context": {"page": 3}, "threshold": 3, "error_type": "503"},
            severity=Severity.CRITICAL,
            phase=Phase.OPEN,
            due=T + 5,
            not_before=T + 6,
            silenced_until=T + 7,
            steps=(0, 1),
            channels=("pager",),
            holders=("desk",),
            senders=("host",),
            sent_at=(T, T + 1),
            returns=1,
            batch="b",
            revision="4",
        )
        seen.note_action("close", "ops", "done", T)
        seen.confirm("pager", T, 1.0)
        again = Incident.load(json.loads(json.dumps(seen.dump())))
        local = {"fresh", "observed_here", "unsaved", "started_here", "resend", "watched_since"}
        for field in dataclasses.fields(Incident):
            if field.name not in local:
                assert getattr(again, field.name) == getattr(seen, field.name), field.name
                assert type(getattr(again, field.name)) is type(getattr(seen, field.name)), field.name
        assert not local & seen.dump().keys()
        assert (again.watched_since, again.observed_here, again.needs_saving) == (seen.last_seen, False, False)

    def test_does_not_change_with_the_incident_nor_with_one_that_was_made_of_it(self) -> None:
        seen = incident(alert={"threshold": 3, "window": 60.0, "error_type": "503"})
        seen.confirm("chat", T, 1.0)
        record = seen.dump()
        before = copy.deepcopy(record)
        for each in (seen, Incident.load(record)):
            each.see(alert(threshold=3, window=60.0, error_type="503"), T + 1)
            each.confirm("chat", T, 1.0)
            each.note_action("close", None, None, T)
            each.take_step(0, EscalationStep(after=60.0, severity=Severity.CRITICAL), T + 60)
            assert record == before

    def test_what_is_not_planned_stays_so(self) -> None:
        again = Incident.load(incident().dump())
        assert (again.due, again.not_before, again.silenced_until) == (math.inf, NEVER, NEVER)

    def test_of_an_earlier_version_has_no_times_of_messages_and_no_actions(self) -> None:
        record = incident().dump()
        del record["sent_at"], record["actions"]
        again = Incident.load(record)
        assert (again.sent_at, again.actions) == ((), [])

    def test_what_a_later_version_added_is_left_out(self) -> None:
        record = incident().dump()
        assert Incident.load({**record, "mood": "bad"}).dump() == record

    @pytest.mark.parametrize(
        "name", ["first_seen", "last_seen", "last_notified_at", "unreported_since", "total", "unreported_count"]
    )
    def test_a_time_or_count_that_is_not_a_number_is_refused_by_name(self, name: str) -> None:
        with pytest.raises(TypeError, match=f"^{name} is not of its type$"):
            Incident.load({**incident().dump(), name: "7"})

    @pytest.mark.parametrize(
        "name",
        [
            "first_seen", "last_seen", "unreported_since", "last_notified_at", "due", "not_before", "calm_since",
            "over_at", "acknowledged_at", "silenced_until",
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("at", [-1.0, 1e15])
    def test_a_time_that_cannot_be_is_refused(self, name: str, at: float) -> None:
        with pytest.raises(ValueError, match="is not a time"):
            Incident.load({**incident().dump(), name: at})

    @pytest.mark.parametrize(("name", "series"), [("sent_at", [T, -1.0]), ("recent", [[T, None], [-1.0, "503"]])])
    def test_nor_is_one_in_a_series(self, name: str, series: list[Any]) -> None:
        with pytest.raises(ValueError, match="is not a time"):
            Incident.load({**incident().dump(), name: series})

    @pytest.mark.parametrize("name", ["total", "unreported_count", "messages", "returns"])
    def test_a_count_below_zero_is_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match=r"^a count below zero$"):
            Incident.load({**incident().dump(), name: -1})

    @pytest.mark.parametrize(
        ("name", "entry", "odd"),
        [
            ("deliveries", {"channel": "chat", "message": 1, "seconds": 0.5}, {"message": "1"}),
            ("escalations", {"severity": "HIGH", "channels": []}, {"severity": "high"}),
            ("actions", {"action": "close", "by": None, "reason": None}, {"by": 7}),
        ],
    )
    def test_an_entry_of_a_list_is_whole_or_refused(
        self, name: str, entry: dict[str, Any], odd: dict[str, Any]
    ) -> None:
        whole = {"at": "2026-11-29T03:00:00.000Z", **entry}
        assert getattr(Incident.load({**incident().dump(), name: [whole]}), name) == [whole]
        with pytest.raises(TypeError, match=f"^an entry of {name} has an unexpected type$"):
            Incident.load({**incident().dump(), name: [whole, {**whole, **odd}]})
        with pytest.raises(ValueError, match="Invalid isoformat"):
            Incident.load({**incident().dump(), name: [{**whole, "at": "yesterday"}]})

    @pytest.mark.parametrize(
        "name",
        ["recent", "steps", "channels", "holders", "senders", "sent_at", "deliveries", "actions", "error_types"],
    )
    def test_a_series_that_is_none_is_refused(self, name: str) -> None:
        with pytest.raises(TypeError):
            Incident.load({**incident().dump(), name: 7})


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"), (0, "0 s"), (0.25, "0.2 s"), (0.99, "1 s"), (1, "1 s"), (9.94, "9.9 s"), (10.4, "10 s"),
        (119.4, "119 s"), (120, "2 min"), (7169, "119 min"), (7170, "2 h"), (12_600, "3 h 30 min"),
        (144_184, "40 h 3 min"), (172_769, "47 h 59 min"), (172_800, "2 d"), (190_000, "2 d 4 h"), (864_000, "10 d"),
    ],
)  # fmt: skip
def test_durations_for_people(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (9, "9th"), (10, "10th"), (11, "11th"), (12, "12th"),
        (13, "13th"), (20, "20th"), (21, "21st"), (22, "22nd"), (101, "101st"), (111, "111th"), (211, "211th"),
    ],
)  # fmt: skip
def test_ordinals(number: int, text: str) -> None:
    assert ordinal(number) == text
