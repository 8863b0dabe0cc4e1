"""The current incidents, and which message about them is due when. Pure: the time is passed in, no I/O, no threads.

    watching -> pending -> open -> over
                 |  ^
                 v  |
              inhibited

*Watching*: fewer occurrences than the threshold. *Pending*: the first message waits for others to group with.
*Inhibited*: people were already notified of its cause. *Open*: a message was sent, and it has not been quiet for long
enough. *Over*: remembered, to notice that it recurs.

All processes of a service share their incidents through a store. A book holds one process's copies:
:meth:`IncidentBook.merge` applies what others wrote, :meth:`IncidentBook.to_save` returns what they need to know.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Final

from otel_resilience.alerting.model.alert import Alert, Notification, Status, clean_kind, clean_name
from otel_resilience.alerting.model.config import AlertConfig
from otel_resilience.alerting.model.incident import Incident, Phase, step_at
from otel_resilience.alerting.model.observed import Observed
from otel_resilience.classification.model import Severity

OVERFLOW_KIND: Final = "overflow"

LONG_WATCH: Final = 3600.0
"""Seconds: a threshold with a longer window counts across processes."""

HEAD_START: Final = 2.0
"""Seconds that the process which saw an incident first has to send its first message before another process does."""

CONFIRMED_WITHIN: Final = 5.0
"""Seconds that the end of an incident waits until another process has delivered the message before it to all its
channels, so that receivers get them in order. A process that is shutting down waits for less."""

CONFIRM_EVERY: Final = 60.0
"""Seconds after which an open incident without further occurrences is marked as ongoing again."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RecoverySign:
    """A sign of recovery: all matching incidents had recovered at this time. Later ones are not affected."""

    at: float
    """Seconds since the epoch."""
    certain: bool = False
    """Stronger than a first sign of recovery: the incident ends immediately."""
    fingerprint: str | None = None
    dependency: str | None = None
    kinds: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if self.dependency is not None:
            object.__setattr__(self, "dependency", clean_name(self.dependency))
        if self.kinds is not None:
            object.__setattr__(self, "kinds", frozenset(map(clean_kind, self.kinds)))

    @property
    def subject(self) -> tuple[object, ...]:
        """What it is about; a later sign about the same replaces this one."""
        return (self.fingerprint, self.dependency, self.kinds)

    def matches(self, incident: Incident) -> bool:
        """Whether it applies to the incident."""
        return (
            self.fingerprint in (None, incident.fingerprint)
            and self.dependency in (None, incident.dependency)
            and (self.kinds is None or incident.kind in self.kinds)
        )


@dataclasses.dataclass(slots=True)
class Outcome:
    """The result of a report."""

    incident: Incident | None
    suppressed: str | None
    """Why this alert gets no notification of its own; ``None`` if it opened an incident that will be notified."""


