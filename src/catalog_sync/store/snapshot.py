"""The last good catalogue on disk: what readers get when Redis does not answer.

A gzip file of JSON lines: the metadata first, then one bundle per line, and finally a line with their number and
SHA-256. It is written to a temporary file and renamed, so that a reader finds either the old or the new one, complete;
one predecessor is kept.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import logging
import os
import time
import zlib
from collections.abc import AsyncIterable, Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from catalog_sync.domain.models import Bundle, CatalogueMeta
from catalog_sync.settings.folders import make_private
from catalog_sync.store.files import replace_durably

log = logging.getLogger(__name__)

FORMAT = 1
FILE_NAME = "catalogue.snapshot.jsonl.gz"
PREVIOUS_NAME = "catalogue.snapshot.previous.jsonl.gz"
MAX_LINE = 64 * 1024 * 1024
"""Maximum bytes of one line; a file with a longer one counts as damaged."""
_LEVEL = 1


class SnapshotCorruptError(ValueError):
    """The file is damaged, truncated, or not one of our snapshots."""


class SnapshotFile:
    """A snapshot that was found complete."""

    def __init__(self, path: Path, meta: CatalogueMeta) -> None:
        self.path = path
        self.meta = meta

    def bundles(self) -> Iterator[Bundle]:
        """All bundles, in the order in which they were stored. Reads the file during iteration.

        Raises :class:`SnapshotCorruptError` or ``OSError`` if the file changed after it was checked.
        """
        for line in _bundle_lines(self.path, self.meta):
            try:
                yield Bundle.from_json_text(line)
            except ValueError as error:
                raise SnapshotCorruptError("a bundle cannot be read") from error


class Snapshot:
    """The snapshot in a state directory. File access runs in threads."""

    def __init__(self, state_dir: Path, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._directory = state_dir
        self._wall_clock = wall_clock
        self._checked: tuple[tuple[int, int, int], SnapshotFile] | None = None

    @property
    def path(self) -> Path:
        """The newest snapshot."""
        return self._directory / FILE_NAME

    async def write_version(self, meta: CatalogueMeta, lines: AsyncIterable[tuple[int, bytes]]) -> None:
        """Replaces the snapshot by a version; ``lines`` yields blocks of lines, each with its number of bundles.

        Raises ``OSError`` (disk full), ``ValueError`` if the number of bundles is wrong, and what ``lines`` raises.
        """
        writer = await asyncio.to_thread(_Writer, self._directory, meta)
        try:
            async for count, block in lines:
                await asyncio.to_thread(writer.add, count, block)
            await asyncio.to_thread(writer.publish, self.path, self._directory / PREVIOUS_NAME)
        finally:
            writer.close()

    async def load(self) -> SnapshotFile | None:
        """The newest complete snapshot, checked to its end. Damaged ones are set aside with a warning."""
        return await asyncio.to_thread(self._load)

    async def was_written(self) -> bool:
        """Whether there ever was a snapshot here, even if it is damaged or cannot be read; ``False`` if the folder
        cannot be listed."""

        def look() -> bool:
            try:
                return any(self._directory.glob("catalogue.snapshot.*"))
            except OSError as error:
                log.warning("the snapshots in %s cannot be listed: %s", self._directory, type(error).__name__)
                return False

        return await asyncio.to_thread(look)

    def _load(self) -> SnapshotFile | None:
        for path in (self.path, self._directory / PREVIOUS_NAME):
            try:
                found = path.stat()
            except FileNotFoundError:
                continue
            except OSError as error:
                log.warning("the snapshot %s cannot be read: %s", path.name, type(error).__name__)
                continue
            identity = (found.st_ino, found.st_mtime_ns, found.st_size)
            if self._checked is not None and self._checked[0] == identity:
                return self._checked[1]
            try:
                snapshot = SnapshotFile(path, _check(path))
            except OSError as error:
                log.warning("the snapshot %s cannot be read: %s", path.name, type(error).__name__)
            except SnapshotCorruptError as error:
                self._set_aside(path, error)
            else:
                self._checked = (identity, snapshot)
                return snapshot
        return None

    def _set_aside(self, path: Path, error: Exception) -> None:
        aside = path.with_name(f"{path.name}.corrupt-{int(self._wall_clock())}")
        try:
            path.rename(aside)
        except OSError as failure:
            log.warning("the damaged snapshot %s (%s) stays: %s", path.name, error, type(failure).__name__)
        else:
            log.warning("the snapshot %s is damaged (%s); kept as %s", path.name, error, aside.name)


class _Writer:
    def __init__(self, directory: Path, meta: CatalogueMeta) -> None:
        make_private(directory)
        self._meta = meta
        self._directory = directory
        self._path = directory / f".{FILE_NAME}.{os.getpid()}.{id(self):x}.tmp"
        self._remove_leftovers()
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file: IO[bytes] = os.fdopen(descriptor, "wb")
        self._gzip = gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=self._file, mtime=0)
        self._digest = hashlib.sha256()
        self._count = 0
        self._gzip.write(_line({"format": FORMAT, "meta": meta.to_json()}))

    def _remove_leftovers(self) -> None:
        """Removes the files of killed writers."""
        for leftover in self._directory.glob(f".{FILE_NAME}.*.tmp"):
            pid = leftover.name.split(".")[-3]
            if not (pid.isdigit() and _alive(int(pid))):
                leftover.unlink(missing_ok=True)

    def add(self, count: int, lines: bytes) -> None:
        self._digest.update(lines)
        self._gzip.write(lines)
        self._count += count

    def publish(self, path: Path, previous: Path) -> None:
        if self._count != self._meta.bundles:
            raise ValueError(f"{self._meta.bundles} bundles were announced for the snapshot, {self._count} came")
        self._gzip.write(_line({"bundles": self._count, "sha256": self._digest.hexdigest()}))
        self._gzip.close()
        if path.exists():
            # A second name for the old file, so that the first name always exists.
            spare = self._path.with_name(self._path.name.removesuffix(".tmp") + "old.tmp")
            os.link(path, spare)
            spare.replace(previous)
        replace_durably(self._file, self._path, path)

    def close(self) -> None:
        """Removes an unpublished file."""
        try:
            self._gzip.close()
            self._file.close()
        except OSError as error:
            log.debug("an unfinished snapshot did not close properly: %s", type(error).__name__)
        self._path.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _line(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of the file; any damage becomes :class:`SnapshotCorruptError`."""
    try:
        with gzip.open(path, "rb") as file:
            while line := file.readline(MAX_LINE):
                if not line.endswith(b"\n"):
                    raise SnapshotCorruptError("the file ends inside a line, or a line is too long")
                yield line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SnapshotCorruptError("the file is cut short or no gzip file") from error


