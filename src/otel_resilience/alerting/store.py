"""Where incidents outlive a process, and where processes agree on who tells of one.

An incident is *claimed* by the process that tells of it first, and *released* by the one that tells of its end; both
happen once, however many processes try.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import math
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

T = TypeVar("T")

Record = dict[str, Any]
"""An incident as :meth:`~otel_resilience.alerting.incident.Incident.dump` gives it."""

MAX_AGE: Final = 7 * 86_400.0
"""Seconds after which a record that nobody touched is dropped: its source may not exist any more."""

_OPEN, _OVER = ".json", ".over.json"

_log = logging.getLogger("otel_resilience.alerting")


class IncidentStore(Protocol):
    """Called from one thread at a time. May raise ``OSError`` or ``ConnectionError`` where it cannot be reached."""

    def load(self) -> Iterable[Record]:
        """The records of incidents that are open, or over and remembered."""
        ...

    def claim(self, fingerprint: str, record: Record) -> Record | None:
        """Keep ``record`` unless the fingerprint is claimed; then return what is there."""
        ...

    def save(self, fingerprint: str, record: Record) -> None:
        """Replace the record of a claimed fingerprint; without effect where it was released."""
        ...

    def release(self, fingerprint: str, record: Record) -> bool:
        """Turn the claim into ``record``, a memory of what is over. ``False`` where another process did already.

        A claim that was lost, as when the store forgets, is released too: somebody has to tell of the end.
        """
        ...

    def watch(self, fingerprint: str, record: Record) -> None:
        """Keep a record of an incident that nobody was told of yet."""
        ...

    def forget(self, fingerprint: str) -> None:
        """Drop what :meth:`watch` keeps."""
        ...


class MemoryStore:
    """For one process alone; forgets with it."""

    def load(self) -> Iterable[Record]:
        """Nothing."""
        return ()

    def claim(self, fingerprint: str, record: Record) -> Record | None:
        """Always granted."""
        del fingerprint, record
        return None

    def save(self, fingerprint: str, record: Record) -> None:
        """Nothing to do."""

    def release(self, fingerprint: str, record: Record) -> bool:
        """Always granted."""
        del fingerprint, record
        return True

    def watch(self, fingerprint: str, record: Record) -> None:
        """Nothing to do."""

    def forget(self, fingerprint: str) -> None:
        """Nothing to do."""


class DiskStore:
    """One file per incident in a folder; claims and releases are atomic operations of the file system."""

    def __init__(self, folder: Path, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._now = wall_clock

    def load(self) -> Iterable[Record]:
        """Every record that can be read; one that cannot is set aside and logged."""
        if not self._folder.is_dir():
            return
        for path in sorted(self._folder.glob("*.json")):
            try:
                if self._now() - path.stat().st_mtime > MAX_AGE:
                    path.unlink()
                    continue
            except FileNotFoundError:
                continue  # another process was faster
            record = _read(path)
            if record is not None:
                if path.name.endswith(_OVER) and record.get("phase") == "open":
                    record["phase"] = "over"  # its process ended within the release
                yield record

    def claim(self, fingerprint: str, record: Record) -> Record | None:
        """Granted to the process that links the file first."""
        target, over = self._paths(fingerprint)
        for _ in range(3):
            with _written(self._folder, record) as temporary:
                try:
                    os.link(temporary, target)
                except FileExistsError:
                    pass
                else:
                    over.unlink(missing_ok=True)
                    return None
            found = _read(target)
            if found is not None:
                return found
        return None

    def save(self, fingerprint: str, record: Record) -> None:
        """Replaced at one stroke."""
        target, _ = self._paths(fingerprint)
        if target.exists():
            with _written(self._folder, record) as temporary:
                temporary.replace(target)

    def release(self, fingerprint: str, record: Record) -> bool:
        """Granted to the process that renames the file first."""
        target, over = self._paths(fingerprint)
        held = _read(target)
        if held is not None and held.get("id") != record["id"]:
            return False
        try:
            target.rename(over)
        except FileNotFoundError:
            last = _read(over)
            if last is not None and last.get("id") == record["id"]:
                return False
        with _written(self._folder, record) as temporary:
            temporary.replace(over)
        return True

    def watch(self, fingerprint: str, record: Record) -> None:
        """Kept beside what is over."""
        with _written(self._folder, record) as temporary:
            temporary.replace(self._paths(fingerprint)[1])

    def forget(self, fingerprint: str) -> None:
        """Taken away."""
        self._paths(fingerprint)[1].unlink(missing_ok=True)

    def _paths(self, fingerprint: str) -> tuple[Path, Path]:
        return self._folder / f"{fingerprint}{_OPEN}", self._folder / f"{fingerprint}{_OVER}"


class FallbackStore:
    """A shared store, and a local one that takes over while the shared one cannot be reached.

    Both are written; the shared one decides. Told once per outage that processes no longer see each other's claims.
    """

    def __init__(
        self,
        shared: IncidentStore,
        local: IncidentStore,
        *,
        pause: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``pause``: seconds for which a shared store that did not answer is not asked again."""
        self._shared = shared
        self._local = local
        self._pause = pause
        self._clock = clock
        self._away_until = -math.inf
        self._local_only: set[str] = set()
        """Claimed while the shared store was away: it knows nothing of them."""
        self.degraded = False

    def load(self) -> Iterable[Record]:
        """Of both, the shared one's first, which goes before where both know an incident."""
        found: dict[Any, Record] = {}
        for record in (*(self._ask(lambda: list(self._shared.load())) or ()), *self._local.load()):
            found.setdefault(record.get("id"), record)
        return found.values()

    def claim(self, fingerprint: str, record: Record) -> Record | None:
        """The shared store decides, the local one where it cannot."""
        answer = self._ask(lambda: (self._shared.claim(fingerprint, record),))
        if answer is None:
            own = self._local.claim(fingerprint, record)
            if own is None:
                self._local_only.add(fingerprint)
            return own
        told = record if answer[0] is None else answer[0]
        if self._local.claim(fingerprint, told) is not None:
            self._local.save(fingerprint, told)
        return answer[0]

    def save(self, fingerprint: str, record: Record) -> None:
        """In both."""
        self._ask(lambda: self._shared.save(fingerprint, record))
        self._local.save(fingerprint, record)

    def release(self, fingerprint: str, record: Record) -> bool:
        """The shared store decides, the local one where it cannot, or where it alone was there at the claim."""
        answer = self._ask(lambda: (self._shared.release(fingerprint, record),))
        own = self._local.release(fingerprint, record)
        if answer is None:
            return own
        alone = fingerprint in self._local_only
        self._local_only.discard(fingerprint)
        return answer[0] or (alone and own)

    def watch(self, fingerprint: str, record: Record) -> None:
        """In both."""
        self._ask(lambda: self._shared.watch(fingerprint, record))
        self._local.watch(fingerprint, record)

    def forget(self, fingerprint: str) -> None:
        """In both."""
        self._ask(lambda: self._shared.forget(fingerprint))
        self._local.forget(fingerprint)

    def _ask(self, question: Callable[[], T]) -> T | None:
        if self._clock() < self._away_until:
            return None
        try:
            answer = question()
        except (OSError, ConnectionError) as error:
            if not self.degraded:
                _log.warning(
                    "the shared store of incidents is away (%s): processes may tell of one incident each for itself",
                    type(error).__name__,
                )
            self.degraded = True
            self._away_until = self._clock() + self._pause
            return None
        if self.degraded:
            _log.info("the shared store of incidents is back")
            self.degraded = False
        return answer


