"""Rules for httpx. Nothing here imports it.

``ConnectError`` hides a refused port as well as an unknown host, a bad certificate or a full file table, so what lies
behind it decides.
"""

from __future__ import annotations

from typing import Any, Final

from otel_resilience._internal.foreign import attribute
from otel_resilience.classification import error_types
from otel_resilience.classification.causes import by_class_name, message_of, nearest_verdict
from otel_resilience.classification.model import BreakerEffect, Classification, ErrorClass, Rule, Severity
from otel_resilience.classification.request_shown import shows_idempotent
from otel_resilience.classification.rules import os_errors
from otel_resilience.classification.rules.carried_status import classify_carried_status

_COUNTED: Final = BreakerEffect.FAILURE


def _transient(error_type: str, **fields: Any) -> Classification:
    return Classification(ErrorClass.TRANSIENT, Severity.MEDIUM, error_type, _COUNTED, **fields)


_CONNECT: Final = os_errors.REFUSED
_ENDED: Final = _transient(error_types.RESPONSE_ENDED)
_KEEP_ALIVE_RACE: Final = _transient(error_types.RESPONSE_ENDED, immediate=True)
_GARBAGE: Final = _transient(error_types.INVALID_RESPONSE)
_CONFIRM_ONCE: Final = Classification(
    ErrorClass.PERMANENT, Severity.HIGH, error_types.INVALID_RESPONSE, _COUNTED, max_retries=1
)
_MISUSE: Final = Classification(ErrorClass.PERMANENT, Severity.HIGH, error_types.OTHER)
_PROXY: Final = Classification(ErrorClass.TRANSIENT, Severity.MEDIUM, error_types.PROXY_ERROR, unsent=True)
_PROXY_REFUSES: Final = Classification(ErrorClass.PERMANENT, Severity.HIGH, error_types.PROXY_ERROR, unsent=True)

_by_name: Final = by_class_name(
    {
        "httpx.ConnectTimeout": _transient(error_types.CONNECT_TIMEOUT, unsent=True),
        "httpx.ReadTimeout": _transient(error_types.READ_TIMEOUT),
        "httpx.WriteTimeout": _transient(error_types.WRITE_TIMEOUT),
        "httpx.PoolTimeout": Classification(ErrorClass.LOCAL, Severity.MEDIUM, error_types.POOL_EXHAUSTED, unsent=True),
        "httpx.TimeoutException": _transient(error_types.READ_TIMEOUT),
        "httpx.ConnectError": _CONNECT,
        "httpx.ReadError": _ENDED,
        "httpx.WriteError": os_errors.BROKEN,
        "httpx.CloseError": os_errors.BROKEN,
        "httpx.NetworkError": os_errors.BROKEN,
        "httpx.RemoteProtocolError": _GARBAGE,
        "httpx.LocalProtocolError": _MISUSE,
        "httpx.ProtocolError": _GARBAGE,
        "httpx.ProxyError": _PROXY,
        "httpx.UnsupportedProtocol": _MISUSE,
        "httpx.TransportError": os_errors.BROKEN,
        "httpx.DecodingError": _CONFIRM_ONCE,
        "httpx.TooManyRedirects": Classification(ErrorClass.PERMANENT, Severity.HIGH, error_types.TOO_MANY_REDIRECTS),
        "httpx.InvalidURL": _MISUSE,
        "httpx.CookieConflict": _MISUSE,
        "httpx.StreamError": _MISUSE,
        "httpx.HTTPStatusError": _CONFIRM_ONCE,
    }.items()
)


def classify_httpx(exception: BaseException) -> Classification | None:
    """The verdict on an exception of httpx; ``None`` on any other."""
    verdict = _by_name(exception)
    if verdict is None:
        return None
    if attribute(exception, "response") is not None:
        verdict = classify_carried_status(exception) or verdict
    elif verdict is _CONNECT:
        behind = nearest_verdict(exception, os_errors.judge)
        verdict = _CONNECT if behind is None else behind.replace(unsent=True)
    elif verdict is _GARBAGE:
        verdict = _protocol(message_of(exception))
    elif verdict is _PROXY:
        verdict = _proxy(message_of(exception))
    elif verdict is _ENDED or verdict is os_errors.BROKEN:
        behind = nearest_verdict(exception, os_errors.judge)
        if behind is not None and behind.error_class is not ErrorClass.TRANSIENT:
            verdict = behind.replace(unsent=False)
    idempotent = shows_idempotent(exception)
    return verdict if idempotent is None else verdict.replace(idempotent=idempotent)


RULES: Final[tuple[Rule, ...]] = (classify_httpx,)
"""Silent on everything that httpx did not raise."""


def _protocol(text: str) -> Classification:
    if text.startswith("Server disconnected"):
        return _KEEP_ALIVE_RACE
    return _ENDED if text.startswith("peer closed connection") else _GARBAGE


def _proxy(text: str) -> Classification:
    if text.startswith("407"):
        return _PROXY_REFUSES.replace(error_type="407")
    return _PROXY_REFUSES if text == "Invalid username/password" else _PROXY
