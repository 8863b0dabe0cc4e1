"""The alert service: reports become incidents, incidents become notifications, channels deliver them.

Nothing here raises into the application, and no caller waits for a network or a slow disk: :meth:`AlertService.report`
updates the incident and, if it must not be lost, has one file written. Everything else happens in the service's own
threads: they read what other processes of the service wrote, decide, and send a message only once it is on disk and the
store has accepted it as the next one of its incident.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
import os
import random
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import NoneType
from typing import Final, Self

from otel_resilience._internal import validation as check
from otel_resilience._internal.foreign import repr_of
from otel_resilience.alerting import telemetry as signals
from otel_resilience.alerting.delivery.config import DeliveryConfig
from otel_resilience.alerting.delivery.dispatch import DEPENDENCY_PREFIX, DISABLED_KIND, Dispatcher
from otel_resilience.alerting.delivery.ledger import Route
from otel_resilience.alerting.delivery.receipt import Receipt, in_context
from otel_resilience.alerting.model.alert import Alert, Notification, Status, fingerprint
from otel_resilience.alerting.model.book import CONFIRM_EVERY, IncidentBook, RecoverySign
from otel_resilience.alerting.model.config import AlertConfig
from otel_resilience.alerting.model.incident import Incident, Phase, message_number
from otel_resilience.alerting.model.observed import Observed
from otel_resilience.alerting.persistence.outbox import Outbox
from otel_resilience.alerting.persistence.recovery import DURABLE, Archive, is_durable
from otel_resilience.alerting.persistence.store import IncidentStore, Record
from otel_resilience.classification.control_flow import pass_interruption_on
from otel_resilience.classification.model import Severity
from otel_resilience.redaction import redact

CLOSE_WITHIN: Final = 3.0
"""Maximum seconds that :meth:`AlertService.close` takes, by default."""

SAVE_SHARE: Final = 0.2
"""Share of that time that is reserved for saving the incidents."""

CONFIRMED_SHARE: Final = 0.4
"""Share of that time that the end of an incident waits for a message that another process is delivering."""

SECURED_WITHIN: Final = 1.0
"""Maximum seconds that :meth:`AlertService.report` waits for the disk; not at all on an event loop."""

LAST_WRITES: Final = 0.1
"""Seconds for the last writes once the time of :meth:`AlertService.close` is up."""

CATCH_UP_EVERY: Final = 15.0
"""Interval in seconds of reading what other processes wrote, without any other reason."""

CATCH_UP_WHILE_OPEN: Final = 5.0
"""The same while an incident is open: a store that lost it must get it back before the incident ends."""

SHARE_EVERY: Final = 1.0
"""Interval in seconds of saving further occurrences for other processes; everything else is saved immediately."""

CATCH_UP_AT_THE_END: Final = 0.2
"""Seconds between the checks of a process that is shutting down whether another one has delivered its message."""

SHARED_AT_ONCE: Final = 20
"""Incidents that are saved in one go before the next check for due messages."""

SIGN_MEMORY: Final = 60.0
"""Seconds for which a sign of recovery is kept, to end what another process saw before it and wrote after it."""

MAX_SIGNS: Final = 1000

MAX_REASON: Final = 500
"""Maximum characters of a name or reason that a person gives."""

LONGEST_SILENCE: Final = 3653 * 86_400.0
"""Maximum seconds for which an incident can be silenced: ten years."""

GAP: Final = 120.0
"""A check that is this many seconds late counts as the first one after a gap: the process was paused, for example
because the machine was suspended."""

CLOCK_ERROR: Final = 30.0
"""Seconds by which the wall clock may deviate from ours before it counts as set rather than adjusted."""

_log = logging.getLogger("otel_resilience.alerting")


@dataclasses.dataclass(frozen=True, slots=True)
class _Draft:
    """The next state of an incident, to be saved, and the message that may be sent after that."""

    incident: Incident
    record: Record
    observed: Observed
    """What the record adds to the stored one."""
    notification: Notification | None = None


class AlertService:
    """Notifies people of an incident, once. Thread-safe; create it after a fork, not before.

    ``outbox`` and ``store`` let incidents and undelivered notifications outlive the process; without them they are lost
    with it. Processes with the same ``store`` share their incidents: each is opened, escalated and ended once, by
    one of them. ``on_receipt`` is called, in a thread of the service, with every confirmation and failure.

    As a context manager it runs from :meth:`start` to :meth:`close`. ``clock`` gives monotonic seconds, ``wall_clock``
    seconds since the epoch, ``rng`` numbers in ``[0, 1)``. Raises ``TypeError`` or ``ValueError`` naming the parameter.

    Examples:
        >>> from otel_resilience.alerting import Alert, AlertConfig, AlertService, Route
        >>> from otel_resilience.alerting.channels import LogChannel
        >>> receipts = []
        >>> service = AlertService(AlertConfig(service="checkout"), [Route(LogChannel())], on_receipt=receipts.append)
        >>> with service:
        ...     service.report(Alert(kind="trouble", title="Trouble", severity=Severity.HIGH))
        >>> [(receipt.channel, receipt.delivered) for receipt in receipts]
        [('log', True)]
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
        """Raises ``TypeError`` naming the parameter, ``ValueError`` if two channels have the same name."""
        check.instance("config", config, AlertConfig)
        check.series("routes", routes, Route)
        check.instance("delivery", delivery, DeliveryConfig, NoneType)
        check.instance("outbox", outbox, Outbox, NoneType)
        if store is not None and (isinstance(store, type) or not (hasattr(store, "load") and hasattr(store, "swap"))):
            raise TypeError(f"store must be an IncidentStore such as DiskStore(folder), not {check.shown(store)}")
        for name, function in (("clock", clock), ("wall_clock", wall_clock), ("rng", rng)):
            check.def_function(name, function)
        for name, optional in (("sleep", sleep), ("on_receipt", on_receipt)):
            if optional is not None:
                check.def_function(name, optional)
        self.config = config
        self.book = IncidentBook(config, sender=secrets.token_hex(4))
        self._clock = clock
        self._wall_clock = wall_clock
        self._epoch = wall_clock() - clock()
        self._on_receipt = on_receipt
        self._sleep = sleep or time.sleep
        self._archive = Archive(store, outbox, config.owner)
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
        self._due: deque[_Draft] = deque()
        """Messages that are sent unless another process was faster."""
        self._signs: dict[tuple[object, ...], RecoverySign] = {}
        self._ended_elsewhere: deque[str] = deque(maxlen=MAX_SIGNS)
        """Incidents that another process ended while this one had messages about them."""
        self._checks: list[Callable[[], None]] = []
        self._behind = True
        """Whether there is a reason to read what other processes wrote."""
        self._caught_up_at = self._shared_at = -math.inf
        self._closed = self._flushed = self._ended = self._forked = False
        self._send_ends_by = -math.inf
        self._idle = True
        """Nothing has looked for what is due yet: it was neither started nor pumped."""
        self._process = os.getpid()
        signals.watch(self)

    def now(self) -> float:
        """Seconds since the epoch, on a clock that jumps only if the wall clock was set."""
        return self._epoch + self._clock()

    def woke_up(self, late: float) -> None:
        """A check comes ``late``, in seconds: the first one after a gap judges nothing."""
        with self._changed:
            if late > GAP:
                self.book.woke_up(self.now())

    def _set_clock(self) -> None:
        """Follows a wall clock that was set; one that was ahead must not delay what is due."""
        epoch = self._wall_clock() - self._clock()
        with self._changed:
            if abs(epoch - self._epoch) > CLOCK_ERROR:
                late, self._epoch = epoch - self._epoch, epoch
                self.book.clock_was_set(self.now())
                self._caught_up_at = self._shared_at = -math.inf
                self.woke_up(late)

    def load(self) -> None:
        """Reads the incidents of other processes, and the undelivered notifications of those that have ended."""
        self._catch_up()

    def start(self) -> Self:
        """:meth:`load`, then run the threads. Returns the service."""
        self.load()
        self._archive.start()
        self._spawn("alerts", self._run)
        for name, worker in self._dispatcher.workers.items():
            self._spawn(f"alerts-{name}", worker.run)
        return self

    def report(self, alert: Alert, *, lowest: Severity | None = None) -> None:
        """Something happened. ``lowest`` replaces :attr:`AlertConfig.min_severity`."""
        try:
            if self._is_here() and self._report(in_context(alert), lowest) and not _on_event_loop():
                self._archive.secured(SECURED_WITHIN)
        except Exception as error:  # noqa: BLE001  # an alert must not fail what it reports on
            pass_interruption_on(error)
            _log.error("an alert was lost: %s", redact(repr_of(error)))

    def resolve(self, kind: str, dependency: str | None = None, *parts: str, certain: bool = False) -> None:
        """The cause is gone, whichever process saw it start; takes the same arguments as the alert's fingerprint.

        See :meth:`IncidentBook.resolve`.
        """
        self.resolve_fingerprint(fingerprint(kind, dependency, *parts), certain=certain)

    def resolve_fingerprint(self, wanted: str, *, certain: bool = False) -> None:
        """Like :meth:`resolve`, by the alert's fingerprint."""
        self.note(RecoverySign(at=self.now(), certain=certain, fingerprint=self.config.identify(wanted)))

    def resolve_dependency(
        self, dependency: str, *, kinds: frozenset[str] | None = None, certain: bool = False
    ) -> None:
        """All incidents of a dependency, of these kinds, are over: see :meth:`resolve`."""
        named = check.text("dependency", dependency)
        self.note(RecoverySign(at=self.now(), certain=certain, dependency=named, kinds=kinds))

    def resolve_kinds(self, kinds: frozenset[str], *, certain: bool = False) -> None:
        """All incidents of these kinds are over, whatever their dependency: see :meth:`resolve`."""
        self.note(RecoverySign(at=self.now(), certain=certain, kinds=kinds))

    def note(self, sign: RecoverySign) -> None:
        """All matching incidents had recovered at this time, including those that other processes saw before it."""
        if not self._is_here():
            return
        with self._changed:
            self._signs.pop(sign.subject, None)
            self._signs[sign.subject] = sign
            if len(self._signs) > MAX_SIGNS:
                del self._signs[next(iter(self._signs))]
            self._behind = True
            self.book.apply(sign)
            self._tidy()
            self._changed.notify_all()

    def mark_ongoing(self, kind: str, dependency: str | None = None, *parts: str) -> None:
        """An open incident is still ongoing, though it did not occur again: overrides a sign of recovery that another
        process saw. Takes the same arguments as the alert's fingerprint."""
        if self._is_here():
            with self._changed:
                self.book.mark_ongoing(self.config.identify(fingerprint(kind, dependency, *parts)), self.now())

    def check_with(self, check: Callable[[], None]) -> Callable[[], None]:
        """Calls ``check``, which may :meth:`resolve` incidents or mark them as ongoing, before each decision about
        incidents. Returns a function that stops that."""
        with self._changed:
            self._checks.append(check)

        def forget() -> None:
            with self._changed:
                self._checks = [each for each in self._checks if each is not check]

        return forget

    def acknowledge(self, identifier: str, *, by: str | None = None, reason: str | None = None) -> Incident | None:
        """A person acknowledges an incident: it is neither escalated nor repeated until it gets worse.

        ``identifier``: its ID, or its fingerprint. ``by`` and ``reason`` are kept with it, each cut to
        :data:`MAX_REASON` characters. Returns the incident, ``None`` if there is no such open incident. The same holds
        for :meth:`silence`, :meth:`close_incident` and :meth:`resend`.
        """
        return self._on_request("ack", identifier, by, reason, lambda incident: incident.acknowledge(self.now()))

    def silence(
        self, identifier: str, seconds: float, *, by: str | None = None, reason: str | None = None
    ) -> Incident | None:
        """For ``seconds``, greater than 0 and at most :data:`LONGEST_SILENCE`, only the end of an incident is sent.
        Raises ``TypeError`` or ``ValueError`` for other values."""
        check.number("seconds", seconds, minimum=0, exclusive=True, maximum=LONGEST_SILENCE)
        return self._on_request(
            "silence", identifier, by, reason, lambda incident: incident.silence(self.now() + seconds)
        )

    def close_incident(self, identifier: str, *, by: str | None = None, reason: str | None = None) -> Incident | None:
        """Closes an incident and sends the resolution; if it occurs again, that is a new incident."""
        return self._on_request("close", identifier, by, reason, lambda incident: incident.close(self.now()))

    def resend(self, identifier: str, *, by: str | None = None, reason: str | None = None) -> Incident | None:
        """Sends the current state of an incident to all its channels now."""

        def once_more(incident: Incident) -> None:
            incident.resend = True

        return self._on_request("resend", identifier, by, reason, once_more)

    def resend_dead_letter(
        self, identifier: str, *, by: str | None = None, reason: str | None = None
    ) -> Notification | None:
        """Sends a dead letter again, by the ID of the message; ``None`` if there is none with it, or no outbox. ``by``
        and ``reason`` as in :meth:`acknowledge`."""
        notification = self._archive.revive_dead_letter(identifier)
        if notification is not None:
            signals.handled("resend", notification, _as_kept(by), _as_kept(reason))
            self.send(notification)
        return notification

    def _on_request(
        self, action: str, identifier: str, by: str | None, reason: str | None, act: Callable[[Incident], None]
    ) -> Incident | None:
        if not self._is_here():
            return None
        by, reason = _as_kept(by), _as_kept(reason)
        with self._changed:
            for incident in self.book:
                if incident.phase is Phase.OPEN and identifier in (incident.id, incident.fingerprint):
                    incident.note_action(action, by, reason, self.now())
                    act(incident)
                    self._behind = True
                    self._changed.notify_all()
                    break
            else:
                return None
        signals.handled(action, incident, by, reason)
        return incident

    def incidents(self) -> list[Incident]:
        """Incidents that people are, or will be, notified of, and those that are inhibited by a cause."""
        with self._changed:
            return [each for each in self.book if each.phase in {Phase.PENDING, Phase.INHIBITED, Phase.OPEN}]

    def queue_sizes(self) -> Mapping[str, int]:
        """Waiting notifications by channel."""
        return self._dispatcher.queue_sizes()

    def dead_letter_count(self) -> int:
        """How many dead letters there are."""
        return self._archive.dead_letters

    def revoked(self) -> list[str]:
        """Channels whose receiver revoked our access."""
        return self._dispatcher.revoked()

    def send(self, notification: Notification) -> None:
        """Delivers one notification that belongs to no incident, such as a test."""
        self._dispatcher.send(notification)

    def pump(self) -> float:
        """Does what is due now, in this thread: for tests and for services without threads. Returns when to call again,
        on the clock of :meth:`now`; infinity if nothing is planned."""
        self._dispatch()
        again = self._dispatcher.step() + self._epoch
        self._share()
        with self._changed:
            return min(self.book.next_due(), again)

    def close(self, timeout: float = CLOSE_WITHIN) -> bool:
        """Sends what is due and ends, within ``timeout`` seconds. Returns whether everything was delivered.

        Notifications that wait for their group are sent now, and quiet incidents end now, since there may be no other
        process to do that. What could not be delivered stays in the outbox for the next process.
        """
        if not self._is_here():
            return False
        give_up_at = self._clock() + timeout
        settle_by = give_up_at - SAVE_SHARE * timeout
        with self._changed:
            if self._closed:
                return True
            self._closed = self._behind = True
            self._send_ends_by = self.now() + CONFIRMED_SHARE * timeout
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
                    break  # the clock does not advance, as a fake one in a test
        return self._end(give_up_at)

    def __enter__(self) -> Self:
        """Like :meth:`start`."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def on_receipt(self, receipt: Receipt, *, by_all: bool = False) -> None:
        """Called by the dispatcher: something was delivered or given up. ``by_all``: all its channels have it."""
        if receipt.delivered:
            delivered = receipt.notification
            with self._changed:
                incident = self.book.get(delivered.fingerprint)
                if incident is not None and incident.id == delivered.incident:
                    if delivered.status is Status.FIRING and incident.id in self._ended_elsewhere:
                        self._end_again(incident, {receipt.channel})
                    held = self._dispatcher.holds(receipt)
                    number = message_number(delivered)
                    incident.confirm(
                        receipt.channel, self.now(), receipt.seconds, message=number, held=held, by_all=by_all
                    )
                disabled = self.config.identify(fingerprint(DISABLED_KIND, DEPENDENCY_PREFIX + receipt.channel))
                self.book.resolve(disabled, self.now(), certain=True)
                self._tidy()
                self._changed.notify_all()
        if self._on_receipt is not None:
            try:
                self._on_receipt(receipt)
            except Exception as error:  # noqa: BLE001  # a user's callback must not stop deliveries
                _log.warning("the callback on_receipt failed: %s", redact(repr_of(error)))

    def is_outdated(self, notification: Notification, *, keeper: str | None) -> bool:
        """Called by the dispatcher. A message must not follow the end that another process sent. A late end must not
        close the next incident at a receiver that keeps one at a time: ``keeper`` is its channel.

        Such a receiver ignored the end of a CRITICAL incident that it did not know, so it gets both.
        """
        known = self.book.get(notification.fingerprint) if keeper is not None else None
        superseded = known is not None and known.phase is Phase.OPEN and known.id != notification.incident
        if notification.status is not Status.FIRING or superseded:
            return superseded
        unseen = known is not None and known.id == notification.incident and keeper not in known.holders
        critical = notification.severity is Severity.CRITICAL
        return notification.incident in self._ended_elsewhere and not (critical and unseen)

    def _end_again(self, incident: Incident, channels: set[str]) -> None:
        """Our message crossed with the end that another process sent: send that end once more."""
        reason, sender = "resolved", self.book.sender
        end = incident.notification(self.config, self.now(), reason, Status.RESOLVED, sender=sender)
        self._dispatcher.send(
            dataclasses.replace(end, id=f"{end.id}-{sender}", count=0, channels=tuple(sorted(channels)))
        )

    def _is_here(self) -> bool:
        """Whether the threads are in this process: a forked child sends nothing, and its lock may be held."""
        here = os.getpid() == self._process
        if not here and not self._forked:
            self._forked = True
            _log.error("alerts are lost: their service was created before this process was forked")
        return here

    def _report(self, alert: Alert, lowest: Severity | None) -> bool:
        """Whether a message was kept for it, in case this process ends."""
        with self._changed:
            if self._ended:
                _log.error("the alert %r was reported after its service was closed and is lost", alert.title)
                return False
            outcome = self.book.report(alert, self.now(), lowest=lowest)
            if outcome.suppressed is not None:
                signals.suppressed(outcome.suppressed)
            incident = outcome.incident
            if incident is None:
                return False
            if self._idle and not self._threads:
                self._idle = False
                _log.warning("alerts are sent once their service is started: use it as a block, or call start()")
            kept = self._secure(incident)
            if self._closed and incident.phase is Phase.PENDING:
                incident.due = max(self.now(), incident.not_before)
            shared_at = self._shared_at + SHARE_EVERY if self.book.is_shared(incident) else math.inf
            if incident.unsaved or min(self.book.next_notification_at(incident), shared_at) < self._planned:
                self._changed.notify_all()
            return kept

    def _secure(self, incident: Incident) -> bool:
        """Has the next message about it saved, so that it survives the process. Returns whether it was unsaved."""
        rising = incident.phase is Phase.OPEN and incident.severity > incident.notified_severity
        if incident.severity < DURABLE or not (rising or incident.phase is Phase.PENDING):
            return False
        if self._archive.keeps(incident):
            return False
        reason, sender = "raised" if rising else "new", self.book.sender
        preview = incident.notification(self.config, self.now(), reason, Status.FIRING, sender=sender)
        self._archive.keep(dataclasses.replace(preview, id=incident.next_id))
        return True

    def _tidy(self) -> None:
        """With the lock held, after anything but a report: keeps what will be sent, and drops what will not."""
        while self.book.withdrawn:
            self._archive.drop(self.book.withdrawn.popleft())
        while self.book.ended_elsewhere:
            over, unknown = self.book.ended_elsewhere.popleft()
            self._ended_elsewhere.append(over.id)
            if unknown:
                self._end_again(over, unknown)
        for incident in self.book:
            if (incident.phase is Phase.OVER and not incident.messages) or (
                incident.phase in (Phase.OPEN, Phase.OVER) and self._archive.sent_by_another(incident, self.book.sender)
            ):
                self._archive.drop(incident)
            self._secure(incident)
        while self.book.suppressed:
            signals.suppressed(*self.book.suppressed.popleft())

    def _run(self) -> None:
        while True:
            at_least = 0.0
            try:
                self._dispatch()
            except Exception as error:  # noqa: BLE001  # the thread continues
                _log.error("alerts could not be sent: %s", redact(repr_of(error)))
                at_least = 1.0
            with self._changed:
                if self._ended:
                    break
                self._planned = self._next_look()
                wait = max(self._planned - self.now(), at_least)
                if wait > 0:
                    wait, before = min(wait, self._catch_up_every()), self._clock()
                    self._changed.wait(wait)
                    self.woke_up(self._clock() - before - wait)
                self._planned = math.inf
        self._share(everything=True)

    def _catch_up_every(self) -> float:
        if self.book.awaits_confirmation(self.now()):
            return CATCH_UP_AT_THE_END if self._closed else SHARE_EVERY
        is_open = any(each.phase is Phase.OPEN for each in self.book)
        return CATCH_UP_WHILE_OPEN if is_open else CATCH_UP_EVERY

    def _next_look(self) -> float:
        """When there is something to do next, on the clock of :meth:`now`; with the lock held."""
        if self._behind or self._due:
            return -math.inf
        planned = self.book.next_due()
        waiting = self.book.to_save()
        if waiting:
            planned = min(planned, -math.inf if _is_urgent(waiting) else self._shared_at + SHARE_EVERY)
        return planned

    def _dispatch(self) -> None:
        """Catches up with other processes, decides, sends, and saves for them."""
        self._idle = False
        self._set_clock()
        now = self.now()
        with self._changed:
            behind = self._behind or self.book.next_due() <= now or now >= self._caught_up_at + self._catch_up_every()
            checks = tuple(self._checks)
        if behind:
            for check in checks:
                check()
            self._catch_up()
            self._look_at_channels()
        with self._changed:
            self._judge()
            changed = bool(self._due)
        while self._due:
            try:
                self._send(self._due[0])
            finally:
                self._due.popleft()
        self._share()
        if changed:
            for check in checks:
                check()
        with self._changed:
            if self._closed:
                self._changed.notify_all()

    def _judge(self) -> None:
        now = self.now()
        if self._closed and not self._flushed:
            self._flushed = True
            self.book.flush(now, send_ends_by=self._send_ends_by)
        for incident, notification in self.book.due(now):
            if is_durable(notification):
                self._archive.keep(notification)
            self._due.append(_draft(incident, notification))
        self._tidy()

    def _catch_up(self) -> None:
        """Reads what other processes wrote or left behind, and applies signs of recovery to it."""
        with self._changed:
            self._behind = False
        # Before the incidents are read, so that what their processes wrote before they ended is seen.
        left_over = [] if self._ended else self._archive.left_over()
        found = self._archive.incidents()
        with self._changed:
            now = self._caught_up_at = self.now()
            if found is not None:
                for incident in found:
                    self.book.merge(incident, now)
                self.book.restore_lost({incident.fingerprint for incident in found})
                self.book.settle(now)
            for notification in left_over:
                self._resume(notification)
            for subject, sign in tuple(self._signs.items()):
                self.book.apply_again(sign)
                if now > sign.at + SIGN_MEMORY:
                    del self._signs[subject]
            self._tidy()

    def _look_at_channels(self) -> None:
        """Keeps the incidents of channels that are disabled here ongoing. That of a channel that was removed, or is
        disabled elsewhere, ends once no process reports it any more."""
        with self._changed:
            now = self.now()
            disabled = {DEPENDENCY_PREFIX + name for name in self._dispatcher.revoked()}
            for incident in self.book:
                if incident.kind != DISABLED_KIND or incident.phase is not Phase.OPEN:
                    continue
                if incident.dependency in disabled:
                    self.book.mark_ongoing(incident.fingerprint, now)
                elif incident.calm_since is None and now - incident.last_seen > 2 * CONFIRM_EVERY:
                    self.book.resolve(incident.fingerprint, now)

    def _send(self, draft: _Draft) -> None:
        """Sends a message, unless another process saved the incident first: then the decision is repeated."""
        stored = self._archive.write(draft.incident, draft.record, self.now())
        notification = draft.notification
        with self._changed:
            if stored is not None:
                self._rebase(draft, stored)
            elif notification is not None and not self._ended:
                self._dispatcher.send(notification)

    def _rebase(self, draft: _Draft, stored: Incident) -> None:
        incident, notification = draft.incident, draft.notification
        if notification is not None:
            signals.suppressed("dedup", max(1, notification.count))
            self._archive.drop(incident)
            incident.phase = Phase.PENDING if notification.reason in {"new", "back"} else Phase.OPEN
            incident.messages -= 1
        self._shared_at = -math.inf  # what could not be written is retried immediately
        draft.observed.add(incident.fresh)
        incident.fresh = draft.observed
        self.book.merge(stored, self.now())
        self._tidy()

    def _share(self, *, everything: bool = False) -> None:
        """Saves what other processes need to know; ``everything`` if this process is ending."""
        with self._changed:
            now = self.now()
            waiting = self.book.to_save()
            if not everything:
                if not _is_urgent(waiting) and now < self._shared_at + SHARE_EVERY:
                    return
                waiting.sort(key=lambda each: not each.unsaved)
                del waiting[SHARED_AT_ONCE:]
            drafts = [_draft(incident) for incident in waiting]
            self._shared_at = now
        for draft in drafts:
            self._send(draft)

    def _resume(self, notification: Notification) -> None:
        """Continues with what an earlier process could not deliver."""
        number = message_number(notification)
        with self._changed:
            known = self.book.get(notification.fingerprint)
            if number and known is not None and known.id == notification.incident:
                self._resume_known(known, notification, number)
            elif number and notification.status is Status.FIRING:
                self._revive(known, notification)
            else:
                self._dispatcher.send(notification)

    def _resume_known(self, known: Incident, notification: Notification, number: int) -> None:
        firing = notification.status is Status.FIRING
        if number <= known.messages:
            if known.sender_of(number) not in (None, notification.sender):  # another process sent it
                self._archive.done(notification)
                return
            if firing and known.phase is Phase.OVER:
                self._ended_elsewhere.append(known.id)
            self._dispatcher.send(notification)
            return
        # That process never saved it, so it was not sent: the decision is made again with its content.
        if firing and known.phase in {Phase.PENDING, Phase.OPEN}:
            known.unreported_count = max(known.unreported_count, notification.count)
            known.total = max(known.total, notification.total)
            known.severity = max(known.severity, notification.severity)
            known.observed_here = True
            if known.phase is Phase.PENDING or known.severity > known.notified_severity:
                known.due = self.now()
        elif known.phase is Phase.OPEN and not firing and notification.last_seen >= known.last_seen:
            known.becomes_calm(notification.ended_at or self.now(), certain=True)
        self._archive.done(notification)
        self._secure(known)

    def _revive(self, known: Incident | None, notification: Notification) -> None:
        """The store does not hold the incident that this notification opened."""
        if known is not None and known.phase is not Phase.WATCHING:
            superseded = known.phase is not Phase.OVER or notification.last_seen <= known.ended_at
            if superseded:
                signals.suppressed("dedup", max(1, notification.count))
                self._archive.done(notification)
                return
        revived = self._archive.revive(notification, known)
        self.book.adopt(revived, self.now())
        self._archive.keep(notification)
        self._due.append(_draft(revived, notification))

    def _settled(self) -> bool:
        now = self.now()
        decided = self._flushed and not self._due and self.book.next_due() > now
        return decided and not self.book.awaits_confirmation(now) and self._dispatcher.all_settled

    def _spawn(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _end(self, give_up_at: float) -> bool:
        """Anything that may hang, such as a store, is abandoned in a separate thread when the time is up."""
        self._dispatcher.finish()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
            left = self._dispatcher.close_channels()
            self._archive.close(left, tried=self._dispatcher.tried(), now=self.now())
        if not self._threads:
            self._spawn("alerts-end", lambda: self._share(everything=True))
        for thread in self._threads:
            thread.join(max(0.0, give_up_at - self._clock()))
        self._archive.end(max(LAST_WRITES, give_up_at - self._clock()))
        return not left


def _on_event_loop() -> bool:
    """Whether the caller must not block, because other tasks run in its thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _as_kept(text: str | None) -> str | None:
    """A name or reason that a person gave, as it is stored."""
    return None if text is None else redact(text)[:MAX_REASON]


def _draft(incident: Incident, notification: Notification | None = None) -> _Draft:
    """Moves what was observed from the incident into the record."""
    observed, incident.fresh = incident.fresh, Observed()
    incident.unsaved = False
    return _Draft(incident, incident.dump(), observed, notification)


def _is_urgent(waiting: Sequence[Incident]) -> bool:
    """Whether other processes should learn of any of these immediately: of all but further occurrences."""
    return any(each.unsaved or each.fresh.calm_since is not None or each.fresh.deliveries for each in waiting)
