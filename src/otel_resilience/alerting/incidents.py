"""The incidents as they stand, and what is to be told of them when. Pure: told the time, no I/O, no threads.

    watching -> pending -> open -> over
                 |  ^
                 v  |
              inhibited

*Watching*: fewer occurrences than the threshold. *Pending*: will be told when its group wait ends. *Inhibited*: a cause
is told already. *Open*: told, until it was calm for long enough. *Over*: remembered, to notice that it comes back.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from otel_resilience.alerting.alert import Alert, Notification, Status
from otel_resilience.alerting.config import AlertConfig
from otel_resilience.alerting.incident import Incident, Phase, step_at
from otel_resilience.classification import Severity

OVERFLOW_KIND: Final = "overflow"

Suppression = tuple[str, int]
"""A reason of the contract, and how many alerts it held back."""


@dataclasses.dataclass(slots=True)
class Outcome:
    """What a report led to."""

    incident: Incident | None
    suppressed: str | None
    """Why this alert is not told by itself; ``None`` where it opened something that will be told."""


class IncidentBook:
    """All incidents of a process. Not safe for threads."""

    def __init__(self, config: AlertConfig) -> None:
        self.config = config
        self._incidents: dict[str, Incident] = {}
        self._full_until = -math.inf
        self._overflowing = Alert(
            kind=OVERFLOW_KIND,
            title=f"More than {config.max_incidents} different incidents at once",
            severity=Severity.LOW,
            summary="What comes beyond that is counted here.",
            quiet_after=config.keep_firing,
        )
        self._cancelled: dict[str, float] = {}
        """When incidents seemed to be over before they were told."""
        self.suppressed: deque[Suppression] = deque()
        """Suppressions that were decided outside a report; the caller takes them."""
        self.withdrawn: deque[Incident] = deque()
        """Incidents that were to be told and are not, for now; the caller takes them."""

    def __iter__(self) -> Iterator[Incident]:
        return iter(tuple(self._incidents.values()))

    def __len__(self) -> int:
        return len(self._incidents)

    def get(self, fingerprint: str) -> Incident | None:
        """The incident of this fingerprint, in whatever phase."""
        return self._incidents.get(fingerprint)

    def report(self, alert: Alert, now: float, *, lowest: Severity | None = None) -> Outcome:
        """Something happened at ``now``, in seconds since the epoch. ``lowest`` replaces the least severity."""
        if alert.severity < (self.config.min_severity if lowest is None else lowest):
            return Outcome(None, "below_severity")
        if any(silence.covers(alert, now) for silence in self.config.silences):
            return Outcome(None, "silenced")
        incident, seen = self._find(alert, now)
        incident.see(seen, now)
        suppressed = self._seen(incident, seen, now)
        return Outcome(incident, "overflow" if suppressed and seen is not alert else suppressed)

    def _seen(self, incident: Incident, alert: Alert, now: float) -> str | None:
        if incident.phase is Phase.WATCHING:
            return self._begin(incident, alert, now)
        if incident.phase is Phase.INHIBITED:
            return "inhibited" if self._inhibited(incident) else self._begin(incident, alert, now)
        if incident.phase is Phase.PENDING:
            if incident.severity is Severity.CRITICAL or alert.at_once:
                incident.due = min(incident.due, max(now, incident.not_before))
            return "cooldown" if incident.not_before > now else "grouped"
        if incident.severity > incident.told_severity:
            urgent = incident.severity is Severity.CRITICAL
            incident.due = now if urgent else max(now, incident.told_at + self.config.rate_limit)
            return "rate_limit" if incident.due > now else "dedup"
        return "dedup"

    def resolve(self, fingerprint: str, now: float, *, certain: bool = False) -> Incident | None:
        """The trouble is gone: the incident is over once it was calm for ``keep_firing``.

        ``certain``: this is more than a first good sign, it is over at once; unless it came back before, for then good
        signs have been wrong. An incident that was not told yet is dropped without a word; should it be seen again
        before ``keep_firing`` has passed, it is flapping, and told at once. Returns the incident where there was one.
        """
        incident = self._incidents.get(fingerprint)
        if incident is None or incident.phase is Phase.OVER:
            return None
        if incident.phase is not Phase.OPEN:
            if incident.phase is Phase.PENDING and not certain:
                self._remember_cancelled(fingerprint, now)
            self._withdraw(incident, now)
            return incident
        if incident.calm_since is None:
            incident.calm_since = now
        if certain and not incident.returns:
            incident.over_at = now
        return incident

    def due(self, now: float) -> list[tuple[Incident, Notification]]:
        """What is to be told now, in the order in which it became due."""
        told = []
        batches = self._batches()
        for incident in sorted(self, key=lambda each: each.due):
            notification = self._look(incident, now, self._ends_at(incident, batches))
            if notification is not None:
                told.append((incident, notification))
        begun = [incident for incident, notification in told if notification.reason in {"new", "back"}]
        if len(begun) > 1:
            for incident in begun:
                incident.batch = begun[0].id
        return told

    def flush(self, now: float) -> None:
        """The process ends: what waits for its group is due now, and so is what was left out of the first message."""
        for incident in self:
            if incident.phase is Phase.PENDING:
                incident.due = min(incident.due, max(now, incident.not_before))
            elif incident.phase is Phase.OPEN:
                if incident.begun_here and incident.untold >= self.config.more_from:
                    incident.rushed, incident.told_count = True, 0
                if self._has_more(incident) or incident.severity > incident.told_severity:
                    incident.due = now

    def next_due(self) -> float:
        """When :meth:`due` may have something to say; infinity where nothing is planned."""
        batches = self._batches()
        return min((self._wakes_at(incident, batches) for incident in self), default=math.inf)

    def told_next(self, incident: Incident) -> float:
        """When this incident is told next because of what was reported of it; infinity: not because of that."""
        if incident.phase is Phase.OPEN and self._has_more(incident):
            return min(incident.due, incident.told_at + self.config.rate_limit)
        return incident.due

    def adopt(self, incident: Incident, now: float) -> bool:
        """Take in an incident of an earlier process. ``False`` where this one knows as much or more."""
        own = self._incidents.get(incident.fingerprint)
        if own is not None and (own.id == incident.id or own.phase not in {Phase.WATCHING, Phase.OVER}):
            return False
        if incident.phase is not Phase.OPEN and (own is not None or len(self) >= self.config.max_incidents):
            return False
        incident.watched_since = now  # nobody watched in between: silence says nothing
        self._incidents[incident.fingerprint] = incident
        return True

    def give_way(self, own: Incident, other: Incident, untold: int, now: float) -> None:
        """Another process told of it already: what this one saw, ``untold`` of the last message too, counts there."""
        if self._incidents.get(own.fingerprint) is not own:
            return
        if other.id == own.id:
            own.untold += untold
            return
        other.total += own.total
        other.untold += own.untold + untold
        other.untold_since = own.first_seen
        other.last_seen = max(other.last_seen, own.last_seen)
        other.calm_since, other.over_at = own.calm_since, own.over_at
        other.watched_since = now
        self._incidents[own.fingerprint] = other

    def forget(self, fingerprint: str) -> None:
        """Drop an incident without a word."""
        self._incidents.pop(fingerprint, None)

    def _find(self, alert: Alert, now: float) -> tuple[Incident, Alert]:
        """The incident that the alert counts for, and the alert as it counts there: another one where there is no
        room for it."""
        known = self._incidents.get(alert.fingerprint)
        if known is None and len(self._incidents) >= self.config.max_incidents and not self._make_room(now):
            alert = self._overflow(alert)
            known = self._incidents.get(alert.fingerprint)
        if known is not None and known.phase is not Phase.OVER:
            return known, alert
        found = Incident.of(alert, now) if known is None else known.comes_back(alert, now, self.config)
        self._incidents[alert.fingerprint] = found
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
        """Drop what is remembered or watched without need; looked for once a second, for it costs a look at all."""
        if now < self._full_until:
            return False
        for incident in self:
            over = incident.phase is Phase.OVER and now >= incident.told_at + self.config.rate_limit
            if over or (incident.phase is Phase.WATCHING and now - incident.last_seen > incident.alert.window):
                self.forget(incident.fingerprint)
        if len(self._incidents) < self.config.max_incidents:
            return True
        self._full_until = now + 1.0
        return False

    def _begin(self, incident: Incident, alert: Alert, now: float) -> str | None:
        if not incident.threshold_reached(alert, now):
            return "threshold"
        if self._inhibited(incident):
            incident.phase = Phase.INHIBITED
            return "inhibited"
        self._escalate(incident, now)
        flapping = now - self._cancelled.pop(incident.fingerprint, -math.inf) <= self.config.keep_firing
        self._wait(incident, now, urgent=alert.at_once or flapping)
        return "cooldown" if incident.not_before > now else None

    def _wait(self, incident: Incident, now: float, *, urgent: bool) -> None:
        urgent = urgent or incident.severity is Severity.CRITICAL
        incident.phase = Phase.PENDING
        incident.due = max(now if urgent else now + self.config.group_wait, incident.not_before)

    def _inhibited(self, incident: Incident) -> bool:
        """Whether a cause that is at least as severe is told, or will be."""
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
        """It is over before it was told."""
        del self._incidents[incident.fingerprint]
        if incident.returns:
            self._incidents[incident.fingerprint] = incident.before_it_came_back(self.config)
        if incident.phase is not Phase.PENDING:
            return
        self.suppressed.append(("cancelled", 1))
        for other in self:
            if other.phase is Phase.INHIBITED and not self._inhibited(other):
                if other.alert.quiet_after is None:  # it goes on, and nobody was told of its cause
                    self._wait(other, now, urgent=False)
                else:
                    self.forget(other.fingerprint)

    def _look(self, incident: Incident, now: float, ends_at: float) -> Notification | None:
        if incident.phase is Phase.PENDING and incident.due <= now:
            if self._inhibited(incident):
                incident.phase = Phase.INHIBITED
                self.suppressed.append(("inhibited", 1))
                self.withdrawn.append(incident)
                return None
            incident.phase, incident.begun_here = Phase.OPEN, True
            incident.rushed = incident.severity is Severity.CRITICAL or incident.alert.at_once
            return incident.tell(self.config, now, "back" if incident.returns else "new")
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
            return incident.tell(self.config, now, reason)
        return None

    def _plans(self, incident: Incident, ends_at: float) -> Iterator[tuple[float, str]]:
        """When an open incident is told again, and why; the most important first."""
        config = self.config
        calm_until = incident.told_at + config.rate_limit
        yield ends_at, "resolved"
        if incident.severity > incident.told_severity:
            yield incident.due, "raised"
        for number, step in enumerate(config.escalation):
            if number not in incident.steps:
                yield max(step_at(incident, step), calm_until), "escalated"
        if self._has_more(incident):
            yield min(incident.due, calm_until), "more"
        yield incident.told_at + max(config.repeat_interval, config.rate_limit), "repeat"

    def _batches(self) -> dict[str, float]:
        """When the last of those that were told together is over, as far as that is known."""
        latest: dict[str, float] = {}
        for each in self:
            if each.batch is not None and each.phase is Phase.OPEN:
                latest[each.batch] = max(latest.get(each.batch, -math.inf), each.ends_at(self.config))
        return latest

    def _ends_at(self, incident: Incident, batches: Mapping[str, float]) -> float:
        """When it is over. Incidents that were told together end together: one waits for the others, for a while."""
        own = incident.ends_at(self.config)
        if incident.batch is None or incident.over_at is not None or math.isinf(own):
            return own
        return min(batches.get(incident.batch, own), own + self.config.keep_firing)

    def _end(self, incident: Incident, now: float) -> Notification:
        incident.phase = Phase.OVER
        for other in self:
            if other.phase is Phase.INHIBITED and not self._inhibited(other):
                self.forget(other.fingerprint)  # a consequence of what is over now
        return incident.tell(self.config, now, "resolved", Status.RESOLVED)

    def _has_more(self, incident: Incident) -> bool:
        """Whether a first message that could not wait left out far more than it told."""
        enough = incident.untold >= self.config.more_from * max(1, incident.told_count)
        return incident.rushed and not incident.followed_up and enough

    def _escalate(self, incident: Incident, now: float) -> bool:
        """Take the steps whose time has come. Whether one of them makes a difference."""
        louder = False
        for number, step in enumerate(self.config.escalation):
            if number not in incident.steps and step_at(incident, step) <= now:
                louder |= incident.take_step(number, step)
        return louder

    def _wakes_at(self, incident: Incident, batches: Mapping[str, float]) -> float:
        """When :meth:`due` has to look at this incident again."""
        if incident.phase is Phase.PENDING:
            return incident.due
        if incident.phase is Phase.OVER:
            return incident.last_seen + self.config.remember
        if incident.phase is not Phase.OPEN:
            return math.inf
        return min(at for at, _ in self._plans(incident, self._ends_at(incident, batches)))
