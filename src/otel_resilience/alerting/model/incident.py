"""One incident: what is known about it, and the notifications about it. Pure.

An incident lives in the store that processes share. A process works on its copy, records in :class:`Observed` what it
saw that the store does not hold yet, and writes its copy back if the store still holds the revision that it started
from. If not, it takes the newer record and adds what it observed (:meth:`Incident.absorb`).
"""

from __future__ import annotations

import dataclasses
import datetime
import math
import secrets
from collections import Counter, deque
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from otel_resilience._internal import stored
from otel_resilience.alerting.model.alert import (
    MAX_SHOWN_TYPES,
    Alert,
    Notification,
    Scalar,
    Status,
    format_duration,
    rfc3339,
)
from otel_resilience.alerting.model.config import AlertConfig, EscalationStep
from otel_resilience.alerting.model.observed import Observed, count_type, with_more
from otel_resilience.classification.model import Severity

MAX_DELIVERIES: Final = 10
MAX_SENDERS: Final = 8
MAX_ACTIONS: Final = 20
BOUNDED: Final = Severity.CRITICAL
"""Below this severity, an incident sends at most :data:`MOST_IN_AN_HOUR` messages in any hour."""
MOST_IN_AN_HOUR: Final = 4
HOUR: Final = 3600.0
CLOCKS_DIFFER: Final = 1.0
"""Seconds by which another machine's clock may be ahead of ours without consequences."""
SETTLE: Final = 900.0
"""Seconds, the default length of the longest job, during which a process that adopted an incident neither escalates nor
repeats it unless it observes the incident itself."""

_SEVERITIES: Final = tuple(Severity)
_TIMES: Final = (
    "first_seen", "last_seen", "unreported_since", "last_notified_at", "due", "not_before", "calm_since", "over_at",
    "acknowledged_at", "silenced_until",
)  # fmt: skip
_UNLIMITED: Final = ("due", "not_before", "silenced_until")
"""Times that may be infinite, which JSON holds as ``null``."""
_ENTRIES: Final[dict[str, dict[str, Any]]] = {
    "deliveries": {"channel": str, "message": int, "seconds": float},
    "escalations": {"severity": Severity, "channels": list[str]},
    "actions": {"action": str, "by": str | None, "reason": str | None},
}
"""What the entries of these lists hold besides the time."""
_LOCAL: Final = frozenset({"watched_since", "started_here", "observed_here", "resend", "fresh", "unsaved"})
"""Fields that concern one process."""
_FORMER_NAMES: Final = {
    "told_at": "last_notified_at",
    "told_count": "last_reported_count",
    "told_severity": "notified_severity",
    "untold": "unreported_count",
    "untold_since": "unreported_since",
    "rushed": "sent_without_grouping",
}
"""Field names in records stored by earlier versions, and their current names."""


class Phase(StrEnum):
    """The phase of an incident; see :mod:`otel_resilience.alerting.model.book`.

    Examples:
        >>> from otel_resilience.alerting import Phase
        >>> [phase.value for phase in Phase]
        ['watching', 'pending', 'inhibited', 'open', 'over']
    """

    WATCHING = "watching"
    """Fewer occurrences than the threshold."""
    PENDING = "pending"
    """The first message waits for others to group with."""
    INHIBITED = "inhibited"
    """People were already notified of its cause."""
    OPEN = "open"
    """A message was sent, and it has not been quiet for long enough."""
    OVER = "over"
    """Remembered, to notice that it recurs."""


