"""Rules for httpx and httpx2. Nothing here imports it.

``ConnectError`` hides a refused port as well as an unknown host, a bad certificate or a full file table, so what lies
behind it decides.
"""

from __future__ import annotations

from typing import Final

from otel_resilience._internal.foreign import attribute
from otel_resilience.classification.causes import by_class_name, message_of, nearest_verdict
from otel_resilience.classification.model import Classification, ErrorClass, Rule, flagged
from otel_resilience.classification.request_shown import shown_idempotent
from otel_resilience.classification.rules import os_errors, verdicts
from otel_resilience.classification.rules.carried_status import status_of

_CONNECT: Final = os_errors.REFUSED

_CLASSES: Final = {
    "ConnectTimeout": verdicts.CONNECT_TIMEOUT,
    "ReadTimeout": verdicts.READ_TIMEOUT,
    "WriteTimeout": verdicts.WRITE_TIMEOUT,
    "PoolTimeout": verdicts.POOL,
    "TimeoutException": verdicts.READ_TIMEOUT,
    "ConnectError": _CONNECT,
    "ReadError": verdicts.ENDED,
    "WriteError": os_errors.BROKEN,
    "CloseError": os_errors.BROKEN,
    "NetworkError": os_errors.BROKEN,
    "RemoteProtocolError": verdicts.GARBAGE,
    "LocalProtocolError": verdicts.MISUSE,
    "ProtocolError": verdicts.GARBAGE,
    "ProxyError": verdicts.PROXY,
    "UnsupportedProtocol": verdicts.MISUSE,
    "TransportError": os_errors.BROKEN,
    "DecodingError": verdicts.CONFIRM_ONCE,
    "TooManyRedirects": verdicts.TOO_MANY_REDIRECTS,
    "InvalidURL": verdicts.MISUSE,
    "CookieConflict": verdicts.MISUSE,
    "StreamError": verdicts.MISUSE,
    "HTTPStatusError": verdicts.CONFIRM_ONCE,
}

_by_name: Final = by_class_name(
    (f"{package}.{name}", verdict) for package in ("httpx", "httpx2") for name, verdict in _CLASSES.items()
)


def classify_httpx(exception: BaseException) -> Classification | None:
    """The verdict on an exception of httpx or httpx2; ``None`` on any other."""
    verdict = _by_name(exception)
    if verdict is None:
        return None
    response = attribute(exception, "response")
    if response is not None:
        verdict = status_of(exception, response) or verdict
    elif verdict is _CONNECT:
        behind = nearest_verdict(exception, os_errors.judge)
        verdict = _CONNECT if behind is None else behind if behind.unsent else flagged(behind, "unsent", True)
    elif verdict is verdicts.GARBAGE:
        verdict = _protocol(message_of(exception))
    elif verdict is verdicts.PROXY:
        verdict = _proxy(message_of(exception))
    elif verdict is verdicts.ENDED or verdict is os_errors.BROKEN:
        behind = nearest_verdict(exception, os_errors.judge)
        if behind is not None and behind.error_class is not ErrorClass.TRANSIENT:
            verdict = behind.replace(unsent=False)
    idempotent = shown_idempotent(exception)
    return verdict if idempotent is None else flagged(verdict, "idempotent", idempotent)


RULES: Final[tuple[Rule, ...]] = (classify_httpx,)
"""Silent on everything that neither raised."""


def _protocol(text: str) -> Classification:
    if text.startswith("Server disconnected"):
        return verdicts.KEEP_ALIVE_RACE
    return verdicts.ENDED if text.startswith("peer closed connection") else verdicts.GARBAGE


def _proxy(text: str) -> Classification:
    if text.startswith("407"):
        return verdicts.PROXY_REFUSES.replace(error_type="407")
    return verdicts.PROXY_REFUSES if text == "Invalid username/password" else verdicts.PROXY
