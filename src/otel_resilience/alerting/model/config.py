"""When an incident is notified, notified again, escalated, or not notified at all."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from types import NoneType
from typing import Final

from otel_resilience._internal import validation as check
from otel_resilience.alerting.model.alert import Alert, Links, clean_kind, clean_name
from otel_resilience.classification.model import Severity


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EscalationStep:
    """An incident that lasts for ``after`` seconds, or was reopened ``returns`` times, is escalated and notified again.

    Exactly one of the two is given. Raises ``TypeError`` or ``ValueError`` naming the parameter.

    Examples:
        >>> from otel_resilience.alerting import EscalationStep
        >>> step = EscalationStep(after=900, severity=Severity.CRITICAL, channels=("pagerduty",))
        >>> EscalationStep()
        Traceback (most recent call last):
            ...
        ValueError: an escalation step needs either after or returns
    """

    after: float | None = None
    """Seconds since the incident started, greater than 0."""
    returns: int | None = None
    """How often it recurred within :attr:`AlertConfig.remember` after it ended; at least 1."""
    severity: Severity | None = None
    """The severity that it is raised to; ``None``: one level up."""
    channels: tuple[str, ...] = ()
    """Channels that get it from then on, in addition to those for its severity."""

    def __post_init__(self) -> None:
        if (self.after is None) == (self.returns is None):
            raise ValueError("an escalation step needs either after or returns")
        if self.after is not None:
            check.seconds("after", self.after)
        if self.returns is not None:
            check.count("returns", self.returns)
        check.instance("severity", self.severity, Severity, NoneType)
        check.series("channels", self.channels, str)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Suppresses messages about alerts that match all given fields, until ``until`` (seconds since the epoch).

    If the incident is open already, only its end is sent. Raises ``TypeError`` or ``ValueError`` naming the parameter.

    Examples:
        >>> from otel_resilience.alerting import Alert, Silence
        >>> silence = Silence(dependency="supplier", until=1_800_000_000)
        >>> alert = Alert(kind="errors", title="Errors", severity=Severity.HIGH, dependency="supplier")
        >>> silence.covers(alert, now=1_799_999_999), silence.covers(alert, now=1_800_000_000)
        (True, False)
    """

    kind: str | None = None
    """``None``, here and below: any."""
    dependency: str | None = None
    """That of the alert."""
    error_type: str | None = None
    """That of the alert."""
    severity: Severity | None = None
    """That of the alert."""
    until: float = math.inf
    """Seconds since the epoch, at least 0; by default without end."""

    def __post_init__(self) -> None:
        """Raises ``ValueError`` if no field is given: it would silence everything."""
        if (self.kind, self.dependency, self.error_type, self.severity) == (None, None, None, None):
            raise ValueError("a silence needs at least one of kind, dependency, error_type, severity")
        for name, clean in (("kind", clean_kind), ("dependency", clean_name), ("error_type", clean_name)):
            value = check.optional_text(name, getattr(self, name))
            object.__setattr__(self, name, None if value is None else clean(value))
        check.instance("severity", self.severity, Severity, NoneType)
        if self.until != math.inf:
            check.number("until", self.until, minimum=0)

    def covers(self, alert: Alert, now: float) -> bool:
        """Whether ``alert`` is silenced at ``now``, in seconds since the epoch."""
        return now < self.until and self.matches(alert)

    def matches(self, alert: Alert) -> bool:
        """Whether it would silence ``alert`` at a time before ``until``."""
        return all(
            wanted is None or wanted == given
            for wanted, given in (
                (self.kind, alert.kind),
                (self.dependency, alert.dependency),
                (self.error_type, alert.error_type),
                (self.severity, alert.severity),
            )
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Inhibition:
    """While an incident of one of the ``causes`` is open, ``consequences`` of the same dependency are not sent.

    Both are kinds of alerts. Raises ``TypeError`` naming the parameter.

    Examples:
        >>> from otel_resilience.alerting import AlertConfig, Inhibition
        >>> quiet = Inhibition(frozenset({"circuit_breaker"}), frozenset({"errors"}))
        >>> config = AlertConfig(inhibitions=(quiet,))
    """

    causes: frozenset[str]
    """Kinds of the incidents that explain others."""
    consequences: frozenset[str]
    """Kinds of the incidents that they explain."""

    def __post_init__(self) -> None:
        for name in ("causes", "consequences"):
            kinds = getattr(self, name)
            check.series(name, kinds, str)
            object.__setattr__(self, name, frozenset(map(clean_kind, kinds)))


UNKNOWN_SERVICE: Final = "unknown_service"

DEFAULT_ESCALATION: Final = (
    EscalationStep(after=3600.0),
    EscalationStep(returns=3),
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AlertConfig:
    """Noise control. Durations in seconds, at least 0; those after which something is repeated or forgotten greater
    than 0; counts at least 1. Raises ``TypeError`` or ``ValueError`` naming the parameter.

    Group wait, repeat and keep-firing work as in Alertmanager. The default group wait is shorter, so that a page goes
    out within 60 s although a breaker may take 53 s to open (alert-noise simulation).

    Examples:
        >>> from otel_resilience.alerting import AlertConfig
        >>> config = AlertConfig(service="checkout", environment="production", rate_limit=300)
        >>> config.owner
        ('checkout', 'production')
        >>> AlertConfig(max_incidents=0)
        Traceback (most recent call last):
            ...
        ValueError: max_incidents must be at least 1, not 0
    """

    service: str = UNKNOWN_SERVICE
    """The name of the system that the incidents belong to: the same in all its processes. It is part of every
    fingerprint, so that services which share a store or a routing key keep their incidents apart."""
    environment: str | None = None
    """``deployment.environment.name``, part of every fingerprint too."""
    min_severity: Severity = Severity.HIGH
    """Alerts below this severity are only counted."""
    group_wait: float = 5.0
    """How long the first message waits for others to group with; CRITICAL alerts do not wait."""
    rate_limit: float = 60.0
    """Minimum time between two messages with the same fingerprint; resolutions and a rise to CRITICAL are exempt."""
    keep_firing: float = 300.0
    """How long an incident must be quiet before it ends, so that flapping is one incident."""
    repeat_interval: float = 14_400.0
    """An ongoing incident is notified again this long after the last message."""
    remember: float = 86_400.0
    """How long an ended incident is remembered, to notice that it is reopened."""
    more_from: int = 10
    """A first message that could not wait is followed up once there are this many times as many occurrences."""
    expire_after: float = 604_800.0
    """An incident that no process has seen for this long ends, whatever its kind: its reporter is gone."""
    max_incidents: int = 1000
    """Separate incidents; any beyond that count as one incident of kind ``overflow``."""
    escalation: tuple[EscalationStep, ...] = DEFAULT_ESCALATION
    """By default after an hour, and when it has recurred three times."""
    silences: tuple[Silence, ...] = ()
    """Alerts that are not notified for a while."""
    inhibitions: tuple[Inhibition, ...] = (
        Inhibition(frozenset({"circuit_breaker", "authentication"}), frozenset({"errors"})),
    )
    """Which incidents explain others; by default an open circuit and refused credentials explain ``errors``."""
    trace_url: str | None = None
    """A template with ``{trace_id}``."""
    dashboard_url: str | None = None
    """A template that may contain ``{name}``: the kind of the alert."""
    runbook_url: str | None = None
    """Like :attr:`dashboard_url`."""
    incident_url: str | None = None
    """A template with ``{id}``, the incident's own ID: the page where people view and handle it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "service", check.label("service", self.service))
        object.__setattr__(self, "environment", check.optional_label("environment", self.environment))
        for name in ("group_wait", "rate_limit", "keep_firing"):
            check.seconds(name, getattr(self, name), zero=True)
        for name in ("repeat_interval", "remember", "expire_after"):
            check.seconds(name, getattr(self, name))
        for name in ("more_from", "max_incidents"):
            check.count(name, getattr(self, name))
        check.instance("min_severity", self.min_severity, Severity)
        check.series("escalation", self.escalation, EscalationStep)
        check.series("silences", self.silences, Silence)
        check.series("inhibitions", self.inhibitions, Inhibition)
        for name in ("trace_url", "dashboard_url", "runbook_url", "incident_url"):
            check.optional_text(name, getattr(self, name))

    @property
    def owner(self) -> tuple[str, ...]:
        """Who the incidents belong to; empty if the service has no name."""
        if self.service == UNKNOWN_SERVICE and self.environment is None:
            return ()
        return (self.service, self.environment or "")

    def identify(self, fingerprint: str) -> str:
        """The fingerprint of an incident, made from that of its alerts and the :attr:`owner`. 16 hex digits."""
        if not self.owner:
            return fingerprint
        return hashlib.sha256("\x1f".join((*self.owner, fingerprint)).encode()).hexdigest()[:16]

    def links(
        self, kind: str, correlation_id: str | None, *, incident: str | None = None, details: str | None = None
    ) -> Links:
        """The links of a notification about an incident of this kind. ``incident``: its ID. ``details``: see
        :attr:`Alert.details_url`."""
        return Links(
            trace=_filled(self.trace_url, "{trace_id}", correlation_id),
            dashboard=_filled(self.dashboard_url, "{name}", kind),
            runbook=_filled(self.runbook_url, "{name}", kind),
            incident=_filled(self.incident_url, "{id}", incident),
            details=details,
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """How many classified errors of a severity within ``window`` seconds raise an alert; ``None``: never.

    Raises ``TypeError`` or ``ValueError`` naming the parameter.

    Examples:
        >>> from otel_resilience.alerting import SourceConfig, Thresholds
        >>> config = SourceConfig(thresholds=Thresholds(window=300, by_severity={Severity.HIGH: 10}))
        >>> Thresholds().by_severity[Severity.HIGH]
        5
    """

    window: float = 60.0
    """Seconds, greater than 0."""
    by_severity: Mapping[Severity, int | None] = dataclasses.field(
        default_factory=lambda: {
            Severity.CRITICAL: 1,
            Severity.HIGH: 5,
            Severity.MEDIUM: 50,
            Severity.LOW: None,
        }
    )
    """Occurrences, at least 1; by default CRITICAL 1, HIGH 5, MEDIUM 50, LOW never."""

    def __post_init__(self) -> None:
        check.seconds("window", self.window)
        check.instance("by_severity", self.by_severity, Mapping)
        for severity, threshold in self.by_severity.items():
            check.instance("by_severity", severity, Severity)
            if threshold is not None:
                check.count(f"by_severity[{severity}]", threshold)


def _filled(template: str | None, placeholder: str, value: str | None) -> str | None:
    return None if template is None or value is None else template.replace(placeholder, value)