@dataclasses.dataclass(slots=True)
class Incident:
    """The state of one fingerprint. Times are seconds since the epoch.

    Created and changed by the alert service; read it from :meth:`AlertService.incidents`.

    Examples:
        >>> from otel_resilience.alerting import Alert, AlertConfig, AlertService
        >>> service = AlertService(AlertConfig(group_wait=0), [])
        >>> service.report(Alert(kind="trouble", title="Trouble", severity=Severity.HIGH))
        >>> incident, = service.incidents()
        >>> incident.kind, incident.phase.value, incident.total
        ('trouble', 'pending', 1)
    """

    id: str
    fingerprint: str
    alert: Alert
    """The first alert of the highest severity so far."""
    severity: Severity
    first_seen: float
    last_seen: float
    watched_since: float
    """Since when this process would have noticed another occurrence. Not stored."""
    phase: Phase = Phase.WATCHING
    total: int = 0
    unreported_count: int = 0
    unreported_since: float = 0.0
    due: float = math.inf
    not_before: float = -math.inf
    """A message with this fingerprint was sent recently: the next one waits until then."""
    last_notified_at: float = 0.0
    last_reported_count: int = 0
    """Occurrences in the last message."""
    notified_severity: Severity = Severity.LOW
    messages: int = 0
    followed_up: bool = False
    sent_without_grouping: bool = False
    """The first message was sent without waiting for others to group with."""
    started_here: bool = False
    """This process sent the first message about it. Not stored."""
    observed_here: bool = False
    """This process saw an occurrence or a sign of recovery. Not stored."""
    senders: tuple[str, ...] = ()
    """The processes that sent the last messages, in order."""
    sent_at: tuple[float, ...] = ()
    """When the last messages with this fingerprint were sent, including those about earlier incidents."""
    steps: tuple[int, ...] = ()
    """Numbers of the escalation steps taken."""
    channels: tuple[str, ...] = ()
    """Channels in addition to those for its severity."""
    returns: int = 0
    batch: str | None = None
    """Shared by incidents whose first messages were sent together."""
    calm_since: float | None = None
    over_at: float | None = None
    latest_correlation_id: str | None = None
    latest_span_id: str | None = None
    error_types: dict[str, int] = dataclasses.field(default_factory=dict)
    recent: deque[tuple[float, str | None]] = dataclasses.field(default_factory=deque)
    """The last occurrences with their ``error.type``, as many as the threshold needs."""
    holders: tuple[str, ...] = ()
    """Channels whose receiver keeps it open until it is notified of the end."""
    deliveries: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """The last confirmations: channel, number of the message, time, seconds from the cause to the confirmation."""
    acknowledged_at: float | None = None
    """When a person acknowledged it: from then on it is neither escalated nor repeated."""
    silenced_until: float = -math.inf
    """Until then only its end is sent."""
    closed: bool = False
    """A person closed it."""
    actions: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """What people last did with it: action, by whom, reason, time; see :meth:`note_action`."""
    resend: bool = False
    """A person asked for its message to be sent again. Not stored."""
    revision: str | None = None
    """Revision of the stored record that this copy is based on; ``None``: it was never stored."""
    fresh: Observed = dataclasses.field(default_factory=Observed)
    """What the stored record does not hold yet. Not stored."""
    unsaved: bool = False
    """Changed other than by observations. Not stored."""
    escalations: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """When each step was taken, with the resulting severity and additional channels."""
    confirmed: int = 0
    """The number of the last message that all its channels have confirmed."""

    @classmethod
    def of(cls, alert: Alert, now: float, fingerprint: str | None = None) -> Incident:
        """A new incident without messages. ``fingerprint``: by default that of the alert."""
        return cls(
            id=secrets.token_hex(8),
            fingerprint=alert.fingerprint if fingerprint is None else fingerprint,
            alert=alert,
            severity=alert.severity,
            first_seen=now,
            last_seen=now,
            watched_since=now,
        )

    @property
    def kind(self) -> str:
        """The kind of its alerts."""
        return self.alert.kind

    @property
    def dependency(self) -> str | None:
        """The dependency of its alerts."""
        return self.alert.dependency

    @property
    def escalation(self) -> int:
        """How often it was escalated."""
        return len(self.steps)

    @property
    def ended_at(self) -> float:
        """When an incident that is over ended: at the first sign of recovery, else with the last occurrence."""
        if self.over_at is not None:
            return self.over_at
        return self.last_seen if self.calm_since is None else self.calm_since

    @property
    def next_id(self) -> str:
        """The ID of its next notification."""
        return f"{self.id}-{self.messages + 1}"

    @property
    def needs_saving(self) -> bool:
        """Whether the stored record is behind this copy."""
        return self.unsaved or bool(self.fresh)

    def sender_of(self, message: int) -> str | None:
        """The process that sent the message with this number; ``None`` if no longer known."""
        place = message - 1 - (self.messages - len(self.senders))
        return self.senders[place] if 0 <= place < len(self.senders) else None

    @property
    def is_confirmed(self) -> bool:
        """Whether all channels of the last message have confirmed it."""
        return self.confirmed == self.messages > 0

    def see(self, alert: Alert, now: float) -> None:
        """One more occurrence."""
        self.fresh.see(alert, now)
        self.observed_here = True
        self._see(1, now, now, alert, alert if alert.correlation_id is not None else None)
        count_type(self.error_types, alert.error_type, 1)
        if self.phase is Phase.WATCHING:
            self.recent = with_more(self.recent, alert.threshold, ((now, alert.error_type),))

    def mark_ongoing(self, now: float) -> None:
        """It is still ongoing, without another occurrence."""
        self.fresh.mark_ongoing(now)
        self.observed_here = True
        self._mark_ongoing(now)

    def becomes_calm(self, at: float, *, certain: bool) -> None:
        """A sign of recovery; if ``certain``, it ends an incident that was not reopened before."""
        self.observed_here = True
        if self.calm_since is None:
            self.calm_since = self.fresh.calm_since = at
        if certain and not self.returns and self.over_at is None:
            self.over_at = self.fresh.over_at = at
            self.fresh.calm_since = self.calm_since

    def acknowledge(self, at: float) -> None:
        """A person acknowledges it."""
        self.acknowledged_at = self.fresh.acknowledged_at = self.acknowledged_at or at
        self.unsaved = True

    def silence(self, until: float) -> None:
        """A person wants no message but the resolution until then."""
        self.silenced_until = self.fresh.silenced_until = max(self.silenced_until, until)
        self.unsaved = True

    def note_action(self, action: str, by: str | None, reason: str | None, at: float) -> None:
        """Records who did what with it, and why."""
        noted = {"action": action, "by": by, "reason": reason, "at": rfc3339(at)}
        self.fresh.actions.append(noted)
        self._note([noted])
        self.unsaved = True

    def _note(self, actions: list[dict[str, Any]]) -> None:
        self.actions = [*self.actions, *actions][-MAX_ACTIONS:]

    def close(self, at: float) -> None:
        """A person closes it; an occurrence after that starts a new incident."""
        self.calm_since = self.fresh.calm_since = max(at, self.last_seen)
        self.over_at = self.fresh.over_at = self.calm_since
        self.closed = self.fresh.closed = True

    def room_for(self, messages: int) -> float:
        """The time from which that many messages fit the hourly limit; immediately if it is severe enough."""
        place = MOST_IN_AN_HOUR + 1 - messages
        if self.severity >= BOUNDED or len(self.sent_at) < place:
            return -math.inf
        return self.sent_at[-place] + HOUR

    def earliest(self, config: AlertConfig) -> float:
        """From when on its first message may follow those about earlier incidents."""
        if not self.sent_at:
            return -math.inf
        return max(self.sent_at[-1] + config.rate_limit, self.room_for(1))

    def not_after(self, now: float, config: AlertConfig) -> None:
        """Times written by a clock that was ahead become at most now; what was planned is planned again."""
        for name in ("first_seen", "last_seen", "last_notified_at", "unreported_since", "watched_since"):
            setattr(self, name, min(getattr(self, name), now))
        for name in ("calm_since", "over_at", "acknowledged_at"):
            at = getattr(self, name)
            setattr(self, name, None if at is None else min(at, now))
        self.sent_at = tuple(min(at, now) for at in self.sent_at)
        self.recent = deque((min(at, now), kind) for at, kind in self.recent)
        self.not_before = min(self.not_before, max(now + config.rate_limit, self.earliest(config)))
        if self.due != math.inf:
            self.due = min(self.due, max(now + max(config.group_wait, config.rate_limit), self.not_before))
        self._silence_from(now)

    def _silence_from(self, now: float) -> None:
        """A silence written by a clock that was ahead gets the requested length, from now on. The change is stored."""
        place = max((n for n, entry in enumerate(self.actions) if entry["action"] == "silence"), default=None)
        if place is None:
            return
        asked = self.actions[place]
        began = datetime.datetime.fromisoformat(asked["at"]).timestamp()
        if began > now + CLOCKS_DIFFER:
            self.silenced_until -= began - now
            self.fresh.silenced_until = min(self.fresh.silenced_until, self.silenced_until)
            self.actions = [*self.actions[:place], {**asked, "at": rfc3339(now)}, *self.actions[place + 1 :]]
            self.unsaved = True

    def absorb(self, observed: Observed) -> None:
        """Adds what this process observed to the stored record. The latest occurrence counts."""
        if observed.count and observed.alert is not None:
            self._see(observed.count, observed.first_at, observed.last_bad, observed.alert, observed.latest)
            for error_type, number in observed.error_types.items():
                count_type(self.error_types, error_type, number)
        elif math.isfinite(observed.last_bad):
            self._mark_ongoing(observed.last_bad)
        if self.phase is Phase.WATCHING:
            self.recent = with_more(self.recent, self.alert.threshold, observed.recent)
        if observed.calm_since is not None and observed.calm_since >= self.last_seen:
            self.calm_since = min(observed.calm_since, self.calm_since or math.inf)
            if observed.over_at is not None:
                self.over_at = min(observed.over_at, self.over_at or math.inf)
        self.acknowledged_at = self.acknowledged_at or observed.acknowledged_at
        self.silenced_until = max(self.silenced_until, observed.silenced_until)
        self.closed |= observed.closed
        self._note(observed.actions)
        for delivery in observed.deliveries:
            self._deliver(delivery, observed.holders)
        self.confirmed = max(self.confirmed, observed.confirmed)
        self.fresh = observed
        self.observed_here |= bool(observed)

    def _see(self, count: int, first: float, last: float, alert: Alert, latest: Alert | None) -> None:
        if self.unreported_count == 0:
            self.unreported_since = first
        self.total += count
        self.unreported_count += count
        if latest is not None and last >= self.last_seen:
            self.latest_correlation_id, self.latest_span_id = latest.correlation_id, latest.span_id
        self._mark_ongoing(last)
        if alert.severity > self.severity:
            self.severity = alert.severity
            self.alert = alert
            self.acknowledged_at = self.fresh.acknowledged_at = None  # whoever acknowledged it did not know this

    def _mark_ongoing(self, at: float) -> None:
        self.last_seen = max(self.last_seen, at)
        if self.calm_since is not None and self.calm_since <= at:
            self.calm_since = self.over_at = None
            self.closed = False

    def threshold_reached(self) -> bool:
        """Whether enough occurrences lie within the window; the incident then started with the first of them."""
        alert = self.alert
        if self.phase is not Phase.WATCHING or alert.threshold == 1:
            return True
        if len(self.recent) < alert.threshold or self.recent[-1][0] - self.recent[0][0] > alert.window:
            return False
        self.first_seen = self.unreported_since = self.recent[0][0]
        self.total = self.unreported_count = len(self.recent)
        self.error_types.clear()
        for _, error_type in self.recent:
            count_type(self.error_types, error_type, 1)
        if self.revision is None:
            self.fresh.count, self.fresh.first_at = self.total, self.first_seen
            self.fresh.error_types = dict(self.error_types)
        self.recent.clear()
        return True

    def reopened_as(self, alert: Alert, now: float, config: AlertConfig) -> Incident:
        """The incident that follows this one, which has ended."""
        back = Incident.of(alert, now, self.fingerprint)
        back.revision = self.revision
        back.sent_at = self.sent_at
        if now < self.last_seen + config.remember and (self.messages or self.returns):
            back.returns = self.returns + (1 if self.messages else 0)
            back.not_before = self.last_notified_at + config.rate_limit if self.messages else self.not_before
        back.not_before = max(back.not_before, back.room_for(1))
        return back

    def withdraw(self, at: float) -> None:
        """It ended at this time, before a message was sent about it. Data about earlier incidents is kept."""
        self.phase, self.calm_since = Phase.OVER, at
        self.unreported_count, self.due, self.unsaved = 0, math.inf, True
        self.recent.clear()

    def ends_at(self, config: AlertConfig) -> float:
        """When it ends unless it is seen again; infinity if nothing limits it.

        A process that only loaded it from the store watches for a while first: it does not know what went unobserved
        before it started.
        """
        if self.over_at is not None:
            return self.over_at
        ends = self.last_seen + config.expire_after
        if self.calm_since is not None:
            ends = min(ends, self.calm_since + config.keep_firing)
        watched = self.watched_since + config.keep_firing
        if self.alert.quiet_after is not None:
            ends = min(ends, self.last_seen + self.alert.quiet_after)
            watched = min(watched, self.watched_since + self.alert.quiet_after)
        return ends if self.observed_here else max(ends, watched)

    def end_with_process(self, config: AlertConfig, now: float) -> None:
        """The process is ending, perhaps the last one for a day: incidents that were quiet for long enough end now."""
        calm_for = math.inf if self.calm_since is None else config.keep_firing
        if self.alert.quiet_after is not None:
            calm_for = min(calm_for, self.alert.quiet_after)
        if self.over_at is None and now >= self.last_seen + min(calm_for, config.expire_after):
            self.calm_since = self.fresh.calm_since = self.last_seen if self.calm_since is None else self.calm_since
            self.over_at = self.fresh.over_at = self.calm_since

    def may_escalate_from(self, config: AlertConfig) -> float:
        """From when on it may be escalated or repeated: time in which no process was watching does not count."""
        return -math.inf if self.observed_here else self.watched_since + max(config.keep_firing, SETTLE)

    def take_step(self, number: int, step: EscalationStep, now: float) -> bool:
        """Escalates. Returns whether that makes a difference to what people get."""
        before = (self.severity, self.channels)
        self.steps = (*self.steps, number)
        self.severity = escalated_severity(self.severity, step.severity)
        self.channels = tuple(dict.fromkeys((*self.channels, *step.channels)))
        taken = {"at": rfc3339(now), "severity": self.severity.value, "channels": list(self.channels)}
        self.escalations.append(taken)
        return (self.severity, self.channels) != before

    def next_message(
        self, config: AlertConfig, now: float, reason: str, status: Status = Status.FIRING, *, sender: str = ""
    ) -> Notification:
        """The next message, about what happened since the last one. ``sender``: the process that sends it."""
        self.messages += 1
        self.senders = (*self.senders, sender)[-MAX_SENDERS:]
        self.sent_at = (*self.sent_at, now)[-MOST_IN_AN_HOUR:]
        notification = self.notification(config, now, reason, status, sender=sender)
        self.last_notified_at, self.notified_severity = now, self.severity
        if self.unreported_count:
            self.last_reported_count = self.unreported_count
        self.unreported_count = 0
        self.due = math.inf
        self.resend = False
        return notification

    def confirm(
        self, channel: str, now: float, seconds: float, *, message: int = 0, held: bool = False, by_all: bool = False
    ) -> None:
        """A channel confirmed a ``message`` about it, ``seconds`` after its cause. ``held``: its receiver keeps it
        open. ``by_all``: so have all its other channels."""
        delivery = {"channel": channel, "message": message, "at": rfc3339(now), "seconds": round(seconds, 3)}
        holders = (channel,) if held else ()
        self._deliver(delivery, holders)
        self.fresh.deliveries.append(delivery)
        if by_all:
            self.confirmed = self.fresh.confirmed = max(self.confirmed, message)
        self.fresh.holders = tuple(dict.fromkeys((*self.fresh.holders, *holders)))

    def _deliver(self, delivery: dict[str, Any], holders: tuple[str, ...]) -> None:
        self.holders = tuple(dict.fromkeys((*self.holders, *holders)))
        self.deliveries.append(delivery)
        del self.deliveries[:-MAX_DELIVERIES]

    def notification(
        self, config: AlertConfig, now: float, reason: str, status: Status, *, sender: str
    ) -> Notification:
        """The incident as a message, without side effects."""
        alert = self.alert
        latest = self.messages > 1 and status is Status.FIRING
        correlation_id = self.latest_correlation_id if latest else alert.correlation_id or self.latest_correlation_id
        ended_at = self.ended_at if status is Status.RESOLVED else None
        return Notification(
            id=f"{self.id}-{self.messages}",
            status=status,
            severity=self.severity,
            kind=alert.kind,
            title=alert.title,
            summary=self._summary(now, reason),
            dependency=alert.dependency,
            error_type=alert.error_type,
            error_class=alert.error_class,
            correlation_id=correlation_id,
            span_id=self.latest_span_id if latest else alert.span_id,
            fingerprint=self.fingerprint,
            incident=self.id,
            count=self.unreported_count,
            total=self.total,
            first_seen=self.first_seen,
            last_seen=self.last_seen,
            escalation=self.escalation,
            links=config.links(alert.kind, correlation_id, incident=self.id, details=alert.details_url),
            context=self._context(),
            service=config.service,
            environment=config.environment,
            sender=sender,
            reason=reason,
            error_types=dict(Counter(self.error_types).most_common(MAX_SHOWN_TYPES)),
            further_channels=(*self.channels, *self.holders) if status is Status.RESOLVED else self.channels,
            quiet_after=alert.quiet_after,
            caused_at=self.unreported_since if reason in {"new", "back", "raised"} else now,
            ended_at=ended_at,
        )

    def _summary(self, now: float, reason: str) -> str:
        parts = [self.alert.summary] if self.alert.summary else []
        if reason == "resolved":
            parts.append(f"Resolved after {format_duration(self.ended_at - self.first_seen)}.")
        if self.unreported_count > 1:
            since = self.last_seen - self.unreported_since
            kinds = f", {len(self.error_types)} error types" if len(self.error_types) > 1 else ""
            parts.append(f"{self.unreported_count:,} times in {format_duration(since)}{kinds}.")
        if self.returns:
            parts.append(f"Reopened ({ordinal(self.returns)} time).")
        if reason in {"escalated", "repeat"}:
            parts.append(f"Ongoing for {format_duration(now - self.first_seen)} (since {rfc3339(self.first_seen)}).")
        return " ".join(parts)

    def _context(self) -> dict[str, Scalar]:
        context = dict(self.alert.context)
        if self.returns:
            context["returns"] = self.returns
        return context

    def dump(self) -> dict[str, Any]:
        """All stored fields, as JSON; :meth:`load` is the inverse."""
        names = (field.name for field in dataclasses.fields(self) if field.name not in _LOCAL)
        return {name: stored.dumped(getattr(self, name)) for name in names}

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> Incident:
        """The inverse of :meth:`dump`. Raises ``KeyError``, ``TypeError`` or ``ValueError`` on anything else."""
        record = {_FORMER_NAMES.get(name, name): value for name, value in data.items() if name not in _LOCAL}
        for name in _UNLIMITED:
            if record[name] is None:
                del record[name]
        fields = stored.fields_of(cls, record)
        _check(fields)
        return cls(**fields, watched_since=fields["last_seen"])


