"""The error of a channel: what went wrong at the receiver, without its URL, our key or the message."""

from __future__ import annotations

from typing import Final

from otel_resilience.classification.model import Classification
from otel_resilience.errors import ResilienceError

REVOKED_STATUSES: Final = frozenset({401, 403, 404, 410})
"""Credentials or URL rejected; retrying cannot help."""


class ChannelError(ResilienceError):
    """A channel could not deliver a notification to its receiver. It carries its own classification.

    It is created without a cause: exceptions of HTTP clients hold the request, and with it URL, key and body.

    Examples:
        >>> from otel_resilience.alerting.channels import ChannelError
        >>> refused = Classification(ErrorClass.PERMANENT, Severity.HIGH, "404")
        >>> error = ChannelError("slack", refused, status=404)
        >>> error.revoked
        True
    """

    def __init__(
        self, channel: str, classification: Classification, status: int | None = None, reason: str | None = None
    ) -> None:
        super().__init__(channel, classification, status, reason)
        self.channel = channel
        self.classification = classification
        self.status = status
        """HTTP status of the response; ``None`` without a response."""
        self.reason = reason
        """The receiver's own error code if it is a known one, else the name of the client's exception."""

    @property
    def revoked(self) -> bool:
        """Whether the receiver rejected the channel itself (401, 403, 404, 410), so that it needs a new URL or key."""
        return self.status in REVOKED_STATUSES

    def __str__(self) -> str:
        detail = f" ({self.reason})" if self.reason else ""
        if self.status is None:
            return f"{self.channel} could not be reached: {self.classification.error_type}{detail}"
        return f"{self.channel} answered {self.status}{detail}"
