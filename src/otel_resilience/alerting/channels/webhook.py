"""The generic webhook: one signed JSON object per notification."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable

from otel_resilience._internal import validation as check
from otel_resilience.alerting.channels._http import Endpoint, Posting
from otel_resilience.alerting.channels._text import encode
from otel_resilience.alerting.channels.template import MessageTemplate
from otel_resilience.alerting.model.alert import Notification
from otel_resilience.redaction import register_secret


class WebhookChannel(Posting):
    """Posts :meth:`Notification.to_json` as compact JSON to one URL; any 2xx confirms.

    ``Idempotency-Key`` is the notification's ``id``, the same on every repetition. With a ``secret``, ``X-Timestamp``
    holds the seconds since the epoch and ``X-Signature-256`` is ``sha256=`` and the hexadecimal HMAC-SHA256 over the
    timestamp, a dot and the body, so that the receiver can recognise forged and replayed messages.

    ``min_interval`` is the minimum time in seconds between two messages.

    Examples:
        >>> from otel_resilience.alerting.channels import WebhookChannel
        >>> channel = WebhookChannel("https://hooks.example/alerts", secret="shared with the receiver")
        >>> WebhookChannel("hooks.example")
        Traceback (most recent call last):
            ...
        ValueError: the URL of an alert channel must be http:// or https:// with a host, and hold no blanks
    """

    def __init__(
        self,
        url: str,
        *,
        secret: str | None = None,
        template: MessageTemplate | None = None,
        name: str = "webhook",
        min_interval: float = 0.0,
        coalesce_from: int | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``template``: the message to post, for a receiver that needs a different one. ``now`` gives seconds since the
        epoch. Raises ``ValueError`` if the URL is not usable."""
        super().__init__(Endpoint(name, url, any_body=True), min_interval, coalesce_from)
        self._secret = b"" if secret is None else check.secret_text("secret", secret).encode()
        self._now, self._template = now, template
        if secret:
            register_secret(secret)

    def deliver(self, notification: Notification, *, timeout: float) -> None:
        """Posts it, within ``timeout`` seconds. Raises :class:`ChannelError`."""
        message = notification.to_json() if self._template is None else self._template.fill(notification)
        body = encode(message)
        headers = {"Idempotency-Key": notification.id}
        if self._secret:
            timestamp = str(int(self._now()))
            headers["X-Timestamp"] = timestamp
            headers["X-Signature-256"] = sign(self._secret, timestamp, body)
        self._endpoint.post(body, headers, timeout=timeout)


def sign(secret: bytes, timestamp: str, body: bytes) -> str:
    """The value of ``X-Signature-256``. Receivers should compare it with :func:`hmac.compare_digest`."""
    return "sha256=" + hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
