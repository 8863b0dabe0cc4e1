"""What became of an incident: who was notified, after how long, how often, and did the link lead to the failure? Pure.

Times are seconds since the epoch if not said otherwise.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

PAGE_WITHIN: Final = 60.0
"""Seconds of incident time until a page."""
MOST_MESSAGES: Final = 2
"""Per incident, receiver and component: that it began, and that it is over."""
WARN_WITHIN: Final = 300.0
"""Seconds of incident time until a warning; it wakes no one."""

RULE_WAYS: Final = ("page", "team")
APPLICATION_WAYS: Final = ("webhook", "fallback")


@dataclass(frozen=True, slots=True)
class Reported:
    """One alert within a message."""

    name: str
    """Name of the rule; or the kind, if the application reports."""
    firing: bool
    labels: tuple[tuple[str, str], ...] = ()
    traceql: str | None = None
    """The search for traces that the message links to."""
    logql: str | None = None
    """The search for log records that it links to."""
    trace_id: str | None = None
    """The trace that the message leads to."""
    title: str = ""
    key: str = ""
    """The same for the whole life of the alert."""


@dataclass(frozen=True, slots=True)
class Message:
    """One notification as it arrived."""

    at: float
    way: str
    """The receiver."""
    alerts: tuple[Reported, ...]
    group: str = ""
    """The component that Alertmanager grouped it under."""

    @property
    def firing(self) -> bool:
        """Whether it is about an ongoing problem."""
        return any(alert.firing for alert in self.alerts)


def from_alertmanager(way: str, at: float, body: dict[str, Any]) -> Message:
    """A webhook of Alertmanager."""
    alerts = [
        Reported(
            name=alert["labels"]["alertname"],
            firing=alert["status"] == "firing",
            labels=tuple(sorted(alert["labels"].items())),
            traceql=alert["annotations"].get("traceql"),
            logql=alert["annotations"].get("logql"),
            key=alert["fingerprint"],
        )
        for alert in body["alerts"]
    ]
    return Message(at, way, tuple(alerts), body["groupLabels"].get("component", ""))


def from_application(way: str, at: float, body: dict[str, Any]) -> Message:
    """The application's generic webhook."""
    link = (body.get("links") or {}).get("trace") or ""
    found = re.search(r"[0-9a-f]{32}", link)
    reported = Reported(
        name=body["kind"],
        firing=body["status"] == "firing",
        trace_id=found[0] if found else None,
        title=body["title"],
        key=body["fingerprint"],
    )
    return Message(at, way, (reported,), "application")


@dataclass(frozen=True, slots=True)
class Expectation:
    """What an incident must and may lead to."""

    name: str
    title: str
    rules: frozenset[str] = frozenset()
    """Our alerts that recognise it; the first one that arrives counts."""
    every: frozenset[str] = frozenset()
    """Alerts that must all arrive."""
    also: frozenset[str] = frozenset()
    """Alerts that are a consequence of it: reported too, and not false alarms."""
    kinds: frozenset[str] = frozenset()
    """Kinds of the application's own alerts that recognise it; empty if the application cannot know."""
    also_kinds: frozenset[str] = frozenset()
    shows: frozenset[str] = frozenset()
    """``error.type`` values of which the trace must have a failed span; empty if nothing failed that has a trace."""
    told_shows: frozenset[str] = frozenset()
    """The same for the trace that the application's message leads to, if that is about something else."""
    silent: bool = False
    """Its cause is reported to whoever made it directly, and to no one else: every notification is a false alarm."""
    dead_man: bool = False
    """The application reports it by its silence: a service that waits for its heartbeats calls."""


@dataclass(frozen=True, slots=True)
class Played:
    """An incident as it was played."""

    expectation: Expectation
    started: float
    """When the knob was turned."""
    began: float
    """When the condition was there that must be reported; later than ``started`` if that takes its time."""
    ended: float
    """When the knob was turned back."""
    quiet: float
    """From here on none of it was left."""


@dataclass(frozen=True, slots=True)
class Detection:
    """How it was reported in one way."""

    by: str
    way: str
    after: float
    """Seconds of incident time."""
    trace: bool | None = None
    """Whether the trace of the message shows the failure; ``None`` if there can be none."""


Counts = dict[tuple[str, str], int]
"""Messages by receiver and component."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line of the table."""

    expectation: Expectation
    rule: Detection | None
    application: Detection | None
    rule_messages: Counts
    application_messages: Counts
    false_alarms: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    """Alerts that had to come and did not."""
    overdue: bool = False
    """It was still reported when the next one was to begin."""
    problems: tuple[str, ...] = field(default=())

    @property
    def detected(self) -> bool:
        """Whether anyone reported it."""
        return self.rule is not None or self.application is not None


