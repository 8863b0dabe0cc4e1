"""Takes secrets out of text before it reaches a log, a span, a metric, a report or a terminal.

Two nets: secrets that were registered are found exactly, in the spellings in which text carries them (percent-encoded,
escaped, base64); others by their shape. The cost grows linearly with the text and stops at :data:`MAX_TEXT`.
"""

from __future__ import annotations

import base64
import functools
import re
import threading
from typing import Final

__all__ = [
    "MAX_SECRET",
    "MAX_TEXT",
    "MIN_SECRET",
    "REDACTED",
    "is_secret_name",
    "redact",
    "redact_url",
    "register_secret",
]

REDACTED: Final = "***"
"""Stands in the place of a secret."""
MIN_SECRET: Final = 4
"""Characters; shorter values are not registered, since they would blank out ordinary words."""
MAX_SECRET: Final = 1024
"""Characters of a secret that are looked for; one that is longer is found by its start."""
MAX_TEXT: Final = 65_536
"""Characters of a text that are kept; the rest is cut off."""

_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"}  # as html.escape has them
_MIN_BASE64 = 8
_CUT_MARK = "… [cut]"

_SENSITIVE = (  # a pattern of names
    r"(?:api[_-]?key|access[_-]?key(?:[_-]?id)?|secret[_-]?key|routing[_-]?key|token|secret|passwo?r?d|passphrase"
    r"|signature|credentials?|(?<![a-z0-9])(?:sig|pwd|auth|jwt)(?![a-z0-9]))"
)
_HEADER_NAME = r"(?:x-api-key|api-key|x-auth-token|proxy-authorization|authorization|set-cookie|cookie)"
_SENSITIVE_KEY = rf"(?i){_SENSITIVE}|{_HEADER_NAME}|^key$"
_VALUE = r"""(?:\\{0,3}"[^"\n]{0,4096}"?|\\{0,3}'[^'\n]{0,4096}'?|[^&\s"'<>#]+)"""

_SHAPES: Final = (
    # Everything before the last @ of a URL's authority, the user name too: some services take the key as user name.
    (r"(?<=://)[^/\s?#]*@", f"{REDACTED}@"),
    (r"(?i)(hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers))/[^\s\"'<>]+", rf"\1/{REDACTED}"),
    (
        (
            rf"(?i)({_HEADER_NAME}[\"']?\s{{0,8}}[:=,]\s{{0,8}}(?:b(?=[\"']))?[\"']?)((?:bearer|basic|token|apikey|digest)\s{{1,8}})?"
            r"[^\s\"',]+"
        ),
        rf"\1\2{REDACTED}",
    ),
    (r"(?i)\b(bearer\s{1,8})[a-z0-9._~+/=-]{8,}", rf"\1{REDACTED}"),
    (rf"(?i)({_SENSITIVE}[a-z0-9]{{0,8}}\s{{0,4}}=\s{{0,4}}){_VALUE}", rf"\1{REDACTED}"),
    (r"(?i)((?<=[?&;])key=)[^&\s\"'<>#]+", rf"\1{REDACTED}"),
    # JSON and reprs of mappings, also when quoted once more.
    (
        rf"(?i)({_SENSITIVE}\\{{0,3}}[\"']\s{{0,8}}:\s{{0,8}}b?\\{{0,3}}[\"'])[^\"'\\\n]+",
        rf"\1{REDACTED}",
    ),
    (r"\bxox[abeoprs]-[A-Za-z0-9-]{8,}", REDACTED),
    # ICCID, the number of a SIM card: 89 and 17 or 18 digits.
    (r"(?<!\d)89\d{17,18}(?!\d)", REDACTED),
    # redis-py repeats a part of the failed command, values included.
    (r"(Command # \d{1,9} \(\S{1,64})[^\n]{0,256}?(?=\) of pipeline caused error)", rf"\1 {REDACTED}"),
)

_URL_SHAPES: Final = 2
"""How many of them, from the first, are about a part of a URL."""


