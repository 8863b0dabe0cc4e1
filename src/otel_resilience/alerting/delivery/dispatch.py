"""Brings notifications to the channels that they are for, and to others where those fail."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from otel_resilience._internal.foreign import repr_of
from otel_resilience.alerting import telemetry as signals
from otel_resilience.alerting.delivery.channel_worker import DEPENDENCY_PREFIX, ChannelWorker, DeliveryConfig
from otel_resilience.alerting.delivery.ledger import Ledger, Route
from otel_resilience.alerting.delivery.receipt import Receipt
from otel_resilience.alerting.model.alert import Alert, Notification, Status
from otel_resilience.alerting.persistence.recovery import Archive, is_durable
from otel_resilience.classification.model import Classification, Severity
from otel_resilience.redaction import redact

DISABLED_KIND: Final = "alert_channel_disabled"
REFUSED: Final = "no channel is set up for it"

_log = logging.getLogger("otel_resilience.alerting")


class Owner(Protocol):
    """The alert service, as seen from here. Called without the lock."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    def on_receipt(self, receipt: Receipt) -> None:
        """Something was delivered or given up."""
        ...

    def report(self, alert: Alert) -> None:
        """Something happened, such as that a receiver revoked our access."""
        ...

    def is_outdated(self, notification: Notification, *, keeper: str | None) -> bool:
        """Whether it is not to be sent any more. ``keeper``: the channel, where its receiver keeps incidents, one of a
        fingerprint at a time."""
        ...


