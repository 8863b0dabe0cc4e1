"""Slack, through an incoming webhook, in Block Kit."""

from __future__ import annotations

from typing import Any, Final

from otel_resilience.alerting.channels._http import ChatWebhook
from otel_resilience.alerting.channels._text import (
    cut,
    headline,
    key_facts,
    links,
    occurrences,
    readable,
    shown,
    width,
)
from otel_resilience.alerting.model.alert import Notification, Status, format_duration
from otel_resilience.alerting.model.digest import DIGEST, MORE

MIN_INTERVAL: Final = 1.0
"""Seconds: Slack accepts about one message a second for one webhook."""
MAX_HEADER: Final = 150
MAX_TEXT: Final = 3000
MAX_FIELD: Final = 2000

REASONS: Final = frozenset({
    "invalid_payload", "invalid_blocks", "invalid_token", "no_text", "no_service", "no_service_id", "no_active_hooks",
    "no_team", "team_disabled", "user_not_found", "channel_not_found", "channel_is_archived", "action_prohibited",
    "posting_to_general_channel_denied", "too_many_attachments", "rate_limited", "rollup_error",
})  # fmt: skip
"""What Slack answers in plain text if it refuses a message."""

_ESCAPES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def build_message(notification: Notification) -> dict[str, Any]:
    """The message: blocks, and ``text`` for clients that cannot show them, such as a phone's notification."""
    blocks = [
        {"type": "header", "text": _plain(headline(notification), MAX_HEADER)},
        *_section(_escape(readable(notification.summary), MAX_TEXT)),
        {"type": "section", "fields": [_marked(field, MAX_FIELD) for field in _fields(notification)]},
        *_section(_context(notification)),
        *_section(_correlation(notification)),
        *_buttons(notification),
        {"type": "context", "elements": [_marked(_origin(notification), MAX_TEXT)]},
    ]
    return {
        "text": cut(_escape(headline(notification), MAX_TEXT - 200) + _after_headline(notification), MAX_TEXT),
        "blocks": blocks,
        "unfurl_links": False,
        "unfurl_media": False,
    }


def _after_headline(notification: Notification) -> str:
    if notification.status is Status.RESOLVED:
        return f" (after {format_duration(notification.duration)})"
    return f" ({occurrences(notification)})" if notification.total > 1 else ""


def _section(text: str) -> list[dict[str, Any]]:
    """Empty if there is no text."""
    return [{"type": "section", "text": _marked(text, MAX_TEXT)}] if text else []


def _fields(notification: Notification) -> list[str]:
    return [f"*{label}*\n{_escape(value, MAX_FIELD - 100)}" for label, value in key_facts(notification)]


def _context(notification: Notification) -> str:
    """As many whole lines as fit; for a digest, one per incident."""
    in_digest = notification.reason == DIGEST
    entries = dict(notification.context)
    more = int(entries.pop(MORE, None) or 0) if in_digest else 0
    lines: list[str] = []
    room = MAX_TEXT - 50
    for name, value in entries.items():
        label = "" if in_digest else f"*{_escape(readable(name), 100)}*: "
        line = f"• {label}{_escape(shown(value), 500)}"
        room -= sum(map(width, line)) + 1
        if room < 0:
            more += len(entries) - len(lines)
            break
        lines.append(line)
    if more:
        lines.append(f"… and {more} more")
    return "\n".join(lines)


def _correlation(notification: Notification) -> str:
    text = _escape(readable(notification.correlation_id or ""), 200).replace("`", "'")
    return f"*Correlation ID*\n```{text}```" if text else ""


def _buttons(notification: Notification) -> list[dict[str, Any]]:
    buttons = [
        {"type": "button", "text": _plain(label, 75), "url": url, "action_id": label.lower().replace(" ", "_")}
        for label, url in links(notification)
    ]
    return [{"type": "actions", "elements": buttons}] if buttons else []


def _origin(notification: Notification) -> str:
    parts = (notification.service, notification.kind, notification.fingerprint)
    return " · ".join(_escape(readable(part), 200) for part in parts if readable(part)) or "-"


def _plain(text: str, limit: int) -> dict[str, Any]:
    return {"type": "plain_text", "text": _escape(text, limit), "emoji": True}


def _marked(text: str, limit: int) -> dict[str, Any]:
    """``verbatim``: no part of the text becomes a link or a mention."""
    return {"type": "mrkdwn", "text": cut(text, limit), "verbatim": True}


def _escape(text: str, limit: int) -> str:
    """``text`` with Slack's three control characters escaped, cut so that the result fits ``limit``."""
    return "".join(_ESCAPES.get(char, char) for char in cut(text, limit, _escaped_width))


def _escaped_width(char: str) -> int:
    return len(_ESCAPES.get(char, "")) or width(char)


class SlackChannel(ChatWebhook):
    """Posts each notification as a message of blocks; ``coalesce_from`` or more waiting ones as one message.

    Slack has no deduplication key: if a response is lost, a message can appear twice.

    Examples:
        >>> from otel_resilience.alerting.channels import SlackChannel
        >>> channel = SlackChannel("https://hooks.slack.com/services/T0/B0/x1y2z3")
        >>> channel.name, channel.min_interval
        ('slack', 1.0)
    """

    _name = "slack"
    _min_interval = MIN_INTERVAL
    _message = staticmethod(build_message)
    _reasons = REASONS
