"""Sends notifications to the channels they are meant for, and to other channels if those fail."""

from __future__ import annotations

import dataclasses
import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from otel_resilience._internal.foreign import repr_of
from otel_resilience.alerting import telemetry as signals
from otel_resilience.alerting.channels.base import Channel
from otel_resilience.alerting.channels.errors import REVOKED_STATUSES
from otel_resilience.alerting.delivery.config import DeliveryConfig
from otel_resilience.alerting.delivery.ledger import Ledger, Route
from otel_resilience.alerting.delivery.receipt import Receipt
from otel_resilience.alerting.model.alert import Alert, Notification, Status
from otel_resilience.alerting.model.digest import digest
from otel_resilience.alerting.persistence.recovery import Archive, is_durable
from otel_resilience.classification.model import CANCELLED, Classification, Severity
from otel_resilience.errors import CircuitOpenError, ResilienceError
from otel_resilience.policy.policy import Policy
from otel_resilience.redaction import redact

DEPENDENCY_PREFIX: Final = "alert-"
"""The ``resilience.dependency`` of a channel is this prefix and its name."""

SECURED_WITHIN: Final = 5.0
"""Maximum seconds that a message waits to be stored on disk before it is sent anyway."""

REVOKED: Final = frozenset(map(str, REVOKED_STATUSES))
"""``error.type`` values with which a receiver revokes our access."""

DISABLED_KIND: Final = "alert_channel_disabled"
REFUSED: Final = "no channel is set up for it"

_log = logging.getLogger("otel_resilience.alerting")


class Owner(Protocol):
    """The alert service, as seen from here; the methods are documented there. Called without the lock."""

    def now(self) -> float: ...
    def on_receipt(self, receipt: Receipt, *, by_all: bool = False) -> None: ...
    def report(self, alert: Alert) -> None: ...
    def is_outdated(self, notification: Notification, *, keeper: str | None) -> bool: ...


