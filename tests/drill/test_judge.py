"""What counts as reported, in time, too often, or false."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from drill.judge import Expectation, Message, Played, Reported, Verdict

from drill import judge

SPEED = 4.0
BEGAN = 1000.0
OUTAGE = Expectation(
    "outage",
    "the supplier is down",
    rules=frozenset({"SyncFailed"}),
    also=frozenset({"CircuitBreakerOpen"}),
    kinds=frozenset({"sync_failed"}),
    also_kinds=frozenset({"errors"}),
    shows=frozenset({"503"}),
)
SHOWN: dict[str, bool | None] = {"rule SyncFailed": True, "application sync_failed": True}


def message(after: float, way: str, *names: str, firing: bool = True, group: str = "catalogue") -> Message:
    return Message(BEGAN + after, way, tuple(Reported(name, firing) for name in names), group)


GOOD = [
    message(5, "webhook", "sync_failed"),
    message(10, "page", "SyncFailed", "CircuitBreakerOpen"),
    message(40, "webhook", "sync_failed", firing=False),
    message(45, "page", "SyncFailed", "CircuitBreakerOpen", firing=False),
]


def judged(*messages: Message, expected: Expectation = OUTAGE, **more: Any) -> Verdict:
    played = Played(expected, BEGAN - 15, BEGAN, BEGAN + 20, BEGAN + 60)
    return judge.verdict(played, messages, speed=SPEED, **{"traces": SHOWN, **more})


def test_an_incident_that_is_reported_twice_in_time_is_as_it_should_be() -> None:
    line = judged(*GOOD)
    assert line.problems == ()
    assert line.detected
    assert line.rule is not None
    assert line.application is not None
    assert (line.rule.by, line.rule.way, line.rule.after, line.rule.trace) == ("SyncFailed", "page", 40.0, True)
    assert (line.application.by, line.application.after) == ("sync_failed", 20.0)
    assert line.rule_messages == {("page", "catalogue"): 2}
    assert line.application_messages == {("webhook", "catalogue"): 2}


def test_silence_is_not_detected() -> None:
    line = judged()
    assert not line.detected
    assert line.problems == ("not detected", "no rule reported it", "the application did not report it")


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ([*GOOD[2:], GOOD[0]], "no rule reported it"),
        (GOOD[1:], "the application did not report it"),
        ([GOOD[0], message(15.5, "page", "SyncFailed")], "SyncFailed came after 62 s, not 60 s"),
        ([message(16, "webhook", "sync_failed"), *GOOD[1:]], "sync_failed came after 64 s, not 60 s"),
        ([*GOOD, message(50, "page", "SyncFailed")], "3 messages at page about catalogue"),
        ([*GOOD, message(50, "webhook", "errors")], "3 messages at webhook about catalogue"),
        ([*GOOD, message(50, "team", "Throttled")], "false: Throttled"),
        ([*GOOD, message(50, "fallback", "lock_lost")], "false: lock_lost"),
    ],
)
def test_what_is_wrong_is_named(messages: list[Message], problem: str) -> None:
    assert judged(*messages).problems == (problem,)


def test_two_components_are_two_incidents_and_have_their_own_messages() -> None:
    expected = dataclasses.replace(OUTAGE, also=OUTAGE.also | {"AlertDeliveryFailing"})
    others = [message(at, "page", "AlertDeliveryFailing", group="alerting") for at in (11, 45)]
    assert judged(*GOOD, *others, expected=expected).problems == ()


def test_a_warning_may_take_longer_because_nobody_is_woken() -> None:
    expected = dataclasses.replace(OUTAGE, rules=frozenset({"DependencySlow"}), kinds=frozenset())
    in_time = judged(message(55, "team", "DependencySlow"), expected=expected)
    assert in_time.problems == ()


def test_an_alert_that_must_come_and_does_not_is_a_problem() -> None:
    expected = dataclasses.replace(OUTAGE, every=frozenset({"StoreDown"}))
    assert judged(*GOOD, expected=expected).problems == ("StoreDown did not come",)
    reported = message(12, "team", "StoreDown", group="telemetry")
    assert judged(*GOOD, reported, expected=expected).problems == ()


def test_a_consequence_is_neither_a_detection_nor_a_false_alarm() -> None:
    line = judged(GOOD[0], message(10, "page", "CircuitBreakerOpen"))
    assert line.rule is None
    assert line.false_alarms == ()


def test_the_end_of_an_alert_does_not_detect() -> None:
    assert judged(message(10, "page", "SyncFailed", firing=False)).rule is None


@pytest.mark.parametrize("after", [-30.0, 61.0])
def test_messages_of_another_time_belong_to_another_incident(after: float) -> None:
    assert judged(*GOOD, message(after, "page", "NoSyncSeen")).problems == ()


def test_a_link_to_a_trace_that_shows_nothing_is_a_problem() -> None:
    line = judged(*GOOD, traces=SHOWN | {"rule SyncFailed": False})
    assert line.problems == ("the trace of SyncFailed does not show the failure",)


def test_signs_of_life_are_not_messages_to_people() -> None:
    assert judged(*GOOD, message(20, "heartbeat", "Watchdog")).problems == ()


def test_alerts_that_do_not_end_are_a_problem() -> None:
    line = dataclasses.replace(judged(*GOOD), overdue=True)
    assert judge.with_problems(line).problems == ("its alerts did not end",)


SILENT = Expectation("job", "nobody starts the job", rules=frozenset({"NoSyncSeen"}), dead_man=True)


@pytest.mark.fault("F59")
def test_a_silent_application_is_missed_by_the_receiver_of_its_heartbeats() -> None:
    reported = message(5, "page", "NoSyncSeen")
    line = judged(reported, expected=SILENT, beats=[BEGAN - 100, BEGAN - 25], silence=30.0)
    assert line.problems == ()
    assert line.application is not None
    assert (line.application.by, line.application.after) == ("heartbeat", 20.0)


@pytest.mark.parametrize("beats", [[], [BEGAN - 25, BEGAN - 5]])
def test_heartbeats_that_come_are_not_missed(beats: list[float]) -> None:
    line = judged(message(5, "page", "NoSyncSeen"), expected=SILENT, beats=beats, silence=30.0)
    assert line.problems == ("the application did not report it",)


def test_calm_is_silent() -> None:
    assert judge.calm_verdict(BEGAN, BEGAN + 60, [message(5, "heartbeat", "Watchdog")]).problems == ()


@pytest.mark.parametrize("way", ["page", "team", "webhook", "fallback"])
def test_whatever_is_reported_in_calm_is_false(way: str) -> None:
    line = judge.calm_verdict(BEGAN, BEGAN + 60, [message(5, way, "SyncFailed")])
    assert line.problems == ("false: SyncFailed",)
    assert judge.calm_verdict(BEGAN + 6, BEGAN + 60, [message(5, way, "SyncFailed")]).problems == ()


def test_a_notification_of_alertmanager_is_read() -> None:
    body = {
        "groupLabels": {"component": "catalogue"},
        "alerts": [
            {
                "status": "firing",
                "labels": {"alertname": "SyncFailed", "severity": "critical"},
                "annotations": {"traceql": "{ status = error }", "logql": '{a=~"b"} | c'},
                "fingerprint": "f1",
            },
            {"status": "resolved", "labels": {"alertname": "B"}, "annotations": {}, "fingerprint": "f2"},
        ],
    }
    got = judge.from_alertmanager("page", 5.0, body)
    assert (got.at, got.way, got.group, got.firing) == (5.0, "page", "catalogue", True)
    assert [(alert.name, alert.firing, alert.traceql, alert.logql, alert.key) for alert in got.alerts] == [
        ("SyncFailed", True, "{ status = error }", '{a=~"b"} | c', "f1"),
        ("B", False, None, None, "f2"),
    ]


@pytest.mark.parametrize(("link", "trace_id"), [(f"http://x/?trace={'a' * 32}", "a" * 32), (None, None)])
def test_a_message_of_the_application_is_read(link: str | None, trace_id: str | None) -> None:
    body = {"kind": "k", "status": "resolved", "title": "T", "fingerprint": "f", "links": {"trace": link}}
    got = judge.from_application("webhook", 5.0, body)
    assert got.alerts == (Reported("k", firing=False, trace_id=trace_id, title="T", key="f"),)
    assert not got.firing
