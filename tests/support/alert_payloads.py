"""What Slack, PagerDuty and receivers of the generic webhook accept: each check returns the problem, or nothing."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

SLACK_BLOCKS = {"header", "section", "context", "actions", "divider"}
PAGERDUTY_SEVERITIES = {"critical", "error", "warning", "info"}
SEVERITIES = {"LOW", "MEDIUM", "HIGH", "CRITICAL"}

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


class RefusedError(Exception):
    """The receiver would reject the payload."""


def require(holds: object, problem: str) -> None:
    """Raises `RefusedError` with the problem unless it holds."""
    if not holds:
        raise RefusedError(problem)


def units(text: str) -> int:
    """UTF-16 code units, the strictest way for a receiver to count characters."""
    return len(text.encode("utf-16-le")) // 2


def check_slack(message: Any) -> None:
    """Checks a message of an incoming webhook, in Block Kit."""
    require(isinstance(message, dict), "not an object")
    unknown = set(message) - {"text", "blocks", "unfurl_links", "unfurl_media"}
    require(not unknown, f"unknown fields {unknown}")
    require(isinstance(message.get("text"), str) and message["text"].strip(), "no fallback text")
    require(units(message["text"]) <= 4000, "fallback text too long")
    _no_markup(message["text"])
    blocks = message.get("blocks")
    require(isinstance(blocks, list) and 1 <= len(blocks) <= 50, "1 to 50 blocks")
    for block in blocks:
        require(isinstance(block, dict) and block.get("type") in SLACK_BLOCKS, f"block type in {block}")
        _SLACK_CHECKS[block["type"]](block)


def _header(block: dict[str, Any]) -> None:
    require(set(block) == {"type", "text"}, "fields of a header")
    _text(block["text"], 150, kinds={"plain_text"})


def _section(block: dict[str, Any]) -> None:
    require(set(block) <= {"type", "text", "fields", "accessory"}, "fields of a section")
    require("text" in block or "fields" in block, "a section without text and fields")
    if "text" in block:
        _text(block["text"], 3000)
    if "fields" in block:
        require(isinstance(block["fields"], list) and 1 <= len(block["fields"]) <= 10, "1 to 10 fields")
        for field in block["fields"]:
            _text(field, 2000)


def _context(block: dict[str, Any]) -> None:
    require(set(block) == {"type", "elements"}, "fields of a context")
    require(1 <= len(block["elements"]) <= 10, "1 to 10 elements of a context")
    for element in block["elements"]:
        _text(element, 3000)


def _actions(block: dict[str, Any]) -> None:
    require(set(block) == {"type", "elements"}, "fields of actions")
    require(1 <= len(block["elements"]) <= 25, "1 to 25 actions")
    ids = [button.get("action_id") for button in block["elements"]]
    require(len(set(ids)) == len(ids), "an action_id twice")
    for button in block["elements"]:
        require(button.get("type") == "button", "only buttons are expected")
        require(set(button) <= {"type", "text", "url", "action_id", "style"}, "fields of a button")
        _text(button["text"], 75, kinds={"plain_text"})
        require(units(button["url"]) <= 3000 and _is_link(button["url"]), "url of a button")
        require(len(button["action_id"]) <= 255, "action_id too long")


_SLACK_CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "header": _header,
    "section": _section,
    "context": _context,
    "actions": _actions,
    "divider": lambda block: require(set(block) == {"type"}, "fields of a divider"),
}


def _text(text: Any, limit: int, kinds: frozenset[str] | set[str] = frozenset({"plain_text", "mrkdwn"})) -> None:
    require(isinstance(text, dict) and text.get("type") in kinds, f"kind of text in {text}")
    allowed = {"plain_text": {"type", "text", "emoji"}, "mrkdwn": {"type", "text", "verbatim"}}[text["type"]]
    require(set(text) <= allowed, f"fields of a text: {set(text)}")
    require(isinstance(text["text"], str) and text["text"].strip(), "an empty text")
    require(units(text["text"]) <= limit, f"{units(text['text'])} characters where {limit} are allowed")
    _no_markup(text["text"])


def _no_markup(text: str) -> None:
    """Texts of alerts must not contain links, mentions or broken entities."""
    require("<" not in text and ">" not in text, "an unescaped < or >")
    require(not re.search(r"&(?!amp;|lt;|gt;)", text), "an unescaped &")


def check_pagerduty(event: Any) -> None:
    """Checks an event of the Events API v2."""
    require(isinstance(event, dict), "Event object is invalid")
    action = event.get("event_action")
    require(action in {"trigger", "acknowledge", "resolve"}, "'event_action' is invalid")
    key = event.get("routing_key")
    require(isinstance(key, str) and len(key) == 32, "Length of 'routing_key' is incorrect (should be 32 characters)")
    dedup_key = event.get("dedup_key")
    if dedup_key is not None or action != "trigger":
        require(isinstance(dedup_key, str) and dedup_key, "'dedup_key' is missing or blank")
        require(len(dedup_key) <= 255, "Length of 'dedup_key' is too long (maximum is 255 characters)")
    if action == "trigger" or "payload" in event:
        _pagerduty_payload(event.get("payload"))
    for link in event.get("links", ()):
        require(set(link) <= {"href", "text"} and _is_link(link.get("href")), "'links' are invalid")
    require("client_url" not in event or _is_link(event["client_url"]), "'client_url' is invalid")


def _pagerduty_payload(payload: Any) -> None:
    require(isinstance(payload, dict), "'payload' is missing or blank")
    for name in ("summary", "source", "severity"):
        require(isinstance(payload.get(name), str) and payload[name].strip(), f"'payload.{name}' is missing or blank")
    require(units(payload["summary"]) <= 1024, "Length of 'payload.summary' is too long (maximum is 1024 characters)")
    require(payload["severity"] in PAGERDUTY_SEVERITIES, "'payload.severity' is invalid")
    require("timestamp" not in payload or is_time(payload["timestamp"]), "'payload.timestamp' is invalid")
    for name in ("component", "group", "class"):
        require(name not in payload or isinstance(payload[name], str), f"'payload.{name}' is invalid")
    require(isinstance(payload.get("custom_details", {}), dict), "'payload.custom_details' is invalid")


GENERIC_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "id": str,
    "status": str,
    "severity": str,
    "title": str,
    "summary": str,
    "dependency": (str, type(None)),
    "error_type": (str, type(None)),
    "error_class": (str, type(None)),
    "correlation_id": (str, type(None)),
    "fingerprint": str,
    "count": int,
    "first_seen": str,
    "last_seen": str,
    "escalation": int,
    "links": dict,
    "context": dict,
    "service": str,
}
"""Fields that every receiver may rely on."""


def check_generic(message: Any, *, links_lead_somewhere: bool = True) -> None:
    """Checks the object of the generic webhook."""
    require(isinstance(message, dict), "not an object")
    for name, kind in GENERIC_FIELDS.items():
        require(name in message, f"{name} is missing")
        require(isinstance(message[name], kind) and not isinstance(message[name], bool), f"{name} has the wrong type")
    require(message["status"] in {"firing", "resolved"}, "status")
    require(message["severity"] in SEVERITIES, "severity")
    require(message["count"] >= 0 and message["escalation"] >= 0, "a negative number")
    require(is_time(message["first_seen"]) and is_time(message["last_seen"]), "first_seen, last_seen")
    require(("duration_s" in message) == (message["status"] == "resolved"), "duration_s of resolved ones only")
    require(message.get("duration_s", 0) >= 0, "duration_s")
    links = message["links"]
    always = {"trace", "dashboard", "runbook"}
    require(always <= set(links) <= always | {"incident", "details"}, "links")
    require(all(link is None or isinstance(link, str) for link in links.values()), "links")
    require(not links_lead_somewhere or all(map(_is_link, filter(None, links.values()))), "links")
    require(all(links[name] for name in set(links) - always), "a link that is none")


def is_time(value: Any) -> bool:
    """Whether it is a time in the format of RFC 3339."""
    if not isinstance(value, str) or not RFC3339.fullmatch(value):
        return False
    datetime.datetime.fromisoformat(value)
    return True


def _is_link(value: Any) -> bool:
    return isinstance(value, str) and urlsplit(value).scheme in {"http", "https"} and bool(urlsplit(value).hostname)
