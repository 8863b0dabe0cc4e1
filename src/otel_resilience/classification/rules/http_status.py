"""What an HTTP status says. Pure.

Severity: LOW for what is expected and passes (throttling, a thing that is gone), MEDIUM for temporary failures and for
requests that the server cannot use, HIGH for what a person has to repair, CRITICAL for refused credentials.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from typing import Final

from otel_resilience._internal.foreign import header_of
from otel_resilience.classification import error_types
from otel_resilience.classification.model import BreakerEffect, Classification, ErrorClass, Severity
from otel_resilience.classification.request_shown import is_idempotent
from otel_resilience.classification.retry_after import parse_rate_limit_reset, parse_retry_after

CONTROL_NOT_MODIFIED: Final = Classification(ErrorClass.CONTROL, Severity.LOW, "304", BreakerEffect.SUCCESS)
"""304 in the shape of an exception: what the client has is still good."""

_FEW_RETRIES: Final = 2

_Kind = tuple[ErrorClass, Severity, BreakerEffect, int | None]

_UNHEALTHY: Final[_Kind] = (ErrorClass.TRANSIENT, Severity.MEDIUM, BreakerEffect.FAILURE, None)
_UNHEALTHY_SLOW: Final[_Kind] = (ErrorClass.TRANSIENT_SLOW, Severity.HIGH, BreakerEffect.FAILURE, None)
_UNABLE: Final[_Kind] = (ErrorClass.PERMANENT, Severity.HIGH, BreakerEffect.FAILURE, None)
_BAD_REQUEST: Final[_Kind] = (ErrorClass.PERMANENT, Severity.MEDIUM, BreakerEffect.SUCCESS, None)
_GONE: Final[_Kind] = (ErrorClass.PERMANENT, Severity.LOW, BreakerEffect.SUCCESS, None)
_PAYMENT: Final[_Kind] = (ErrorClass.PERMANENT, Severity.HIGH, BreakerEffect.SUCCESS, None)
_REFUSED: Final[_Kind] = (ErrorClass.PERMANENT, Severity.CRITICAL, BreakerEffect.NEUTRAL, None)
_IN_BETWEEN: Final[_Kind] = (ErrorClass.PERMANENT, Severity.HIGH, BreakerEffect.NEUTRAL, None)
_REDIRECT: Final[_Kind] = (ErrorClass.PERMANENT, Severity.MEDIUM, BreakerEffect.NEUTRAL, None)
_NOT_NOW: Final[_Kind] = (ErrorClass.TRANSIENT, Severity.MEDIUM, BreakerEffect.NEUTRAL, None)
_CONFLICT: Final[_Kind] = (ErrorClass.TRANSIENT, Severity.MEDIUM, BreakerEffect.SUCCESS, _FEW_RETRIES)
_THROTTLED: Final[_Kind] = (ErrorClass.THROTTLED, Severity.LOW, BreakerEffect.NEUTRAL, None)

_KINDS: Final[tuple[tuple[_Kind, tuple[int, ...]], ...]] = (
    (_BAD_REQUEST, (400, 405, 406, 411, 413, 414, 415, 422, 426, 431, 451)),
    (_REFUSED, (401, 403)),
    (_PAYMENT, (402,)),
    (_GONE, (404, 410)),
    (_IN_BETWEEN, (407, 511)),
    (_UNHEALTHY, (408,)),
    (_NOT_NOW, (421, 425)),
    (_CONFLICT, (409, 423)),
    (_THROTTLED, (429, 509)),
    (_UNHEALTHY, (500, 502, 503, 504, *range(520, 525), 529)),
    (_UNHEALTHY_SLOW, (507, 525, 530)),
    (_UNABLE, (501, 505, 508, 526)),
)
_FAMILIES: Final = {1: _REDIRECT, 3: _REDIRECT, 4: _BAD_REQUEST, 5: _UNHEALTHY}
"""An unknown status counts as the first of its family (RFC 9110, 15)."""

_NOT_HTTP: Final = Classification(
    ErrorClass.PERMANENT, Severity.HIGH, error_types.INVALID_RESPONSE, BreakerEffect.FAILURE
)


def _verdict(status: int, kind: _Kind) -> Classification:
    error_class, severity, breaker, max_retries = kind
    return Classification(error_class, severity, str(status), breaker, max_retries=max_retries)


_BY_STATUS: Final = {status: _verdict(status, kind) for kind, statuses in _KINDS for status in statuses}


def classify_status(
    status: int,
    headers: Mapping[str, str] | None = None,
    *,
    method: str | None = None,
    now: Callable[[], float] = time.time,
) -> Classification | None:
    """The verdict on a response; ``None`` for 2xx and 304, which are no failures.

    ``headers`` are those of the response: ``Retry-After`` counts wherever a repetition can help, ``X-Ratelimit-Reset``
    with 429 and 509. ``method`` of the request says whether it may be repeated at all. ``now`` gives the wall clock in
    seconds since the epoch; it is asked only where the headers alone do not say how long to wait.
    """
    return judge_response(status, functools.partial(header_of, headers) if headers else None, method=method, now=now)


def judge_response(
    status: int,
    header: Callable[[str], str | None] | None,
    *,
    method: str | None = None,
    now: Callable[[], float] = time.time,
) -> Classification | None:
    """As :func:`classify_status`, with a function that gives the value of a header by its name in lower case."""
    if 200 <= status < 300 or status == 304:
        return None
    verdict = _BY_STATUS.get(status)
    if verdict is None:
        family = _FAMILIES.get(status // 100)
        verdict = _NOT_HTTP if family is None else _verdict(status, family)
    hint = _hint(verdict, header, now) if header is not None and verdict.retryable else None
    if hint is None and method is None:
        return verdict
    return verdict.replace(retry_after=hint, idempotent=None if method is None else is_idempotent(method))


def _hint(verdict: Classification, header: Callable[[str], str | None], now: Callable[[], float]) -> float | None:
    asked = header("retry-after")
    reset = header("x-ratelimit-reset") if verdict.error_class is ErrorClass.THROTTLED else None
    if asked is None and reset is None:
        return None
    date = header("date")
    hints = (_read(parse_retry_after, asked, date, now), _read(parse_rate_limit_reset, reset, date, now))
    return max((hint for hint in hints if hint is not None), default=None)


def _read(
    parse: Callable[..., float | None], value: str | None, date: str | None, now: Callable[[], float]
) -> float | None:
    if value is None:
        return None
    hint = parse(value, date=date)
    return parse(value, date=date, now=now()) if hint is None else hint
