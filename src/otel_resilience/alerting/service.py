"""The alert service: what is reported becomes incidents, incidents become notifications, channels deliver them.

Nothing here raises into the application, and no caller waits for a network: :meth:`AlertService.report` updates the
incident and, for what must not be lost, writes one file. Everything else happens in threads of its own.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

from opentelemetry import trace

from otel_resilience.alerting import signals
from otel_resilience.alerting.alert import Alert, Notification, Status, fingerprint
from otel_resilience.alerting.config import AlertConfig
from otel_resilience.alerting.delivery import DEPENDENCY_PREFIX, Courier, DeliveryConfig
from otel_resilience.alerting.incident import Incident, Phase
from otel_resilience.alerting.incidents import IncidentBook
from otel_resilience.alerting.ledger import Fate, Ledger, Route
from otel_resilience.alerting.outbox import Outbox
from otel_resilience.alerting.recovery import Archive
from otel_resilience.alerting.store import IncidentStore, MemoryStore
from otel_resilience.classification import Classification, Severity
from otel_resilience.correlation import correlation_id
from otel_resilience.redaction import redact

DURABLE: Final = Severity.HIGH
"""From this severity on, notifications survive the process in the outbox."""

CLOSE_WITHIN: Final = 3.0
"""Seconds that :meth:`AlertService.close` takes at most, unless told otherwise."""

DISABLED_KIND: Final = "alert_channel_disabled"

_log = logging.getLogger("otel_resilience.alerting")


@dataclasses.dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one notification at one channel."""

    channel: str
    notification: Notification
    delivered: bool
    seconds: float
    """From the cause to the confirmation, or until it was given up."""
    error_type: str | None = None


