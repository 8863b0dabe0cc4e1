"""What became of every notification: where it waits, who took it, who takes over, what nobody takes. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterable, Sequence
from enum import StrEnum

from otel_resilience.alerting.alert import Notification
from otel_resilience.alerting.channels.base import Channel
from otel_resilience.classification import Severity


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """A channel, and what goes there."""

    channel: Channel
    lowest: Severity = Severity.LOW
    only: frozenset[Severity] | None = None
    """Severities that it is for, where it is not for all from ``lowest`` on."""
    fallback: bool = False
    """It gets nothing unless another channel fails."""

    @property
    def name(self) -> str:
        """The channel's name."""
        return self.channel.name

    def takes(self, notification: Notification) -> bool:
        """Whether the notification goes there at once."""
        if notification.channels is not None:
            return self.name in notification.channels
        if self.name in notification.further_channels:
            return True
        wanted = notification.severity in self.only if self.only is not None else notification.severity >= self.lowest
        return wanted and not self.fallback


class Fate(StrEnum):
    """What is to happen after a channel failed."""

    ELSEWHERE = "elsewhere"
    """Another channel has it or gets it."""
    KEEP = "keep"
    """The channel keeps it and tries again."""
    DEAD = "dead"
    """Nobody takes it."""


@dataclasses.dataclass(slots=True)
class _Tracked:
    notification: Notification
    waiting: set[str]
    delivered: set[str] = dataclasses.field(default_factory=set)
    failed: dict[str, bool] = dataclasses.field(default_factory=dict)
    """By channel: whether it was for good."""


class Ledger:
    """Not safe for threads."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        self.revoked: set[str] = set()
        """Channels that get nothing any more."""
        self._tracked: dict[str, _Tracked] = {}
        self._merged: dict[str, tuple[str, ...]] = {}

    def __contains__(self, notification: Notification) -> bool:
        return notification.id in self._tracked

    def open(self, notification: Notification) -> list[str]:
        """Begins to track it. The names of the channels that it goes to; the fallbacks where there are no others."""
        names = [route.name for route in self.routes if route.takes(notification) and route.name not in self.revoked]
        if not names and notification.channels is None:
            names = [route.name for route in self._free(frozenset()) if route.fallback or self.revoked][:1]
        self._tracked[notification.id] = _Tracked(notification, set(names))
        return names

    def undelivered(self) -> list[Notification]:
        """What no channel took so far."""
        return [tracked.notification for tracked in self._tracked.values() if not tracked.delivered]

    def members(self, notification: Notification) -> list[Notification]:
        """The notifications that a digest stands for, or the notification itself."""
        ids = self._merged.get(notification.id, (notification.id,))
        return [self._tracked[each].notification for each in ids if each in self._tracked]

    def group(self, notifications: Iterable[Notification], into: Notification) -> None:
        """Several leave as one; what becomes of that one becomes of each."""
        ids: list[str] = []
        for notification in notifications:
            ids.extend(self._merged.pop(notification.id, (notification.id,)))
        self._merged[into.id] = tuple(ids)

    def replace(self, channel: str, notifications: Iterable[Notification]) -> list[Notification]:
        """The end of their incident is told in their place. Those that are waited for nowhere else now."""
        return [
            done for each in notifications for member in self.members(each) if (done := self._leave(channel, member))
        ]

    def delivered(self, channel: str, member: Notification) -> bool:
        """A channel took it. Whether that settles it."""
        tracked = self._tracked.get(member.id)
        if tracked is None:
            return True
        tracked.delivered.add(channel)
        return self._leave(channel, member) is not None

    def failed(self, channel: str, member: Notification, *, final: bool) -> tuple[Fate, str | None]:
        """A channel gave it up: its fate, and the channel that takes over."""
        tracked = self._tracked.get(member.id)
        if tracked is None:
            return Fate.ELSEWHERE, None
        tracked.failed[channel] = final
        tracked.waiting.discard(channel)
        if tracked.delivered or tracked.waiting:
            if not tracked.waiting:
                self.close(member)
            return Fate.ELSEWHERE, None
        substitute = next((route.name for route in self._substitutes(tracked)), None)
        if substitute is not None:
            tracked.waiting.add(substitute)
            return Fate.ELSEWHERE, substitute
        if not final:
            tracked.waiting.add(channel)
            return Fate.KEEP, None
        again = next((name for name, for_good in tracked.failed.items() if not for_good), None)
        if again is not None:
            tracked.waiting.add(again)
            return Fate.ELSEWHERE, again
        return Fate.DEAD, None

    def close(self, member: Notification) -> None:
        """Nothing more will happen to it."""
        self._tracked.pop(member.id, None)

    def _substitutes(self, tracked: _Tracked) -> list[Route]:
        only = tracked.notification.channels
        return [route for route in self._free(tracked.failed) if only is None or route.name in only]

    def _free(self, without: Container[str]) -> list[Route]:
        """The channels that may take over, fallbacks first."""
        free = [route for route in self.routes if route.name not in without and route.name not in self.revoked]
        return sorted(free, key=lambda route: not route.fallback)

    def _leave(self, channel: str, member: Notification) -> Notification | None:
        tracked = self._tracked.get(member.id)
        if tracked is None:
            return None
        tracked.waiting.discard(channel)
        if tracked.waiting:
            return None
        self.close(member)
        return member
