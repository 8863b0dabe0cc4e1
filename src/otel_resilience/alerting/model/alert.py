"""An alert as it is raised, and a notification as channels get it. Free of secrets."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from otel_resilience._internal import stored
from otel_resilience._internal import validation as check
from otel_resilience.classification.model import Severity
from otel_resilience.redaction import REDACTED, is_secret_name, redact, redact_url

MAX_KIND: Final = 60
MAX_TITLE: Final = 200
MAX_SUMMARY: Final = 1000
MAX_VALUE: Final = 500
"""Characters of one value of the context."""
MAX_CONTEXT: Final = 20
"""Maximum entries of the context."""
MAX_SHOWN_TYPES: Final = 10
"""Values of ``error.type`` in a notification, the most frequent ones."""

SHOWN_FIELDS: Final = (
    "id", "status", "severity", "kind", "title", "summary", "dependency", "error_type", "error_class", "correlation_id",
    "fingerprint", "incident", "count", "total", "first_seen", "last_seen", "escalation", "reason", "error_types",
    "links", "context", "service",
)  # fmt: skip
"""The fields of a notification that every message of the generic webhook contains."""

Scalar = str | int | float | bool | None


class Status(StrEnum):
    """Whether the incident is ongoing.

    Examples:
        >>> from otel_resilience.alerting import Status
        >>> Status("firing") is Status.FIRING
        True
    """

    FIRING = "firing"
    """It is ongoing."""
    RESOLVED = "resolved"
    """It is over."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something that may be worth notifying a person about. Secrets are redacted from every text when it is created.

    Two alerts with the same fingerprint belong to the same incident. It is ``kind``, ``dependency`` and
    ``fingerprint_by`` put together: add to the latter what should keep incidents apart. Raises ``TypeError`` or
    ``ValueError`` naming the parameter.

    Examples:
        >>> from otel_resilience.alerting import Alert
        >>> alert = Alert(kind="sync_failed", title="Failed: password=hunter22", severity=Severity.HIGH, threshold=3)
        >>> alert.title
        'Failed: password=***'
        >>> alert.fingerprint == Alert(kind="sync_failed", title="Again", severity=Severity.LOW).fingerprint
        True
    """

    kind: str
    """What happened, from a small set: ``circuit_breaker``, ``authentication``, ``sync_failed`` … Names the runbook."""
    title: str
    """One line for people; at most 200 characters are kept."""
    severity: Severity
    """How urgent it is."""
    summary: str = ""
    """Further details; at most 1000 characters are kept."""
    dependency: str | None = None
    """The called dependency, if the alert is about a call."""
    error_type: str | None = None
    """The ``error.type`` of the failure."""
    error_class: str | None = None
    """Its :class:`~otel_resilience.ErrorClass`, as text."""
    correlation_id: str | None = None
    """32 hex digits; ``None``: taken from the context in which it is reported."""
    span_id: str | None = None
    """16 hex digits of the current span, for the link from the delivery's span."""
    fingerprint_by: tuple[str, ...] = ()
    """What separates its incidents besides ``kind`` and ``dependency``."""
    context: Mapping[str, Scalar] = dataclasses.field(default_factory=dict)
    """Facts for the message; at most 20, values with the name of a secret redacted."""
    at_once: bool = False
    """Notified without waiting for others to group with. CRITICAL alerts always are."""
    threshold: int = 1
    """Occurrences within ``window`` from which on it is notified; at least 1."""
    window: float = 60.0
    """Seconds that :attr:`threshold` looks back; greater than 0."""
    details_url: str | None = None
    """A page about what happened, such as that of the failed job; linked besides the URLs of
    :class:`~otel_resilience.alerting.AlertConfig`."""
    quiet_after: float | None = None
    """Seconds without another occurrence after which the incident counts as resolved. ``None``: only
    :meth:`~otel_resilience.alerting.AlertService.resolve` ends it."""

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "kind", clean_kind(check.text("kind", self.kind)))
        put(self, "title", clean_name(check.text("title", self.title)))
        put(self, "summary", _clean(check.text("summary", self.summary), MAX_SUMMARY))
        for name in ("dependency", "error_type", "error_class"):
            value = check.optional_text(name, getattr(self, name))
            put(self, name, None if value is None else clean_name(value))
        for name in ("correlation_id", "span_id", "details_url"):
            value = check.optional_text(name, getattr(self, name))
            put(self, name, None if value is None else _encodable(value))
        check.instance("severity", self.severity, Severity)
        check.series("fingerprint_by", self.fingerprint_by, str)
        put(self, "fingerprint_by", tuple(redact(part) for part in self.fingerprint_by))
        if not isinstance(self.context, Mapping):
            raise TypeError(f"context must be a mapping, not of type {type(self.context).__name__}")
        put(self, "context", clean_context(self.context))
        check.instance("at_once", self.at_once, bool)
        check.count("threshold", self.threshold)
        check.seconds("window", self.window)
        if self.quiet_after is not None:
            check.seconds("quiet_after", self.quiet_after, zero=True)

    def with_clean(self, **changes: Any) -> Alert:
        """A copy with changes that contain no secret: skips the redaction, which would take most of the time."""
        copy = object.__new__(Alert)
        for name in self.__dataclass_fields__:
            object.__setattr__(copy, name, changes[name] if name in changes else getattr(self, name))
        return copy

    @property
    def fingerprint(self) -> str:
        """16 hex digits, the same for every alert of the incident, on every machine."""
        return _fingerprint(self.kind, self.dependency, *self.fingerprint_by)