class Dispatcher:
    """The channels with their queues and threads, and the ledger of deliveries. Shares the lock of its owner.

    The methods after :meth:`tried` are called by the channels' threads.
    """

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
        """``on_settled`` is called, with the lock held, while closing: a channel has done what it could so far."""
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
        """Whether nothing more can be sent before the deadline of :meth:`close`."""
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
        """Queues it at every channel it is meant for."""
        with self._lock:
            self._archive.accept(notification, durable=is_durable(notification))
            names = self._ledger.open(notification)
            for name in names:
                self.workers[name].put(notification)
            if not names:
                self._ledger.close(notification)
                self._archive.move_to_dead_letters(notification, REFUSED)

    def step(self) -> float:
        """Sends what may be sent now, in this thread. Returns when to call again, on the clock."""
        return min((worker.step() for worker in self.workers.values()), default=math.inf)

    def close(self, give_up_at: float) -> None:
        """From now on nothing waits longer than until ``give_up_at`` on the clock."""
        for worker in self.workers.values():
            worker.close(give_up_at)

    def finish(self) -> None:
        """Ends the threads as soon as they are not sending."""
        for worker in self.workers.values():
            worker.finish()

    def close_channels(self) -> list[Notification]:
        """Closes the channels, with the lock held. Returns the notifications that no channel delivered."""
        for worker in self.workers.values():
            try:
                worker.channel.close()
            except Exception as error:  # noqa: BLE001  # third-party code; the other channels must be closed too
                _log.warning("the channel %s could not be closed: %s", worker.channel.name, redact(repr_of(error)))
        return self._ledger.undelivered()

    def tried(self) -> list[Notification]:
        """Notifications that channels failed to deliver and none delivered; call it with the lock held."""
        return self._ledger.tried()

    def delivered(self, channel: str, notification: Notification) -> None:
        """The channel confirmed."""
        with self._lock:
            members = [
                (each, self._ledger.delivered(channel, each)) for each in self._ledger.members(channel, notification)
            ]
            for member, left in members:
                if not left:
                    self._archive.done(member)
                elif is_durable(member):
                    self._archive.left_for(member, left)
            self._ledger.ungroup(channel, notification)
        for member, left in members:
            seconds = max(0.0, self._owner.now() - member.caused_at)
            signals.delivered(channel, member, seconds)
            self._owner.on_receipt(Receipt(channel, member, True, seconds), by_all=not left)

    def failed(self, channel: str, notification: Notification, verdict: Classification, *, final: bool) -> bool:
        """The channel gave up for now, or for good if ``final``. Returns whether to try again later."""
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
        """The receiver revoked our access: until it accepts a message again, the channel is only probed."""
        alert = Alert(
            kind=DISABLED_KIND,
            title=f"Alert channel {channel} is disabled",
            severity=Severity.CRITICAL,
            summary=f"Its receiver answered {verdict.error_type}; until it takes one again, only CRITICAL alerts and a"
            " probe now and then are sent there.",
            dependency=DEPENDENCY_PREFIX + channel,
            error_type=verdict.error_type,
            error_class=verdict.error_class.value,
        )
        self._owner.report(alert)

    def secure(self, notification: Notification, timeout: float) -> None:
        """Before sending: what must not be lost is on disk, unless that takes more than ``timeout`` seconds."""
        if is_durable(notification) and not self._archive.secured(timeout):
            _log.warning("the disk is slow: %r is sent before it is stored", notification.title)

    def is_outdated(self, channel: str, notification: Notification) -> bool:
        """Before sending: whether another process has already handled it; then this channel is done with it."""
        with self._lock:
            if not self._owner.is_outdated(notification, keeper=channel if channel in self._keeping else None):
                return False
            signals.suppressed("cancelled")
            for done in self._ledger.replace(channel, [notification]):
                self._archive.done(done)
            return True

    def grouped(self, channel: str, notifications: list[Notification], into: Notification) -> None:
        """Several notifications are sent as one."""
        with self._lock:
            signals.suppressed("grouped", len(notifications))
            if into.status is Status.RESOLVED and into in self._ledger:
                for done in self._ledger.replace(channel, notifications):
                    self._archive.done(done)
            else:
                self._ledger.group(channel, notifications, into)


class InterruptedDeliveryError(ResilienceError):
    """The service is closing: there is no time to wait for the next attempt."""

    classification = CANCELLED


