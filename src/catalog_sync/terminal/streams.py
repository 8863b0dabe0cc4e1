"""Standard streams that may be closed, full, broken, or unable to encode what is printed."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TYPE_CHECKING, Final

from catalog_sync import exit_codes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NAMES: Final = ("stdin", "stdout", "stderr")


class OutputError(Exception):
    """stdout takes nothing, as on a full disk.

    No ``OSError``: what a command makes of those is not true of its own output. That its reader has left is a
    ``BrokenPipeError``.
    """


class _Stdout(io.TextIOWrapper):
    """Raises :class:`OutputError` where the system refuses what is printed."""

    def write(self, text: str, /) -> int:
        with _refusals():
            return super().write(text)

    def flush(self) -> None:
        with _refusals():
            super().flush()


class _Stderr(io.TextIOWrapper):
    """Drops what the system refuses: there is no place left to say so, and how the command ended stays as it is."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except BrokenPipeError:
            raise
        except OSError:
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except BrokenPipeError:
            raise
        except OSError:
            return


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(error.strerror or type(error).__name__) from error


def prepare_streams() -> None:
    """Let all output go somewhere, and let both streams take every text.

    A stream that was closed before the start (``>&-``) leads to nowhere: its number would be given to the next file or
    socket that is opened. What an encoding lacks is escaped instead of raising.
    """
    for number, name in enumerate(_NAMES):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
    sys.stdout = _prepared(sys.stdout, _Stdout)
    sys.stderr = _prepared(sys.stderr, _Stderr)


def _prepared(stream: object, kind: type[_Stdout | _Stderr]) -> io.TextIOWrapper:
    """``stream`` with the behaviour of ``kind``; one that somebody put in place of Python's own keeps its behaviour."""
    if type(stream) is not io.TextIOWrapper:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        return stream  # type: ignore[return-value]  # whatever was put there takes text
    encoding, line_buffering, write_through = stream.encoding, stream.line_buffering, stream.write_through
    return kind(
        stream.detach(),
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=line_buffering,
        write_through=write_through,
    )


def with_output(body: Callable[[], int]) -> int:
    """What ``body`` returns; 141 where the reader of its output has left (``| head -1``), 1 where it takes none."""
    try:
        code = body()
        sys.stdout.flush()  # so that this is noticed here
    except (OutputError, BrokenPipeError) as error:
        if isinstance(error, OutputError):
            sys.stderr.write(f"the output cannot be written: {error}\n")
        # What is still buffered goes nowhere, and must not fail again at exit.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OutputError, BrokenPipeError):
                os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        return exit_codes.FAILED if isinstance(error, OutputError) else exit_codes.BROKEN_PIPE
    return code
