"""The state of every notification: waiting, delivered, taken over by another channel, or undeliverable. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

from otel_resilience._internal import validation as check
from otel_resilience.alerting.channels.base import Channel
from otel_resilience.alerting.model.alert import Notification
from otel_resilience.classification.model import Severity


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """A channel, and which notifications it gets. Raises ``TypeError`` naming the parameter.

    Examples:
        >>> from otel_resilience.alerting import Route
        >>> from otel_resilience.alerting.channels import LogChannel, PagerDutyChannel
        >>> pager = Route(PagerDutyChannel("an integration key"), lowest=Severity.CRITICAL)
        >>> log = Route(LogChannel(), fallback=True)  # if the pager fails
        >>> pager.name, log.name
        ('pagerduty', 'log')
    """

    channel: Channel
    """Delivers the notifications."""
    lowest: Severity = Severity.LOW
    """The minimum severity that it gets."""
    only: frozenset[Severity] | None = None
    """If set, only these severities."""
    fallback: bool = False
    """It gets nothing unless another channel fails."""

    def __post_init__(self) -> None:
        if isinstance(self.channel, type) or not callable(getattr(self.channel, "deliver", None)):
            raise TypeError(f"channel must be a channel such as WebhookChannel(url), not {check.shown(self.channel)}")
        check.instance("lowest", self.lowest, Severity)
        if self.only is not None:
            check.series("only", self.only, Severity)
        check.instance("fallback", self.fallback, bool)

    @property
    def name(self) -> str:
        """The channel's name."""
        return self.channel.name

    def takes(self, notification: Notification) -> bool:
        """Whether the notification goes to this channel immediately."""
        if notification.channels is not None:
            return self.name in notification.channels
        if self.name in notification.further_channels:
            return True
        wanted = notification.severity in self.only if self.only is not None else notification.severity >= self.lowest
        return wanted and not self.fallback


@dataclasses.dataclass(frozen=True, slots=True)
class FailureDecision:
    """What happens to a notification after a channel failed."""

    keep: bool = False
    """The channel keeps it and tries again."""
    substitute: str | None = None
    """Another channel that gets it now."""
    finished: bool = False
    """No channel is still trying to deliver it."""
    undeliverable: bool = False
    """No channel is still trying to deliver it, and none has."""
    reported: bool = False
    """The channel failed with it before, and that was reported then."""


@dataclasses.dataclass(slots=True)
class _Tracked:
    notification: Notification
    meant: frozenset[str]
    """Channels that it is meant for; others are substitutes."""
    waiting: set[str]
    delivered: set[str] = dataclasses.field(default_factory=set)
    failed: dict[str, bool] = dataclasses.field(default_factory=dict)
    """By channel: whether it failed for good."""


class Ledger:
    """Not safe for threads."""

    def __init__(self, routes: Sequence[Route], refuses: Callable[[str, Notification], bool]) -> None:
        """``refuses``: whether the channel of this name would refuse a notification without trying."""
        self.routes = tuple(routes)
        self._refuses = refuses
        self._tracked: dict[str, _Tracked] = {}
        self._merged: dict[tuple[str, str], tuple[str, ...]] = {}
        """By channel and ID of a digest: the notifications that it represents."""

    def __contains__(self, notification: Notification) -> bool:
        return notification.id in self._tracked

    def open(self, notification: Notification) -> list[str]:
        """Starts tracking it. Returns the channels that it goes to; the fallbacks if there are no others."""
        free = [route for route in self.routes if not self._refuses(route.name, notification)]
        names = [route.name for route in free if route.takes(notification)]
        if not names and notification.channels is None:
            some_refuse = len(free) < len(self.routes)
            names = [route.name for route in _fallbacks_first(free) if route.fallback or some_refuse][:1]
        self._tracked[notification.id] = _Tracked(notification, frozenset(names), set(names))
        return names

    def undelivered(self) -> list[Notification]:
        """Notifications that no channel has delivered so far."""
        return [tracked.notification for tracked in self._tracked.values() if not tracked.delivered]

    def tried(self) -> list[Notification]:
        """Undelivered notifications that every channel which tried them has failed with."""
        return [each.notification for each in self._tracked.values() if each.failed and not each.delivered]

    def members(self, channel: str, notification: Notification) -> list[Notification]:
        """The notifications that a digest at this channel represents, or the notification itself."""
        ids = self._merged.get((channel, notification.id), (notification.id,))
        return [self._tracked[each].notification for each in ids if each in self._tracked]

    def group(self, channel: str, notifications: Iterable[Notification], into: Notification) -> None:
        """Several are sent as one, whose outcome applies to each of them."""
        ids: list[str] = []
        for notification in notifications:
            ids.extend(self._merged.pop((channel, notification.id), (notification.id,)))
        self._merged[channel, into.id] = tuple(ids)

    def ungroup(self, channel: str, notification: Notification) -> None:
        """This channel is done with a digest."""
        self._merged.pop((channel, notification.id), None)

    def replace(self, channel: str, notifications: Iterable[Notification]) -> list[Notification]:
        """The resolution of their incident is sent instead. Returns those that no other channel has yet to send."""
        done = []
        for each in notifications:
            done += [member for member in self.members(channel, each) if not self._left(channel, member)]
            self.ungroup(channel, each)
        return done

    def delivered(self, channel: str, member: Notification) -> set[str]:
        """A channel delivered it. Returns the channels that it still waits for."""
        tracked = self._tracked.get(member.id)
        if tracked is not None:
            tracked.delivered.add(channel)
        return self._left(channel, member)

    def failed(self, channel: str, member: Notification, *, final: bool) -> FailureDecision:
        """A channel gave up, ``final``ly or for now.

        A channel that it is meant for keeps trying. Until any channel delivers it, another one gets it too.
        """
        tracked = self._tracked.get(member.id)
        if tracked is None:
            return FailureDecision(finished=True, reported=True)
        reported = channel in tracked.failed
        tracked.failed[channel] = final
        others = tracked.waiting - {channel}
        hopeful = bool(tracked.delivered) or any(other not in tracked.failed for other in others)
        substitute = None if hopeful else self._substitute(tracked, channel)
        if substitute is not None:
            others.add(substitute)
        keep = not final and (channel in tracked.meant or not (others or tracked.delivered))
        tracked.waiting = others | {channel} if keep else others
        finished = not tracked.waiting
        if finished:
            self.close(member)
        return FailureDecision(keep, substitute, finished, finished and not tracked.delivered, reported)

    def close(self, member: Notification) -> None:
        """Stops tracking it."""
        self._tracked.pop(member.id, None)

    def _substitute(self, tracked: _Tracked, channel: str) -> str | None:
        """The channel that takes over: preferably a fallback, and one that has not failed yet."""
        only = tracked.notification.channels
        free = [
            route
            for route in self.routes
            if route.name != channel
            and route.name not in tracked.waiting
            and not self._refuses(route.name, tracked.notification)
            and not tracked.failed.get(route.name)
            and (only is None or route.name in only)
        ]
        best = sorted(_fallbacks_first(free), key=lambda route: route.name in tracked.failed)
        return best[0].name if best else None

    def _left(self, channel: str, member: Notification) -> set[str]:
        tracked = self._tracked.get(member.id)
        if tracked is None:
            return set()
        tracked.waiting.discard(channel)
        if not tracked.waiting:
            self.close(member)
        return tracked.waiting


def _fallbacks_first(routes: Iterable[Route]) -> list[Route]:
    return sorted(routes, key=lambda route: not route.fallback)
