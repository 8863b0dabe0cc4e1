"""Notifications that must not be lost: each is on disk from before it is sent until a channel confirms it.

Each process has its own folder, which it locks; the lock is released when the process ends, and the next one takes over
what is left. Folders are locked rather than files, since an alert storm must not exhaust the limit on open files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from otel_resilience._internal import validation as check
from otel_resilience._internal.files import make_private, try_lock
from otel_resilience.alerting.model.alert import Notification, rfc3339
from otel_resilience.alerting.persistence.store import DAMAGE, UnusableFiles, read, write_synced
from otel_resilience.redaction import redact

MAX_AGE: Final = 86_400.0
"""Seconds after which an undelivered notification becomes a dead letter, once it was tried after that time."""
NEVER_TRIED: Final = 7 * 86_400.0
"""The same if no process ever tried it."""
MAX_DEAD_LETTERS: Final = 200

_LOCK: Final = ".lock"

_log = logging.getLogger("otel_resilience.alerting")


class Outbox:
    """A folder of notifications that no channel has confirmed yet. Several processes may use it; within one, call it
    from one thread at a time.

    What was not delivered within a day becomes a dead letter once it was tried after that time. ``wall_clock`` gives
    seconds since the epoch. The methods raise ``OSError`` if the folder cannot be used. Raises ``TypeError`` naming the
    parameter.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from otel_resilience.alerting import AlertConfig, AlertService, Outbox
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     outbox = Outbox(Path(folder))
        ...     service = AlertService(AlertConfig(), [], outbox=outbox)
        ...     outbox.waiting(), outbox.dead_letters()
        ([], [])
    """

    def __init__(self, folder: Path | str, *, wall_clock: Callable[[], float] = time.time) -> None:
        check.instance("folder", folder, Path, str)
        self._waiting = Path(folder, "outbox")
        self._dead = Path(folder, "dead")
        self._now = wall_clock
        self._own: Path | None = None
        self._lock: int | None = None
        self._unusable = UnusableFiles()

    def put(self, notification: Notification) -> None:
        """Keeps it until :meth:`remove`; the same ID replaces what was kept. Raises ``OSError``."""
        write_synced(self._own_folder(), _name(notification), notification.dump())

    def remove(self, notification: Notification) -> None:
        """It was delivered, or is not to be sent after all. Raises ``OSError``."""
        if self._own is not None:
            (self._own / _name(notification)).unlink(missing_ok=True)

    def move_to_dead_letters(self, notification: Notification, reason: str) -> None:
        """No channel delivers it: it becomes a dead letter. The oldest are removed. Raises ``OSError``."""
        now = self._now()
        letter = {"at": rfc3339(now), "reason": redact(reason), "notification": notification.dump()}
        write_synced(self._dead, f"{int(now * 1000):015d}-{_name(notification)}", letter)
        self.remove(notification)
        for path in sorted(self._dead.glob("*.json"))[:-MAX_DEAD_LETTERS]:
            path.unlink(missing_ok=True)

    def take(self, is_ours: Callable[[Notification], bool] = lambda _: True) -> list[Notification]:
        """What processes that have ended left behind, oldest first. Those that are too old become dead letters.

        Notifications that are not ``is_ours``, such as those of another service with the same folder, are left alone.
        """
        taken = []
        for folder in self._left_behind():
            for path in sorted(folder.glob("*.json")):
                notification = self._read(path)
                if notification is None or not is_ours(notification):
                    continue
                mine = self._own_folder()
                try:
                    path.rename(mine / path.name)
                except OSError as error:
                    self._unusable.log(path, error)
                    continue
                if self._now() - notification.caused_at > NEVER_TRIED:
                    self.move_to_dead_letters(notification, "no channel took it within a week")
                else:
                    taken.append(notification)
        return sorted(taken, key=lambda each: (each.caused_at, each.id))

    def waiting(self) -> list[Notification]:
        """Everything that is kept here, whichever process handles it, oldest first."""
        found = [self._read(path) for path in self._waiting.glob("*/*.json")]
        return sorted((each for each in found if each is not None), key=lambda each: (each.caused_at, each.id))

    def dead_letters(self) -> list[dict[str, Any]]:
        """Undeliverable notifications, oldest first: ``at``, ``reason`` and the notification."""
        return [
            {**notification.to_json(), "at": letter["at"], "reason": letter["reason"]}
            for _, letter, notification in self._letters()
        ]

    def _letters(self) -> Iterator[tuple[Path, dict[str, Any], Notification]]:
        for path in sorted(self._dead.glob("*.json")):
            try:
                letter = json.loads(path.read_text("utf-8"))
                notification = Notification.load(letter["notification"])
                yield path, {"at": str(letter["at"]), "reason": str(letter["reason"])}, notification
            except FileNotFoundError:
                continue
            except (OSError, *DAMAGE) as error:
                _log.warning("the dead letter %s cannot be read: %s", path.name, type(error).__name__)

    def revive(self, identifier: str) -> Notification | None:
        """Removes and returns the dead letter with this ID, or ``None``, to resend it. Raises ``OSError``."""
        for path, _, notification in self._letters():
            if notification.id == identifier:
                notification = dataclasses.replace(notification, caused_at=self._now())
                self.put(notification)
                path.unlink(missing_ok=True)
                return notification
        return None

    def close(self) -> None:
        """Releases what is still held: the next process takes it over."""
        if self._own is None or self._lock is None:
            return
        _remove_if_empty(self._own)
        os.close(self._lock)
        self._own = self._lock = None

    def _own_folder(self) -> Path:
        """This process's folder, locked from the moment it exists. Raises ``OSError``."""
        if self._own is None:
            name = secrets.token_hex(8)
            fresh = self._waiting / f".{name}"
            make_private(fresh)
            self._lock = _locked(fresh)
            self._own = fresh.rename(self._waiting / name)
        return self._own

    def _read(self, path: Path) -> Notification | None:
        """``None`` if it does not exist, cannot be read now, or is damaged."""
        try:
            return read(path, "notification", Notification.load)
        except OSError as error:
            self._unusable.log(path, error)
            return None

    def _left_behind(self) -> Iterator[Path]:
        """The folders of processes that have ended, each locked while it is examined, and removed when empty."""
        for folder in sorted(self._waiting.glob("[!.]*/")):
            if folder == self._own:
                continue
            try:
                lock = _locked(folder)
            except OSError as error:
                self._unusable.log(folder, error)
                continue
            if lock is None:
                continue
            try:
                yield folder
                _remove_if_empty(folder)
            finally:
                os.close(lock)


def _locked(folder: Path) -> int | None:
    """The descriptor that holds the folder's lock; ``None`` if another process holds it, or the folder is gone."""
    try:
        lock = try_lock(folder / _LOCK)
    except FileNotFoundError:
        return None
    if lock is not None and not os.fstat(lock).st_nlink:
        os.close(lock)
        return None
    return lock


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # what remains is found and removed by the next process
        paths = list(folder.iterdir())
        if all(path.name.startswith(".") for path in paths):
            for path in paths:
                path.unlink()
            folder.rmdir()


def _name(notification: Notification) -> str:
    return "".join(char if char.isalnum() or char == "-" else "_" for char in notification.id) + ".json"
