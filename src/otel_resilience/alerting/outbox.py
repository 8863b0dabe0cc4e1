"""Notifications that must not be lost: each lies on the disk from before it is sent until a channel confirmed it.

A file is locked by the process that is at it; the lock falls with the process. The next one sends what is left.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from otel_resilience.alerting.alert import Notification, rfc3339
from otel_resilience.alerting.store import set_aside, write_synced
from otel_resilience.redaction import redact

MAX_AGE: Final = 86_400.0
"""Seconds after which an undelivered notification is a dead letter."""
MAX_DEAD_LETTERS: Final = 200

_log = logging.getLogger("otel_resilience.alerting")


class Outbox:
    """A folder of notifications. Safe for several processes; within one, called under the service's lock."""

    def __init__(self, folder: Path, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._waiting = folder / "outbox"
        self._dead = folder / "dead"
        self._now = wall_clock
        self._held: dict[str, int] = {}

    def put(self, notification: Notification) -> None:
        """Keep it until :meth:`remove`; the same ID replaces what was kept. Raises ``OSError``."""
        name = _name(notification)
        descriptor = write_synced(self._waiting, name, notification.dump(), lock=True)
        self._unlock(name)  # that lock was on the file that has been replaced
        if descriptor is not None:
            self._held[name] = descriptor

    def remove(self, notification: Notification) -> None:
        """It was delivered, or is not to be told after all."""
        name = _name(notification)
        with contextlib.suppress(FileNotFoundError):
            (self._waiting / name).unlink()
        self._unlock(name)

    def bury(self, notification: Notification, reason: str) -> None:
        """No channel takes it: it becomes a dead letter. The oldest give way. Raises ``OSError``."""
        letter = {"at": rfc3339(self._now()), "reason": redact(reason), "notification": notification.dump()}
        write_synced(self._dead, _name(notification), letter)
        self.remove(notification)
        for path in sorted(self._dead.glob("*.json"))[:-MAX_DEAD_LETTERS]:
            path.unlink(missing_ok=True)

    def take(self) -> list[Notification]:
        """What earlier processes left and no living one is at, oldest first. Too old ones become dead letters."""
        taken = []
        for path in self._files(self._waiting):
            if path.name in self._held or not self._lock(path.name):
                continue
            notification = _read(path)
            if notification is None:
                self._unlock(path.name)
            elif self._now() - notification.caused_at > MAX_AGE:
                self.bury(notification, "no channel took it within a day")
            else:
                taken.append(notification)
        return sorted(taken, key=lambda each: (each.caused_at, each.id))

    def waiting(self) -> list[Notification]:
        """Everything that lies here, whoever is at it."""
        return [found for path in self._files(self._waiting) if (found := _read(path)) is not None]

    def dead_letters(self) -> list[dict[str, Any]]:
        """What no channel took, oldest first: ``at``, ``reason`` and the notification."""
        letters = []
        for path in self._files(self._dead):
            try:
                letter = json.loads(path.read_text("utf-8"))
                notification = Notification.load(letter["notification"])
                letters.append({**notification.to_json(), "at": letter["at"], "reason": letter["reason"]})
            except FileNotFoundError:
                continue
            except (OSError, ValueError, KeyError, TypeError) as error:
                _log.warning("the dead letter %s cannot be read: %s", path.name, type(error).__name__)
        return letters

    def close(self) -> None:
        """Let go of what is still held: the next process takes it."""
        for name in list(self._held):
            self._unlock(name)

    def _files(self, folder: Path) -> Iterable[Path]:
        return sorted(folder.glob("*.json")) if folder.is_dir() else ()

    def _lock(self, name: str) -> bool:
        try:
            descriptor = os.open(self._waiting / name, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._held[name] = descriptor
        return True

    def _unlock(self, name: str) -> None:
        descriptor = self._held.pop(name, None)
        if descriptor is not None:
            os.close(descriptor)


def _name(notification: Notification) -> str:
    return "".join(char if char.isalnum() or char == "-" else "_" for char in notification.id) + ".json"


def _read(path: Path) -> Notification | None:
    try:
        return Notification.load(json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("the notification in %s cannot be read and is set aside: %s", path.name, type(error).__name__)
        set_aside(path)
        return None
