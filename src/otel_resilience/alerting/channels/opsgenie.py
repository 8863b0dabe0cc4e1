"""Opsgenie and Jira Service Management, through Opsgenie's Alert API."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

from otel_resilience.alerting.channels._http import Endpoint, IncidentApi, checked_url
from otel_resilience.alerting.channels._text import cut, encode, facts, headline, links, readable
from otel_resilience.alerting.channels.pagerduty import dedup_key
from otel_resilience.alerting.model.alert import Notification, Status
from otel_resilience.classification.model import Severity

ALERTS_URL: Final = "https://api.opsgenie.com/v2/alerts"
"""EU: ``https://api.eu.opsgenie.com/v2/alerts``. Addresses of Jira Service Management end with ``/v2/alerts`` too."""
MIN_INTERVAL: Final = 0.5
MAX_MESSAGE: Final = 130
MAX_DESCRIPTION: Final = 15_000
MAX_ENTITY: Final = 512
MAX_SOURCE: Final = 100
MAX_TAG: Final = 50
MAX_DETAILS: Final = 8000
"""Characters of all names and values together."""
MAX_DETAIL: Final = 500
_PRIORITIES: Final = {Severity.CRITICAL: "P1", Severity.HIGH: "P2", Severity.MEDIUM: "P3", Severity.LOW: "P5"}


class OpsgenieChannel(IncidentApi):
    """Opens an alert in Opsgenie with an incident's first message, and closes it with the last.

    All messages about an incident carry the same ``alias``, whichever process of the system sends them, so that
    repetitions are counted in the open alert.

    ``min_interval`` is the minimum time in seconds between two requests.

    Examples:
        >>> from otel_resilience.alerting.channels import OpsgenieChannel
        >>> channel = OpsgenieChannel("the key of an API integration", url="https://api.eu.opsgenie.com/v2/alerts")
        >>> channel.keeps_incidents
        True
    """

    def __init__(
        self,
        api_key: str,
        *,
        url: str = ALERTS_URL,
        name: str = "opsgenie",
        min_interval: float = MIN_INTERVAL,
    ) -> None:
        """``api_key``: that of an API integration. Raises ``ValueError`` if it is empty, or the URL is not usable."""
        self._url = checked_url(url).rstrip("/")
        super().__init__(("an Opsgenie API key", api_key), self._url, name, min_interval)
        self._headers = {"Authorization": f"GenieKey {self._key}"}

    def deliver(self, notification: Notification, *, timeout: float) -> None:
        """Opens or closes the alert, within ``timeout`` seconds. Raises :class:`ChannelError`."""
        if notification.status is Status.RESOLVED:
            endpoint = Endpoint(self.name, close_url(self._url, notification))
            endpoint.post(encode(build_close(notification)), self._headers, timeout=timeout)
        else:
            self._endpoint.post(encode(build_alert(notification)), self._headers, timeout=timeout)


def close_url(url: str, notification: Notification) -> str:
    """The URL that closes this incident's alert."""
    return f"{url}/{quote(dedup_key(notification), safe='')}/close?identifierType=alias"


def build_alert(notification: Notification) -> dict[str, Any]:
    """The body that opens the alert."""
    alert = {
        "message": cut(headline(notification), MAX_MESSAGE),
        "alias": dedup_key(notification),
        "description": cut(_description(notification), MAX_DESCRIPTION),
        "priority": _PRIORITIES[notification.severity],
        "entity": cut(readable(notification.dependency or ""), MAX_ENTITY),
        "source": _source(notification),
        "tags": [cut(readable(notification.kind), MAX_TAG), notification.severity.value],
        "details": dict(facts(notification, MAX_DETAIL, MAX_DETAILS)),
    }
    return {name: value for name, value in alert.items() if value}


def build_close(notification: Notification) -> dict[str, Any]:
    """The body that closes the alert."""
    return {"source": _source(notification), "note": cut(_description(notification) or "Resolved.", MAX_DESCRIPTION)}


def _source(notification: Notification) -> str:
    return cut(readable(notification.service), MAX_SOURCE) or "unknown"


def _description(notification: Notification) -> str:
    shown_links = [f"{label}: {url}" for label, url in links(notification)]
    return "\n".join(filter(None, (readable(notification.summary), *shown_links)))
