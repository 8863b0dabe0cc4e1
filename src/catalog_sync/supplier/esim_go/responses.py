"""One HTTP exchange with a supplier: bounded bodies, no surprise redirects, and errors that keep their status.

Bodies are decompressed here and not by httpx, because a small compressed chunk may become a very large one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import zlib
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NoReturn

import httpx

from catalog_sync.domain.errors import InvalidDataError, PayloadTooLargeError, RedirectRefusedError
from catalog_sync.domain.text import printable
from otel_resilience import BreakerEffect, Classification, ErrorClass, Severity
from otel_resilience.classification import error_types
from otel_resilience.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLE_CHARS: Final = 200
"""How much of an unexpected body a message shows, redacted."""

MAX_ERROR_BODY: Final = 65_536
"""Bytes read of the body of an error answer; the rest is not needed."""

MAX_DEPTH: Final = 64
"""Arrays and objects within each other; a catalogue needs five."""

MAX_DIGITS: Final = 400
"""Digits of a number, or of its exponent's size; doubles end at 309."""

_NO_NUMBER: Final = Decimal("NaN")
_TOKENS: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
"""Strings, so that brackets within them do not count, and brackets."""

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

CONFIRM_ONCE: Final = Classification(
    ErrorClass.PERMANENT, Severity.HIGH, error_types.INVALID_RESPONSE, BreakerEffect.FAILURE, max_retries=1
)
"""An answer with status 200 that cannot be used: asked for once more, since gateways do that in passing."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer, its body decompressed."""

    request: httpx.Request
    status: int
    headers: httpx.Headers
    body: bytes


async def exchange(
    client: httpx.AsyncClient, request: httpx.Request, *, max_body_bytes: int, on_headers: Callable[[], None]
) -> Answer:
    """Send ``request`` and read the answer, at most ``max_body_bytes`` of it after decompression.

    Calls ``on_headers`` once the status line is in. Raises ``PayloadTooLargeError`` where a successful answer is
    larger, ``InvalidDataError`` where its encoding is unknown or broken, and what httpx raises; an error answer is cut
    short instead.
    """
    response = await client.send(request, stream=True, follow_redirects=False)
    try:
        on_headers()
        success = response.is_success
        body = await _read(response, max_body_bytes if success else MAX_ERROR_BODY, cut=not success)
    finally:
        await response.aclose()
    return Answer(request, response.status_code, response.headers, body)


async def _read(response: httpx.Response, limit: int, *, cut: bool) -> bytes:
    announced = response.headers.get("content-length", "")
    if not cut and announced.isascii() and announced.isdigit() and int(announced[:20]) > limit:
        _too_large(limit)
    inflate = _decoder(response.headers.get("content-encoding", ""), lenient=cut)
    body = bytearray()
    try:
        async for chunk in response.aiter_raw():
            data = chunk if inflate is None else inflate.decompress(chunk, limit + 1 - len(body))
            body += data
            if len(body) > limit:
                if not cut:
                    _too_large(limit)
                return bytes(body[:limit])
    except zlib.error as error:
        if cut:
            return bytes(body)
        raise InvalidDataError("the answer is not in the encoding it claims", classification=CONFIRM_ONCE) from error
    if inflate is not None and not inflate.eof and body and not cut:
        raise InvalidDataError("the compressed answer ends too early", classification=CONFIRM_ONCE)
    return bytes(body)


def _decoder(encoding: str, *, lenient: bool) -> zlib._Decompress | None:
    name = encoding.strip().lower()
    if name in {"", "identity"}:
        return None
    if name in {"gzip", "x-gzip", "deflate"}:
        return zlib.decompressobj(zlib.MAX_WBITS | 32)  # the header tells gzip from zlib
    if lenient:
        return None
    raise InvalidDataError(
        "the answer has a content encoding that was not asked for",
        classification=CONFIRM_ONCE,
        context={"encoding": name},
    )


def _too_large(limit: int) -> NoReturn:
    raise PayloadTooLargeError(f"the answer is larger than {limit} bytes", context={"limit_bytes": limit})


