"""In any order of events no occurrence is lost or reported twice, and no message is sent too soon."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from otel_resilience import Severity
from otel_resilience.alerting import AlertConfig, EscalationStep, Inhibition, Notification, Phase, Status
from otel_resilience.alerting.model.book import IncidentBook
from otel_resilience.alerting.model.incident import Incident
from support.alerting import EPOCH, alert

CONFIG = AlertConfig(
    min_severity=Severity.MEDIUM,
    group_wait=5.0,
    rate_limit=60.0,
    keep_firing=120.0,
    repeat_interval=600.0,
    remember=2000.0,
    more_from=3,
    max_incidents=4,
    escalation=(EscalationStep(after=300.0), EscalationStep(returns=2)),
    inhibitions=(Inhibition(frozenset({"outage"}), frozenset({"errors", "sync_failed"})),),
)
KINDS = ("outage", "errors", "sync_failed", "a", "b", "c")
severities = st.sampled_from(list(Severity))
kinds = st.sampled_from(KINDS)


@dataclasses.dataclass
class Told:
    at: float
    message: Notification


class IncidentMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.book = IncidentBook(CONFIG)
        self.now = EPOCH
        self.told: dict[str, list[Told]] = {}
        self.forgotten_at: dict[str, float] = {}
        """When a process started that had no room for an incident that had ended before."""

    @rule(kind=kinds, severity=severities, at_once=st.booleans(), quiet=st.sampled_from([None, None, 100.0]),
          threshold=st.sampled_from([1, 1, 1, 3]), error_type=st.sampled_from(["503", "timeout", None]))  # fmt: skip
    def report(self, kind: str, severity: Severity, **more: Any) -> None:
        quiet = more.pop("quiet")
        given = alert(kind, severity, quiet_after=quiet, window=50.0, **more)
        outcome = self.book.report(given, self.now)
        assert (outcome.incident is None) == (severity < Severity.MEDIUM)
        if outcome.incident is not None:
            assert outcome.incident.unreported_count >= 1
            assert outcome.incident.total >= outcome.incident.unreported_count

    @rule(kind=kinds, certain=st.booleans())
    def resolve(self, kind: str, certain: bool) -> None:
        fingerprint = alert(kind).fingerprint
        before = self.book.get(fingerprint)
        phase = None if before is None else before.phase
        found = self.book.resolve(fingerprint, self.now, certain=certain)
        assert (found is None) == (phase in {None, Phase.OVER})
        if phase in {Phase.PENDING, Phase.INHIBITED, Phase.WATCHING}:
            after = self.book.get(fingerprint)
            assert after is None or after.phase in {Phase.OVER, Phase.PENDING}

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 30.0, 60.0, 119.0, 121.0, 700.0, 2500.0]))
    def time_passes(self, seconds: float) -> None:
        until = self.now + seconds
        for _ in range(1000):
            due = self.book.next_due()
            if due > until:
                break
            self.now = max(self.now, due)
            self.take()
        else:
            raise AssertionError("something is due for ever")
        self.now = until
        self.take()

    @rule()
    def the_process_ends_and_another_begins(self) -> None:
        self.book.flush(self.now)
        self.take(flushed=True)
        kept = [each for each in self.book if each.phase in {Phase.OPEN, Phase.OVER}]
        self.book = IncidentBook(CONFIG)
        for each in sorted(kept, key=lambda each: each.phase is Phase.OVER):
            if not self.book.adopt(Incident.load(each.dump()), self.now):
                assert each.phase is Phase.OVER
                self.forgotten_at[each.fingerprint] = self.now

    def take(self, *, flushed: bool = False) -> None:
        for incident, message in self.book.due(self.now):
            self.check(incident, message, flushed=flushed)
            self.told.setdefault(message.incident, []).append(Told(self.now, message))
        assert self.book.due(self.now) == []

    def check(self, incident: Incident, message: Notification, *, flushed: bool) -> None:
        earlier = self.told.get(message.incident, [])
        assert message.id == f"{incident.id}-{len(earlier) + 1}"
        assert incident.unreported_count == 0
        assert sum(each.message.count for each in earlier) + message.count == message.total == incident.total
        if message.status is Status.RESOLVED:
            assert earlier
            assert all(each.message.status is Status.FIRING for each in earlier)
            assert message.duration >= 0
            return
        assert message.reason in {"new", "back", "raised", "more", "escalated", "repeat"}
        assert (message.reason in {"new", "back"}) == (not earlier)
        assert message.severity >= max((each.message.severity for each in earlier), default=Severity.LOW)
        last = self.last_about(message.fingerprint)
        rises = message.severity is Severity.CRITICAL and message.reason == "raised"
        if last is not None and not rises and not flushed:
            assert self.now >= last.at + CONFIG.rate_limit

    def last_about(self, fingerprint: str) -> Told | None:
        about = [
            each
            for each in itertools.chain.from_iterable(self.told.values())
            if each.message.fingerprint == fingerprint
            and self.now < each.message.last_seen + CONFIG.remember
            and each.at > self.forgotten_at.get(fingerprint, 0.0)
        ]
        return max(about, key=lambda each: each.at, default=None)

    @invariant()
    def memory_is_bounded(self) -> None:
        assert len(self.book) <= CONFIG.max_incidents + 1

    @invariant()
    def one_incident_of_a_fingerprint_is_open(self) -> None:
        for incident_id, told in self.told.items():
            over = told[-1].message.status is Status.RESOLVED
            known = self.book.get(told[-1].message.fingerprint)
            if not over:
                assert known is not None
                assert (known.id, known.phase) == (incident_id, Phase.OPEN)

    @invariant()
    def nothing_that_is_to_be_told_is_forgotten(self) -> None:
        for incident in self.book:
            if incident.phase is Phase.PENDING:
                assert incident.due <= self.now + max(CONFIG.group_wait, CONFIG.rate_limit)
                assert self.book.next_due() <= incident.due
            if incident.phase is Phase.INHIBITED:
                cause = self.book.get(alert("outage").fingerprint)
                assert cause is not None
                assert cause.phase in {Phase.PENDING, Phase.OPEN}
                assert cause.severity >= incident.severity


IncidentMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestIncidents = IncidentMachine.TestCase
