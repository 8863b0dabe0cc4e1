"""Creates the alert channels from the ``ERROR_ALERT_*`` settings."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from otel_resilience import Severity
from otel_resilience.alerting import Route

if TYPE_CHECKING:
    from collections.abc import Iterator

    from catalog_sync.settings.settings import AlertSettings
    from catalog_sync.settings.values import Secret


def routes(settings: AlertSettings) -> list[Route]:
    """The channels that notifications go to; only the log if none is configured."""
    found = list(_configured(settings))
    if all(route.fallback for route in found):
        from otel_resilience.alerting.channels import LogChannel

        found.insert(0, Route(LogChannel()))
    return found


def _configured(settings: AlertSettings) -> Iterator[Route]:
    """Each channel under its own name; the same URL given twice is one channel."""
    from otel_resilience.alerting.channels import (
        DiscordChannel,
        EmailChannel,
        MattermostChannel,
        OpsgenieChannel,
        PagerDutyChannel,
        SlackChannel,
        TeamsChannel,
        from_url,
    )

    secret = None if settings.webhook_secret is None else settings.webhook_secret.reveal()
    generic = functools.partial(from_url, secret=secret, template=settings.webhook_template)
    slack, general = settings.slack_webhook_url, settings.webhook_url
    if settings.pagerduty_routing_key is not None:
        yield Route(PagerDutyChannel(settings.pagerduty_routing_key.reveal(), url=settings.pagerduty_url))
    if settings.opsgenie_api_key is not None:
        yield Route(OpsgenieChannel(settings.opsgenie_api_key.reveal(), url=settings.opsgenie_url))
    chats = (
        (DiscordChannel, settings.discord_webhook_url),
        (TeamsChannel, settings.teams_webhook_url),
        (MattermostChannel, settings.mattermost_webhook_url),
        (EmailChannel, settings.email),
    )
    for make, address in chats:
        if address is not None:
            yield Route(make(address.reveal()))
    if slack is not None:
        yield Route(SlackChannel(slack.reveal()))
    if general is not None and general != slack:
        yield Route(generic(general.reveal(), name=None if slack is None else "webhook"))
    for severity in Severity:
        word = severity.value.lower()
        url: Secret | None = getattr(settings, f"webhook_url_{word}")
        if url is not None:
            channel = generic(url.reveal(), name=f"webhook-{word}")
            yield Route(channel, only=frozenset({severity}))
    if settings.fallback_webhook_url is not None:
        yield Route(generic(settings.fallback_webhook_url.reveal(), name="fallback"), fallback=True)
