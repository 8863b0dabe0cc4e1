"""What an HTTP status means. Pure.

Severity: LOW for what is expected and passes (throttling, a missing resource), MEDIUM for temporary failures and for
requests that the server cannot process, HIGH for what a person has to fix, CRITICAL for refused credentials.
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
from otel_resilience.classification.rules import verdicts

CONTROL_NOT_MODIFIED: Final = Classification(ErrorClass.CONTROL, Severity.LOW, "304", BreakerEffect.SUCCESS)
"""304 in the form of an exception: what the client has is still valid."""

_GROUPS: Final = (
    (verdicts.BAD_REQUEST, (400, 405, 406, 411, 413, 414, 415, 422, 426, 431, 451)),
    (verdicts.AUTHENTICATION, (401, 403)),
    (verdicts.BAD_PROGRAM, (402,)),
    (verdicts.NOT_FOUND, (404, 410)),
    (verdicts.MISUSE, (407, 511)),  # from something in between
    (verdicts.SERVER_ERROR, (408,)),
    (verdicts.SERVER_ERROR.replace(breaker=BreakerEffect.NEUTRAL), (421, 425)),
    (verdicts.CONFLICT, (409, 423)),
    (verdicts.THROTTLED, (429, 509)),
    (verdicts.SERVER_ERROR, (500, 502, 503, 504, *range(520, 525), 529)),
    (verdicts.OVERLOADED, (507, 525, 530)),
    (verdicts.BROKEN_SERVER, (501, 505, 508, 526)),
)
_BY_STATUS: Final = {
    status: verdict.replace(error_type=str(status)) for verdict, statuses in _GROUPS for status in statuses
}
_REDIRECT: Final = verdicts.MISUSE.replace(severity=Severity.MEDIUM)
_FAMILIES: Final = {1: _REDIRECT, 3: _REDIRECT, 4: verdicts.BAD_REQUEST, 5: verdicts.SERVER_ERROR}
"""An unknown status counts as the first of its family (RFC 9110, 15)."""

_NOT_HTTP: Final = verdicts.BROKEN_SERVER.replace(error_type=error_types.INVALID_RESPONSE)


def classify_status(
    status: int,
    headers: Mapping[str, str] | None = None,
    *,
    method: str | None = None,
    now: Callable[[], float] = time.time,
) -> Classification | None:
    """The verdict on a response; ``None`` for 2xx and 304, which are not failures.

    ``headers`` are those of the response: ``Retry-After`` counts wherever a repetition can help, ``X-Ratelimit-Reset``
    with 429 and 509. The request's ``method`` decides whether it may be repeated at all. ``now`` gives the wall clock
    in seconds since the epoch; it is called only if the headers alone do not say how long to wait.
    """
    return judge_response(status, functools.partial(header_of, headers) if headers else None, method=method, now=now)


def judge_response(
    status: int,
    header: Callable[[str], str | None] | None,
    *,
    method: str | None = None,
    now: Callable[[], float] = time.time,
) -> Classification | None:
    """Like :func:`classify_status`, with a function that gives the value of a header by its name in lower case."""
    if 200 <= status < 300 or status == 304:
        return None
    verdict = _BY_STATUS.get(status)
    if verdict is None:
        family = _FAMILIES.get(status // 100)
        verdict = _NOT_HTTP if family is None else family.replace(error_type=str(status))
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
