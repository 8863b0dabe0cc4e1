"""IDs as people have them at hand: out of a message, a log line, the address of a page or a header."""

from __future__ import annotations

import re
from typing import Final

from otel_resilience.correlation import is_correlation_id

LEAST_DIGITS: Final = 8
"""Digits of a correlation ID that are taken for the whole."""

_CORRELATION_ID: Final = re.compile(r"(?<![0-9a-z])[0-9a-f]{32}(?![0-9a-z])")
_BEGINNING: Final = re.compile(rf"[0-9a-f]{{{LEAST_DIGITS},31}}")
_AROUND: Final = " \t\r\n\"'`“”‘’«»()[]<>{}.,;:…/"


def pasted(text: str) -> str:
    """The ID in ``text``, in lower case.

    A correlation ID may stand within other text (a ``traceparent``, ``correlation_id=…``, an address), or be written
    with the hyphens of a UUID. Of an address of another page its last part is taken, of other text what is between
    quotes, brackets and full stops::

        pasted("https://catalog.example/incidents/0123456789abcdef")    # '0123456789abcdef'
    """
    given = text.lower()
    within = set(_CORRELATION_ID.findall(given))
    if len(within) == 1:
        return str(within.pop())
    last = given.strip(_AROUND).partition("?")[0].rpartition("/")[2].strip(_AROUND)
    digits = last.replace("-", "")
    return digits if is_correlation_id(digits) else last


def is_beginning(text: str) -> bool:
    """Whether ``text`` is taken for the first digits of a correlation ID."""
    return _BEGINNING.fullmatch(text) is not None
