"""Standard streams that may be closed, full, broken, or unable to encode what is printed."""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import os
import sys
from typing import TYPE_CHECKING, Final

from catalog_sync import exit_codes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NAMES: Final = ("stdin", "stdout", "stderr")
_SUBSTITUTES: Final = "catalog_sync.substitutes"
_PLAIN: Final = {"·": "-", "→": "->", "…": "..."}


class OutputError(BaseException):  # no handler of a command is for this: the command itself went well
    """stdout takes nothing, as on a full disk. That its reader has left is a ``BrokenPipeError``."""


class _Stdout(io.TextIOWrapper):
    """Raises :class:`OutputError` if the system refuses what is printed."""

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
    codecs.register_error(_SUBSTITUTES, _substitute)
    _replace("stdout", _Stdout)
    _replace("stderr", _Stderr)


def _replace(name: str, kind: type[_Stdout | _Stderr]) -> None:
    """Give the stream of this name the behaviour of ``kind``; one that is not Python's own keeps its behaviour."""
    stream = getattr(sys, name)
    if type(stream) is not io.TextIOWrapper:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_SUBSTITUTES)
        return
    is_first = stream is getattr(sys, f"__{name}__")
    encoding, line_buffering, write_through = stream.encoding, stream.line_buffering, stream.write_through
    made = kind(
        stream.detach(),
        encoding=encoding,
        errors=_SUBSTITUTES,
        line_buffering=line_buffering,
        write_through=write_through,
    )
    setattr(sys, name, made)
    if is_first:  # by which the size of the terminal is asked, among others
        setattr(sys, f"__{name}__", made)


def _substitute(error: UnicodeError) -> tuple[str, int]:
    """What an encoding lacks: our own punctuation in plain characters, everything else as JSON escapes it.

    Lines of the JSON log stay JSON.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    return _PLAIN.get(character) or json.dumps(character)[1:-1], error.start + 1


def with_output(body: Callable[[], int]) -> int:
    """What ``body`` returns; 141 if the reader of its output has left (``| head -1``), 1 if it takes none."""
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
