"""Removes secrets from text before it reaches a log, a span, a metric, a report or a terminal.

There are two mechanisms: registered secrets are matched exactly, in every encoding in which text may contain them
(percent-encoded, escaped, base64); others by their shape. The cost is linear, capped by :data:`MAX_TEXT`.
"""

from __future__ import annotations

import base64
import functools
import re
from typing import Final

from otel_resilience._internal.forks import ProcessLock

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
"""Replaces a secret."""
MIN_SECRET: Final = 4
"""Characters; shorter values are not registered, since they would blank out ordinary words."""
MAX_SECRET: Final = 1024
"""Characters of a secret that are matched; a longer one is recognised by its start."""
MAX_TEXT: Final = 65_536
"""Characters of a text that are kept; the rest is cut off."""

_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"}  # as html.escape has them
_LETTERS = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f"}  # after a backslash, in JSON and Python
_MIN_BASE64 = 8
_CUT_MARK = "… [cut]"

_KEY = (
    r"(?:access|account|api|auth|encryption|license|private|routing|secret|signing|subscription)[_ -]?key(?:[_-]?id)?"
)
_SENSITIVE = (  # a pattern of names
    rf"(?:{_KEY}|token|secret|passwo?r?d|passphrase|signature|credentials?"
    r"|(?<![a-z0-9])(?:auth|jwt|otp|pass|pin|pwd?|sig|[cx]srf|(?:j|php)?sess(?:ion)?id)(?![a-z0-9]))"
)
_HEADER_NAME = r"(?:x-api-key|api-key|x-auth-token|(?P<credentials>(?:proxy-)?authorization)|(?:set-)?cookie)"
_SENSITIVE_KEY = rf"(?i){_SENSITIVE}|{_HEADER_NAME}|^key$"
_VALUE = (
    r"""(?:"(?:\\.|[^"\\\n]){0,4096}"?|'(?:\\.|[^'\\\n]){0,4096}'?"""
    r"""|\\{1,3}"[^"\n]{0,4096}"?|\\{1,3}'[^'\n]{0,4096}'?|[^&\s"'<>#]+)"""
)

_NAMES: Final = (
    "key", "token", "secret", "pass", "sig", "credential", "pw", "auth", "jwt", "otp", "pin", "srf", "sess",
)  # fmt: skip
"""Every name that matches :data:`_SENSITIVE` contains one of these."""

_SHAPES: Final[tuple[tuple[tuple[str, ...], str, str], ...]] = (
    # Everything before the last @ of a URL's authority, including the user name: some services take the key there.
    (("://",), r"(?<=://)[^/\s?#]*@", f"{REDACTED}@"),
    (
        ("hooks.slack", "discord", "pagerduty", "webhook"),
        (
            r"(?i)(hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)|events\.pagerduty\.com/integration"
            r"|discord(?:app)?\.com/api/(?:v\d\d?/)?webhooks/\d{1,24}|office\.com/webhook(?:b2)?)/[^\s\"'<>]+"
        ),
        rf"\1/{REDACTED}",
    ),
    # Credentials are a scheme followed by one or more parts; cookies are a series.
    (
        ("api-key", "x-auth-token", "authorization", "cookie"),
        (
            rf"(?i)({_HEADER_NAME}[\"']?\s{{0,8}}[:=,]\s{{0,8}}(?:b(?=[\"']))?[\"']?)"
            r"(?P<scheme>(?:bearer|basic|token|apikey)\s{1,8})?"
            r"(?(credentials)(?(scheme)|(?:digest\s[^\n]{0,2048}|[a-z][a-z0-9-]{1,31}\s{1,8}(?=[^\s\"',;]))?))"
            r"[^\s\"',;]+(?:;\s{0,4}[^\s\"',;]+)*"
        ),
        rf"\1\g<scheme>{REDACTED}",
    ),
    (("bearer",), r"(?i)\b(bearer\s{1,8})[a-z0-9._~+/=-]{8,}", rf"\1{REDACTED}"),
    # Also as command-line options, and as XML elements.
    (
        _NAMES,
        (
            rf"(?i)((?<![\w-])--[a-z0-9-]{{0,32}}?{_SENSITIVE}\s{{1,4}}(?![-\s])|<(?:[^<>\s]{{0,32}}?){_SENSITIVE}>"
            rf"|{_SENSITIVE}[a-z0-9]{{0,8}}\s{{0,4}}(?:=|%3d)\s{{0,4}}){_VALUE}"
        ),
        rf"\1{REDACTED}",
    ),
    # Unquoted values only after names of values: "auth: refused" describes what happened.
    (
        _NAMES,
        rf"(?i)((?:{_KEY}|token|secret|passwo?r?d|passphrase|(?<![a-z0-9])pwd)(?![a-z0-9])\s{{0,4}}:\s{{0,4}}){_VALUE}",
        rf"\1{REDACTED}",
    ),
    (("key=",), r"(?i)((?<=[?&;])key=)[^&\s\"'<>#]+", rf"\1{REDACTED}"),
    # JSON and reprs of mappings, also when quoted again; the value ends with the same quotes that it starts with.
    (
        _NAMES,
        (
            rf"(?i)({_SENSITIVE}\\{{0,3}}[\"']\s{{0,8}}:\s{{0,8}}(?:b?(\\{{0,3}})([\"']))?)"
            r"(?(3)(?:(?!\2\3)(?:\\.|[^\n]))+|\d[^\s,}\])]*)"
        ),
        rf"\1{REDACTED}",
    ),
    # Pairs, as headers and parameters are displayed.
    (
        _NAMES,
        rf"(?i)(\(b?[\"'][^\"'\n]{{0,64}}?{_SENSITIVE}[\"'],\s{{0,8}}b?([\"']))(?:\\.|(?!\2)[^\\\n])+(?=\2\))",
        rf"\1{REDACTED}",
    ),
    # Tokens of Slack, GitHub, GitLab, Stripe and the makers of language models; JWTs; private keys.
    (
        ("xox", "gh", "glpat-", "_live_", "_test_", "sk-", "eyj"),
        (
            r"\b(?:xox[abeoprs]-[A-Za-z0-9-]{8,}|gh[opsru]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}"
            r"|[prs]k_(?:live|test)_\w{8,}|sk-[\w-]{20,}|eyJ[\w-]{8,512}\.[\w-]{8,8192}\.[\w-]{0,1024})"
        ),
        REDACTED,
    ),
    (
        ("private key-----",),
        r"-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,32}PRIVATE KEY-----|\Z)",
        REDACTED,
    ),
    # ICCID, the number of a SIM card: 89 and 17 or 18 digits.
    (("89",), r"(?<!\d)89\d{17,18}(?!\d)", REDACTED),
    # redis-py repeats a part of the failed command, values included.
    (
        ("command # ",),
        r"(Command # \d{1,9} \(\S{1,64})[^\n]{0,256}?(?=\) of pipeline caused error)",
        rf"\1 {REDACTED}",
    ),
)
"""For each shape: strings of which a text must contain one, in lower case, before the pattern is tried; the pattern;
and the replacement."""