def verdict(
    played: Played,
    messages: Sequence[Message],
    *,
    speed: float,
    traces: dict[str, bool | None],
    beats: Sequence[float] = (),
    silence: float | None = None,
) -> Verdict:
    """The judgement of one incident.

    ``speed``: incident seconds per second. ``traces``: by way and alert, as :func:`trace_key` names them, whether the
    trace shows the failure. ``silence``: seconds without a heartbeat until the service that waits for them calls.
    """
    expected = played.expectation
    during = [message for message in messages if played.started <= message.at < played.quiet]
    by_rules = [message for message in during if message.way in RULE_WAYS]
    by_application = [message for message in during if message.way in APPLICATION_WAYS]
    rule = _first(by_rules, expected.rules, played.began, speed, traces)
    application = _first(by_application, expected.kinds, played.began, speed, traces)
    if expected.dead_man and silence is not None:
        application = _missed(beats, played, silence, speed)
    strangers = _strangers(by_rules, expected.rules | expected.every | expected.also)
    strangers += _strangers(by_application, expected.kinds | expected.also_kinds)
    line = Verdict(
        expected,
        rule,
        application,
        _counted(by_rules),
        _counted(by_application),
        tuple(dict.fromkeys(strangers)),
        missing=tuple(sorted(expected.every - names_begun(by_rules))),
    )
    return with_problems(line)


def names_begun(messages: Iterable[Message]) -> set[str]:
    """The alerts that were sent as firing."""
    return {alert.name for message in messages for alert in message.alerts if alert.firing}


def calm_verdict(began: float, ended: float, messages: Sequence[Message]) -> Verdict:
    """The judgement of a stretch in which nothing is wrong: every notification is a false alarm."""
    during = [message for message in messages if began <= message.at < ended]
    rules = [message for message in during if message.way in RULE_WAYS]
    application = [message for message in during if message.way in APPLICATION_WAYS]
    strangers = _strangers(rules, frozenset()) + _strangers(application, frozenset())
    line = Verdict(CALM, None, None, _counted(rules), _counted(application), tuple(dict.fromkeys(strangers)))
    return with_problems(line)


CALM: Final = Expectation("calm", "a few errors that a retry cures, and a few unusable rows", silent=True)


def trace_key(way: str, name: str) -> str:
    """The key of ``traces``: rules and the application lead to traces by different ways."""
    return f"{'rule' if way in RULE_WAYS else 'application'} {name}"


def _first(
    messages: Iterable[Message], names: frozenset[str], began: float, speed: float, traces: dict[str, bool | None]
) -> Detection | None:
    for message in messages:
        for alert in message.alerts:
            if alert.firing and alert.name in names:
                after = max(0.0, message.at - began) * speed
                trace = traces.get(trace_key(message.way, alert.name))
                return Detection(alert.name, message.way, after, trace)
    return None


def _missed(beats: Sequence[float], played: Played, silence: float, speed: float) -> Detection | None:
    last = max((beat for beat in beats if beat < played.ended), default=None)
    if last is None or last + silence > played.ended:
        return None
    return Detection("heartbeat", "stand-in", max(0.0, last + silence - played.began) * speed)


def _strangers(messages: Iterable[Message], known: frozenset[str]) -> list[str]:
    return [alert.name for message in messages for alert in message.alerts if alert.firing and alert.name not in known]


def _counted(messages: Iterable[Message]) -> Counts:
    return dict(Counter((message.way, message.group) for message in messages))


def with_problems(line: Verdict) -> Verdict:
    """The verdict with its problems filled in."""
    return dataclasses.replace(line, problems=tuple(_problems(line)))


def _problems(line: Verdict) -> Iterable[str]:
    if not line.expectation.silent:
        yield from _silences(line)
    for found in (line.rule, line.application):
        if found is not None:
            yield from _weaknesses(found)
    for counts in (line.rule_messages, line.application_messages):
        for (way, group), number in counts.items():
            if number > MOST_MESSAGES:
                yield f"{number} messages at {way} about {group}"
    for name in line.missing:
        yield f"{name} did not come"
    if line.false_alarms:
        yield f"false: {', '.join(line.false_alarms)}"
    if line.overdue:
        yield "its alerts did not end"


def _silences(line: Verdict) -> Iterable[str]:
    expected = line.expectation
    if not line.detected:
        yield "not detected"
    if expected.rules and line.rule is None:
        yield "no rule reported it"
    if (expected.kinds or expected.dead_man) and line.application is None:
        yield "the application did not report it"


def _weaknesses(found: Detection) -> Iterable[str]:
    limit = WARN_WITHIN if found.way == "team" else PAGE_WITHIN
    if found.after > limit:
        yield f"{found.by} came after {found.after:.0f} s, not {limit:.0f} s"
    if found.trace is False:
        yield f"the trace of {found.by} does not show the failure"
