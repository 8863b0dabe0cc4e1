"""What outlives the process: the outbox and the store of incidents. Their failures become log lines."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from typing import Final

from otel_resilience.alerting.model.alert import Alert, Notification, Status
from otel_resilience.alerting.model.incident import Incident, Phase, message_number
from otel_resilience.alerting.persistence.outbox import MAX_AGE, MAX_DEAD_LETTERS, Outbox
from otel_resilience.alerting.persistence.store import DAMAGE, IncidentStore, Record, revision_of
from otel_resilience.alerting.persistence.writer import DiskWriter
from otel_resilience.classification.control_flow import pass_interruption_on
from otel_resilience.classification.model import Severity
from otel_resilience.redaction import redact

DURABLE: Final = Severity.HIGH
"""From this severity on, notifications survive the process in the outbox."""

LEFT_OVER_WITHIN: Final = 1.0
"""Maximum seconds for looking up what earlier processes left in the outbox."""

_log = logging.getLogger("otel_resilience.alerting")


def is_durable(notification: Notification) -> bool:
    """Whether it must survive the process."""
    return notification.severity >= DURABLE and notification.reason != "test"


class Archive:
    """The outbox and the store. If they cannot be used, messages are sent anyway, and that is logged."""

    def __init__(self, store: IncidentStore | None, outbox: Outbox | None, owner: tuple[str, ...] = ()) -> None:
        """Without a ``store`` each process has its own incidents.

        ``owner``: who the incidents belong to; those of other services in the same store are left alone.
        """
        self._store = store
        self._outbox = outbox
        self._owner = owner
        self._writer = DiskWriter()
        self._looking = threading.Lock()
        self._found: futures.Future[list[Notification]] | None = None
        """The running search for what earlier processes left."""
        self._kept: dict[str, Notification] = {}
        """By incident: its message in the outbox that was not sent yet."""
        self.dead_letters = 0
        if outbox is not None:
            with _tolerated("the dead letters could not be read"):
                self.dead_letters = len(outbox.dead_letters())

    def start(self) -> None:
        """From now on no caller waits for the disk, except in methods that say so."""
        if self._outbox is not None:
            self._writer.start()

    def secured(self, timeout: float) -> bool:
        """Whether everything kept so far survives the process; waits for it at most ``timeout`` seconds."""
        return self._writer.written(timeout)

    def end(self, timeout: float) -> None:
        """Finishes writing within ``timeout`` seconds; what was not written is counted and logged."""
        self._writer.close(timeout)

    def incidents(self) -> list[Incident] | None:
        """All that the store holds; ``None`` if there is no store, or it could not be read."""
        if self._store is None:
            return None
        ours = None
        with _tolerated("the incidents of other processes could not be read"):
            ours = [record for record in self._store.load() if record.get("owner") == list(self._owner)]
        return None if ours is None else [incident for incident in map(_readable, ours) if incident is not None]

    def write(self, incident: Incident, record: Record, now: float) -> Incident | None:
        """Writes this process's version of an incident. Returns the stored one if another process was faster.

        ``record`` is the dump of the incident to store; ``now`` are seconds since the epoch.
        """
        if self._store is None:
            return None
        expected = record["revision"]
        record = {**record, "revision": secrets.token_hex(8), "saved_at": now, "owner": list(self._owner)}
        found = None
        with _tolerated("an incident could not be written down"):
            for _ in range(3):
                answer = self._store.swap(incident.fingerprint, record, expected)
                if answer.done:
                    incident.revision = record["revision"]
                    break
                found = None if answer.current is None else _readable(answer.current)
                if found is not None:
                    break
                expected = revision_of(answer.current)
        return found

    def left_over(self) -> list[Notification]:
        """Undelivered notifications of processes that have ended. Waits for the disk, but not for long: what is found
        later is returned by the next call."""
        outbox = self._outbox
        if outbox is None:
            return []
        with self._looking:
            if self._found is None:
                self._found = self._writer.ask(lambda: outbox.take(self._is_ours))
            found = self._found
        futures.wait((found,), LEFT_OVER_WITHIN)
        with self._looking:
            if self._found is not found or not found.done():
                return []
            self._found = None
        taken: list[Notification] = []
        with _tolerated("the outbox could not be read"):
            taken.extend(found.result())
        return taken

    def _is_ours(self, notification: Notification) -> bool:
        return not self._owner or (notification.service, notification.environment or "") == self._owner

    def revive(self, notification: Notification, earlier: Incident | None = None) -> Incident:
        """Reconstructs the incident that an undelivered notification was about, as far as possible.

        ``earlier``: what is remembered about the same fingerprint.
        """
        alert = Alert(
            kind=notification.kind,
            title=notification.title,
            severity=notification.severity,
            dependency=notification.dependency,
            error_type=notification.error_type,
            error_class=notification.error_class,
            correlation_id=notification.correlation_id,
            span_id=notification.span_id,
            quiet_after=notification.quiet_after,
            details_url=notification.links.details,
        )
        return Incident(
            id=notification.incident,
            fingerprint=notification.fingerprint,
            alert=alert,
            severity=notification.severity,
            first_seen=notification.first_seen,
            last_seen=notification.last_seen,
            watched_since=notification.last_seen,
            phase=Phase.OPEN if notification.status is Status.FIRING else Phase.OVER,
            total=notification.total,
            last_notified_at=notification.caused_at,
            notified_severity=notification.severity,
            returns=0 if earlier is None else earlier.returns + 1,
            messages=message_number(notification),
            senders=(notification.sender,),
            revision=None if earlier is None else earlier.revision,
        )

    def revive_dead_letter(self, identifier: str) -> Notification | None:
        """Removes and returns the dead letter with this ID, to send it again; ``None`` if there is none. Waits for the
        disk. Raises ``OSError``."""
        outbox = self._outbox
        if outbox is None:
            return None
        found = self._writer.call(lambda: outbox.revive(identifier))
        if found is not None:
            self.dead_letters = max(0, self.dead_letters - 1)
        return found

    def keeps(self, incident: Incident) -> bool:
        """Whether it survives the process already, with its present severity."""
        known = self._kept.get(incident.id)
        return known is not None and known.severity is incident.severity

    def sent_by_another(self, incident: Incident, sender: str) -> bool:
        """Whether the message kept here was prepared by ``sender``, this process, while another one sent and keeps it.

        A message taken over from a process that ended is neither.
        """
        kept = self._kept.get(incident.id)
        if kept is None or kept.sender != sender:
            return False
        return incident.sender_of(message_number(kept)) not in (None, sender)

    def keep(self, notification: Notification) -> None:
        """It will be sent: from now on it survives the process."""
        self._kept[notification.incident] = notification
        self._put(notification)

    def accept(self, notification: Notification, *, durable: bool) -> None:
        """It goes to the channels; a durable one survives the process until it is done."""
        if self._kept.pop(notification.incident, None) is not notification and durable:
            self._put(notification)

    def left_for(self, notification: Notification, channels: Iterable[str]) -> None:
        """Some channels delivered it: only these still need it, in the next process too."""
        self._put(dataclasses.replace(notification, channels=tuple(sorted(channels))))

    def drop(self, incident: Incident) -> None:
        """No message about it is sent after all."""
        kept = self._kept.pop(incident.id, None)
        if kept is not None:
            self.done(kept)

    def done(self, notification: Notification) -> None:
        """It was delivered."""
        self._write("a delivered alert could not be taken from the outbox", lambda box: box.remove(notification))

    def _put(self, notification: Notification) -> None:
        self._write("an alert could not be written to the outbox", lambda box: box.put(notification))

    def _write(self, problem: str, write: Callable[[Outbox], None]) -> None:
        outbox = self._outbox
        if outbox is None:
            return

        tolerated = _tolerated(problem)(write)
        self._writer.submit(lambda: tolerated(outbox))

    def move_to_dead_letters(self, notification: Notification, reason: str) -> None:
        """No channel delivers it."""
        _log.error("no channel took the alert %r (%s)", notification.title, reason)
        self.dead_letters = min(self.dead_letters + 1, MAX_DEAD_LETTERS)
        self._write("a dead letter could not be written", lambda box: box.move_to_dead_letters(notification, reason))

    def close(self, undelivered: Iterable[Notification], *, tried: Iterable[Notification], now: float) -> None:
        """Releases the outbox and logs what is lost. Old notifications that were ``tried`` become dead letters."""
        for notification in tried if self._outbox is not None else ():
            if is_durable(notification) and now - notification.caused_at > MAX_AGE:
                self.move_to_dead_letters(notification, "no channel took it within a day")
        for notification in undelivered:
            if self._outbox is None or not is_durable(notification):
                _log.error("the alert %r was not delivered and is lost", notification.title)
        self._write("the outbox could not be closed", Outbox.close)


def _readable(record: Record) -> Incident | None:
    try:
        return Incident.load(record)
    except DAMAGE as error:
        _log.warning("a stored incident is damaged and left out: %s", redact(f"{type(error).__name__}: {error}"))
        return None


@contextlib.contextmanager
def _tolerated(problem: str) -> Iterator[None]:
    """A failing disk or store must not keep an alert from being sent: any failure is logged."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  # whatever it is, the alert must be sent
        pass_interruption_on(error)
        _log.error("%s: %s", problem, type(error).__name__)
