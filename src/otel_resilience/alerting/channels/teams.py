"""Microsoft Teams, through a workflow's webhook, as an Adaptive Card."""

from __future__ import annotations

import re
from functools import partial
from typing import Any, Final

from otel_resilience.alerting.channels._http import ChatWebhook
from otel_resilience.alerting.channels._text import (
    MAX_FACTS,
    MAX_LABEL,
    encode,
    escaped,
    facts,
    headline,
    links,
    readable,
)
from otel_resilience.alerting.model.alert import Notification, Status
from otel_resilience.classification.model import Severity

MIN_INTERVAL: Final = 1.0
"""Seconds: Teams limits a webhook to about four requests a second, a workflow to fewer over a minute."""
MAX_UNITS: Final = 28 * 1024 // 2
"""UTF-16 code units of a whole message: Teams accepts about 28 KB, which appear to be counted in UTF-16."""
MAX_TITLE: Final = 300
MAX_SUMMARY: Final = 2000
MAX_VALUE: Final = 300
MAX_LINK: Final = 2000
_PER_FACT: Final = 24
"""Overhead of a fact, without its text."""

_COLOURS: Final = {
    Severity.CRITICAL: "attention", Severity.HIGH: "warning", Severity.MEDIUM: "warning", Severity.LOW: "accent",
}  # fmt: skip
_escape: Final = partial(escaped, marks=re.compile(r"([\\*_\[\]()`#~-])"))


def build_message(notification: Notification) -> dict[str, Any]:
    """The message: one card, in version 1.4 of the schema, the newest that every client of Teams shows."""
    resolved = notification.status is Status.RESOLVED
    summary = _escape(readable(notification.summary), MAX_SUMMARY)
    body: list[dict[str, Any]] = [
        {
            "type": "TextBlock",
            "text": _escape(headline(notification), MAX_TITLE),
            "size": "large",
            "weight": "bolder",
            "wrap": True,
            "color": "good" if resolved else _COLOURS[notification.severity],
        },
        *([{"type": "TextBlock", "text": summary, "wrap": True}] if summary else []),
    ]
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "Full"},
        "body": body,
    }
    actions = [{"type": "Action.OpenUrl", "title": label, "url": url} for label, url in links(notification, MAX_LINK)]
    if actions:
        card["actions"] = actions
    room = MAX_UNITS - 300 - len(encode(card).decode("utf-8").encode("utf-16-le")) // 2 - MAX_FACTS * _PER_FACT
    shown = [
        {"title": _escape(label, 2 * MAX_LABEL), "value": _escape(value, 2 * MAX_VALUE)}
        for label, value in facts(notification, MAX_VALUE, room * 2 // 3)  # an escaped character takes three in JSON
    ]
    if shown:
        body.append({"type": "FactSet", "facts": shown})
    content = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [content]}


class TeamsChannel(ChatWebhook):
    """Posts each notification as a card; ``coalesce_from`` or more waiting ones as one.

    If a response is lost, a message can appear twice. Use the workflow that posts to a channel or chat when it receives
    a webhook request; its URL contains the signature that authorises it.

    Examples:
        >>> from otel_resilience.alerting.channels import TeamsChannel
        >>> channel = TeamsChannel("https://prod.example/workflows/1/triggers/manual/paths/invoke?sig=x1y2z3")
        >>> channel.name, channel.min_interval
        ('teams', 1.0)
    """

    _name = "teams"
    _min_interval = MIN_INTERVAL
    _message = staticmethod(build_message)
