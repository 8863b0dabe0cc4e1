"""One incident: what is known of it, and the notifications that tell it. Pure."""

from __future__ import annotations

import dataclasses
import math
import secrets
from collections import deque
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from otel_resilience.alerting.alert import Alert, Notification, Scalar, Status, rfc3339
from otel_resilience.alerting.config import AlertConfig, EscalationStep
from otel_resilience.classification import Severity

MAX_ERROR_TYPES: Final = 50
"""Different ``error.type`` values that are counted apart."""
SHOWN_ERROR_TYPES: Final = 10
MAX_DELIVERIES: Final = 10

_SEVERITIES: Final = tuple(Severity)


class Phase(StrEnum):
    """Where an incident stands; see :mod:`otel_resilience.alerting.incidents`."""

    WATCHING = "watching"
    PENDING = "pending"
    INHIBITED = "inhibited"
    OPEN = "open"
    OVER = "over"


@dataclasses.dataclass(slots=True)
class Incident:
    """What one fingerprint stands for. Times are seconds since the epoch."""

    id: str
    fingerprint: str
    alert: Alert
    """The first alert of the highest severity so far."""
    severity: Severity
    first_seen: float
    last_seen: float
    watched_since: float
    """Since when this process would notice another occurrence."""
    phase: Phase = Phase.WATCHING
    total: int = 0
    untold: int = 0
    untold_since: float = 0.0
    due: float = math.inf
    not_before: float = -math.inf
    """A message with this fingerprint was sent not long ago: the next one waits until then."""
    told_at: float = 0.0
    told_count: int = 0
    """Occurrences in the last message."""
    told_severity: Severity = Severity.LOW
    messages: int = 0
    followed_up: bool = False
    rushed: bool = False
    """The first message could not wait for more to tell."""
    begun_here: bool = False
    """This process told of it first."""
    steps: tuple[int, ...] = ()
    """Numbers of the escalation steps that were taken."""
    channels: tuple[str, ...] = ()
    """Channels beyond those of its severity."""
    returns: int = 0
    batch: str | None = None
    """What was told for the first time together has this in common."""
    calm_since: float | None = None
    over_at: float | None = None
    latest_correlation_id: str | None = None
    latest_span_id: str | None = None
    error_types: dict[str, int] = dataclasses.field(default_factory=dict)
    recent: deque[tuple[float, str | None]] = dataclasses.field(default_factory=deque)
    """The last occurrences with their ``error.type``, as many as the threshold asks for."""
    holders: tuple[str, ...] = ()
    """Channels whose receiver holds it open until it is told of the end."""
    deliveries: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """The last confirmations: channel, time, seconds from the cause to the confirmation."""

    @classmethod
    def of(cls, alert: Alert, now: float) -> Incident:
        """A new incident that nobody was told of."""
        return cls(
            id=secrets.token_hex(8),
            fingerprint=alert.fingerprint,
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
    def _ended_at(self) -> float:
        """Of one that is over: at the first good sign, else with the last bad one."""
        if self.over_at is not None:
            return self.over_at
        return self.last_seen if self.calm_since is None else self.calm_since

    @property
    def next_id(self) -> str:
        """The ID of its next notification."""
        return f"{self.id}-{self.messages + 1}"

    def catch_up(self, notification: Notification) -> None:
        """An earlier process was about to tell this of it."""
        number = notification.id.rpartition("-")[2]
        if number.isdecimal():
            self.messages = max(self.messages, int(number))
        if notification.severity > self.severity:
            self.severity = notification.severity
        self.told_severity = max(self.told_severity, notification.severity)
        if notification.status is Status.RESOLVED:
            self.phase = Phase.OVER

    def see(self, alert: Alert, now: float) -> None:
        """One more occurrence."""
        if self.untold == 0:
            self.untold_since = now
        self.total += 1
        self.untold += 1
        self.last_seen = max(self.last_seen, now)
        self.calm_since = self.over_at = None
        if alert.severity > self.severity:
            self.severity = alert.severity
            self.alert = alert
        if alert.correlation_id is not None:
            self.latest_correlation_id, self.latest_span_id = alert.correlation_id, alert.span_id
        self._count(alert.error_type)

    def _count(self, error_type: str | None) -> None:
        if error_type is not None and (error_type in self.error_types or len(self.error_types) < MAX_ERROR_TYPES):
            self.error_types[error_type] = self.error_types.get(error_type, 0) + 1

    def threshold_reached(self, alert: Alert, now: float) -> bool:
        """Whether enough occurrences lie within the window; the incident then began with the first of them."""
        if self.phase is not Phase.WATCHING or alert.threshold == 1:
            return True
        if self.recent.maxlen != alert.threshold:
            self.recent = deque(self.recent, maxlen=alert.threshold)
        self.recent.append((now, alert.error_type))
        if len(self.recent) < alert.threshold or now - self.recent[0][0] > alert.window:
            return False
        self.first_seen = self.untold_since = self.recent[0][0]
        self.total = self.untold = len(self.recent)
        self.error_types.clear()
        for _, error_type in self.recent:
            self._count(error_type)
        self.recent.clear()
        return True

    def comes_back(self, alert: Alert, now: float, config: AlertConfig) -> Incident:
        """The incident that follows this one, which is over."""
        back = Incident.of(alert, now)
        if now < self.last_seen + config.remember:
            back.returns = self.returns + 1
            back.not_before = self.told_at + config.rate_limit
        return back

    def before_it_came_back(self, config: AlertConfig) -> Incident:
        """What to remember where this one was over before it was told: the inverse of :meth:`comes_back`."""
        told_at = self.not_before - config.rate_limit
        return dataclasses.replace(
            self, phase=Phase.OVER, returns=self.returns - 1, told_at=told_at, untold=0, recent=deque()
        )

    def ends_at(self, config: AlertConfig) -> float:
        """When it is over unless it is seen again; infinity where nothing says so."""
        ends = math.inf
        if self.over_at is not None:
            ends = self.over_at
        if self.calm_since is not None:
            ends = min(ends, self.calm_since + config.keep_firing)
        if self.alert.quiet_after is not None:
            ends = min(ends, max(self.last_seen, self.watched_since) + self.alert.quiet_after)
        return ends

    def take_step(self, number: int, step: EscalationStep) -> bool:
        """Escalate. Whether that makes a difference to what people get."""
        before = (self.severity, self.channels)
        self.steps = (*self.steps, number)
        self.severity = escalated_severity(self.severity, step.severity)
        self.channels = tuple(dict.fromkeys((*self.channels, *step.channels)))
        return (self.severity, self.channels) != before

    def tell(self, config: AlertConfig, now: float, reason: str, status: Status = Status.FIRING) -> Notification:
        """The notification for what happened since the last one, which makes it told."""
        self.messages += 1
        notification = self.notification(config, now, reason, status)
        self.told_at, self.told_severity = now, self.severity
        if self.untold:
            self.told_count = self.untold
        self.untold = 0
        self.due = math.inf
        return notification

    def confirm(self, channel: str, now: float, seconds: float, *, held: bool = False) -> None:
        """A channel took a message about it, ``seconds`` after its cause. ``held``: its receiver holds it open now."""
        if held and channel not in self.holders:
            self.holders = (*self.holders, channel)
        self.deliveries.append({"channel": channel, "at": rfc3339(now), "seconds": round(seconds, 3)})
        del self.deliveries[:-MAX_DELIVERIES]

    def notification(self, config: AlertConfig, now: float, reason: str, status: Status) -> Notification:
        """The incident as a message, without any effect on it."""
        alert = self.alert
        latest = self.messages > 1 and status is Status.FIRING
        correlation_id = self.latest_correlation_id if latest else alert.correlation_id or self.latest_correlation_id
        ended_at = self._ended_at if status is Status.RESOLVED else None
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
            count=self.untold,
            total=self.total,
            first_seen=self.first_seen,
            last_seen=self.last_seen,
            escalation=self.escalation,
            links=config.links(alert.kind, correlation_id),
            context=self._context(),
            service=config.service,
            reason=reason,
            error_types=dict(sorted(self.error_types.items(), key=lambda item: -item[1])[:SHOWN_ERROR_TYPES]),
            further_channels=(*self.channels, *self.holders) if status is Status.RESOLVED else self.channels,
            quiet_after=alert.quiet_after,
            caused_at=self.untold_since if reason in {"new", "back", "raised"} else now,
            ended_at=ended_at,
        )

    def _summary(self, now: float, reason: str) -> str:
        parts = [self.alert.summary] if self.alert.summary else []
        if reason == "resolved":
            parts.append(f"Over after {spell(self._ended_at - self.first_seen)}.")
        if self.untold > 1:
            since = self.last_seen - self.untold_since
            kinds = f", {len(self.error_types)} error types" if len(self.error_types) > 1 else ""
            parts.append(f"{self.untold:,} times in {spell(since)}{kinds}.")
        if self.returns:
            parts.append(f"It is back for the {ordinal(self.returns)} time.")
        if reason in {"escalated", "repeat"}:
            parts.append(f"It goes on since {rfc3339(self.first_seen)}, {spell(now - self.first_seen)}.")
        return " ".join(parts)

    def _context(self) -> dict[str, Scalar]:
        context = dict(self.alert.context)
        if self.returns:
            context["returns"] = self.returns
        return context

    def dump(self) -> dict[str, Any]:
        """Everything, as JSON; :meth:`load` is the inverse."""
        data = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        alert = dataclasses.asdict(self.alert)
        alert["severity"] = self.alert.severity.value
        data.update(
            alert=alert,
            severity=self.severity.value,
            told_severity=self.told_severity.value,
            phase=self.phase.value,
            recent=list(self.recent),
            error_types=dict(self.error_types),
            deliveries=list(self.deliveries),
        )
        data["begun_here"] = False
        return {key: None if value in (math.inf, -math.inf) else value for key, value in data.items()}

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> Incident:
        """The inverse of :meth:`dump`. Raises ``KeyError``, ``TypeError`` or ``ValueError`` on anything else."""
        fields = dict(data)
        alert = dict(fields["alert"])
        alert["severity"] = Severity(alert["severity"])
        alert["fingerprint_by"] = tuple(alert["fingerprint_by"])
        fields.update(
            alert=Alert(**alert),
            severity=Severity(fields["severity"]),
            told_severity=Severity(fields["told_severity"]),
            phase=Phase(fields["phase"]),
            recent=deque((float(at), kind) for at, kind in fields["recent"]),
            steps=tuple(fields["steps"]),
            channels=tuple(fields["channels"]),
            holders=tuple(fields["holders"]),
            due=math.inf if fields["due"] is None else fields["due"],
            not_before=-math.inf if fields["not_before"] is None else fields["not_before"],
        )
        for name in ("first_seen", "last_seen", "watched_since", "told_at", "untold_since", "total", "untold"):
            if not isinstance(fields[name], (int, float)):
                raise TypeError(f"{name} is no number")
        return cls(**fields)


def step_at(incident: Incident, step: EscalationStep) -> float:
    """When an escalation step is due; infinity where the incident has not come back often enough."""
    if step.after is not None:
        return incident.first_seen + step.after
    return incident.first_seen if step.returns is not None and incident.returns >= step.returns else math.inf


def escalated_severity(current: Severity, target: Severity | None) -> Severity:
    """``target``, else one step up; never lower than ``current``."""
    if target is None:
        target = _SEVERITIES[min(_SEVERITIES.index(current) + 1, len(_SEVERITIES) - 1)]
    return max(current, target)


def spell(seconds: float) -> str:
    """A duration for people: ``45 s``, ``12 min``, ``3.5 h``, ``2 days``."""
    if seconds < 1:
        return f"{max(0.0, seconds):.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:.0f} days"


def ordinal(number: int) -> str:
    """``1st``, ``2nd``, ``3rd``, ``4th`` …"""
    if 10 <= number % 100 <= 20:
        return f"{number}th"
    return f"{number}{({1: 'st', 2: 'nd', 3: 'rd'}).get(number % 10, 'th')}"