class Dispatcher:
    """The channels with their queues and threads, and the ledger of who has what. Shares the lock of its owner."""

    def __init__(
        self,
        routes: Sequence[Route],
        owner: Owner,
        archive: Archive,
        config: DeliveryConfig,
        *,
        lock: threading.RLock,
        clock: Callable[[], float],
        rng: Callable[[], float],
        sleep: Callable[[float], None] | None,
        on_settled: Callable[[], None],
    ) -> None:
        """``on_settled`` is called, with the lock, while closing: a channel has done what it could so far."""
        self._owner = owner
        self._archive = archive
        self._lock = lock
        self._ledger = Ledger(routes, lambda name, notification: not self.workers[name].would_try(notification))
        self._keeping = frozenset(route.name for route in routes if route.channel.keeps_incidents)
        self.settled = on_settled
        self.workers = {
            route.name: ChannelWorker(route.channel, self, config, lock=lock, clock=clock, sleep=sleep, rng=rng)
            for route in routes
        }
        if len(self.workers) != len(routes):
            raise ValueError("channel names must be unique")

    @property
    def all_settled(self) -> bool:
        """Whether nothing more can be sent before the time of :meth:`close` is up."""
        return all(worker.is_settled for worker in self.workers.values())

    def queue_sizes(self) -> Mapping[str, int]:
        """Waiting notifications by channel."""
        return {name: worker.waiting for name, worker in self.workers.items()}

    def revoked(self) -> list[str]:
        """Channels whose receiver revoked our access."""
        return [name for name, worker in self.workers.items() if worker.revoked is not None]

    def holds(self, receipt: Receipt) -> bool:
        """Whether the receiver holds the incident open from now on."""
        return receipt.channel in self._keeping and receipt.notification.status is Status.FIRING

    def send(self, notification: Notification) -> None:
        """Queue it at every channel that it is for."""
        with self._lock:
            self._archive.accept(notification, durable=is_durable(notification))
            names = self._ledger.open(notification)
            for name in names:
                self.workers[name].put(notification)
            if not names:
                self._ledger.close(notification)
                self._archive.move_to_dead_letters(notification, REFUSED)

    def step(self) -> float:
        """Send what may be sent now, in this thread. Returns when to come again, on the clock."""
        return min((worker.step() for worker in self.workers.values()), default=math.inf)

    def close(self, give_up_at: float) -> None:
        """From now on nothing waits beyond ``give_up_at`` on the clock."""
        for worker in self.workers.values():
            worker.close(give_up_at)

    def finish(self) -> None:
        """Ends the threads as soon as they are not sending."""
        for worker in self.workers.values():
            worker.finish()

    def close_channels(self) -> list[Notification]:
        """Close the channels, with the lock. Returns what no channel took."""
        for worker in self.workers.values():
            try:
                worker.channel.close()
            except Exception as error:  # noqa: BLE001  # a foreign channel; the others must be closed too
                _log.warning("the channel %s could not be closed: %s", worker.channel.name, redact(repr_of(error)))
        return self._ledger.undelivered()

    def tried(self) -> list[Notification]:
        """What channels failed with and none took, with the lock."""
        return self._ledger.tried()

    def delivered(self, channel: str, notification: Notification) -> None:
        """Callback: the channel confirmed."""
        with self._lock:
            members = self._ledger.members(channel, notification)
            for member in members:
                left = self._ledger.delivered(channel, member)
                if not left:
                    self._archive.done(member)
                elif is_durable(member):
                    self._archive.left_for(member, left)
            self._ledger.ungroup(channel, notification)
        for member in members:
            seconds = max(0.0, self._owner.now() - member.caused_at)
            signals.delivered(channel, member, seconds)
            self._owner.on_receipt(Receipt(channel, member, True, seconds))

    def failed(self, channel: str, notification: Notification, verdict: Classification, *, final: bool) -> bool:
        """Callback: the channel gave it up. Whether to keep it."""
        keep = False
        news = []
        with self._lock:
            for member in self._ledger.members(channel, notification):
                decision = self._ledger.failed(channel, member, final=final)
                keep |= decision.keep
                if decision.substitute is not None:
                    self.workers[decision.substitute].put(member)
                if decision.undeliverable:
                    self._archive.move_to_dead_letters(member, verdict.error_type)
                elif decision.finished:
                    self._archive.done(member)
                if final or not decision.reported:
                    news.append(member)
            if not keep:
                self._ledger.ungroup(channel, notification)
        for member in news:
            seconds = max(0.0, self._owner.now() - member.caused_at)
            signals.failed(channel, member, verdict.error_type, seconds)
            self._owner.on_receipt(Receipt(channel, member, False, seconds, verdict.error_type))
        return keep

    def disabled(self, channel: str, verdict: Classification) -> None:
        """Callback: our access was revoked."""
        self._owner.report(disabled_alert(channel, verdict))

    def secure(self, notification: Notification, timeout: float) -> None:
        """Callback before sending: what must not be lost is on the disk, unless that is too slow."""
        if is_durable(notification) and not self._archive.secured(timeout):
            _log.warning("the disk is slow: %r is sent before it is stored", notification.title)

    def is_outdated(self, channel: str, notification: Notification) -> bool:
        """Callback before sending: another process may have sent something first."""
        with self._lock:
            if not self._owner.is_outdated(notification, keeper=channel if channel in self._keeping else None):
                return False
            signals.suppressed("cancelled")
            for done in self._ledger.replace(channel, [notification]):
                self._archive.done(done)
            return True

    def grouped(self, channel: str, notifications: list[Notification], into: Notification) -> None:
        """Callback: several are sent as one."""
        with self._lock:
            signals.suppressed("grouped", len(notifications))
            if into.status is Status.RESOLVED and into in self._ledger:
                for done in self._ledger.replace(channel, notifications):
                    self._archive.done(done)
            else:
                self._ledger.group(channel, notifications, into)


def disabled_alert(channel: str, verdict: Classification) -> Alert:
    """The alert about a channel whose receiver revoked our access."""
    return Alert(
        kind=DISABLED_KIND,
        title=f"Alert channel {channel} is disabled",
        severity=Severity.CRITICAL,
        summary=f"Its receiver answered {verdict.error_type}; until it takes one again, only CRITICAL alerts and a"
        " probe now and then are sent there.",
        dependency=DEPENDENCY_PREFIX + channel,
        error_type=verdict.error_type,
        error_class=verdict.error_class.value,
    )
