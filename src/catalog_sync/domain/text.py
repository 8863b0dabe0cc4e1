"""Text from outside: whether it can be stored and sent, and how the rest is shown."""

from __future__ import annotations

import re
from typing import Final

_NOT_SHOWN: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
"""Control characters, unpaired surrogates, and characters that change the text direction or the line."""


def is_encodable(text: str) -> bool:
    """Whether ``text`` can be encoded as UTF-8: half of an emoji, which JSON may contain as ``"\\ud83d"``, cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(text: str, *, limit: int | None = None) -> str:
    """``text`` on one line, safe for terminals, logs and any Unicode encoding, at most ``limit`` characters long.

    Characters that cannot be shown are escaped as in Python and JSON::

        printable("caf\\u00e9 \\ud83d")    # 'café \\\\ud83d'
    """
    shown = _NOT_SHOWN.sub(_escaped, text)
    return shown if limit is None or len(shown) <= limit else shown[: limit - 1] + "…"


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