_URL_SHAPES: Final = 2
"""How many shapes, from the first, are about a part of a URL."""


@functools.cache
def _shapes() -> tuple[tuple[tuple[str, ...], re.Pattern[str], str], ...]:
    """Compiled when first needed: that takes as long as a third of all imports."""
    return tuple((marks, re.compile(pattern), replacement) for marks, pattern, replacement in _SHAPES)


def _without_shapes(text: str, number: int | None = None) -> str:
    """``text`` with the first ``number`` shapes removed, by default all."""
    folded = text.casefold()
    for marks, pattern, replacement in _shapes()[:number]:
        for mark in marks:
            if mark in folded:
                text = pattern.sub(replacement, text)
                break
    return text


_lock = ProcessLock()
_known: dict[str, tuple[str, ...]] = {}
_exact: re.Pattern[str] | None = None


def register_secret(value: str) -> None:
    """Redacts this exact value from now on, wherever :func:`redact` runs, in every encoding that text may use.

    Values shorter than :data:`MIN_SECRET` are ignored.

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
    """``text`` without secrets, cut to :data:`MAX_TEXT` characters.

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
        # Shapes first: a short registered secret may be a part of one.
        text = exact.sub(REDACTED, _without_shapes(text, _URL_SHAPES))
    text = _without_shapes(text)
    if not cut:
        return text
    # A secret that is split by the cut is not recognised any more: what may be its start is removed too.
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
    return re.search(_SENSITIVE_KEY, name) is not None


def _redact_parameter(part: str) -> str:
    name, equals, value = part.partition("=")
    from urllib.parse import unquote_plus  # few texts are URLs with parameters

    return f"{name}={REDACTED}" if equals and value and is_secret_name(unquote_plus(name)) else part


def _spellings(value: str) -> str:
    """A pattern for the value as it is, percent-encoded, or escaped as in JSON, Python and HTML, also mixed."""
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
        rf"\\{{1,4}}{_LETTERS.get(char, re.escape(char))}",
    }
    if code < 0x100:
        forms.add(rf"\\{{1,4}}x(?i:{code:02x})")
    if char == " ":
        forms.add(r"\+")
    return "(?:" + "|".join(sorted(forms, key=len, reverse=True)) + ")"


def _base64_cores(value: str) -> set[str]:
    """The base64 encodings of the value at each of the three offsets, without digits that depend on neighbours."""
    raw = value.encode("utf-8", "surrogatepass")
    cores = set()
    for offset in range(3):
        data = b"\0" * offset + raw
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            start = -(-offset * 8 // 6)
            core = encode(data).decode("ascii")[start : len(data) * 8 // 6]
            if len(core) >= _MIN_BASE64:
                cores.add(core)
    return cores
