"""What outlives the process: the outbox and the store of incidents, with their failures turned into log lines."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

from otel_resilience.alerting.alert import Alert, Notification, Status
from otel_resilience.alerting.incident import Incident, Phase
from otel_resilience.alerting.outbox import Outbox
from otel_resilience.alerting.store import IncidentStore
from otel_resilience.classification import Severity

LONG_WATCH = 3600.0
"""Seconds: a threshold whose window is longer counts across processes."""

_log = logging.getLogger("otel_resilience.alerting")


class Archive:
    """Where the two cannot be used, alerts are told all the same, and that is logged."""

    def __init__(self, store: IncidentStore, outbox: Outbox | None) -> None:
        self._store = store
        self._outbox = outbox
        self._kept: dict[str, Notification] = {}
        """By incident: what lies in the outbox for one that was not told yet."""
        self._failures: set[tuple[str, str]] = set()
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

    def revive(self, notification: Notification) -> Incident:
        """The incident that a notification was about, as far as that tells; told, as far as anybody knows."""
        alert = Alert(
            kind=notification.kind,
            title=notification.title,
            severity=notification.severity,
            dependency=notification.dependency,
            error_type=notification.error_type,
            error_class=notification.error_class,
            correlation_id=notification.correlation_id,
            span_id=notification.span_id,
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
            told_at=notification.caused_at,
            told_severity=notification.severity,
            messages=1,
        )

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
        if durable:
            self._put(notification)
        self._kept.pop(notification.incident, None)

    def drop(self, incident: Incident) -> None:
        """It is not to be told after all."""
        kept = self._kept.pop(incident.id, None)
        if kept is not None:
            self.done(kept)
        if incident.phase is Phase.WATCHING and incident.alert.window > LONG_WATCH:
            with _Tolerated("an incident could not be forgotten"):
                self._store.forget(incident.fingerprint)

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
        self.dead_letters += 1
        if self._outbox is not None:
            with _Tolerated("a dead letter could not be written"):
                self._outbox.bury(notification, reason)

    def first_failure(self, channel: str, notification: Notification) -> bool:
        """Whether the channel had not given it up before."""
        key = (channel, notification.id)
        first = key not in self._failures
        self._failures.add(key)
        return first

    def contest(self, incident: Incident, notification: Notification) -> Incident | None:
        """The incident as another process told it already; ``None`` where this one is to tell it."""
        with _Tolerated("the store of incidents could not be asked"):
            return self._told_by_another(incident, notification)
        return None

    def _told_by_another(self, incident: Incident, notification: Notification) -> Incident | None:
        record = incident.dump()
        if notification.status is Status.RESOLVED:
            return None if self._store.release(incident.fingerprint, record) else incident
        found = self._store.claim(incident.fingerprint, record)
        if found is None:
            return None
        if found["id"] == incident.id and found["messages"] < incident.messages:
            self._store.save(incident.fingerprint, record)
            return None
        return Incident.load(found)

    def close(self, book: Iterable[Incident], undelivered: list[Notification]) -> None:
        """Write down how the incidents stand; say what is lost."""
        for incident in book:
            with _Tolerated("an incident could not be written down"):
                if incident.phase is Phase.OPEN:
                    self._store.save(incident.fingerprint, incident.dump())
                elif incident.phase is Phase.WATCHING and incident.alert.window > LONG_WATCH:
                    self._store.watch(incident.fingerprint, incident.dump())
        lost = [each for each in undelivered if self._outbox is None or each.severity < Severity.HIGH]
        for notification in lost:
            _log.error("the alert %r was not delivered and is lost", notification.title)
        if self._outbox is not None:
            self._outbox.close()


class _Tolerated:
    """A disk or a Redis that fails must not keep an alert from being told: what went wrong is logged."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        if not isinstance(error, (OSError, ValueError, KeyError, TypeError)):
            return False
        _log.error("%s: %s", self._what, type(error).__name__)
        return True
