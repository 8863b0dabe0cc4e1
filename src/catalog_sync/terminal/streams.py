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


class OutputError(BaseException):  # not caught by handlers of commands: the command itself succeeded
    """stdout accepts nothing, as on a full disk. If its reader has gone, that is a ``BrokenPipeError``."""


class _Stdout(io.TextIOWrapper):
    """Raises :class:`OutputError` if the system refuses the output."""

    def write(self, text: str, /) -> int:
        with _refusals():
            return super().write(text)

    def flush(self) -> None:
        with _refusals():
            super().flush()


class _Stderr(io.TextIOWrapper):
    """Drops what the system refuses: there is nowhere left to report it, and the outcome of the command stays."""

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
    """Makes sure that all output goes somewhere, and that both streams accept every text.

    A stream that was closed before the start (``>&-``) is opened on the null device: otherwise its number would be
    given to the next file or socket. Characters that an encoding lacks are escaped instead of raising.
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
    """Gives the stream of this name the behaviour of ``kind``; a stream that is not Python's own is left as it is."""
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
    if is_first:  # it is used to find the size of the terminal, among others
        setattr(sys, f"__{name}__", made)


def _substitute(error: UnicodeError) -> tuple[str, int]:
    """Replaces characters that an encoding lacks: our own punctuation by plain characters, others by JSON escapes.

    Lines of the JSON log remain valid JSON.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    return _PLAIN.get(character) or json.dumps(character)[1:-1], error.start + 1


def with_output(body: Callable[[], int]) -> int:
    """What ``body`` returns; 141 if the reader of its output has gone (``| head -1``), 1 if stdout accepts nothing."""
    try:
        code = body()
        sys.stdout.flush()  # so that errors are noticed here
    except (OutputError, BrokenPipeError) as error:
        if isinstance(error, OutputError):
            sys.stderr.write(f"the output cannot be written: {error}\n")
        # What is still buffered is discarded, and must not fail again at exit.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OutputError, BrokenPipeError):
                os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        return exit_codes.FAILED if isinstance(error, OutputError) else exit_codes.BROKEN_PIPE
    return code
