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
from collections.abc import Iterable, Iterator
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
        self.suppressed: deque[Suppression] = deque()
        """Suppressions that were decided outside a report; the caller takes them."""

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
        incident, overflowing = self._find(alert, now)
        phase = incident.phase
        if overflowing:
            alert = incident.alert
        incident.see(alert, now)
        if phase is Phase.WATCHING:
            outcome = self._begin(incident, alert, now)
            return Outcome(incident, "overflow") if overflowing and outcome.suppressed else outcome
        if phase is Phase.INHIBITED:
            if self._inhibited(incident):
                return Outcome(incident, "inhibited")
            return self._begin(incident, alert, now)
        if phase is Phase.PENDING:
            if incident.severity is Severity.CRITICAL or alert.at_once:
                incident.due = min(incident.due, max(now, incident.not_before))
            held_back = "cooldown" if incident.not_before > now else "grouped"
            return Outcome(incident, "overflow" if overflowing else held_back)
        if incident.severity > incident.told_severity:
            urgent = incident.severity is Severity.CRITICAL
            incident.due = now if urgent else max(now, incident.told_at + self.config.rate_limit)
        return Outcome(incident, "overflow" if overflowing else "dedup")

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
            if incident.phase is Phase.PENDING:
                self.suppressed.append(("cancelled", 1))
            if incident.phase is Phase.PENDING and not certain:
                incident.phase, incident.cancelled_at, incident.due = Phase.WATCHING, now, math.inf
            else:
                self.forget(fingerprint)
            return incident
        if incident.calm_since is None:
            incident.calm_since = now
        if certain and not incident.returns:
            incident.over_at = now
        return incident

    def due(self, now: float) -> list[tuple[Incident, Notification]]:
        """What is to be told now, in the order in which it became due."""
        told = []
        for incident in sorted(self, key=lambda each: each.due):
            notification = self._look(incident, now)
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
            elif incident.begun_here and incident.untold >= self.config.more_from and not incident.followed_up:
                incident.rushed, incident.told_count, incident.due = True, 0, now

    def next_due(self) -> float:
        """When :meth:`due` may have something to say; infinity where nothing is planned."""
        return min((self.wakes_at(incident) for incident in self), default=math.inf)

    def adopt(self, incident: Incident, now: float) -> bool:
        """Take in an incident that another process told, or an earlier one. ``False`` where its own is further."""
        own = self._incidents.get(incident.fingerprint)
        if own is not None and own.id == incident.id:
            return False
        if own is not None:
            incident.total += own.total
            incident.untold += own.untold
            incident.last_seen = max(incident.last_seen, own.last_seen)
        incident.watched_since = now  # nobody watched in between: silence says nothing
        self._incidents[incident.fingerprint] = incident
        return True

    def forget(self, fingerprint: str) -> None:
        """Drop an incident without a word."""
        self._incidents.pop(fingerprint, None)

    def _find(self, alert: Alert, now: float) -> tuple[Incident, bool]:
        incident = self._incidents.get(alert.fingerprint)
        if incident is not None:
            if incident.phase is not Phase.OVER and not incident.is_forgotten(now, self.config):
                return incident, False
            if incident.phase is Phase.WATCHING:
                self._incidents[alert.fingerprint] = Incident.of(alert, now)
                return self._incidents[alert.fingerprint], False
            back = incident.comes_back(alert, now, self.config)
            self._incidents[alert.fingerprint] = back
            return back, False
        if len(self._incidents) >= self.config.max_incidents and not self._make_room(now):
            return self._overflow(alert, now), True
        incident = self._incidents[alert.fingerprint] = Incident.of(alert, now)
        return incident, False

    def _overflow(self, alert: Alert, now: float) -> Incident:
        template = Alert(
            kind=OVERFLOW_KIND,
            title=f"More than {self.config.max_incidents} different incidents at once",
            severity=alert.severity,
            summary="What comes beyond that is counted here.",
            quiet_after=self.config.keep_firing,
        )
        incident = self._incidents.get(template.fingerprint)
        if incident is None or incident.phase is Phase.OVER:
            incident = self._incidents[template.fingerprint] = Incident.of(template, now)
        return incident

    def _make_room(self, now: float) -> bool:
        """Drop what is remembered or watched without need; looked for once a second, for it costs a look at all."""
        if now < self._full_until:
            return False
        for incident in self:
            if incident.phase is Phase.OVER or incident.is_forgotten(now, self.config):
                self.forget(incident.fingerprint)
        if len(self._incidents) < self.config.max_incidents:
            return True
        self._full_until = now + 1.0
        return False

    def _begin(self, incident: Incident, alert: Alert, now: float) -> Outcome:
        if not incident.threshold_reached(alert, now):
            incident.phase = Phase.WATCHING
            return Outcome(incident, "threshold")
        if self._inhibited(incident):
            incident.phase = Phase.INHIBITED
            return Outcome(incident, "inhibited")
        incident.phase = Phase.PENDING
        urgent = incident.severity is Severity.CRITICAL or alert.at_once or incident.cancelled_at is not None
        incident.due = max(now if urgent else now + self.config.group_wait, incident.not_before)
        return Outcome(incident, "cooldown" if incident.not_before > now else None)

    def _inhibited(self, incident: Incident) -> bool:
        return any(
            incident.kind in rule.consequences and self._cause_open(rule.causes, incident.dependency)
            for rule in self.config.inhibitions
        )

    def _cause_open(self, causes: Iterable[str], dependency: str | None) -> bool:
        return dependency is not None and any(
            other.kind in causes and other.dependency == dependency and other.phase in {Phase.PENDING, Phase.OPEN}
            for other in self._incidents.values()
        )

    def _look(self, incident: Incident, now: float) -> Notification | None:
        if incident.phase is Phase.PENDING and incident.due <= now:
            if self._inhibited(incident):
                incident.phase = Phase.INHIBITED
                self.suppressed.append(("inhibited", 1))
                return None
            incident.phase, incident.begun_here = Phase.OPEN, True
            incident.rushed = now - incident.untold_since < self.config.group_wait
            return incident.tell(self.config, now, "back" if incident.returns else "new")
        if incident.phase is Phase.OPEN:
            return self._look_at_open(incident, now)
        if incident.is_forgotten(now, self.config):
            self.forget(incident.fingerprint)
        return None

    def _look_at_open(self, incident: Incident, now: float) -> Notification | None:
        config = self.config
        if now >= self._ends_at(incident):
            return self._end(incident, now)
        if incident.severity > incident.told_severity and incident.due <= now:
            return incident.tell(config, now, "raised")
        if self._escalate(incident, now):
            return incident.tell(config, now, "escalated")
        if self._has_more(incident) and (incident.due <= now or now >= incident.told_at + config.rate_limit):
            incident.followed_up = True
            return incident.tell(config, now, "more")
        if now >= incident.told_at + config.repeat_interval:
            return incident.tell(config, now, "repeat")
        return None

    def _ends_at(self, incident: Incident) -> float:
        """When it is over. Incidents that were told together end together: one waits for the others, for a while."""
        own = incident.ends_at(self.config)
        if incident.batch is None or incident.over_at is not None or math.isinf(own):
            return own
        peers = (each for each in self if each.batch == incident.batch and each.phase is Phase.OPEN)
        return min(max(each.ends_at(self.config) for each in peers), own + self.config.keep_firing)

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

    def wakes_at(self, incident: Incident) -> float:
        """When :meth:`due` has to look at this incident again."""
        if incident.phase is Phase.PENDING:
            return incident.due
        if incident.phase is Phase.OVER:
            return incident.last_seen + self.config.remember
        if incident.phase is not Phase.OPEN:
            return math.inf
        moments = [self._ends_at(incident), incident.told_at + self.config.repeat_interval]
        if incident.severity > incident.told_severity:
            moments.append(incident.due)
        moments += [
            step_at(incident, step)
            for number, step in enumerate(self.config.escalation)
            if number not in incident.steps
        ]
        if self._has_more(incident):
            moments.append(min(max(incident.due, incident.told_at), incident.told_at + self.config.rate_limit))
        return min(moments)
