"""Each channel over HTTP together with its receiver."""

from __future__ import annotations

from typing import Any

from otel_resilience.alerting.channels import PagerDutyChannel, SlackChannel, WebhookChannel
from support.alert_receivers import ROUTING_KEY, FakePagerDuty, FakeSlack, FakeWebhook, Receiver

KINDS = ("slack", "pagerduty", "webhook")
SECRET = "a-secret-to-sign-with"


def receiver_for(kind: str) -> Receiver:
    """Behaves like the original, except for Slack's limit of one message a second."""
    if kind == "slack":
        return FakeSlack(rate_limit=False)
    return FakePagerDuty() if kind == "pagerduty" else FakeWebhook(secret=SECRET)


def channel_for(kind: str, url: str, **options: Any) -> SlackChannel | PagerDutyChannel | WebhookChannel:
    """The channel that posts to ``url``."""
    if kind == "slack":
        return SlackChannel(url, **options)
    if kind == "pagerduty":
        return PagerDutyChannel(ROUTING_KEY, url=url, **options)
    return WebhookChannel(url, **{"secret": SECRET, **options})
