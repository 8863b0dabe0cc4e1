"""Ways to notify people: chats, pagers, e-mail, a generic webhook, the log. Creating a channel that uses HTTP needs
httpx.

A channel of your own is any object that follows :class:`Channel`; ``docs/alerting-channels.md`` shows one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_resilience._internal.lazy import lazy_names
from otel_resilience.alerting.channels.base import Channel

if TYPE_CHECKING:
    from otel_resilience.alerting.channels.discord import DiscordChannel
    from otel_resilience.alerting.channels.email import EmailChannel
    from otel_resilience.alerting.channels.errors import ChannelError
    from otel_resilience.alerting.channels.log import LogChannel
    from otel_resilience.alerting.channels.mattermost import MattermostChannel
    from otel_resilience.alerting.channels.opsgenie import OpsgenieChannel
    from otel_resilience.alerting.channels.pagerduty import PagerDutyChannel
    from otel_resilience.alerting.channels.slack import SlackChannel
    from otel_resilience.alerting.channels.teams import TeamsChannel
    from otel_resilience.alerting.channels.template import MessageTemplate
    from otel_resilience.alerting.channels.webhook import WebhookChannel

__all__ = [
    "Channel",
    "ChannelError",
    "DiscordChannel",
    "EmailChannel",
    "LogChannel",
    "MattermostChannel",
    "MessageTemplate",
    "OpsgenieChannel",
    "PagerDutyChannel",
    "SlackChannel",
    "TeamsChannel",
    "WebhookChannel",
    "from_url",
]

_HOMES = {
    "discord": "DiscordChannel",
    "email": "EmailChannel",
    "errors": "ChannelError",
    "log": "LogChannel",
    "mattermost": "MattermostChannel",
    "opsgenie": "OpsgenieChannel",
    "pagerduty": "PagerDutyChannel",
    "slack": "SlackChannel",
    "teams": "TeamsChannel",
    "template": "MessageTemplate",
    "webhook": "WebhookChannel",
}
_SLACK_HOSTS = frozenset({"hooks.slack.com", "hooks.slack-gov.com"})


if not TYPE_CHECKING:
    __getattr__ = lazy_names(__name__, _HOMES)


def from_url(
    url: str, *, secret: str | None = None, name: str | None = None, template: MessageTemplate | None = None
) -> SlackChannel | WebhookChannel:
    """The channel for a URL: Slack's format for Slack's own hosts, the generic webhook for any other.

    ``secret`` signs generic messages, and ``template`` shapes them; Slack ignores both. ``name`` is ``slack`` or
    ``webhook`` by default. Raises ``ValueError``, without the URL in it, if the URL is not usable.

    Examples:
        >>> from otel_resilience.alerting.channels import from_url
        >>> from_url("https://hooks.slack.com/services/T0/B0/x1y2z3").name
        'slack'
        >>> from_url("https://hooks.example/alerts", secret="shared with the receiver").name
        'webhook'
    """
    from urllib.parse import urlsplit

    from otel_resilience.alerting.channels._http import checked_url
    from otel_resilience.alerting.channels.slack import SlackChannel
    from otel_resilience.alerting.channels.webhook import WebhookChannel

    if urlsplit(checked_url(url)).hostname in _SLACK_HOSTS:
        return SlackChannel(url, name=name or "slack")
    return WebhookChannel(url, secret=secret, name=name or "webhook", template=template)


def __dir__() -> list[str]:
    return __all__
