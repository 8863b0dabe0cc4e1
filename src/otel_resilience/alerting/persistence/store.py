"""Stores for incidents, which outlive the process and are shared by all processes of a service.

There is one record per fingerprint. It is replaced by compare-and-set: a process writes a new record based on the
revision that it read, and only the first to do so succeeds. So each message about an incident (the first, an
escalation, the resolution) is sent by one process, and no process overwrites what another one saw.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from otel_resilience._internal import validation as check
from otel_resilience._internal.files import locked, make_private, replace
from otel_resilience.redaction import redact

T = TypeVar("T")

Record = dict[str, Any]
"""An incident as returned by :meth:`~otel_resilience.alerting.model.incident.Incident.dump`."""

MAX_AGE: Final = 8 * 86_400.0
"""Seconds after which a record that no process wrote is dropped; longer than an incident takes to expire."""

MAX_RECORDS: Final = 10_000
"""Maximum records that are read from one store."""

LOCK_WITHIN: Final = 2.0
"""Seconds to wait for another process that is writing a record."""

DAMAGE: Final = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""Exceptions while parsing stored data that is damaged."""

_log = logging.getLogger("otel_resilience.alerting")


class Swap(NamedTuple):
    """The result of a compare-and-set."""

    done: bool
    current: Record | None
    """If it was not done: the record that is stored, if any."""


class IncidentStore(Protocol):
    """Called from one thread at a time. May raise ``OSError`` or ``ConnectionError`` if it is unreachable.

    A record has ``fingerprint``, ``revision`` (a new string with each write) and ``saved_at`` (seconds since the
    epoch); the rest belongs to the incident.

    Any object with these methods is a store. Those here are :class:`MemoryStore`, :class:`DiskStore`,
    :class:`RedisStore` and :class:`FallbackStore`.

    Examples:
        >>> from otel_resilience.alerting import IncidentStore, MemoryStore
        >>> store: IncidentStore = MemoryStore()
        >>> store.swap("a1", {"fingerprint": "a1", "revision": "1", "saved_at": 0.0}, expected=None).done
        True
    """

    def load(self) -> Iterable[Record]:
        """All records that were written within :data:`MAX_AGE`."""
        ...

    def swap(self, fingerprint: str, record: Record, expected: str | None) -> Swap:
        """Write ``record`` if the stored one has the revision ``expected``; ``None``: if there is none."""
        ...


def revision_of(record: Record | None) -> str | None:
    """The revision of a stored record; ``None`` if there is no record, or it is damaged."""
    revision = None if record is None else record.get("revision")
    return None if revision is None else str(revision)


class MemoryStore:
    """A store for the services of one process; its content is lost with the process.

    Examples:
        >>> from otel_resilience.alerting import AlertConfig, AlertService, MemoryStore
        >>> store = MemoryStore()
        >>> services = [AlertService(AlertConfig(service="checkout"), [], store=store) for _ in range(2)]
    """

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        self._lock = threading.Lock()

    def load(self) -> Iterable[Record]:
        """A copy of every record."""
        with self._lock:
            return [dict(record) for record in self._records.values()]

    def swap(self, fingerprint: str, record: Record, expected: str | None) -> Swap:
        """Compared and replaced under a lock."""
        with self._lock:
            held = self._records.get(fingerprint)
            if revision_of(held) != expected:
                return Swap(False, None if held is None else dict(held))
            self._records[fingerprint] = dict(record)
            return Swap(True, None)


class DiskStore:
    """One file per incident in a folder; each write holds a lock, which is released if its process ends.

    The folder is created when first needed. ``wall_clock`` gives seconds since the epoch. Reading and writing raise
    ``OSError``. Raises ``TypeError`` naming the parameter.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from otel_resilience.alerting import DiskStore
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = DiskStore(Path(folder) / "incidents")
        ...     list(store.load())
        []
    """

    def __init__(self, folder: Path | str, *, wall_clock: Callable[[], float] = time.time) -> None:
        check.instance("folder", folder, Path, str)
        self._folder = Path(folder)
        self._now = wall_clock
        self._unusable = UnusableFiles()

    def load(self) -> Iterable[Record]:
        """Every record that can be read. A damaged one is set aside; one that cannot be accessed, such as another
        user's, is logged once."""
        if not self._folder.is_dir():
            return
        for path in sorted(self._folder.glob("*.json"))[:MAX_RECORDS]:
            try:
                if self._now() - path.stat().st_mtime > MAX_AGE:
                    path.unlink()
                    continue
                record = read(path, "incident", as_record)
            except FileNotFoundError:
                continue  # another process was faster
            except OSError as error:
                self._unusable.log(path, error)
                continue
            if record is not None:
                yield record

    def swap(self, fingerprint: str, record: Record, expected: str | None) -> Swap:
        """Read, compared and replaced under the folder's lock."""
        path = self._folder / f"{fingerprint}.json"
        make_private(self._folder)
        with locked(self._folder / ".lock", LOCK_WITHIN):
            held = read(path, "incident", as_record)
            if revision_of(held) != expected:
                return Swap(False, held)
            write_synced(self._folder, path.name, record)
            return Swap(True, None)


