"""Processing of complete responses: controlled redirects, errors that keep their status, tolerant JSON parsing."""

from __future__ import annotations

import hashlib
import json
import re
from decimal import Decimal
from typing import Any, Final, NoReturn

import httpx

from catalog_sync.domain.errors import InvalidDataError, RedirectRefusedError
from catalog_sync.domain.text import printable
from otel_resilience import BreakerEffect, Classification, ErrorClass, Severity
from otel_resilience.classification import error_types
from otel_resilience.redaction import redact

SAMPLE_CHARS: Final = 200
"""Maximum characters of an unexpected body that a message shows, redacted."""

MAX_DEPTH: Final = 64
"""Maximum nesting of arrays and objects; a catalogue needs five."""

MAX_DIGITS: Final = 400
"""Maximum digits of a number, or of its exponent; doubles end at 309."""

_NO_NUMBER: Final = Decimal("NaN")
_TOKENS: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
"""Strings, so that brackets within them do not count, and brackets."""

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS: Final = 5

CONFIRM_ONCE: Final = Classification(
    ErrorClass.PERMANENT, Severity.HIGH, error_types.INVALID_RESPONSE, BreakerEffect.FAILURE, max_retries=1
)
"""A response with status 200 that cannot be used: requested once more, since gateways do that occasionally."""


def is_redirect(response: httpx.Response) -> bool:
    """Whether it names another address."""
    return response.status_code in REDIRECTS and "location" in response.headers


def redirect_target(response: httpx.Response, followed: int) -> httpx.URL:
    """The target of a redirect, after ``followed`` others.

    Raises ``RedirectRefusedError`` if it leaves the host or TLS, and if there are too many.
    """
    if followed == MAX_REDIRECTS:
        raise RedirectRefusedError(
            f"the supplier redirects more than {MAX_REDIRECTS} times",
            classification=Classification(ErrorClass.PERMANENT, Severity.HIGH, error_types.TOO_MANY_REDIRECTS),
        )
    origin = response.request.url
    try:
        target = origin.join(response.headers.get("location", ""))
    except (httpx.InvalidURL, ValueError) as error:
        raise RedirectRefusedError("the supplier redirects to something that is not a URL") from error
    same_port = (target.port, target.scheme) == (origin.port, origin.scheme)
    upgraded = origin.scheme == "http" and target.scheme == "https" and origin.port is None and target.port is None
    if target.host != origin.host or not (same_port or upgraded):
        raise RedirectRefusedError(
            "the supplier redirects to another host, port or to plain http; not followed",
            context={"target_host": target.host, "target_scheme": target.scheme},
        )
    return target


def raise_for_status(response: httpx.Response, operation: str) -> None:
    """Raises ``httpx.HTTPStatusError`` unless the response is a success; it keeps headers and start of the body."""
    if not response.is_success:
        raise httpx.HTTPStatusError(
            f"{operation}: the supplier answered {response.status_code}: {sample(response.content)}",
            request=response.request,
            response=response,
        )


def sample(body: bytes) -> str:
    """The start of a body for a message: redacted, on one line."""
    # Redaction comes before truncation: a secret that is cut in two would not be recognised.
    text = redact(body[: 8 * SAMPLE_CHARS].decode("utf-8", "replace"))
    return printable(" ".join(text.split()))[:SAMPLE_CHARS]


def parse_json(response: httpx.Response) -> Any:
    """The JSON of a successful response, numbers with a fraction as ``Decimal``.

    A bad value affects only itself: bytes that are not UTF-8 become unpaired surrogates, numbers of absurd size NaN,
    and anything nested deeper than :data:`MAX_DEPTH` ``None``; the validation of rows rejects those.

    Raises ``InvalidDataError``, to be confirmed by one retry, if it is empty, HTML, truncated or not JSON.
    """
    content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = response.content.strip()
    if not body:
        _invalid(response, "the answer is empty", content_type)
    if body.startswith(b"<") or content_type in {"text/html", "application/xhtml+xml"}:
        _invalid(response, "the answer is a web page", content_type)
    try:
        encoding = json.detect_encoding(body)
        text = body.decode(encoding, "surrogateescape" if encoding.startswith("utf-8") else "surrogatepass")
        try:
            return _loads(text)
        except RecursionError:
            return _loads(_flattened(text))
    except (ValueError, RecursionError) as error:
        _invalid(response, "the answer is not JSON, or cut off", content_type, error)


def _loads(text: str) -> Any:
    return json.loads(text, parse_float=_decimal, parse_int=_integer, parse_constant=Decimal)


def _decimal(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except ArithmeticError:  # an exponent beyond the range of decimals: not a price, but no reason to lose the page
        return _NO_NUMBER
    # Some arithmetic on 1e999999999 would write out all its digits.
    return number if abs(number.adjusted()) <= MAX_DIGITS else _NO_NUMBER


def _integer(text: str) -> int | Decimal:
    return int(text) if len(text) <= MAX_DIGITS else _NO_NUMBER


def _flattened(text: str) -> str:
    """``text`` with ``null`` in place of every array and object nested deeper than :data:`MAX_DEPTH`."""
    kept: list[str] = []
    depth = end = start = 0
    for token in _TOKENS.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth == MAX_DEPTH + 1:
                start = token.start()
        elif token[0] in "]}":
            depth -= 1
            if depth == MAX_DEPTH:
                kept += (text[end:start], "null")
                end = token.end()
    return "".join((*kept, text[end:]))


def _invalid(response: httpx.Response, what: str, content_type: str, cause: BaseException | None = None) -> NoReturn:
    raise InvalidDataError(
        f"{what}: {sample(response.content)!r}" if response.content else what,
        classification=CONFIRM_ONCE,
        context={
            "content_type": content_type or None,
            "body_bytes": len(response.content),
            "body_sha256": hashlib.sha256(response.content).hexdigest(),
        },
    ) from cause
