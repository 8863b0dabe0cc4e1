"""What outlives the process: the outbox and the store of incidents, with their failures turned into log lines."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator
from typing import Final

from otel_resilience.alerting.alert import Alert, Notification, Status
from otel_resilience.alerting.incident import Incident, Phase
from otel_resilience.alerting.outbox import MAX_DEAD_LETTERS, Outbox
from otel_resilience.alerting.store import IncidentStore, Record
from otel_resilience.classification import Severity

DURABLE: Final = Severity.HIGH
"""From this severity on, notifications survive the process in the outbox."""

LONG_WATCH: Final = 3600.0
"""Seconds: a threshold whose window is longer counts across processes."""

_log = logging.getLogger("otel_resilience.alerting")


def is_durable(notification: Notification) -> bool:
    """Whether it is to survive the process."""
    return notification.severity >= DURABLE and notification.reason != "test"


def is_of_an_incident(notification: Notification) -> bool:
    """Whether it is one of the numbered messages of its incident."""
    return notification.id.rpartition("-")[0] == notification.incident


class Archive:
    """Where the two cannot be used, alerts are told all the same, and that is logged."""

    def __init__(self, store: IncidentStore, outbox: Outbox | None) -> None:
        self._store = store
        self._outbox = outbox
        self._kept: dict[str, Notification] = {}
        """By incident: what lies in the outbox and was not told yet."""
        self._unwatched: set[str] = set()
        """Fingerprints that the store is to forget."""
        self.dead_letters = 0 if outbox is None else len(outbox.dead_letters())

    def incidents(self) -> Iterator[Incident]:
        """Those of earlier and of other processes."""
        records = []
        with _Tolerated("the incidents of earlier runs could not be read"):
            records = list(self._store.load())
        for record in records:
            try:
                yield Incident.load(record)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                _log.warning("an incident of an earlier run cannot be read: %s", type(error).__name__)

    def left_over(self) -> list[Notification]:
        """Undelivered notifications that no living process is at."""
        if self._outbox is None:
            return []
        with _Tolerated("the outbox could not be read"):
            return self._outbox.take()
        return []

    def revive(self, notification: Notification, earlier: Incident | None = None) -> Incident:
        """The incident that a notification was about, as far as that tells; told, as far as anybody knows.

        ``earlier``: what is remembered of the same fingerprint.
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
        )
        revived = Incident(
            id=notification.incident,
            fingerprint=notification.fingerprint,
            alert=alert,
            severity=notification.severity,
            first_seen=notification.first_seen,
            last_seen=notification.last_seen,
            watched_since=notification.last_seen,
            phase=Phase.OPEN if notification.status is Status.FIRING else Phase.OVER,
            total=notification.total,
            told_at=notification.caused_at,
            told_severity=notification.severity,
            returns=0 if earlier is None else earlier.returns + 1,
        )
        revived.catch_up(notification)
        return revived

    def keeps(self, incident: Incident) -> bool:
        """Whether it survives the process already, as severe as it is now."""
        known = self._kept.get(incident.id)
        return known is not None and known.severity is incident.severity

    def keep(self, notification: Notification) -> None:
        """It will be told: from now on it survives the process."""
        self._kept[notification.incident] = notification
        self._put(notification)

    def told(self, notification: Notification, *, durable: bool) -> None:
        """It goes to the channels; a durable one survives the process until it is done."""
        if self._kept.pop(notification.incident, None) is not notification and durable:
            self._put(notification)

    def left_for(self, notification: Notification, channels: Iterable[str]) -> None:
        """Some took it: only these channels still need it, in the next process too."""
        self._put(dataclasses.replace(notification, channels=tuple(sorted(channels))))

    def drop(self, incident: Incident) -> None:
        """It is not to be told after all."""
        kept = self._kept.pop(incident.id, None)
        if kept is not None:
            self.done(kept)
        if incident.phase is Phase.WATCHING and incident.alert.window > LONG_WATCH:
            self._unwatched.add(incident.fingerprint)

    def forget_unwatched(self) -> None:
        """Tell the store what :meth:`drop` left for the thread that may wait for it."""
        while self._unwatched:
            with _Tolerated("an incident could not be forgotten"):
                self._store.forget(self._unwatched.pop())

    def done(self, notification: Notification) -> None:
        """It was delivered."""
        if self._outbox is not None:
            with _Tolerated("a delivered alert could not be taken from the outbox"):
                self._outbox.remove(notification)

    def _put(self, notification: Notification) -> None:
        if self._outbox is not None:
            with _Tolerated("an alert could not be written to the outbox"):
                self._outbox.put(notification)

    def bury(self, notification: Notification, reason: str) -> None:
        """No channel takes it."""
        _log.error("no channel took the alert %r (%s)", notification.title, reason)
        self.dead_letters = min(self.dead_letters + 1, MAX_DEAD_LETTERS)
        if self._outbox is not None:
            with _Tolerated("a dead letter could not be written"):
                self._outbox.bury(notification, reason)

    def contest(self, record: Record, notification: Notification) -> Incident | None:
        """The incident as another process told it already; ``None`` where this one is to tell it as ``record``."""
        with _Tolerated("the store of incidents could not be asked"):
            return self._told_by_another(record, notification)
        return None

    def _told_by_another(self, record: Record, notification: Notification) -> Incident | None:
        fingerprint = notification.fingerprint
        if notification.status is Status.RESOLVED:
            return None if self._store.release(fingerprint, record) else Incident.load(record)
        found = self._store.claim(fingerprint, record)
        if found is None:
            return None
        if found["id"] == record["id"] and found["messages"] < record["messages"]:
            self._store.save(fingerprint, record)
            return None
        return Incident.load(found)

    def save(self, records: Iterable[tuple[str, Phase, Record]]) -> None:
        """Write down how incidents stand: fingerprint, phase, record."""
        self.forget_unwatched()
        for fingerprint, phase, record in records:
            with _Tolerated("an incident could not be written down"):
                if phase is Phase.OPEN:
                    self._store.save(fingerprint, record)
                else:
                    self._store.watch(fingerprint, record)

    def close(self, undelivered: Iterable[Notification]) -> None:
        """Let go of the outbox; say what is lost."""
        for notification in undelivered:
            if self._outbox is None or not is_durable(notification):
                _log.error("the alert %r was not delivered and is lost", notification.title)
        if self._outbox is not None:
            with _Tolerated("the outbox could not be closed"):
                self._outbox.close()


def to_save(book: Iterable[Incident]) -> list[tuple[str, Phase, Record]]:
    """What :meth:`Archive.save` takes: open incidents, and those whose threshold is a matter of hours."""
    return [
        (each.fingerprint, each.phase, each.dump())
        for each in book
        if each.phase is Phase.OPEN or (each.phase is Phase.WATCHING and each.alert.window > LONG_WATCH)
    ]


class _Tolerated:
    """A disk or a store that fails, however it does, must not keep an alert from being told: that is logged."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        if not isinstance(error, Exception):
            return False
        _log.error("%s: %s", self._what, type(error).__name__)
        return True