class FallbackStore:
    """A shared store, with a local one that takes over while the shared one is unreachable.

    Both are written; the shared one decides. Once per outage it is logged that incidents of other machines are not
    seen; what was written meanwhile is copied to the shared store when it is back.

    Examples:
        >>> from otel_resilience.alerting import FallbackStore, MemoryStore
        >>> class Unreachable:
        ...     def load(self):
        ...         raise ConnectionRefusedError
        ...     def swap(self, fingerprint, record, expected):
        ...         raise ConnectionRefusedError
        >>> store = FallbackStore(Unreachable(), MemoryStore())
        >>> store.load(), store.degraded
        ([], True)
    """

    def __init__(
        self,
        shared: IncidentStore,
        local: IncidentStore,
        *,
        pause: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``pause``: seconds for which an unreachable shared store is not asked again."""
        self._shared = shared
        self._local = local
        self._pause = pause
        self._clock = clock
        self._away_until = -math.inf
        self._local_fails = False
        self.degraded = False

    def load(self) -> Iterable[Record]:
        """Those of the shared store, and those that only the local one holds."""
        shared = self._ask(lambda: list(self._shared.load()))
        local = {str(record.get("fingerprint")): record for record in self._local.load()}
        if shared is None:
            return list(local.values())
        found = [self._reconciled(record, local.pop(str(record.get("fingerprint")), None)) for record in shared]
        return [*found, *(self._copied_to_shared(record, None) for record in local.values())]

    def swap(self, fingerprint: str, record: Record, expected: str | None) -> Swap:
        """The shared store decides, or the local one while it is unreachable."""
        answer = self._ask(lambda: self._shared.swap(fingerprint, record, expected))
        if answer is None:
            return self._local.swap(fingerprint, record, expected)
        if answer.done:
            self._keep(fingerprint, record)
        return answer

    def _keep(self, fingerprint: str, record: Record) -> None:
        """Keeps a copy in the local store; a full disk there changes nothing about the shared one."""
        try:
            _force(self._local, fingerprint, record)
        except OSError as error:
            if not self._local_fails:
                _log.warning("incidents are kept in the shared store only: %s", type(error).__name__)
            self._local_fails = True
        else:
            self._local_fails = False

    def _reconciled(self, shared: Record, local: Record | None) -> Record:
        """The shared record, unless the local one was updated while the shared store was unreachable; then both stores
        get that."""
        if local is None or revision_of(local) == revision_of(shared):
            return shared
        if _is_ahead(local, shared):
            return self._copied_to_shared(local, revision_of(shared))
        self._keep(str(shared.get("fingerprint")), shared)
        return shared

    def _copied_to_shared(self, local: Record, expected: str | None) -> Record:
        """A local record, written to the shared store unless that holds a different one by now."""
        answer = self._ask(lambda: self._shared.swap(str(local.get("fingerprint")), local, expected))
        return local if answer is None or answer.done else answer.current or local

    def _ask(self, question: Callable[[], T]) -> T | None:
        if self._clock() < self._away_until:
            return None
        try:
            answer = question()
        except (OSError, ConnectionError) as error:
            if not self.degraded:
                _log.warning(
                    "the shared store of incidents is unreachable (%s): incidents of other machines are not seen",
                    redact(str(error)) or type(error).__name__,
                )
            self.degraded = True
            self._away_until = self._clock() + self._pause
            return None
        if self.degraded:
            _log.info("the shared store of incidents is reachable again")
            self.degraded = False
        return answer


def _force(store: IncidentStore, fingerprint: str, record: Record) -> None:
    """Writes a record whatever is stored; another process may be faster a few times."""
    expected: str | None = None
    for _ in range(5):
        answer = store.swap(fingerprint, record, expected)
        if answer.done:
            return
        expected = revision_of(answer.current)


def _is_ahead(local: Record, shared: Record) -> bool:
    """Whether the local record describes what happened after the shared one was written: the same incident with more
    messages, or one that started after the end of the shared one."""
    if local.get("id") == shared.get("id"):
        return _messages(local) > _messages(shared)
    ended, began = shared.get("last_seen"), local.get("first_seen")
    if not (isinstance(ended, (int, float)) and isinstance(began, (int, float))):
        return False
    return shared.get("phase") == "over" and began > ended


def _messages(record: Record) -> float:
    number = record.get("messages")
    return number if isinstance(number, (int, float)) else -1


def as_record(value: Any) -> Record:
    """A parsed JSON value as a record. Raises ``TypeError`` if it is not an object."""
    if not isinstance(value, dict):
        raise TypeError(f"{type(value).__name__} is not a record")
    return value


def read(path: Path, what: str, parse: Callable[[Any], T]) -> T | None:
    """What ``parse`` makes of the JSON in a file; ``what`` names it in the log.

    ``None`` if the file does not exist, or is damaged: then it is set aside, neither read again nor lost. Raises
    ``OSError`` if it cannot be read now, which says nothing about its content.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return parse(json.loads(text.decode()))
    except DAMAGE as error:
        _log.warning("the %s in %s is damaged and set aside: %s", what, path.name, type(error).__name__)
        with contextlib.suppress(OSError):
            path.rename(path.with_name(path.name + ".damaged"))
        return None


class UnusableFiles:
    """Files and folders that cannot be used now, such as those of another user: each is logged once."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def log(self, path: Path, error: OSError) -> None:
        """``path`` is left as it is."""
        if path.name not in self._known and len(self._known) < MAX_RECORDS:
            self._known.add(path.name)
            _log.warning("%s cannot be used and is ignored: %s", path, type(error).__name__)


def write_synced(folder: Path, name: str, data: object) -> None:
    """Writes a file that is complete and flushed to disk when this returns. Raises ``OSError``."""
    make_private(folder)
    replace(folder / name, lambda file: json.dump(data, file, ensure_ascii=False), durable=True)