def _meta(line: bytes | None) -> CatalogueMeta:
    try:
        header = json.loads(line or b"")
        if header["format"] != FORMAT:
            raise SnapshotCorruptError("the file has another format")
        return CatalogueMeta.from_json(header["meta"])
    except (ValueError, KeyError, TypeError) as error:
        raise SnapshotCorruptError("the first line cannot be read") from error


def _check(path: Path) -> CatalogueMeta:
    """Reads the whole file once."""
    lines = _lines(path)
    meta = _meta(next(lines, None))
    digest = hashlib.sha256()
    for count, line in enumerate(lines):
        if count == meta.bundles:
            _check_end(line, count, digest.hexdigest())
            if next(lines, None) is not None:
                raise SnapshotCorruptError("the file goes on after its last line")
            return meta
        digest.update(line)
    raise SnapshotCorruptError("the file ends early")


def _check_end(line: bytes, count: int, sha256: str) -> None:
    try:
        matches = json.loads(line) == {"bundles": count, "sha256": sha256}
    except ValueError as error:
        raise SnapshotCorruptError("the last line cannot be read") from error
    if not matches:
        raise SnapshotCorruptError("number or checksum of the bundles is wrong")


def _bundle_lines(path: Path, meta: CatalogueMeta) -> Iterator[bytes]:
    lines = _lines(path)
    found = _meta(next(lines, None))
    if found.version != meta.version or found.bundles != meta.bundles:
        raise SnapshotCorruptError("the file was replaced")
    for _ in range(meta.bundles):
        line = next(lines, None)
        if line is None:
            raise SnapshotCorruptError("the file ends early")
        yield line