class ChannelWorker:
    """Delivers the notifications of one channel, in order.

    :meth:`step` sends what can be sent now; :meth:`run` is the thread that calls it. Tests call :meth:`step` directly.
    """

    def __init__(
        self,
        channel: Channel,
        dispatcher: Dispatcher,
        config: DeliveryConfig,
        *,
        lock: threading.RLock,
        clock: Callable[[], float],
        rng: Callable[[], float],
        sleep: Callable[[float], None] | None,
    ) -> None:
        self.channel = channel
        self.revoked: Classification | None = None
        """What the receiver answered when it revoked our access, until it accepts a message again."""
        self._dispatcher = dispatcher
        self._config = config
        self._clock = clock
        self._queue: deque[Notification] = deque()
        self._changed = threading.Condition(lock)
        self._closing = self._finished = self._busy = False
        self._give_up_at = math.inf
        self._not_before = -math.inf
        self._pause, self._probe_pause = config.first_pause, config.first_probe
        self._probe_at = -math.inf
        self._held_up = False
        self._sent_at: deque[float] = deque(maxlen=config.per_minute)
        self.policy = Policy(
            DEPENDENCY_PREFIX + channel.name,
            retry=config.retry,
            breaker=config.breaker,
            clock=clock,
            sleep=sleep or self._sleep,
            rng=rng,
        )

    @property
    def waiting(self) -> int:
        """Notifications in the queue."""
        return len(self._queue)

    def would_try(self, notification: Notification) -> bool:
        """Whether it would be sent rather than refused without trying: one bad answer is not final."""
        about_us = notification.dependency == DEPENDENCY_PREFIX + self.channel.name
        critical = notification.severity is Severity.CRITICAL and not about_us
        return self.revoked is None or critical or self._clock() >= self._probe_at

    def put(self, notification: Notification) -> None:
        """Queues it. A resolution replaces the queued messages about the same incident,

        except a CRITICAL one at a receiver that keeps incidents: it ignores the resolution of an unknown incident.
        """
        with self._changed:
            if notification.status is Status.RESOLVED:
                notification = self._replace_unsent(notification)
            self._queue.append(notification)
            if len(self._queue) > self._config.max_queue:
                oldest = [self._queue.popleft(), self._queue.popleft()]
                self._queue.appendleft(self._merged(oldest))
            self._changed.notify_all()

    def run(self) -> None:
        """The thread: until :meth:`finish`."""
        while self._work():
            try:
                self.step()
            except Exception as error:  # noqa: BLE001  # the thread continues; durable notifications are in the outbox
                _log.error("unexpected error during delivery to %s: %s", self.channel.name, redact(repr_of(error)))

    def _work(self) -> bool:
        """Waits until there is something to send. ``False``: the worker must end."""
        with self._changed:
            self._busy = False
            while not self._finished and (wait := self._ready_at() - self._clock()) > 0:
                if self._closing:
                    self._dispatcher.settled()
                self._held_up = bool(self._queue)
                self._changed.wait(None if math.isinf(wait) else wait)
            self._busy = not self._finished
            return self._busy

    def _ready_at(self) -> float:
        return max(self._not_before, self._earliest()) if self._queue else math.inf

    def close(self, give_up_at: float) -> None:
        """From now on nothing waits longer than until ``give_up_at`` on the clock."""
        with self._changed:
            self._closing, self._give_up_at = True, give_up_at
            self._changed.notify_all()

    def finish(self) -> None:
        """Ends the thread as soon as it is not sending."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    @property
    def is_settled(self) -> bool:
        """Whether nothing more can be sent before the deadline of :meth:`close`."""
        if self._busy:
            return False
        return self._ready_at() >= self._give_up_at

    def step(self) -> float:
        """Sends what may be sent now. Returns when to call again, on the clock; infinity: once something is queued."""
        while True:
            now = self._clock()
            notification, at = self._next(now)
            if notification is None:
                return at
            if not self._send(notification):
                return self._not_before

    def _next(self, now: float) -> tuple[Notification | None, float]:
        with self._changed:
            if not self._queue:
                self._held_up = False
                return None, math.inf
            at = self._ready_at()
            if at > now:
                self._held_up = True
                return None, at
            many = self.channel.coalesce_from
            if many is not None and len(self._queue) >= (2 if self._held_up and many > 1 else many):
                queued = list(self._queue)
                self._queue.clear()
                return self._merged(queued), now
            return self._queue.popleft(), now

    def _earliest(self) -> float:
        if not self._sent_at:
            return -math.inf
        soonest = self._sent_at[-1] + self.channel.min_interval
        full = len(self._sent_at) == self._config.per_minute
        return max(soonest, self._sent_at[0] + 60.0) if full else soonest

    def _merged(self, notifications: list[Notification]) -> Notification:
        merged = digest(notifications)
        self._dispatcher.grouped(self.channel.name, notifications, merged)
        return merged

    def _replace_unsent(self, resolved: Notification) -> Notification:
        unsent = [each for each in self._queue if each.incident == resolved.incident and not self._must_precede(each)]
        self._queue = deque(each for each in self._queue if each not in unsent)
        return self._in_place_of(unsent, resolved)

    def _must_precede(self, notification: Notification) -> bool:
        """Whether it must be delivered before the resolution of its incident at this channel."""
        critical = notification.status is Status.FIRING and notification.severity is Severity.CRITICAL
        return critical and self.channel.keeps_incidents

    def _in_place_of(self, unsent: list[Notification], resolved: Notification) -> Notification:
        """The resolution of an incident, with the occurrences that were not reported before."""
        if not unsent:
            return resolved
        self._dispatcher.grouped(self.channel.name, unsent, resolved)
        return dataclasses.replace(resolved, count=resolved.count + sum(each.count for each in unsent))

    def _send(self, notification: Notification) -> bool:
        """Sends it. Returns whether to continue with the next one."""
        if self.revoked is not None and not self.would_try(notification):
            self._dispatcher.failed(self.channel.name, notification, self.revoked, final=True)
            return True
        if self._dispatcher.is_outdated(self.channel.name, notification):
            return True
        limit = min(SECURED_WITHIN, self._give_up_at - self._clock()) if self._closing else SECURED_WITHIN
        self._dispatcher.secure(notification, max(0.0, limit))
        with signals.delivery(self.channel.name, notification) as ended:
            try:
                self.policy.execute(lambda: self._deliver(notification), name="deliver", idempotent=True)
            except InterruptedDeliveryError:
                self._put_back(notification)
                self._not_before = self._give_up_at
                return False
            except Exception as error:  # noqa: BLE001  # whatever a channel raises is classified and reported, not passed on
                verdict = self.policy.classify(error)
                ended(verdict.error_type)
                return self._failed(notification, error, verdict)
            ended(None)
            self._pause, self._not_before = self._config.first_pause, -math.inf
            self.revoked, self._probe_pause = None, self._config.first_probe
            # Within the span, so that the event and the metrics link to the trace.
            self._dispatcher.delivered(self.channel.name, notification)
        return True

    def _deliver(self, notification: Notification) -> None:
        if (wait := self._earliest() - self._clock()) > 0:  # a retry counts as a message, too
            self.policy.sleep(wait)
        timeout = self._config.attempt_timeout
        if self._closing:
            timeout = min(timeout, self._give_up_at - self._clock())
            if timeout <= 0:
                raise InterruptedDeliveryError("closing")
        try:
            self.channel.deliver(notification, timeout=timeout)
        finally:
            self._sent_at.append(self._clock())

    def _failed(self, notification: Notification, error: Exception, verdict: Classification) -> bool:
        name = self.channel.name
        if verdict.error_type in REVOKED:
            self.revoked = verdict
            self._probe_at = self._clock() + self._probe_pause
            self._probe_pause = min(2 * self._probe_pause, self._config.longest_probe)
            self._dispatcher.disabled(name, verdict)
            self._dispatcher.failed(name, notification, verdict, final=True)
            return True
        final = not verdict.retryable and not isinstance(error, CircuitOpenError)
        if self._dispatcher.failed(name, notification, verdict, final=final) and not final:
            self._put_back(notification)
        if final:
            return True
        hint = verdict.retry_after or 0.0
        pause = hint if isinstance(error, CircuitOpenError) and hint else max(self._pause, hint)
        self._not_before = self._clock() + pause
        self._pause = min(2 * self._pause, self._config.longest_pause)
        self._held_up = True
        return False

    def _put_back(self, notification: Notification) -> None:
        """Returns it to the queue, unless the queued resolution of its incident replaces it as in :meth:`put`."""
        with self._changed:
            for place, each in enumerate(self._queue):
                if self._must_precede(notification):
                    break
                if each.incident == notification.incident and each.status is Status.RESOLVED:
                    self._queue[place] = self._in_place_of([notification], each)
                    return
            self._queue.appendleft(notification)

    def _sleep(self, seconds: float) -> None:
        until = self._clock() + seconds
        with self._changed:
            while (left := until - self._clock()) > 0:
                if self._finished or until >= self._give_up_at:
                    raise InterruptedDeliveryError("closing")
                self._changed.wait(left)