class AlertService:
    """Tells people of trouble, once. Safe for threads; make it after a fork, not before.

    ``outbox`` and ``store`` let incidents and undelivered notifications outlive the process; without them they end with
    it. ``on_receipt`` is called, in a thread of the service, with every confirmation and failure.
    """

    def __init__(
        self,
        config: AlertConfig,
        routes: Sequence[Route],
        *,
        outbox: Outbox | None = None,
        store: IncidentStore | None = None,
        delivery: DeliveryConfig | None = None,
        on_receipt: Callable[[Receipt], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] | None = None,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.config = config
        self.book = IncidentBook(config)
        self._clock = clock
        self._epoch = wall_clock() - clock()
        self._on_receipt = on_receipt
        self._archive = Archive(store or MemoryStore(), outbox)
        self._ledger = Ledger(routes)
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._couriers = {
            route.name: Courier(
                route.channel, self, delivery or DeliveryConfig(), lock=self._lock, clock=clock, sleep=sleep, rng=rng
            )
            for route in routes
        }
        self._threads: list[threading.Thread] = []
        self._planned = math.inf
        self._closing = self._closed = self._ended = False
        signals.watch(self)

    def now(self) -> float:
        """Seconds since the epoch, on a clock that does not jump."""
        return self._epoch + self._clock()

    def load(self) -> None:
        """Take in the incidents and the undelivered notifications of earlier processes."""
        with self._changed:
            for incident in self._archive.incidents():
                self.book.adopt(incident, self.now())
            left = self._archive.left_over()
        for notification in left:
            self._resume(notification)

    def start(self) -> Self:
        """:meth:`load`, then run the threads. Returns the service."""
        self.load()
        self._spawn("alerts", self._run)
        for name, courier in self._couriers.items():
            self._spawn(f"alerts-{name}", courier.run)
        return self

    def report(self, alert: Alert, *, lowest: Severity | None = None) -> None:
        """Something happened. ``lowest`` replaces the least severity that is told."""
        try:
            self._report(_in_context(alert), lowest)
        except Exception as error:  # noqa: BLE001  # an alert must not fail what it tells of
            _log.error("an alert was lost: %s", redact(repr(error)))

    def resolve(self, kind: str, dependency: str | None = None, *parts: str, certain: bool = False) -> None:
        """The trouble is gone; arguments as those of the alert's fingerprint. See :meth:`IncidentBook.resolve`."""
        self.resolve_fingerprint(fingerprint(kind, dependency, *parts), certain=certain)

    def resolve_fingerprint(self, wanted: str, *, certain: bool = False) -> None:
        """As :meth:`resolve`, by the fingerprint itself."""
        with self._changed:
            dropped = self.book.resolve(wanted, self.now(), certain=certain)
            self._count_suppressed()
            if dropped is not None and dropped.phase is not Phase.OPEN:
                self._archive.drop(dropped)
            self._changed.notify_all()

    def resolve_dependency(
        self, dependency: str, *, kinds: frozenset[str] | None = None, certain: bool = False
    ) -> None:
        """All incidents of a dependency, of these kinds, are over: see :meth:`resolve`."""
        with self._changed:
            for incident in self.book:
                if incident.dependency == dependency and (kinds is None or incident.kind in kinds):
                    self.resolve_fingerprint(incident.fingerprint, certain=certain)

    def incidents(self) -> list[Incident]:
        """Those that are told or will be, and those that a cause inhibits."""
        with self._changed:
            return [each for each in self.book if each.phase in {Phase.PENDING, Phase.INHIBITED, Phase.OPEN}]

    def queue_sizes(self) -> Mapping[str, int]:
        """Waiting notifications by channel."""
        return {name: courier.waiting for name, courier in self._couriers.items()}

    def dead_letter_count(self) -> int:
        """Notifications that no channel took."""
        return self._archive.dead_letters

    def revoked(self) -> list[str]:
        """Channels whose receiver does not want us any more."""
        return [name for name, courier in self._couriers.items() if courier.revoked is not None]

    def send(self, notification: Notification) -> None:
        """Deliver one notification that belongs to no incident, such as a test."""
        self._route(notification)

    def pump(self) -> float:
        """Do what is due now, in this thread: for tests and for services without threads. Returns when to come again,
        on the clock of :meth:`now`; infinity where nothing is planned."""
        due = self._dispatch()
        steps = [courier.step() + self._epoch for courier in self._couriers.values()]
        return min([due, *steps])

    def close(self, timeout: float = CLOSE_WITHIN) -> bool:
        """Tell what is due and end, within ``timeout`` seconds. Whether everything was delivered.

        What waits for its group is told now. What could not be delivered stays in the outbox for the next process.
        """
        give_up_at = self._clock() + timeout
        with self._changed:
            if self._closed:
                return True
            self._closed = self._closing = True
            self.book.flush(self.now())
            self._changed.notify_all()
        for courier in self._couriers.values():
            courier.close(give_up_at)
        if self._threads:
            self._threads[0].join(timeout)
            self._await_couriers(give_up_at)
        else:
            while math.isfinite(self.pump()) and not self._all_settled():
                continue
        return self._end(give_up_at)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def delivered(self, channel: str, notification: Notification) -> None:
        """A courier's word: the channel confirmed."""
        with self._changed:
            for member in self._ledger.members(notification):
                seconds = max(0.0, self.now() - member.caused_at)
                self._note(Receipt(channel, member, True, seconds))
                signals.delivered(channel, member, seconds)
                if self._ledger.delivered(channel, member):
                    self._archive.done(member)
            self.resolve(DISABLED_KIND, DEPENDENCY_PREFIX + channel, certain=True)

    def failed(self, channel: str, notification: Notification, verdict: Classification, *, final: bool) -> bool:
        """A courier's word: the channel gave it up. Whether it is to keep it."""
        keep = False
        with self._changed:
            for member in self._ledger.members(notification):
                fate, substitute = self._ledger.failed(channel, member, final=final)
                if fate is not Fate.KEEP or self._archive.first_failure(channel, member):
                    seconds = max(0.0, self.now() - member.caused_at)
                    self._note(Receipt(channel, member, False, seconds, verdict.error_type))
                    signals.failed(channel, member, verdict.error_type, seconds)
                keep |= fate is Fate.KEEP
                if substitute is not None:
                    self._couriers[substitute].put(member)
                elif fate is Fate.DEAD:
                    self._ledger.close(member)
                    self._archive.bury(member, verdict.error_type)
        return keep

    def disabled(self, channel: str, verdict: Classification) -> None:
        """A courier's word: our access was revoked. Told through the other channels."""
        self._ledger.revoked.add(channel)
        self.report(
            Alert(
                kind=DISABLED_KIND,
                title=f"Alert channel {channel} is disabled",
                severity=Severity.CRITICAL,
                summary=f"Its receiver answered {verdict.error_type}; nothing more is sent there until the next start.",
                dependency=DEPENDENCY_PREFIX + channel,
                error_type=verdict.error_type,
                error_class=verdict.error_class.value,
            )
        )
        if self._closing:
            self._dispatch()

    def grouped(self, channel: str, notifications: list[Notification], into: Notification) -> None:
        """A courier's word: several leave as one."""
        with self._changed:
            signals.suppressed("grouped", len(notifications))
            if into.status is Status.RESOLVED and into in self._ledger:
                for done in self._ledger.replace(channel, notifications):
                    self._archive.done(done)
            else:
                self._ledger.group(notifications, into)

    def _report(self, alert: Alert, lowest: Severity | None) -> None:
        with self._changed:
            if self._ended:
                return
            outcome = self.book.report(alert, self.now(), lowest=lowest)
            if outcome.suppressed is not None:
                signals.suppressed(outcome.suppressed)
            incident = outcome.incident
            if incident is None:
                return
            pending = incident.phase is Phase.PENDING
            if pending and incident.severity >= DURABLE and not self._archive.keeps(incident):
                self._archive.keep(self._preview(incident))
            if self.book.wakes_at(incident) < self._planned:
                self._changed.notify_all()

    def _preview(self, incident: Incident) -> Notification:
        return dataclasses.replace(
            incident.notification(self.config, self.now(), "new", Status.FIRING), id=f"{incident.id}-1"
        )

    def _run(self) -> None:
        while True:
            with self._changed:
                closing = self._closing
            self._dispatch()
            with self._changed:
                if closing:
                    return
                self._planned = self.book.next_due()
                wait = self._planned - self.now()
                if wait > 0 and not self._closing:
                    self._changed.wait(None if math.isinf(wait) else wait)
                self._planned = math.inf

    def _dispatch(self) -> float:
        with self._changed:
            due = self.book.due(self.now())
            self._count_suppressed()
        for incident, notification in due:
            self._tell(incident, notification)
        with self._changed:
            return self.book.next_due()

    def _tell(self, incident: Incident, notification: Notification) -> None:
        """Unless another process does."""
        other = self._archive.contest(incident, notification)
        with self._changed:
            if other is None:
                self._route(notification)
                return
            signals.suppressed("dedup", max(1, notification.count))
            self._archive.drop(incident)
            if notification.status is Status.FIRING:
                self.book.forget(incident.fingerprint)
                self.book.adopt(other, self.now())

    def _resume(self, notification: Notification) -> None:
        """Go on with what an earlier process could not deliver."""
        with self._changed:
            known = self.book.get(notification.fingerprint)
            firing = notification.status is Status.FIRING
            if known is None and firing:
                known = self._archive.revive(notification)
                self.book.adopt(known, self.now())
                claimed = False
            else:
                claimed = True
        if known is not None and firing and known.id != notification.incident:
            signals.suppressed("dedup", max(1, notification.count))
            self._archive.done(notification)
        elif known is not None and not claimed:
            self._tell(known, notification)
        else:
            self._route(notification)

    def _route(self, notification: Notification) -> None:
        with self._changed:
            durable = notification.severity >= DURABLE and notification.reason != "test"
            self._archive.told(notification, durable=durable)
            names = self._ledger.open(notification)
            for name in names:
                self._couriers[name].put(notification)
            if not names:
                self._ledger.close(notification)
                self._archive.bury(notification, "no channel is set up for it")

    def _note(self, receipt: Receipt) -> None:
        incident = self.book.get(receipt.notification.fingerprint)
        if receipt.delivered and incident is not None and incident.id == receipt.notification.incident:
            incident.confirm(receipt.channel, self.now(), receipt.seconds)
        if self._on_receipt is not None:
            try:
                self._on_receipt(receipt)
            except Exception as error:  # noqa: BLE001  # a caller's own code must not stop deliveries
                _log.warning("a receiver of receipts failed: %s", redact(repr(error)))

    def _count_suppressed(self) -> None:
        while self.book.suppressed:
            signals.suppressed(*self.book.suppressed.popleft())

    def _spawn(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def settled(self, channel: str) -> None:
        """A courier's word, while closing: it has done what it could so far."""
        del channel
        with self._changed:
            self._changed.notify_all()

    def _all_settled(self) -> bool:
        return all(courier.is_settled for courier in self._couriers.values())

    def _await_couriers(self, give_up_at: float) -> None:
        with self._changed:
            while not self._all_settled() and (left := give_up_at - self._clock()) > 0:
                self._changed.wait(left)

    def _end(self, give_up_at: float) -> bool:
        for courier in self._couriers.values():
            courier.finish()
        for thread in self._threads[1:]:
            thread.join(max(0.0, give_up_at - self._clock()))
        with self._changed:
            self._ended = True
            left = self._ledger.undelivered()
            self._archive.close(self.book, left)
        for courier in self._couriers.values():
            courier.channel.close()
        return not left


def _in_context(alert: Alert) -> Alert:
    """With the correlation ID and the span of the caller, unless it names others."""
    if alert.correlation_id is not None:
        return alert
    enriched = copy.copy(alert)
    span = trace.get_current_span().get_span_context()
    object.__setattr__(enriched, "correlation_id", correlation_id())
    object.__setattr__(enriched, "span_id", f"{span.span_id:016x}" if span.is_valid else None)
    return enriched
