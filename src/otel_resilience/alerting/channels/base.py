"""What a channel is: the protocol that users implement for their own."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from otel_resilience.alerting.model.alert import Notification


@runtime_checkable
class Channel(Protocol):
    """Delivers notifications to people. One thread calls it, one notification at a time.

    ``deliver`` returns once the receiver has confirmed, and raises whatever went wrong: the classifier decides about
    retries, ``Retry-After`` is honoured, and a status of 401, 403, 404 or 410 disables the channel.

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
        """From a small set: it is an attribute of metrics."""
        ...

    @property
    def min_interval(self) -> float:
        """Minimum seconds between two messages; 0: no minimum."""
        ...

    @property
    def coalesce_from(self) -> int | None:
        """From this many waiting notifications on they are sent as one. ``None``: each separately."""
        ...

    @property
    def keeps_incidents(self) -> bool:
        """Whether the receiver keeps an incident open until it gets the resolution (PagerDuty)."""
        ...

    def deliver(self, notification: Notification, *, timeout: float) -> None:
        """Send, within ``timeout`` seconds, and return when it is confirmed."""
        ...

    def close(self) -> None:
        """Close connections. Must not raise."""
        ...
