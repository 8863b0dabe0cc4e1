"""Several waiting notifications as one message. Pure."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

from otel_resilience.alerting.model.alert import (
    MAX_CONTEXT,
    MAX_SHOWN_TYPES,
    MAX_VALUE,
    Links,
    Notification,
    Scalar,
    Status,
    fingerprint,
    shortened,
)

T = TypeVar("T")

DIGEST: Final = "digest"
"""``kind`` and ``reason`` of a digest."""
MORE: Final = "more"
"""Key in a digest's context: how many incidents were left out of its list."""


def digest(notifications: Sequence[Notification]) -> Notification:
    """One notification in place of several; a single one is returned as is. Raises ``ValueError`` if there are none.

    Several about one incident become the latest of them, with all their occurrences. Otherwise the digest lists the
    incidents in its context, firing ones first and then by severity, at most :data:`MAX_CONTEXT` entries. It is firing
    while any of them is, has their highest severity, and keeps the fields they have in common. ``merged`` names every
    message in it; the same messages always give the same ``id``.
    """
    if not notifications:
        raise ValueError("nothing to put into a digest")
    if len(notifications) == 1:
        return notifications[0]
    latest = list({each.incident: each for each in notifications}.values())
    merged = tuple(part for each in notifications for part in (each.merged or (each.id,)))
    if len(latest) > 1:
        latest = [_listed(latest)]
    return dataclasses.replace(
        latest[0],
        id=hashlib.sha256("\x1f".join(merged).encode("utf-8", "surrogatepass")).hexdigest()[:32],
        count=sum(each.count for each in notifications),
        first_seen=min(each.first_seen for each in notifications),
        last_seen=max(each.last_seen for each in notifications),
        channels=_channels(notifications),
        merged=merged,
    )


def _listed(incidents: list[Notification]) -> Notification:
    firing = [each for each in incidents if each.status is Status.FIRING]
    context = _context(incidents)
    number = len(context) if MORE not in context else len(context) - 1 + int(context[MORE] or 0)
    total = sum(each.total for each in incidents)
    prints = sorted(each.fingerprint for each in incidents)
    return Notification(
        id="",
        status=Status.FIRING if firing else Status.RESOLVED,
        severity=max(each.severity for each in incidents),
        kind=DIGEST,
        title=f"{number} incidents" + ("" if firing else " resolved"),
        summary=f"{number} queued alerts combined, {total} occurrences in all.",
        dependency=_common(each.dependency for each in incidents),
        error_type=_common(each.error_type for each in incidents),
        error_class=_common(each.error_class for each in incidents),
        correlation_id=_common(each.correlation_id for each in incidents),
        span_id=_common(each.span_id for each in incidents),
        fingerprint=fingerprint(DIGEST, None, *prints),
        incident=fingerprint(DIGEST, None, *sorted(each.incident for each in incidents)),
        count=0,
        total=total,
        first_seen=0.0,
        last_seen=0.0,
        escalation=max(each.escalation for each in incidents),
        links=Links(
            **{
                link.name: _common(getattr(each.links, link.name) for each in incidents)
                for link in dataclasses.fields(Links)
            }
        ),
        context=context,
        service=_common(each.service for each in incidents) or incidents[0].service,
        environment=_common(each.environment for each in incidents),
        reason=DIGEST,
        error_types=dict(
            sum((Counter(each.error_types) for each in incidents), Counter()).most_common(MAX_SHOWN_TYPES)
        ),
    )


def _context(incidents: Iterable[Notification]) -> dict[str, Scalar]:
    lines: list[Scalar] = []
    more = 0
    for each in sorted(incidents, key=lambda each: (each.status is Status.FIRING, each.severity), reverse=True):
        if each.reason == DIGEST:
            lines += [line for name, line in each.context.items() if name != MORE]
            more += int(each.context.get(MORE) or 0)
        else:
            lines.append(_line(each))
    if more or len(lines) > MAX_CONTEXT:
        more += len(lines[MAX_CONTEXT - 1 :])
        lines = lines[: MAX_CONTEXT - 1]
    context = {str(number): line for number, line in enumerate(lines, start=1)}
    return context | {MORE: more} if more else context


def _line(notification: Notification) -> str:
    state = "resolved" if notification.status is Status.RESOLVED else notification.severity.value
    times = f" ({notification.total} times)" if notification.total > 1 else ""
    room = MAX_VALUE - len(state) - len(times) - 2
    return f"{state}: {shortened(notification.title, room)}{times}"


def _common(values: Iterable[T]) -> T | None:
    """The value that they all have, or ``None``."""
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else None


def _channels(notifications: Iterable[Notification]) -> tuple[str, ...] | None:
    together: dict[str, None] = {}
    for each in notifications:
        if each.channels is None:
            return None
        together |= dict.fromkeys(each.channels)
    return tuple(together)
