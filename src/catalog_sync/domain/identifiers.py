"""IDs as people have them at hand: from a message, a log line, the address of a page or a header."""

from __future__ import annotations

import re
from typing import Final

from otel_resilience.correlation import is_correlation_id

LEAST_DIGITS: Final = 8
"""Digits that are enough to identify a correlation ID."""

_CORRELATION_ID: Final = re.compile(r"(?<![0-9a-z])[0-9a-f]{32}(?![0-9a-z])")
_BEGINNING: Final = re.compile(rf"[0-9a-f]{{{LEAST_DIGITS},31}}")
_AROUND: Final = " \t\r\n\"'`“”‘’«»()[]<>{}.,;:…/"


def pasted(text: str) -> str:
    """The ID in ``text``, in lower case.

    A correlation ID may be part of other text (a ``traceparent``, ``correlation_id=…``, an address), or be written with
    the hyphens of a UUID. Of any other address the last part is taken, of other text the part between quotes, brackets
    and full stops::

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
    """Whether ``text`` counts as the first digits of a correlation ID."""
    return _BEGINNING.fullmatch(text) is not None
