"""The alert service: what is reported becomes incidents, incidents become notifications, channels deliver them.

Nothing here raises into the application, and no caller waits for a network: :meth:`AlertService.report` updates the
incident and, for what must not be lost, writes one file. Everything else happens in threads of its own.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import NoneType, TracebackType
from typing import Final, Self

from otel_resilience import _validation as check
from otel_resilience._foreign import repr_of
from otel_resilience.alerting import signals
from otel_resilience.alerting.alert import Alert, Notification, Status, fingerprint
from otel_resilience.alerting.config import AlertConfig
from otel_resilience.alerting.delivery import DEPENDENCY_PREFIX, DeliveryConfig
from otel_resilience.alerting.dispatch import DISABLED_KIND, Dispatcher, disabled_alert
from otel_resilience.alerting.incident import Incident, Phase
from otel_resilience.alerting.incidents import IncidentBook
from otel_resilience.alerting.ledger import Route
from otel_resilience.alerting.outbox import Outbox
from otel_resilience.alerting.receipt import Receipt, in_context
from otel_resilience.alerting.recovery import DURABLE, Archive, is_durable, is_of_an_incident, to_save
from otel_resilience.alerting.store import IncidentStore, MemoryStore, Record
from otel_resilience.classification import Classification, Severity
from otel_resilience.redaction import redact

CLOSE_WITHIN: Final = 3.0
"""Seconds that :meth:`AlertService.close` takes at most, unless told otherwise."""

SAVE_SHARE: Final = 0.2
"""Share of that time that is left for writing down how the incidents stand."""

_log = logging.getLogger("otel_resilience.alerting")


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
        """Raises ``TypeError`` naming the parameter, ``ValueError`` where two channels have the same name."""
        check.instance("config", config, AlertConfig)
        check.series("routes", routes, Route)
        check.instance("delivery", delivery, DeliveryConfig, NoneType)
        check.instance("outbox", outbox, Outbox, NoneType)
        for name, function in (("clock", clock), ("wall_clock", wall_clock), ("rng", rng)):
            check.def_function(name, function)
        for name, optional in (("sleep", sleep), ("on_receipt", on_receipt)):
            if optional is not None:
                check.def_function(name, optional)
        self.config = config
        self.book = IncidentBook(config)
        self._clock = clock
        self._epoch = wall_clock() - clock()
        self._on_receipt = on_receipt
        self._sleep = sleep or time.sleep
        self._archive = Archive(store or MemoryStore(), outbox)
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._dispatcher = Dispatcher(
            routes,
            self,
            self._archive,
            delivery or DeliveryConfig(),
            lock=self._lock,
            clock=clock,
            sleep=sleep,
            rng=rng,
            on_settled=self._changed.notify_all,
        )
        self._threads: list[threading.Thread] = []
        self._planned = math.inf
        self._due: deque[tuple[Incident, Notification, Record]] = deque()
        """What is to be told, unless another process does; with the incident as it is told."""
        self._closed = self._ended = self._forked = False
        self._unsaved = False
        """Whether the store is to learn of a confirmation."""
        self._process = os.getpid()
        signals.watch(self)

    def now(self) -> float:
        """Seconds since the epoch, on a clock that does not jump."""
        return self._epoch + self._clock()

    def load(self) -> None:
        """Take in the incidents and the undelivered notifications of earlier processes."""
        found = list(self._archive.incidents())
        with self._changed:
            for incident in found:
                self.book.adopt(incident, self.now())
            left = self._archive.left_over()
        for notification in left:
            self._resume(notification)

    def start(self) -> Self:
        """:meth:`load`, then run the threads. Returns the service."""
        self.load()
        self._spawn("alerts", self._run)
        for name, courier in self._dispatcher.couriers.items():
            self._spawn(f"alerts-{name}", courier.run)
        return self

    def report(self, alert: Alert, *, lowest: Severity | None = None) -> None:
        """Something happened. ``lowest`` replaces the least severity that is told."""
        try:
            if self._is_here():
                self._report(in_context(alert), lowest)
        except Exception as error:  # noqa: BLE001  # an alert must not fail what it tells of
            _log.error("an alert was lost: %s", redact(repr_of(error)))

    def resolve(self, kind: str, dependency: str | None = None, *parts: str, certain: bool = False) -> None:
        """The trouble is gone; arguments as those of the alert's fingerprint. See :meth:`IncidentBook.resolve`."""
        self.resolve_fingerprint(fingerprint(kind, dependency, *parts), certain=certain)

    def resolve_fingerprint(self, wanted: str, *, certain: bool = False) -> None:
        """As :meth:`resolve`, by the fingerprint itself."""
        if not self._is_here():
            return
        with self._changed:
            dropped = self.book.resolve(wanted, self.now(), certain=certain)
            if dropped is not None and dropped.phase is not Phase.OPEN:
                self._archive.drop(dropped)
                for incident in self.book:
                    self._secure(incident)
            signals.all_suppressed(self.book.suppressed)
            if dropped is not None:
                self._changed.notify_all()

    def resolve_dependency(
        self, dependency: str, *, kinds: frozenset[str] | None = None, certain: bool = False
    ) -> None:
        """All incidents of a dependency, of these kinds, are over: see :meth:`resolve`."""
        if not self._is_here():
            return
        with self._changed:
            over = [
                each for each in self.book if each.dependency == dependency and (kinds is None or each.kind in kinds)
            ]
            # Consequences before their causes, which would set them free.
            for incident in sorted(over, key=lambda each: each.phase is not Phase.INHIBITED):
                self.resolve_fingerprint(incident.fingerprint, certain=certain)

    def incidents(self) -> list[Incident]:
        """Those that are told or will be, and those that a cause inhibits."""
        with self._changed:
            return [each for each in self.book if each.phase in {Phase.PENDING, Phase.INHIBITED, Phase.OPEN}]

    def queue_sizes(self) -> Mapping[str, int]:
        """Waiting notifications by channel."""
        return self._dispatcher.queue_sizes()

    def dead_letter_count(self) -> int:
        """Notifications that no channel took."""
        return self._archive.dead_letters

    def revoked(self) -> list[str]:
        """Channels whose receiver does not want us any more."""
        return self._dispatcher.revoked()

    def send(self, notification: Notification) -> None:
        """Deliver one notification that belongs to no incident, such as a test."""
        self._dispatcher.send(notification)

    def pump(self) -> float:
        """Do what is due now, in this thread: for tests and for services without threads. Returns when to come again,
        on the clock of :meth:`now`; infinity where nothing is planned."""
        self._dispatch()
        again = self._dispatcher.step() + self._epoch
        with self._changed:
            return min(self.book.next_due(), again)

    def close(self, timeout: float = CLOSE_WITHIN) -> bool:
        """Tell what is due and end, within ``timeout`` seconds. Whether everything was delivered.

        What waits for its group is told now. What could not be delivered stays in the outbox for the next process.
        """
        if not self._is_here():
            return False
        give_up_at = self._clock() + timeout
        settle_by = give_up_at - SAVE_SHARE * timeout
        with self._changed:
            if self._closed:
                return True
            self._closed = True
            self.book.flush(self.now())
            self._changed.notify_all()
        self._dispatcher.close(settle_by)
        if self._threads:
            with self._changed:
                while not self._settled() and (left := settle_by - self._clock()) > 0:
                    self._changed.wait(left)
        else:
            while (again := self.pump() - self._epoch) < settle_by and not self._settled():
                before = self._clock()
                self._sleep(max(0.0, again - before))
                if self._clock() == before:
                    break  # a clock that stands still
        return self._end(give_up_at)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def noted(self, receipt: Receipt) -> None:
        """The dispatcher's word: something was delivered or given up."""
        if receipt.delivered:
            told = receipt.notification
            with self._changed:
                incident = self.book.get(told.fingerprint)
                if incident is not None and incident.id == told.incident:
                    held = self._dispatcher.holds(receipt)
                    incident.confirm(receipt.channel, self.now(), receipt.seconds, held=held)
                    self._unsaved = True
                    self._changed.notify_all()
            self.resolve(DISABLED_KIND, DEPENDENCY_PREFIX + receipt.channel, certain=True)
        if self._on_receipt is not None:
            try:
                self._on_receipt(receipt)
            except Exception as error:  # noqa: BLE001  # a caller's own code must not stop deliveries
                _log.warning("a receiver of receipts failed: %s", redact(repr_of(error)))

    def disabled(self, channel: str, verdict: Classification) -> None:
        """The dispatcher's word: a receiver does not want us any more. Told through the other channels."""
        self.report(disabled_alert(channel, verdict))

    def _is_here(self) -> bool:
        """Whether the threads are in this process: in a fork of it nothing is told, and the lock may be held."""
        here = os.getpid() == self._process
        if not here and not self._forked:
            self._forked = True
            _log.error("alerts are lost: their service was made before this process was forked")
        return here

    def _report(self, alert: Alert, lowest: Severity | None) -> None:
        with self._changed:
            if self._ended:
                _log.error("the alert %r came after the end of its service and is lost", alert.title)
                return
            outcome = self.book.report(alert, self.now(), lowest=lowest)
            if outcome.suppressed is not None:
                signals.suppressed(outcome.suppressed)
            incident = outcome.incident
            if incident is None:
                return
            self._secure(incident)
            if self._closed and incident.phase is Phase.PENDING:
                incident.due = max(self.now(), incident.not_before)
            if self.book.told_next(incident) < self._planned:
                self._changed.notify_all()

    def _secure(self, incident: Incident) -> None:
        """What is to be told survives the process from now on."""
        rising = incident.phase is Phase.OPEN and incident.severity > incident.told_severity
        if incident.severity < DURABLE or not (rising or incident.phase is Phase.PENDING):
            return
        if not self._archive.keeps(incident):
            preview = incident.notification(self.config, self.now(), "raised" if rising else "new", Status.FIRING)
            self._archive.keep(dataclasses.replace(preview, id=incident.next_id))

    def _run(self) -> None:
        while True:
            at_least = 0.0
            try:
                self._dispatch()
            except Exception as error:  # noqa: BLE001  # the thread goes on
                _log.error("alerts could not be told: %s", redact(repr_of(error)))
                at_least = 1.0
            with self._changed:
                unsaved, self._unsaved = self._unsaved and not self._closed, False
            if unsaved:
                self._save()
            with self._changed:
                if self._ended:
                    break
                if self._unsaved:
                    continue
                self._planned = self.book.next_due()
                wait = max(self._planned - self.now(), at_least)
                if wait > 0:
                    self._changed.wait(None if math.isinf(wait) else min(wait, threading.TIMEOUT_MAX))
                self._planned = math.inf
        self._save()

    def _save(self) -> None:
        with self._changed:
            records = to_save(self.book)
        self._archive.save(records)

    def _dispatch(self) -> None:
        with self._changed:
            for incident, notification in self.book.due(self.now()):
                if is_durable(notification):
                    self._archive.keep(notification)
                self._due.append((incident, notification, incident.dump()))
            while self.book.withdrawn:
                self._archive.drop(self.book.withdrawn.popleft())
            signals.all_suppressed(self.book.suppressed)
        while self._due:
            try:
                self._tell(*self._due[0])
            finally:
                self._due.popleft()
        self._archive.forget_unwatched()
        with self._changed:
            if self._closed:
                self._changed.notify_all()

    def _tell(self, incident: Incident, notification: Notification, record: Record) -> None:
        """Unless another process does."""
        other = self._archive.contest(record, notification)
        with self._changed:
            if self._ended:
                return
            if other is None:
                self._dispatcher.send(notification)
                return
            signals.suppressed("dedup", max(1, notification.count))
            self._archive.drop(incident)
            if notification.status is Status.FIRING:
                self.book.give_way(incident, other, notification.count, self.now())

    def _resume(self, notification: Notification) -> None:
        """Go on with what an earlier process could not deliver."""
        with self._changed:
            known = self.book.get(notification.fingerprint)
            firing = notification.status is Status.FIRING
            if known is not None and known.id == notification.incident:
                ends = known.phase is Phase.OPEN and not firing
                known.catch_up(notification)
                record = known.dump()
            elif firing and is_of_an_incident(notification):
                if known is not None and known.phase not in {Phase.WATCHING, Phase.OVER}:
                    signals.suppressed("dedup", max(1, notification.count))
                    self._archive.done(notification)
                    return
                known = self._archive.revive(notification, known)
                self.book.adopt(known, self.now())
                self._archive.keep(notification)
                self._due.append((known, notification, known.dump()))
                return
            else:
                ends = False
            self._dispatcher.send(notification)
        if ends:
            self._archive.contest(record, notification)  # released now; who tells of it is decided already

    def _settled(self) -> bool:
        return not self._due and self.book.next_due() > self.now() and self._dispatcher.all_settled

    def _spawn(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _end(self, give_up_at: float) -> bool:
        """What may hang, such as a store, is left behind in a thread of its own when the time is up."""
        self._dispatcher.finish()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
            left = self._dispatcher.give_back()
            self._archive.close(left)
        if not self._threads:
            self._spawn("alerts-end", self._save)
        for thread in self._threads:
            thread.join(max(0.0, give_up_at - self._clock()))
        return not left
