"""Discord, through a channel's webhook, as an embed."""

from __future__ import annotations

import re
from functools import partial
from typing import Any, Final

from otel_resilience.alerting.channels._http import ChatWebhook
from otel_resilience.alerting.channels._text import MAX_LABEL, colour, escaped, facts, headline, summary_and_links
from otel_resilience.alerting.model.alert import Notification, rfc3339

MIN_INTERVAL: Final = 2.0
"""Seconds: Discord accepts about 30 messages a minute in one channel."""
MAX_TITLE: Final = 256
MAX_DESCRIPTION: Final = 2600
"""Discord accepts 4,096, and 6,000 characters in all embeds of a message together."""
MAX_VALUE: Final = 150
MAX_LINK: Final = 500
MAX_FACTS: Final = 2800
"""Characters of all facts together, so that the whole message stays within Discord's 6,000."""

_escape: Final = partial(escaped, marks=re.compile(r"([\\`*_~|>#\[\]()<:@-])"))


def build_message(notification: Notification) -> dict[str, Any]:
    """The message: one embed, without mentions."""
    embed: dict[str, Any] = {
        "title": _escape(headline(notification), MAX_TITLE),
        "color": colour(notification),
        "timestamp": rfc3339(notification.last_seen),
        "fields": [
            {"name": _escape(label, 2 * MAX_LABEL), "value": _escape(value, 2 * MAX_VALUE), "inline": len(value) < 40}
            for label, value in facts(notification, MAX_VALUE, MAX_FACTS)
        ],
    }
    description = summary_and_links(notification, _escape, MAX_DESCRIPTION, MAX_LINK)
    if description:
        embed["description"] = description
    return {"embeds": [embed], "allowed_mentions": {"parse": []}}


class DiscordChannel(ChatWebhook):
    """Posts each notification as an embed; ``coalesce_from`` or more waiting ones as one.

    No part of the text becomes a mention. If a response is lost, a message can appear twice.

    Examples:
        >>> from otel_resilience.alerting.channels import DiscordChannel
        >>> channel = DiscordChannel("https://discord.com/api/webhooks/1/x1y2z3")
        >>> channel.name, channel.min_interval
        ('discord', 2.0)
    """

    _name = "discord"
    _min_interval = MIN_INTERVAL
    _message = staticmethod(build_message)
