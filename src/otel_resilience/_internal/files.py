"""Files and folders for state. They may name systems and people, so only this user can read them."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TextIO

try:
    import fcntl
except ImportError:  # Windows: there are no locks, and the last writer wins
    fcntl = None  # type: ignore[assignment]

_PAUSE: Final = 0.001
"""Seconds between two attempts to get a lock."""


def make_private(folder: Path) -> None:
    """Makes ``folder`` and its missing parents with mode 0700; existing ones are left as they are. Raises ``OSError``.

    ``Path.mkdir`` applies its mode only to the last folder.
    """
    missing = [each for each in folder.parents if not each.exists()]
    for each in (*reversed(missing), folder):
        each.mkdir(mode=0o700, exist_ok=True)


def try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock of the file ``path``; ``None`` if another process holds it. The lock is released
    when its process ends. Raises ``OSError``."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextlib.contextmanager
def locked(path: Path, within: float) -> Iterator[None]:
    """Holds the lock of :func:`try_lock`.

    Raises ``TimeoutError`` if another process holds it for longer than ``within`` seconds, and ``OSError``.
    """
    give_up_at = time.monotonic() + within
    while (descriptor := try_lock(path)) is None:
        if time.monotonic() >= give_up_at:
            raise TimeoutError(f"{path.name} is held by another process")
        time.sleep(_PAUSE)
    try:
        yield
    finally:
        os.close(descriptor)  # releases the lock


def replace(path: Path, write: Callable[[TextIO], object], *, durable: bool) -> None:
    """Atomically replaces a file with what ``write`` writes: a reader finds either the old file or the new one,
    complete. Raises ``OSError``, and whatever ``write`` raises.

    ``durable``: the file is flushed to disk before this returns, so that a power failure does not lose it.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            write(file)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