def fingerprint(kind: str, dependency: str | None = None, *parts: str) -> str:
    """The fingerprint of alerts of this ``kind`` and ``dependency``, with ``parts`` as ``fingerprint_by``: 16 hex
    digits. Raises ``TypeError`` naming what is no string.

    Examples:
        >>> from otel_resilience.alerting import fingerprint
        >>> fingerprint("circuit_breaker", "supplier")
        '22c2165726e07305'
    """
    named = check.optional_text("dependency", dependency)
    return _fingerprint(
        clean_kind(check.text("kind", kind)),
        None if named is None else clean_name(named),
        *(redact(check.text("a part of the fingerprint", part)) for part in parts),
    )


def _fingerprint(kind: str, dependency: str | None, *parts: str) -> str:
    text = "\x1f".join((kind, dependency or "", *parts))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclasses.dataclass(frozen=True, slots=True)
class Links:
    """Links to the evidence; ``None`` if no template was configured.

    Examples:
        >>> from otel_resilience.alerting import AlertConfig
        >>> config = AlertConfig(runbook_url="https://runbooks.example/{name}")
        >>> config.links("circuit_breaker", None).runbook
        'https://runbooks.example/circuit_breaker'
    """

    trace: str | None = None
    dashboard: str | None = None
    runbook: str | None = None
    incident: str | None = None
    """The page of the incident, where people view and handle it."""
    details: str | None = None
    """:attr:`Alert.details_url`."""

    def to_json(self) -> dict[str, str | None]:
        """``trace``, ``dashboard`` and ``runbook`` always, the others if set."""
        always = {"trace", "dashboard", "runbook"}
        return {name: url for name, url in dataclasses.asdict(self).items() if url is not None or name in always}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """One message about one incident, as channels get it. Created by the alert service; free of secrets. Times are
    seconds since the epoch.

    Examples:
        >>> from otel_resilience.alerting import Alert, AlertConfig, IncidentBook
        >>> book = IncidentBook(AlertConfig(service="checkout", group_wait=0))
        >>> _ = book.report(Alert(kind="trouble", title="Trouble", severity=Severity.HIGH), now=0.0)
        >>> [(incident, notification)] = book.due(now=0.0)
        >>> notification.status.value, notification.title, notification.count, notification.reason
        ('firing', 'Trouble', 1, 'new')
    """

    id: str
    """Unique; a repeated delivery of the same message has the same ID."""
    status: Status
    """Whether the incident is ongoing."""
    severity: Severity
    """The highest so far."""
    kind: str
    """That of the alert, like the texts that follow."""
    title: str
    summary: str
    dependency: str | None = None
    error_type: str | None = None
    error_class: str | None = None
    correlation_id: str | None = None
    """That of the latest occurrence."""
    span_id: str | None = None
    fingerprint: str
    """Constant for the whole incident: the deduplication key at receivers."""
    incident: str
    """The incident's own ID; a new one if it recurs after it ended."""
    count: int = 1
    """Occurrences since the last message about this incident; summed over all its messages this is :attr:`total`."""
    total: int = 1
    """Occurrences since the incident began."""
    first_seen: float
    """Seconds since the epoch."""
    last_seen: float
    """Time of the latest occurrence; seconds since the epoch."""
    escalation: int = 0
    """How often it was escalated; initially 0."""
    links: Links
    """Links to the evidence."""
    context: Mapping[str, Scalar] = dataclasses.field(default_factory=dict)
    service: str
    """The name of the system, by :attr:`AlertConfig.service`."""
    reason: str = "new"
    """Why it is sent now: ``new``, ``raised``, ``more``, ``escalated``, ``repeat``, ``back``, ``resolved``, ``digest``,
    ``test``."""
    error_types: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """How often each ``error.type`` was seen, the most frequent first; at most ten."""
    channels: tuple[str, ...] | None = None
    """If set, only these channels get it. ``None``: those for its severity."""
    further_channels: tuple[str, ...] = ()
    """Channels that get it in addition."""
    caused_at: float = 0.0
    """When the reported event happened, in seconds since the epoch: delivery times are measured from here."""
    ended_at: float | None = None
    """When the incident ended; resolved ones only."""
    quiet_after: float | None = None
    """That of the alert."""
    environment: str | None = None
    """``deployment.environment.name`` of the service."""
    sender: str = ""
    """The process that created it."""
    merged: tuple[str, ...] = ()
    """IDs of the messages that this one replaces, in order; empty if it replaces none."""

    @property
    def duration(self) -> float:
        """Seconds that the incident has lasted so far; if resolved, its total duration."""
        return max(0.0, (self.last_seen if self.ended_at is None else self.ended_at) - self.first_seen)

    def to_json(self) -> dict[str, Any]:
        """The object of the generic webhook."""
        data = {name: getattr(self, name) for name in SHOWN_FIELDS}
        data |= {
            "status": self.status.value,
            "severity": self.severity.value,
            "first_seen": rfc3339(self.first_seen),
            "last_seen": rfc3339(self.last_seen),
            "error_types": dict(self.error_types),
            "links": self.links.to_json(),
            "context": dict(self.context),
        }
        if self.environment is not None:
            data["environment"] = self.environment
        if self.merged:
            data["merged"] = list(self.merged)
        if self.status is Status.RESOLVED:
            data["duration_s"] = round(self.duration, 3)
        return data

    def dump(self) -> dict[str, Any]:
        """All fields, for the outbox; :meth:`load` is the inverse."""
        fields: dict[str, Any] = stored.dumped(self)
        return fields

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> Notification:
        """The inverse of :meth:`dump`. Raises ``TypeError`` or ``ValueError`` on anything else."""
        fields = stored.fields_of(cls, data)
        times = ("first_seen", "last_seen", "caused_at", "ended_at", "quiet_after")
        stored.check_times(fields.get(name) for name in times)
        return cls(**fields)


