"""Standard streams that may be closed, broken, or unable to encode what is printed."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, Final

from catalog_sync import exit_codes

if TYPE_CHECKING:
    from collections.abc import Callable

_NAMES: Final = ("stdin", "stdout", "stderr")


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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def with_output(body: Callable[[], int]) -> int:
    """What ``body`` returns; 141 where the reader of its output has left (``| head -1``), 1 where it takes none."""
    try:
        code = body()
        sys.stdout.flush()  # so that this is noticed here
    except OSError as error:
        reader_left = isinstance(error, BrokenPipeError)
        if not reader_left:
            sys.stderr.write(f"the output cannot be written: {error.strerror}\n")
        # What is still buffered goes nowhere, and must not fail again at exit.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                os.dup2(nowhere, stream.fileno())
        return exit_codes.BROKEN_PIPE if reader_left else exit_codes.FAILED
    return code