class IncidentBook:
    """The incidents of a service as one process knows them. Not safe for threads.

    Pure: the time, in seconds since the epoch, is passed in. :class:`AlertService` uses one; it can be used alone to
    test a configuration.

    Examples:
        >>> from otel_resilience.alerting import Alert, AlertConfig, IncidentBook
        >>> book = IncidentBook(AlertConfig(group_wait=5))
        >>> _ = book.report(Alert(kind="trouble", title="Trouble", severity=Severity.HIGH), now=100.0)
        >>> book.next_due()
        105.0
        >>> [notification.title for _, notification in book.due(now=105.0)]
        ['Trouble']
    """

    def __init__(self, config: AlertConfig, *, sender: str = "") -> None:
        """``sender`` identifies the process in the stored incidents."""
        self.config = config
        self.sender = sender
        self._incidents: dict[str, Incident] = {}
        self._full_until = -math.inf
        self._overflowing = Alert(
            kind=OVERFLOW_KIND,
            title=f"More than {config.max_incidents} different incidents at once",
            severity=Severity.LOW,
            summary="Further incidents are counted in this one.",
            quiet_after=config.keep_firing,
        )
        self._cancelled: dict[str, float] = {}
        """When incidents seemed to have ended before anyone was notified."""
        self.suppressed: deque[tuple[str, int]] = deque()
        """Telemetry reasons, each with how many alerts it suppressed outside a report; the caller empties it."""
        self.withdrawn: deque[Incident] = deque()
        """Incidents whose first message is not sent, for now or at all; the caller empties it."""
        self.ended_elsewhere: deque[tuple[Incident, set[str]]] = deque()
        """Open incidents that another process ended, with the channels whose confirmations it did not know of; the
        caller empties it."""
        self._send_ends_by = math.inf

    def __iter__(self) -> Iterator[Incident]:
        """The current incidents, including those that are over."""
        return iter(tuple(self._incidents.values()))

    def __len__(self) -> int:
        return len(self._incidents)

    def get(self, fingerprint: str) -> Incident | None:
        """The incident with this fingerprint, in any phase."""
        return self._incidents.get(fingerprint)

    def report(self, alert: Alert, now: float, *, lowest: Severity | None = None) -> Outcome:
        """Something happened at ``now``, in seconds since the epoch. ``lowest`` replaces the minimum severity."""
        if alert.severity < (self.config.min_severity if lowest is None else lowest):
            return Outcome(None, "below_severity")
        if any(silence.covers(alert, now) for silence in self.config.silences):
            known = self._incidents.get(self.config.identify(alert.fingerprint))
            if known is not None and known.phase is Phase.OPEN:
                known.see(alert, now)  # silent, but not over; a higher severity is sent when the silence ends
                self._seen(known, alert, now)
            return Outcome(None, "silenced")
        incident, seen = self._find(alert, now)
        incident.see(seen, now)
        suppressed = self._seen(incident, seen, now)
        return Outcome(incident, "overflow" if suppressed and seen is not alert else suppressed)

    def _seen(self, incident: Incident, alert: Alert, now: float) -> str | None:
        if incident.phase in {Phase.WATCHING, Phase.INHIBITED}:
            return self._begin(incident, now, urgent=alert.at_once)
        if incident.phase is Phase.PENDING:
            if incident.severity is Severity.CRITICAL:  # the hourly limit does not apply to it
                incident.not_before = min(incident.not_before, incident.earliest(self.config))
            if incident.severity is Severity.CRITICAL or alert.at_once:
                incident.due = min(incident.due, max(now, incident.not_before))
            return "cooldown" if incident.not_before > now else "grouped"
        if incident.severity > incident.notified_severity:
            urgent = incident.severity is Severity.CRITICAL
            incident.due = now if urgent else max(now, incident.last_notified_at + self.config.rate_limit)
            return "rate_limit" if incident.due > now else "dedup"
        return "dedup"

    def resolve(self, fingerprint: str, now: float, *, certain: bool = False) -> Incident | None:
        """The cause is gone: the incident ends once it has been quiet for ``keep_firing``.

        ``certain``: stronger than a first sign of recovery, so it ends immediately, unless it was reopened before: then
        such signs have been wrong. An incident that was not notified yet is dropped silently; if it occurs again before
        ``keep_firing`` has passed, it is flapping, and notified immediately. Returns the incident, if there was one.
        """
        incident = self._incidents.get(fingerprint)
        if incident is None or incident.phase is Phase.OVER:
            return None
        if incident.phase is not Phase.OPEN:
            if incident.phase is Phase.PENDING and not certain:
                self._remember_cancelled(fingerprint, now)
            self._withdraw(incident, now)
            return incident
        incident.becomes_calm(now, certain=certain)
        return incident

    def apply(self, sign: RecoverySign) -> list[Incident]:
        """Resolves all incidents that the sign concerns; consequences before causes, whose end would release them."""
        return self._resolve_all(sign, [each for each in self if each.last_seen <= sign.at])

    def apply_again(self, sign: RecoverySign) -> list[Incident]:
        """Like :meth:`apply`, for incidents merged since. One seen here at exactly the sign's time came after it."""
        concerned = [each for each in self if each.last_seen < sign.at + (0.0 if each.observed_here else 1e-6)]
        return self._resolve_all(sign, concerned)

    def _resolve_all(self, sign: RecoverySign, incidents: Iterable[Incident]) -> list[Incident]:
        concerned = [each for each in incidents if sign.matches(each)]
        concerned.sort(key=lambda each: each.phase is not Phase.INHIBITED)
        found = [self.resolve(each.fingerprint, sign.at, certain=sign.certain) for each in concerned]
        return [each for each in found if each is not None]

    def mark_ongoing(self, fingerprint: str, now: float) -> None:
        """An open incident is still ongoing, although there was no further occurrence."""
        incident = self._incidents.get(fingerprint)
        if incident is None or incident.phase is not Phase.OPEN:
            return
        if incident.calm_since is not None or not incident.observed_here or now - incident.last_seen >= CONFIRM_EVERY:
            incident.mark_ongoing(now)

    def due(self, now: float) -> list[tuple[Incident, Notification]]:
        """The messages to send now, in the order in which they became due."""
        messages = []
        batches = self._batches()
        for incident in sorted(self, key=lambda each: each.due):
            notification = self._due_message(incident, now, self._ends_at(incident, batches))
            if notification is not None:
                messages.append((incident, notification))
        first = [incident for incident, notification in messages if notification.reason in {"new", "back"}]
        if len(first) > 1:
            for incident in first:
                incident.batch = first[0].id
        return messages

    def flush(self, now: float, *, send_ends_by: float = -math.inf) -> None:
        """The process is ending: pending first messages and what they left out are due now, and quiet incidents end.

        The end of an incident waits until ``send_ends_by`` at most for the message before it; by default not at all.
        """
        self._send_ends_by = send_ends_by
        for incident in self:
            if incident.phase is Phase.PENDING and incident.observed_here:
                incident.due = min(incident.due, max(now, incident.not_before))
            elif incident.phase is Phase.OPEN:
                if incident.started_here and incident.unreported_count >= self.config.more_from:
                    incident.sent_without_grouping, incident.last_reported_count = True, 0
                if self._has_more(incident) or incident.severity > incident.notified_severity:
                    incident.due = now
                incident.end_with_process(self.config, now)

    def next_due(self) -> float:
        """When :meth:`due` may return something; infinity if nothing is planned."""
        batches = self._batches()
        return min((self._wakes_at(incident, batches) for incident in self), default=math.inf)

    def next_notification_at(self, incident: Incident) -> float:
        """When this incident is next notified because of its occurrences; infinity: never because of those."""
        if incident.phase is Phase.OPEN and self._has_more(incident):
            return min(incident.due, incident.last_notified_at + self.config.rate_limit)
        return incident.due

    def adopt(self, incident: Incident, now: float) -> bool:
        """Adds an incident that this book does not know. ``False`` if it is known already, or there is no room."""
        own = self._incidents.get(incident.fingerprint)
        if own is not None and (own.id == incident.id or own.phase not in {Phase.WATCHING, Phase.OVER}):
            return False
        if incident.phase is not Phase.OPEN and (own is not None or len(self) >= self.config.max_incidents):
            return False
        incident.watched_since = now
        self._incidents[incident.fingerprint] = incident
        return True

    def merge(self, stored: Incident, now: float) -> None:
        """Takes over the stored state of an incident; what this process observed meanwhile is added to it."""
        stored.not_after(now, self.config)
        own = self._incidents.get(stored.fingerprint)
        if own is None:
            forgotten = stored.phase is Phase.OVER and now >= stored.last_seen + self.config.remember
            if not forgotten and self.adopt(stored, now) and stored.phase is Phase.PENDING:
                stored.due += HEAD_START
            return
        if own.revision == stored.revision:
            return
        if _is_older(stored, own):  # the store went back in time, as after a failover to an older replica
            own.revision, own.unsaved = stored.revision, True
            return
        if own.phase is Phase.OVER and own.id == stored.id and own.ended_at >= stored.last_seen:
            if stored.phase is not Phase.OPEN:
                own.revision, own.unsaved = stored.revision, stored.phase is not Phase.OVER
                return
            own.fresh.calm_since = own.ended_at  # there is a message about it by now, so ending it needs another one
        if stored.phase is Phase.OVER:
            self._take_end(own, stored, now)
            return
        if own.id == stored.id:
            stored.started_here = own.started_here
        elif own.phase in {Phase.PENDING, Phase.INHIBITED, Phase.WATCHING}:
            self.withdrawn.append(own)
        stored.observed_here, stored.watched_since = own.observed_here, own.watched_since
        observed, own.fresh = own.fresh, Observed()
        stored.absorb(observed)
        self._incidents[stored.fingerprint] = stored
        if stored.phase is Phase.WATCHING:
            self._begin(stored, now, urgent=stored.alert.at_once)
        elif observed.alert is not None:
            self._seen(stored, observed.alert, now)

    def restore_lost(self, known: Container[str]) -> None:
        """The store holds only these fingerprints: those that it has lost are written again."""
        for incident in self:
            if incident.revision is not None and incident.fingerprint not in known:
                incident.revision, incident.unsaved = None, incident.phase is not Phase.OVER

    def woke_up(self, now: float) -> None:
        """No process was watching for a while: what went unobserved says nothing about an incident."""
        for incident in self:
            incident.observed_here, incident.watched_since = False, now

    def clock_was_set(self, now: float) -> None:
        """The clock was corrected, and may have been ahead."""
        for incident in self:
            incident.not_after(now, self.config)

    def settle(self, now: float) -> None:
        """After a merge: ends the consequences whose cause ended in another process."""
        self._release_consequences(cause_was_open=True, now=now)

    def to_save(self) -> list[Incident]:
        """The incidents that have changes for other processes."""
        return [each for each in self if each.needs_saving and self.is_shared(each)]

    def is_shared(self, incident: Incident) -> bool:
        """Whether other processes should know of it: not of occurrences below a threshold with a short window."""
        known = incident.revision is not None or incident.phase in {Phase.PENDING, Phase.OPEN}
        return known or (incident.phase is Phase.WATCHING and incident.alert.window > LONG_WATCH)

    def _take_end(self, own: Incident, over: Incident, now: float) -> None:
        """Another process ended the incident. Occurrences after that belong to the next one."""
        observed, own.fresh = own.fresh, Observed()
        self.withdrawn.append(own)
        if own.phase is Phase.OPEN and own.id == over.id:
            self.ended_elsewhere.append((over, {delivery["channel"] for delivery in observed.deliveries}))
        self._incidents[over.fingerprint] = over
        over.watched_since = own.watched_since
        if own.phase is not Phase.OVER:
            self._release_consequences(cause_was_open=over.messages > 0, now=now)
        if observed.alert is None or observed.last_bad <= over.ended_at:
            return
        back = over.reopened_as(observed.alert, observed.first_at, self.config)
        back.absorb(observed)
        self._incidents[over.fingerprint] = back
        self._begin(back, now, urgent=observed.alert.at_once)

    def forget(self, fingerprint: str) -> None:
        """Drops an incident silently."""
        self._incidents.pop(fingerprint, None)

    def _find(self, alert: Alert, now: float) -> tuple[Incident, Alert]:
        """The incident that the alert counts towards, and the alert as counted there: the overflow incident if there is
        no room for another."""
        fingerprint = self.config.identify(alert.fingerprint)
        known = self._incidents.get(fingerprint)
        if known is None and len(self._incidents) >= self.config.max_incidents and not self._make_room(now):
            alert = self._overflow(alert)
            fingerprint = self.config.identify(alert.fingerprint)
            known = self._incidents.get(fingerprint)
        if known is not None and known.phase is not Phase.OVER:
            return known, alert
        found = Incident.of(alert, now, fingerprint) if known is None else known.reopened_as(alert, now, self.config)
        self._incidents[fingerprint] = found
        return found, alert

    def _overflow(self, alert: Alert) -> Alert:
        return self._overflowing.with_clean(
            severity=alert.severity,
            error_type=alert.error_type,
            error_class=alert.error_class,
            correlation_id=alert.correlation_id,
            span_id=alert.span_id,
        )

    def _make_room(self, now: float) -> bool:
        """Drops incidents that are remembered or watched without need; once a second, since looking is expensive."""
        if now < self._full_until:
            return False
        for incident in self:
            over = incident.phase is Phase.OVER and now >= incident.last_notified_at + self.config.rate_limit
            if over or (incident.phase is Phase.WATCHING and now - incident.last_seen > incident.alert.window):
                self.forget(incident.fingerprint)
        if len(self._incidents) < self.config.max_incidents:
            return True
        self._full_until = now + 1.0
        return False

    def _begin(self, incident: Incident, now: float, *, urgent: bool) -> str | None:
        if not incident.threshold_reached():
            return "threshold"
        if self._inhibited(incident):
            incident.phase = Phase.INHIBITED
            return "inhibited"
        self._escalate(incident, now)
        flapping = now - self._cancelled.pop(incident.fingerprint, -math.inf) <= self.config.keep_firing
        self._wait(incident, now, urgent=urgent or flapping)
        return "cooldown" if incident.not_before > now else None

    def _wait(self, incident: Incident, now: float, *, urgent: bool) -> None:
        urgent = urgent or incident.severity is Severity.CRITICAL
        incident.phase, incident.unsaved = Phase.PENDING, True
        incident.due = max(now if urgent else now + self.config.group_wait, incident.not_before)

    def _inhibited(self, incident: Incident) -> bool:
        """Whether there is, or will be, a message about a cause that is at least as severe."""
        return any(
            incident.kind in rule.consequences and self._cause_open(rule.causes, incident)
            for rule in self.config.inhibitions
        )

    def _cause_open(self, causes: Iterable[str], incident: Incident) -> bool:
        return incident.dependency is not None and any(
            other.kind in causes
            and other.dependency == incident.dependency
            and other is not incident
            and other.phase in {Phase.PENDING, Phase.OPEN}
            and other.severity >= incident.severity
            for other in self._incidents.values()
        )

    def _remember_cancelled(self, fingerprint: str, now: float) -> None:
        if len(self._cancelled) >= self.config.max_incidents:
            since = now - self.config.keep_firing
            self._cancelled = {each: at for each, at in self._cancelled.items() if at >= since}
        if len(self._cancelled) < self.config.max_incidents:
            self._cancelled[fingerprint] = now

    def _withdraw(self, incident: Incident, now: float) -> None:
        """It ended before a message was sent about it. It is kept if the store knows it, or an earlier one."""
        was_pending = incident.phase is Phase.PENDING
        if incident.revision is None and not incident.returns and not was_pending:
            self.forget(incident.fingerprint)
        else:
            incident.withdraw(now)
        if was_pending:
            self.suppressed.append(("cancelled", 1))
            self._release_consequences(cause_was_open=False, now=now)

    def _release_consequences(self, *, cause_was_open: bool, now: float) -> None:
        """A cause ended: its consequences end too if people were notified of it; otherwise they continue."""
        for other in self:
            if other.phase is not Phase.INHIBITED or self._inhibited(other):
                continue
            if cause_was_open or other.alert.quiet_after is not None:
                if other.revision is None:
                    self.forget(other.fingerprint)
                else:
                    other.withdraw(now)
            else:
                self._wait(other, now, urgent=False)

    def _due_message(self, incident: Incident, now: float, ends_at: float) -> Notification | None:
        if incident.phase is Phase.PENDING and incident.due <= now:
            if self._inhibited(incident):
                incident.phase, incident.unsaved = Phase.INHIBITED, True
                self.suppressed.append(("inhibited", 1))
                self.withdrawn.append(incident)
                return None
            incident.phase, incident.started_here = Phase.OPEN, True
            incident.sent_without_grouping = incident.severity is Severity.CRITICAL or incident.alert.at_once
            return self._next_message(incident, now, "back" if incident.returns else "new")
        if incident.phase is Phase.OPEN:
            return self._look_at_open(incident, now, ends_at)
        if incident.phase is Phase.OVER and now >= incident.last_seen + self.config.remember:
            del self._incidents[incident.fingerprint]
        return None

    def _look_at_open(self, incident: Incident, now: float, ends_at: float) -> Notification | None:
        for at, reason in self._plans(incident, ends_at):
            if at > now:
                continue
            if reason == "resolved":
                return self._end(incident, now)
            if reason == "escalated" and not self._escalate(incident, now):
                continue
            incident.followed_up |= reason == "more"
            return self._next_message(incident, now, reason)
        return None

    def _next_message(
        self, incident: Incident, now: float, reason: str, status: Status = Status.FIRING
    ) -> Notification:
        return incident.next_message(self.config, now, reason, status, sender=self.sender)

    def _plans(self, incident: Incident, ends_at: float) -> Iterator[tuple[float, str]]:
        """When another message about an open incident is due, and why; the most important first."""
        config = self.config
        silences = (each.until for each in config.silences if each.matches(incident.alert))
        silenced_until = max(incident.silenced_until, *silences, -math.inf)
        calm_until = max(incident.last_notified_at + config.rate_limit, silenced_until)
        may_escalate_from = max(calm_until, incident.may_escalate_from(config))
        room = incident.room_for(2)
        calm_until = max(calm_until, room)
        may_escalate_from = max(may_escalate_from, room)
        yield ends_at, "resolved"
        if incident.resend:
            yield -math.inf, "repeat"
        if incident.calm_since is not None:
            return
        if incident.severity > incident.notified_severity:
            yield max(incident.due, silenced_until, room), "raised"
        for number, step in enumerate(config.escalation):
            if number not in incident.steps and incident.acknowledged_at is None:
                yield max(step_at(incident, step), may_escalate_from), "escalated"
        if self._has_more(incident):
            yield max(min(incident.due, calm_until), silenced_until, room), "more"
        if incident.acknowledged_at is None:
            yield max(incident.last_notified_at + config.repeat_interval, may_escalate_from), "repeat"

    def _batches(self) -> dict[str, float]:
        """By group, when the last of the incidents that were first notified together ends, as far as known."""
        latest: dict[str, float] = {}
        for each in self:
            if each.batch is not None and each.phase is Phase.OPEN:
                latest[each.batch] = max(latest.get(each.batch, -math.inf), each.ends_at(self.config))
        return latest

    def _ends_at(self, incident: Incident, batches: Mapping[str, float]) -> float:
        """When it ends. Incidents of one group end together: each waits for the others, for a while."""
        own = incident.ends_at(self.config)
        if incident.batch is not None and incident.over_at is None and math.isfinite(own):
            own = min(batches.get(incident.batch, own), own + self.config.keep_firing)
        if incident.returns and not incident.closed:
            own = max(own, incident.room_for(2))  # it is flapping: what recurs within the hour is the same incident
        return max(own, self._in_flight_until(incident, own))

    def _in_flight_until(self, incident: Incident, end: float) -> float:
        """Until when its last message may still be on its way from another process."""
        ours = incident.sender_of(incident.messages) in (None, self.sender)
        if ours or incident.is_confirmed:
            return -math.inf
        confirmed_by = min(incident.last_notified_at, end) + CONFIRMED_WITHIN  # the other one's clock may be ahead
        return min(confirmed_by, self._send_ends_by)

    def awaits_confirmation(self, now: float) -> bool:
        """Whether an end waits until another process has delivered the message before it."""
        return any(
            each.phase is Phase.OPEN and each.ends_at(self.config) <= now < self._in_flight_until(each, now)
            for each in self._incidents.values()
        )

    def _end(self, incident: Incident, now: float) -> Notification:
        incident.phase = Phase.OVER
        self._release_consequences(cause_was_open=True, now=now)
        return self._next_message(incident, now, "resolved", Status.RESOLVED)

    def _has_more(self, incident: Incident) -> bool:
        """Whether a first message that could not wait left out far more occurrences than it reported."""
        enough = incident.unreported_count >= self.config.more_from * max(1, incident.last_reported_count)
        return incident.sent_without_grouping and not incident.followed_up and enough

    def _escalate(self, incident: Incident, now: float) -> bool:
        """Takes the escalation steps that are due. Returns whether one of them makes a difference."""
        changed = False
        for number, step in enumerate(self.config.escalation):
            if number not in incident.steps and step_at(incident, step) <= now:
                changed |= incident.take_step(number, step, now)
        return changed

    def _wakes_at(self, incident: Incident, batches: Mapping[str, float]) -> float:
        """When :meth:`due` has to look at this incident again."""
        if incident.phase is Phase.PENDING:
            return incident.due
        if incident.phase is Phase.OVER:
            return incident.last_seen + self.config.remember
        if incident.phase is not Phase.OPEN:
            return math.inf
        return min(at for at, _ in self._plans(incident, self._ends_at(incident, batches)))


def _is_older(stored: Incident, own: Incident) -> bool:
    """Whether the store holds an earlier state of an incident, or the incident before it."""
    if own.id == stored.id:
        return own.messages > stored.messages
    return own.phase is Phase.OPEN and stored.phase is Phase.OVER and stored.ended_at < own.first_seen
