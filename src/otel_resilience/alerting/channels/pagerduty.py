"""PagerDuty, through its Events API v2."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from otel_resilience.alerting.channels._http import IncidentApi
from otel_resilience.alerting.channels._text import cut, encode, links, occurrences, readable, shown, title, web_link
from otel_resilience.alerting.model.alert import Notification, Status, rfc3339
from otel_resilience.classification.model import Severity

EVENTS_URL: Final = "https://events.pagerduty.com/v2/enqueue"
MIN_INTERVAL: Final = 0.5
"""Seconds: PagerDuty accepts about 120 events a minute for one key."""
MAX_DEDUP_KEY: Final = 255
MAX_SUMMARY: Final = 1024

_MAX_FIELD: Final = 255
_MAX_DETAIL: Final = 1000
_MAX_DETAILS: Final = 50
_SEVERITIES: Final = {
    Severity.CRITICAL: "critical", Severity.HIGH: "error", Severity.MEDIUM: "warning", Severity.LOW: "info",
}  # fmt: skip
_DETAILS: Final = (
    "summary", "status", "reason", "count", "total", "first_seen", "last_seen", "duration_s", "escalation",
    "error_type", "error_class", "correlation_id", "fingerprint", "incident", "environment",
)  # fmt: skip


class PagerDutyChannel(IncidentApi):
    """Opens an incident in PagerDuty with the first message, updates it with further ones, resolves it with the last.

    All messages about an incident carry the same ``dedup_key``, ``{service}:{environment}:{fingerprint}``, whichever
    process of the system sends them. So a repeated trigger joins the open incident, and one that a person has
    acknowledged stays acknowledged.

    ``min_interval`` is the minimum time in seconds between two events.

    Examples:
        >>> from otel_resilience.alerting.channels import PagerDutyChannel
        >>> channel = PagerDutyChannel("an integration key")
        >>> channel.keeps_incidents
        True
        >>> PagerDutyChannel("")
        Traceback (most recent call last):
            ...
        ValueError: a PagerDuty routing key is needed
    """

    def __init__(
        self,
        routing_key: str,
        *,
        url: str = EVENTS_URL,
        name: str = "pagerduty",
        min_interval: float = MIN_INTERVAL,
    ) -> None:
        """``routing_key``: the integration key of a service. PagerDuty's own have 32 letters and digits; compatible
        receivers may use others. Raises ``ValueError`` if it is empty."""
        super().__init__(("a PagerDuty routing key", routing_key), url, name, min_interval)

    def deliver(self, notification: Notification, *, timeout: float) -> None:
        """Sends the event, within ``timeout`` seconds. Raises :class:`ChannelError`."""
        event = {"routing_key": self._key, **build_event(notification)}
        self._endpoint.post(encode(event), {}, timeout=timeout)


def dedup_key(notification: Notification) -> str:
    """``{service}:{environment}:{fingerprint}``, without the environment if there is none; a key that is too long is
    cut and made unique by a hash."""
    environment = () if notification.environment is None else (notification.environment,)
    key = ":".join(map(readable, (notification.service, *environment, notification.fingerprint)))
    if len(key) > MAX_DEDUP_KEY:
        digest = hashlib.sha256(key.encode()).hexdigest()
        return f"{readable(notification.service)[:100]}:{digest}"
    return key


def build_event(notification: Notification) -> dict[str, Any]:
    """The event without the routing key."""
    resolved = notification.status is Status.RESOLVED
    event: dict[str, Any] = {
        "event_action": "resolve" if resolved else "trigger",
        "dedup_key": dedup_key(notification),
        "payload": _payload(notification),
        "links": [{"href": url, "text": label} for label, url in links(notification)],
        "client": cut(readable(notification.service), _MAX_FIELD),
    }
    to = notification.links
    home = web_link(to.incident) or web_link(to.dashboard) or web_link(to.trace)
    if home is not None:
        event["client_url"] = home
    return event


def _payload(notification: Notification) -> dict[str, Any]:
    payload = {
        "summary": _summary(notification),
        "source": cut(readable(notification.service), _MAX_FIELD) or "unknown",
        "severity": _SEVERITIES[notification.severity],
        "timestamp": rfc3339(notification.last_seen),
        "component": notification.dependency,
        "group": notification.kind,
        "class": notification.error_type,
    }
    payload = {key: cut(readable(value), MAX_SUMMARY) for key, value in payload.items() if value}
    return payload | {"custom_details": _details(notification)}


def _summary(notification: Notification) -> str:
    tags = (("test", "TEST"), ("escalated", "Escalated"))
    prefix = next((f"[{tag}] " for reason, tag in tags if notification.reason == reason), "")
    suffix = f" ({occurrences(notification)})" if notification.total > 1 else ""
    room = MAX_SUMMARY - len(prefix) - len(suffix)
    return prefix + cut(title(notification), room) + suffix


def _details(notification: Notification) -> dict[str, Any]:
    known = notification.to_json()
    details: dict[str, Any] = {name: _bounded(known[name]) for name in _DETAILS if known.get(name) not in (None, "")}
    if notification.error_types:
        details["error_types"] = {cut(readable(kind), 100): n for kind, n in notification.error_types.items()}
    if notification.context:
        entries = list(notification.context.items())[:_MAX_DETAILS]
        details["context"] = {cut(readable(name), 100): _bounded(value) for name, value in entries}
    return details


def _bounded(value: Any) -> Any:
    return cut(shown(value), _MAX_DETAIL) if isinstance(value, str) else value
