"""Text for people, within the limits of receivers, and JSON that every receiver can read. Pure."""

from __future__ import annotations

import datetime
import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from otel_resilience.alerting.model.alert import Notification, Scalar, Status, format_duration
from otel_resilience.classification.model import Severity

ELLIPSIS: Final = "…"
MAX_LINK: Final = 3000
MAX_LABEL: Final = 60
MAX_FACTS: Final = 20

_COLOURS: Final = {
    Severity.CRITICAL: 0xE01E5A,
    Severity.HIGH: 0xF2952F,
    Severity.MEDIUM: 0xECB22E,
    Severity.LOW: 0x3AA3E3,
}
_RESOLVED: Final = 0x2EB67D
_SIGNS: Final = {Severity.CRITICAL: "🔴", Severity.HIGH: "🟠", Severity.MEDIUM: "🟡", Severity.LOW: "🔵"}
_REASONS_SHOWN: Final = {"escalated": "ESCALATED", "repeat": "STILL FIRING", "back": "BACK", "raised": "RAISED"}

_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")
"""Control characters, and those that change the text direction; receivers drop or refuse them."""
_JOINER: Final = "\u200d"
_MODIFIERS: Final = ("\U0001f3fb", "\U0001f3ff")
_MAX_CLUSTER: Final = 32


def well_formed(text: str) -> str:
    """``text`` as UTF-8 can encode it: surrogate pairs joined, unpaired ones replaced."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def readable(text: str) -> str:
    """``text`` in one line, without control characters and marks that change the text direction."""
    return " ".join(_UNSEEN.sub(" ", well_formed(text)).split())


def colour(notification: Notification) -> int:
    """The 24-bit RGB colour of its severity; green if it is resolved."""
    return _RESOLVED if notification.status is Status.RESOLVED else _COLOURS[notification.severity]


def width(char: str) -> int:
    """UTF-16 code units, which some receivers count; others count fewer."""
    return 2 if char > "\uffff" else 1


def cut(text: str, limit: int, cost: Callable[[str], int] = width) -> str:
    """``text``, or what fits into ``limit`` with an ellipsis; never cut between a letter and its accents."""
    spent = at = fits = 0
    for at, char in enumerate(text):
        spent += cost(char)
        if spent > limit:
            break
        if spent <= limit - 1:
            fits = at + 1
    else:
        return text
    at = fits
    while at > 0 and fits - at < _MAX_CLUSTER and _continues(text, at):
        at -= 1
    return text[:at].rstrip() + ELLIPSIS


def _continues(text: str, at: int) -> bool:
    char = text[at]
    return (
        char == _JOINER
        or text[at - 1] == _JOINER
        or unicodedata.category(char) in ("Mn", "Mc", "Me")
        or _MODIFIERS[0] <= char <= _MODIFIERS[1]
    )


def encode(data: Mapping[str, Any]) -> bytes:
    """Compact JSON in UTF-8."""
    return json.dumps(_sound(data), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")


def _sound(value: Any) -> Any:
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {well_formed(str(key)): _sound(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_sound(item) for item in value]
    return value


def escaped(text: str, limit: int, marks: re.Pattern[str], doubled: str = "") -> str:
    """``text`` with a backslash before each of ``marks``, cut so that the result fits ``limit``.

    ``doubled`` are further characters that count twice.
    """
    kept = cut(text, limit, lambda char: 2 if char in doubled or marks.match(char) or char > "\uffff" else 1)
    return marks.sub(r"\\\1", kept)


def shown(value: Scalar) -> str:
    """A value of the context as text."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return f"{value:g}" if isinstance(value, float) else readable(str(value))


