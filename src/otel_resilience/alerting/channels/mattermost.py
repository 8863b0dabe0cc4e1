"""Mattermost and Rocket.Chat, by an incoming webhook, with one attachment."""

from __future__ import annotations

import re
from typing import Any, Final

from otel_resilience.alerting.channels._http import ChatWebhook
from otel_resilience.alerting.channels._text import MAX_LABEL, cut, facts, headline, links, readable
from otel_resilience.alerting.model.alert import Notification, Status
from otel_resilience.classification.model import Severity

MIN_INTERVAL: Final = 0.2
"""Seconds: Mattermost takes ten requests a second by default, where its limit is switched on."""
MAX_TEXT: Final = 4900
"""Mattermost takes 16,383 characters and far more in attachments, Rocket.Chat 5,000 by default."""
MAX_LINK: Final = 900
MAX_TITLE: Final = 300
MAX_VALUE: Final = 300
MAX_FACTS: Final = 9000

_COLOURS: Final = {
    Severity.CRITICAL: "#e01e5a",
    Severity.HIGH: "#f2952f",
    Severity.MEDIUM: "#ecb22e",
    Severity.LOW: "#3aa3e3",
}
_RESOLVED: Final = "#2eb67d"
_MARKUP: Final = re.compile(r"([\\*_\[\]()`#~|<>-])")


class MattermostChannel(ChatWebhook):
    """Posts each notification as a message with an attachment; from ``coalesce_from`` waiting ones on, as one.

    Nothing in it becomes a mention. Where an answer is lost, a message can appear twice.

    ``min_interval`` is the least time in seconds between two messages. Raises ``ValueError``, without the URL, where
    nothing can be posted there.

    Examples:
        >>> from otel_resilience.alerting.channels import MattermostChannel
        >>> channel = MattermostChannel("https://chat.example/hooks/x1y2z3")
        >>> channel.name, channel.min_interval
        ('mattermost', 0.2)
    """

    _name = "mattermost"
    _min_interval = MIN_INTERVAL

    def _message(self, notification: Notification) -> dict[str, Any]:
        return build_message(notification)


def build_message(notification: Notification) -> dict[str, Any]:
    """The message: the headline, and an attachment with the facts, as both programs read it."""
    title = _escape(headline(notification), MAX_TITLE)
    shown_links = " · ".join(f"[{label}]({url})" for label, url in links(notification, MAX_LINK))
    summary = _escape(readable(notification.summary), MAX_TEXT - len(shown_links) - 2)
    resolved = notification.status is Status.RESOLVED
    attachment = {
        "fallback": title,
        "color": _RESOLVED if resolved else _COLOURS[notification.severity],
        "text": "\n\n".join(filter(None, (summary, shown_links))),
        "fields": [
            {"title": _escape(label, 2 * MAX_LABEL), "value": _escape(value, 2 * MAX_VALUE), "short": len(value) < 40}
            for label, value in facts(notification, MAX_VALUE, MAX_FACTS)
        ],
    }
    return {"text": title, "attachments": [attachment]}


def _escape(text: str, limit: int) -> str:
    """``text`` without markup and mentions, within ``limit`` after that."""
    kept = cut(text, limit, lambda char: 2 if char == "@" or _MARKUP.match(char) or char > "\uffff" else 1)
    return _MARKUP.sub(r"\\\1", kept).replace("@", "@\u200b")