def _check(fields: Mapping[str, Any]) -> None:
    """Raises ``KeyError``, ``TypeError`` or ``ValueError`` if a stored incident is not valid."""
    stored.check_times(fields.get(name) for name in _TIMES)
    stored.check_times(fields.get("sent_at", ()))
    stored.check_times(at for at, _ in fields["recent"])
    if min(fields[name] for name in ("total", "unreported_count", "messages", "returns")) < 0:
        raise ValueError("a count below zero")
    for name, kinds in _ENTRIES.items():
        for entry in fields.get(name, ()):
            datetime.datetime.fromisoformat(entry["at"])
            if not all(stored.fits(entry[key], kind) for key, kind in kinds.items()):
                raise TypeError(f"an entry of {name} has an unexpected type")


def message_number(notification: Notification) -> int:
    """Which message of its incident it is, counted from 1; 0 if it belongs to none."""
    incident, _, number = notification.id.rpartition("-")
    return int(number) if incident == notification.incident and number.isdecimal() else 0


def step_at(incident: Incident, step: EscalationStep) -> float:
    """When an escalation step is due; infinity if the incident has not recurred often enough."""
    if step.after is not None:
        return incident.first_seen + step.after
    return incident.first_seen if step.returns is not None and incident.returns >= step.returns else math.inf


def escalated_severity(current: Severity, target: Severity | None) -> Severity:
    """``target``, else one level up; never lower than ``current``."""
    if target is None:
        target = _SEVERITIES[min(_SEVERITIES.index(current) + 1, len(_SEVERITIES) - 1)]
    return max(current, target)


def ordinal(number: int) -> str:
    """``1st``, ``2nd``, ``3rd``, ``4th`` …"""
    if number % 100 in {11, 12, 13}:
        return f"{number}th"
    return f"{number}{({1: 'st', 2: 'nd', 3: 'rd'}).get(number % 10, 'th')}"
