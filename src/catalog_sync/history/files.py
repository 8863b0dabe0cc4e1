"""A folder of small files, named by time, of which the newest are kept."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from catalog_sync.store.files import write_json_atomically

_SUFFIX: Final = ".json"

_log = logging.getLogger(__name__)


class DatedFiles:
    """One document per file. Several processes may write: no file is changed, and a missing one is not an error.

    Keeps at most ``most`` files, no older than ``age`` seconds and no larger than ``total`` bytes together.
    """

    def __init__(self, folder: Path, *, most: int, age: float, total: int) -> None:
        self._folder = folder
        self._most, self._age, self._total = most, age, total

    def write(self, at: float, name: str, document: Any) -> None:
        """Adds a document of the time ``at``, in seconds since the epoch; removes old ones. Raises ``OSError``."""
        write_json_atomically(self._folder / f"{_dated(at)}-{name}{_SUFFIX}", document)
        # Files left by a killed writer have such a name as well, and are removed in turn.
        room = self._total
        for kept, path in enumerate(self._paths()):
            room -= _size(path)
            if kept >= self._most or room < 0 or path.name < _dated(at - self._age):
                path.unlink(missing_ok=True)

    def names(self, name: str = "") -> Iterator[str]:
        """The files, newest first, or those with one name. Raises ``OSError`` if the folder cannot be read."""
        ending = f"-{name}{_SUFFIX}" if name else _SUFFIX
        return (path.name for path in self._paths() if path.name.endswith(ending))

    def read(self, file: str) -> Any:
        """The document of one of :meth:`names`; ``None`` if it is gone, or cannot be read, which is logged."""
        try:
            return json.loads((self._folder / file).read_text("utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            _log.warning("%s/%s cannot be read: %s", self._folder.name, file, type(error).__name__)
            return None

    def documents(self, name: str = "") -> Iterator[Any]:
        """The documents of :meth:`names`, without those that cannot be read."""
        return (document for file in self.names(name) if (document := self.read(file)) is not None)

    def _paths(self) -> list[Path]:
        try:
            return sorted(self._folder.iterdir(), key=lambda path: path.name, reverse=True)
        except FileNotFoundError:
            return []


def _dated(at: float) -> str:
    return f"{max(0, int(at * 1000)):014d}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
