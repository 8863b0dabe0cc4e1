"""Shared state in a folder: breaker and budget survive the process, and processes on one machine share them.

One small JSON file per dependency, replaced atomically under an advisory lock. Between two steps its clock advances
with the monotonic clock unless the machine was restarted in between, else with the wall clock, and never backwards.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from otel_resilience import telemetry
from otel_resilience._internal import validation as check
from otel_resilience._internal.files import locked, make_private, replace
from otel_resilience.storage.backends import validity
from otel_resilience.storage.backends.base import DocumentStorage
from otel_resilience.storage.documents import Document
from otel_resilience.storage.protocol import StorageError

T = TypeVar("T")

FORMAT: Final = 1
LOCK_LIMIT: Final = 0.04
"""Maximum seconds that a step waits for other processes."""
MAX_BYTES: Final = 1_000_000
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Identifies the current boot of the machine; empty if the system does not provide it."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


class DiskStorage(DocumentStorage):
    """A :class:`~otel_resilience.storage.Storage` in ``folder``, which is created when first needed.

    An unusable file is set aside as ``*.damaged``, which is logged once, and its state starts empty. Raises
    ``TypeError`` naming the parameter.

    ``monotonic`` and ``wall_clock`` give seconds, ``boot`` a string that changes when the machine restarts.

    Examples:
        >>> import tempfile
        >>> from otel_resilience.storage import DiskStorage, SharedState
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     shared = SharedState(DiskStorage(folder))
        ...     policy = Policy("supplier", retry=RetryConfig(), breaker=CircuitBreakerConfig(), shared=shared)
        ...     shared.close()
    """

    name = "disk"
    remote = False

    def __init__(
        self,
        folder: Path | str,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        boot: Callable[[], str] = boot_id,
    ) -> None:
        check.instance("folder", folder, Path, str)
        for name, function in (("monotonic", monotonic), ("wall_clock", wall_clock), ("boot", boot)):
            check.def_function(name, function)
        self._folder = Path(folder)
        self._monotonic = monotonic
        self._wall_clock = wall_clock
        self._boot = boot()
        self._unwritten = False
        """Whether the last write failed. The next step then writes in any case: being able to read the file does not
        mean that the disk can be written again."""

    def path(self, key: str) -> Path:
        """The file of ``key``."""
        readable = re.sub(r"[^A-Za-z0-9._-]+", "_", key)[:60]
        return self._folder / f"{readable}-{hashlib.sha256(key.encode()).hexdigest()[:8]}.json"

    def ping(self) -> None:
        """Does nothing: the next step shows any problem."""

    def close(self) -> None:
        """Nothing to close."""

    def _step(self, kind: str, key: str, change: Callable[[Document, float], T]) -> T:
        path = self.path(key)
        try:
            make_private(self._folder)
            with locked(path.with_suffix(".lock"), LOCK_LIMIT):
                parts, now = self._read(path)
                document = parts.setdefault(kind, {})
                before = json.dumps(document, sort_keys=True)
                answer = change(document, now)
                if self._unwritten or json.dumps(document, sort_keys=True) != before:
                    self._unwritten = True
                    self._write(path, parts, now)
                    self._unwritten = False
                return answer
        except TimeoutError as error:
            raise StorageError(str(error)) from error
        except OSError as error:
            raise StorageError(f"{path.name}: {error.strerror or type(error).__name__}") from error

    def _read(self, path: Path) -> tuple[dict[str, Any], float]:
        try:
            with path.open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return {}, 0.0
        try:
            if len(raw) > MAX_BYTES:
                raise ValueError("it is too large")
            content = json.loads(raw, parse_constant=_no_constant)
            validity.check_file(content, FORMAT)
        except (ValueError, RecursionError) as error:
            self._set_aside(path, str(error))
            return {}, 0.0
        return content["state"], content["at"] + self._elapsed(content)

    def _elapsed(self, content: dict[str, Any]) -> float:
        if self._boot and content["boot"] == self._boot:
            elapsed: float = self._monotonic() - content["monotonic"]
        else:
            elapsed = self._wall_clock() - content["wall"]
        return max(0.0, elapsed)

    def _write(self, path: Path, parts: dict[str, Any], now: float) -> None:
        content = {
            "format": FORMAT,
            "boot": self._boot,
            "monotonic": self._monotonic(),
            "wall": self._wall_clock(),
            "at": now,
            "state": parts,
        }
        # Not durable: a power failure loses no more than a few minutes of caution.
        replace(path, lambda file: json.dump(content, file, allow_nan=False), durable=False)

    def _set_aside(self, path: Path, reason: str) -> None:
        path.replace(path.with_suffix(".damaged"))
        telemetry.storage_damaged(self.name, path.name, reason)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")