def redirect_target(answer: Answer) -> httpx.URL:
    """Where a redirect leads. Raises ``RedirectRefusedError`` unless it stays on the host and does not leave TLS."""
    origin = answer.request.url
    try:
        target = origin.join(answer.headers.get("location", ""))
    except (httpx.InvalidURL, ValueError) as error:
        raise RedirectRefusedError("the supplier redirects to something that is no URL") from error
    same_port = (target.port, target.scheme) == (origin.port, origin.scheme)
    upgraded = origin.scheme == "http" and target.scheme == "https" and origin.port is None and target.port is None
    if target.host != origin.host or not (same_port or upgraded):
        raise RedirectRefusedError(
            "the supplier redirects to another host, port or to plain http; not followed",
            context={"target_host": target.host, "target_scheme": target.scheme},
        )
    return target


def too_many_redirects(limit: int) -> RedirectRefusedError:
    """The error after ``limit`` redirects."""
    return RedirectRefusedError(
        f"the supplier redirects more than {limit} times",
        classification=Classification(ErrorClass.PERMANENT, Severity.HIGH, error_types.TOO_MANY_REDIRECTS),
    )


def raise_for_status(answer: Answer, operation: str) -> None:
    """Raise ``httpx.HTTPStatusError`` unless the answer is a success; headers and start of the body stay with it."""
    if 200 <= answer.status < 300:
        return
    # As bytes: httpx reads headers in any encoding and writes text as ASCII alone.
    headers = [(k, v) for k, v in answer.headers.raw if k.lower() not in {b"content-encoding", b"content-length"}]
    response = httpx.Response(answer.status, headers=headers, content=answer.body, request=answer.request)
    raise httpx.HTTPStatusError(
        f"{operation}: the supplier answered {answer.status}: {sample(answer.body)}",
        request=answer.request,
        response=response,
    )


def sample(body: bytes) -> str:
    """The start of a body for a message: redacted, on one line."""
    # Redaction comes before the cut: a secret that is cut in two would not be recognised.
    text = redact(body[: 8 * SAMPLE_CHARS].decode("utf-8", "replace"))
    return printable(" ".join(text.split()))[:SAMPLE_CHARS]


def parse_json(answer: Answer) -> Any:
    """The JSON of a successful answer, numbers with a fraction as ``Decimal``.

    One bad value costs no more than itself: bytes that are not UTF-8 become halves of surrogate pairs, numbers beyond
    any use NaN, and what is nested deeper than :data:`MAX_DEPTH` ``None``; the validation of rows refuses those.

    Raises ``InvalidDataError``, to be confirmed by one retry, where it is empty, HTML, truncated or no JSON.
    """
    content_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = answer.body.strip()
    if not body:
        _invalid(answer, "the answer is empty", content_type)
    if body.startswith(b"<") or content_type in {"text/html", "application/xhtml+xml"}:
        _invalid(answer, "the answer is a web page", content_type)
    try:
        encoding = json.detect_encoding(body)
        text = body.decode(encoding, "surrogateescape" if encoding.startswith("utf-8") else "surrogatepass")
        try:
            return _loads(text)
        except RecursionError:
            return _loads(_flattened(text))
    except (ValueError, RecursionError) as error:
        _invalid(answer, "the answer is not JSON, or cut off", content_type, error)


def _loads(text: str) -> Any:
    return json.loads(text, parse_float=_decimal, parse_int=_integer, parse_constant=Decimal)


def _decimal(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except ArithmeticError:  # an exponent beyond the range of decimals: no price, but no reason to lose the page
        return _NO_NUMBER
    # Some arithmetic on 1e999999999 would write all its digits out.
    return number if abs(number.adjusted()) <= MAX_DIGITS else _NO_NUMBER


def _integer(text: str) -> int | Decimal:
    return int(text) if len(text) <= MAX_DIGITS else _NO_NUMBER


def _flattened(text: str) -> str:
    """``text`` with ``null`` in place of every array and object that lies deeper than :data:`MAX_DEPTH`."""
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


def _invalid(answer: Answer, what: str, content_type: str, cause: BaseException | None = None) -> NoReturn:
    raise InvalidDataError(
        f"{what}: {sample(answer.body)!r}" if answer.body else what,
        classification=CONFIRM_ONCE,
        context={
            "content_type": content_type or None,
            "body_bytes": len(answer.body),
            "body_sha256": hashlib.sha256(answer.body).hexdigest(),
        },
    ) from cause