@functools.cache
def _shapes() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Compiled when a text is first looked at: that takes as long as a third of all imports."""
    return tuple((re.compile(pattern), replacement) for pattern, replacement in _SHAPES)


_lock = threading.Lock()
_known: dict[str, tuple[str, ...]] = {}
_exact: re.Pattern[str] | None = None


def register_secret(value: str) -> None:
    """Masks this exact value from now on, wherever :func:`redact` runs, in the spellings in which text carries it.

    Values shorter than :data:`MIN_SECRET` are left alone.

    Examples:
        >>> from otel_resilience.redaction import redact, register_secret
        >>> register_secret("correct horse")
        >>> redact("refused: correct horse, correct%20horse")
        'refused: ***, ***'
    """
    global _exact  # one registry per process
    value = value.strip()[:MAX_SECRET]
    if len(value) < MIN_SECRET or value in _known:
        return
    with _lock:
        _known[value] = (_spellings(value), *map(re.escape, _base64_cores(value)))
        patterns = sorted((form for forms in _known.values() for form in forms), key=len, reverse=True)
        _exact = re.compile("|".join(patterns))


def redact(text: str) -> str:
    """``text`` without secrets, at most :data:`MAX_TEXT` characters of it.

    Examples:
        >>> from otel_resilience.redaction import redact
        >>> redact("Authorization: Bearer abcdefgh12345678")
        'Authorization: Bearer ***'
    """
    exact = _exact
    cut = len(text) > MAX_TEXT
    if cut:
        text = text[:MAX_TEXT]
    if exact is not None:
        # First what only its surroundings give away: a short registered secret may be a part of them.
        for pattern, replacement in _shapes()[:_URL_SHAPES]:
            text = pattern.sub(replacement, text)
        text = exact.sub(REDACTED, text)
    for pattern, replacement in _shapes():
        text = pattern.sub(replacement, text)
    if not cut:
        return text
    # A secret that the cut divides is no longer recognised: what may be its start goes too.
    return text[: max(0, len(text) - 6 * MAX_SECRET)] + _CUT_MARK


def redact_url(url: str) -> str:
    """A URL without user information and without the values of secret query parameters.

    Examples:
        >>> from otel_resilience.redaction import redact_url
        >>> redact_url("https://me:mine@api.example/plans?page=2&token=abcdef")
        'https://***@api.example/plans?page=2&token=***'
    """
    head, question, rest = url.partition("?")
    if question:
        query, hash_mark, fragment = rest.partition("#")
        query = "&".join(_redact_parameter(part) for part in query.split("&"))
        url = f"{head}?{query}{hash_mark}{fragment}"
    return redact(url)


def is_secret_name(name: str) -> bool:
    """Whether a value under this name (of a parameter, a header, an attribute) is a secret.

    Examples:
        >>> from otel_resilience.redaction import is_secret_name
        >>> is_secret_name("X-API-Key"), is_secret_name("page")
        (True, False)
    """
    return re.search(_SENSITIVE_KEY, name.replace("_", "-")) is not None


def _redact_parameter(part: str) -> str:
    name, equals, value = part.partition("=")
    from urllib.parse import unquote_plus  # few texts are URLs with parameters

    return f"{name}={REDACTED}" if equals and value and is_secret_name(unquote_plus(name)) else part


def _spellings(value: str) -> str:
    """A pattern for the value as it is, percent-encoded, or escaped as in JSON, Python and HTML, also in mixtures."""
    return "".join(map(_spelling, value))


def _spelling(char: str) -> str:
    if char.isascii() and char.isalnum():
        return char
    code = ord(char)
    units = char.encode("utf-16-be", "surrogatepass").hex()
    forms = {
        *map(re.escape, (char, _HTML.get(char, char), f"&#{code};", f"&#x{code:x};")),
        "(?i:" + "".join(f"%{byte:02x}" for byte in char.encode("utf-8", "surrogatepass")) + ")",
        "".join(rf"\\{{1,4}}u(?i:{units[at : at + 4]})" for at in range(0, len(units), 4)),
        rf"\\{{1,4}}U(?i:{code:08x})",
        "".join(rf"\\{{1,4}}x(?i:{byte:02x})" for byte in char.encode("utf-8", "surrogatepass")),
        r"\\{1,3}" + re.escape(char),
    }
    if code < 0x100:
        forms.add(rf"\\{{1,4}}x(?i:{code:02x})")
    if char == " ":
        forms.add(r"\+")
    return "(?:" + "|".join(sorted(forms, key=len, reverse=True)) + ")"


def _base64_cores(value: str) -> set[str]:
    """What base64 makes of the value at each of the three offsets, without the digits that depend on its neighbours."""
    raw = value.encode("utf-8", "surrogatepass")
    cores = set()
    for offset in range(3):
        data = b"\0" * offset + raw
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            digits = encode(data).decode("ascii").rstrip("=")
            start = -(-offset * 8 // 6)
            core = digits[start : len(data) * 8 // 6]
            if len(core) >= _MIN_BASE64:
                cores.add(core)
    return cores