def _read(path: Path) -> Record | None:
    """``None`` where there is none, or one that cannot be read, which is set aside and logged."""
    try:
        record = json.loads(path.read_text("utf-8"))
        if not isinstance(record, dict):
            raise ValueError("no object")  # noqa: TRY004  # handled with what json raises
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        _log.warning("the incident in %s cannot be read and is set aside: %s", path.name, type(error).__name__)
        set_aside(path)
        return None
    return record


@contextlib.contextmanager
def _written(folder: Path, record: Record) -> Iterator[Path]:
    """A file with the record, on the disk, under a name of its own; gone afterwards unless it was renamed."""
    temporary = folder / f".{secrets.token_hex(8)}"
    write_synced(folder, temporary.name, record)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def set_aside(path: Path) -> None:
    """Rename a damaged file, so that it is neither read again nor lost."""
    with contextlib.suppress(OSError):
        path.rename(path.with_name(path.name + ".damaged"))


def write_synced(folder: Path, name: str, data: object, *, lock: bool = False) -> int | None:
    """Writes a file that is on the disk, whole, when this returns. Raises ``OSError``.

    With ``lock`` the file is locked from its first moment on; the result is the descriptor that holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(os.dup(descriptor), "w", encoding="utf-8") as file:
            json.dump(data, file, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        if lock:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        Path(temporary).replace(folder / name)
    except BaseException:
        os.close(descriptor)
        Path(temporary).unlink(missing_ok=True)
        raise
    if lock:
        return descriptor
    os.close(descriptor)
    return None