def moment(seconds: float) -> str:
    """Seconds since the epoch, for people, in UTC like the logs."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def occurrences(notification: Notification) -> str:
    """``412 times in 60 s, 12 since the last message, 3 error types``."""
    total, new = notification.total, notification.count
    text = "once" if total == 1 else f"{total} times"
    if total > 1 and notification.duration > 0:
        text += f" in {format_duration(notification.duration)}"
    if 0 < new < total:
        text += f", {new} since the last message"
    kinds = len(notification.error_types)
    return f"{text}, {kinds} error types" if kinds > 1 else text


def web_link(url: str | None) -> str | None:
    """``url`` if a receiver would accept it as a link."""
    if url is None or len(url) > MAX_LINK or _UNSEEN.search(url) or any(char.isspace() for char in url):
        return None
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return None
    return url if usable and well_formed(url) == url else None


def title(notification: Notification) -> str:
    """One line, never empty."""
    return readable(notification.title) or "Alert without a title"


def headline(notification: Notification) -> str:
    """Symbol, severity or state, and title."""
    shown_title = title(notification)
    if notification.reason == "test":
        return f"🧪 TEST {notification.severity}: {shown_title}"
    if notification.status is Status.RESOLVED:
        return f"✅ RESOLVED: {shown_title}"
    shown_reason = _REASONS_SHOWN.get(notification.reason)
    state = f"{notification.severity}, {shown_reason}" if shown_reason else str(notification.severity)
    return f"{_SIGNS[notification.severity]} {state}: {shown_title}"


def links(notification: Notification, longest: int = MAX_LINK) -> list[tuple[str, str]]:
    """Labels and URLs of at most ``longest`` characters each, in the order in which a person would open them."""
    to = notification.links
    targets = (
        ("Details", to.details),
        ("Open trace", to.trace),
        ("Incident", to.incident),
        ("Dashboard", to.dashboard),
        ("Runbook", to.runbook),
    )
    usable = ((label, web_link(target)) for label, target in targets)
    return [(label, url) for label, url in usable if url is not None and len(url) <= longest]


def summary_and_links(
    notification: Notification, escape: Callable[[str, int], str], limit: int, longest_link: int
) -> str:
    """The summary, escaped, followed by the links in Markdown: at most ``limit`` characters."""
    shown_links = " · ".join(f"[{label}]({url})" for label, url in links(notification, longest_link))
    summary = escape(readable(notification.summary), limit - len(shown_links) - 2)
    return "\n\n".join(filter(None, (summary, shown_links)))


def key_facts(notification: Notification) -> Iterator[tuple[str, str]]:
    """Labels and values, never empty: where, what, how often, since when."""
    over = notification.status is Status.RESOLVED
    types = ", ".join(f"{kind} ({n})" for kind, n in notification.error_types.items())
    values = (
        ("Environment", notification.environment),
        ("Dependency", notification.dependency),
        ("Error", " / ".join(filter(None, (notification.error_type, notification.error_class)))),
        ("Seen", occurrences(notification)),
        ("Error types", types if len(notification.error_types) > 1 else None),
        ("Began" if over else "Since", moment(notification.first_seen)),
        ("Last seen", moment(notification.last_seen) if notification.last_seen > notification.first_seen else None),
        ("Duration", format_duration(notification.duration) if over else None),
        ("Escalation", f"level {notification.escalation}" if notification.escalation else None),
    )
    return ((label, text) for label, value in values if value and (text := readable(value)))


def facts(notification: Notification, limit: int, room: int) -> Iterator[tuple[str, str]]:
    """:func:`key_facts`, then correlation ID, service and context: values of at most ``limit`` characters, as many as
    fit ``room`` with every character escaped."""
    more = (
        ("Correlation ID", readable(notification.correlation_id or "")),
        ("Service", readable(notification.service)),
        *((cut(readable(name), MAX_LABEL), shown(value)) for name, value in notification.context.items()),
    )
    everything = (*key_facts(notification), *more)
    for label, value in [(label, cut(value, limit)) for label, value in everything if label and value][:MAX_FACTS]:
        room -= 2 * (sum(map(width, label)) + sum(map(width, value)))
        if room < 0:
            return
        yield label, value
