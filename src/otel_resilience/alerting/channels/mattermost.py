"""Mattermost and Rocket.Chat, through an incoming webhook, with one attachment."""

from __future__ import annotations

import re
from typing import Any, Final

from otel_resilience.alerting.channels._http import ChatWebhook
from otel_resilience.alerting.channels._text import MAX_LABEL, colour, escaped, facts, headline, summary_and_links
from otel_resilience.alerting.model.alert import Notification

MIN_INTERVAL: Final = 0.2
"""Seconds: Mattermost accepts ten requests a second by default, if its rate limit is on."""
MAX_TEXT: Final = 4900
"""Mattermost accepts 16,383 characters and far more in attachments, Rocket.Chat 5,000 by default."""
MAX_LINK: Final = 900
MAX_TITLE: Final = 300
MAX_VALUE: Final = 300
MAX_FACTS: Final = 9000

_MARKUP: Final = re.compile(r"([\\*_\[\]()`#~|<>-])")


def build_message(notification: Notification) -> dict[str, Any]:
    """The message: the headline, and an attachment with the facts in a form that both programs accept."""
    title = _escape(headline(notification), MAX_TITLE)
    attachment = {
        "fallback": title,
        "color": f"#{colour(notification):06x}",
        "text": summary_and_links(notification, _escape, MAX_TEXT, MAX_LINK),
        "fields": [
            {"title": _escape(label, 2 * MAX_LABEL), "value": _escape(value, 2 * MAX_VALUE), "short": len(value) < 40}
            for label, value in facts(notification, MAX_VALUE, MAX_FACTS)
        ],
    }
    return {"text": title, "attachments": [attachment]}


def _escape(text: str, limit: int) -> str:
    """``text`` without markup and mentions, cut so that the result fits ``limit``."""
    return escaped(text, limit, _MARKUP, doubled="@").replace("@", "@\u200b")


class MattermostChannel(ChatWebhook):
    """Posts each notification as a message with an attachment; ``coalesce_from`` or more waiting ones as one.

    No part of the text becomes a mention. If a response is lost, a message can appear twice.

    Examples:
        >>> from otel_resilience.alerting.channels import MattermostChannel
        >>> channel = MattermostChannel("https://chat.example/hooks/x1y2z3")
        >>> channel.name, channel.min_interval
        ('mattermost', 0.2)
    """

    _name = "mattermost"
    _min_interval = MIN_INTERVAL
    _message = staticmethod(build_message)
