"""The channel protocol, which users implement for their own channels."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from otel_resilience.alerting.model.alert import Notification


@runtime_checkable
class Channel(Protocol):
    """Delivers notifications to people. One thread calls it, one notification at a time.

    ``deliver`` returns once the receiver has confirmed, and otherwise raises any exception: the classifier decides
    about retries, ``Retry-After`` is honoured, and a status of 401, 403, 404 or 410 disables the channel.

    Examples:
        >>> from otel_resilience.alerting import Route
        >>> class Printer:
        ...     name = "printer"
        ...     min_interval = 0.0
        ...     coalesce_from = None
        ...     keeps_incidents = False
        ...     def deliver(self, notification, *, timeout):
        ...         print(notification.title)
        ...     def close(self):
        ...         pass
        >>> Route(Printer()).name
        'printer'
    """

    @property
    def name(self) -> str:
        """From a small set of names: it is a metric attribute."""
        ...

    @property
    def min_interval(self) -> float:
        """Minimum seconds between two messages; 0: no minimum."""
        ...

    @property
    def coalesce_from(self) -> int | None:
        """This many waiting notifications are sent as one. ``None``: each is sent separately."""
        ...

    @property
    def keeps_incidents(self) -> bool:
        """Whether the receiver keeps an incident open until it gets the resolution (PagerDuty)."""
        ...

    def deliver(self, notification: Notification, *, timeout: float) -> None:
        """Send it within ``timeout`` seconds, and return once it is confirmed."""
        ...

    def close(self) -> None:
        """Close connections. Must not raise."""
        ...