def rfc3339(seconds: float) -> str:
    """Seconds since the epoch as RFC 3339 in UTC, with milliseconds."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_duration(seconds: float) -> str:
    """A duration for people: ``0.4 s``, ``90 s``, ``12 min``, ``3 h 5 min``, ``2 d 4 h``."""
    if seconds < 10:
        return f"{max(0.0, round(seconds, 1)):g} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def clean_context(context: Mapping[str, Any]) -> dict[str, Scalar]:
    """At most :data:`MAX_CONTEXT` entries, their names and texts redacted and cut."""
    cleaned: dict[str, Scalar] = {}
    for name, value in list(context.items())[:MAX_CONTEXT]:
        key = _clean(str(name), 100)
        if is_secret_name(key):
            cleaned[key] = REDACTED
        elif value is None or (isinstance(value, (bool, int, float)) and stored.is_small(value)):
            cleaned[key] = value
        else:
            text = str(value)
            cleaned[key] = _clean(redact_url(text) if "://" in text else text, MAX_VALUE)
    return cleaned


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def clean_kind(text: str) -> str:
    """A kind as alerts have it: what is compared with theirs is cleaned in the same way."""
    return _clean(text, MAX_KIND)


def clean_name(text: str) -> str:
    """As :func:`clean_kind`, for a dependency, a type of error, or a title."""
    return _clean(text, MAX_TITLE)


def _clean(text: str, limit: int) -> str:
    return shortened(" ".join(redact(_encodable(text)).split()), limit)


def shortened(text: str, limit: int) -> str:
    """``text``, or its beginning with an ellipsis: at most ``limit`` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
