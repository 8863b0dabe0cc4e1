"""Rules for httpx and httpx2. Nothing here imports it.

``ConnectError`` covers a refused port as well as an unknown host, a bad certificate or a full file table, so its cause
decides.
"""

from __future__ import annotations

from typing import Final

from otel_resilience.classification.causes import by_class_name, message_of, nearest_verdict
from otel_resilience.classification.model import Classification, ErrorClass, Rule, flagged
from otel_resilience.classification.request_shown import shown_idempotent
from otel_resilience.classification.rules import os_errors, verdicts
from otel_resilience.classification.rules.carried_status import answered


def _protocol(exception: BaseException) -> Classification:
    text = message_of(exception)
    if text.startswith("Server disconnected"):
        return verdicts.KEEP_ALIVE_RACE
    return verdicts.ENDED if text.startswith("peer closed connection") else verdicts.GARBAGE


def _proxy(exception: BaseException) -> Classification:
    text = message_of(exception)
    if text.startswith("407"):
        return verdicts.PROXY_REFUSES.replace(error_type="407")
    return verdicts.PROXY_REFUSES if text == "Invalid username/password" else verdicts.PROXY


def _broken(exception: BaseException, default: Classification = os_errors.BROKEN) -> Classification:
    """For a connection in use: a cause that is not transient decides."""
    behind = nearest_verdict(exception, os_errors.judge)
    return default if behind is None or behind.error_class is ErrorClass.TRANSIENT else behind.replace(unsent=False)


def _unread(exception: BaseException) -> Classification:
    return _broken(exception, verdicts.ENDED)


_CLASSES: Final[dict[str, Classification | Rule]] = {
    "ConnectTimeout": verdicts.CONNECT_TIMEOUT,
    "ReadTimeout": verdicts.READ_TIMEOUT,
    "WriteTimeout": verdicts.WRITE_TIMEOUT,
    "PoolTimeout": verdicts.POOL,
    "TimeoutException": verdicts.READ_TIMEOUT,
    "ConnectError": os_errors.connecting,
    "ReadError": _unread,
    "WriteError": _broken,
    "CloseError": _broken,
    "NetworkError": _broken,
    "RemoteProtocolError": _protocol,
    "LocalProtocolError": verdicts.MISUSE,
    "ProtocolError": _protocol,
    "ProxyError": _proxy,
    "UnsupportedProtocol": verdicts.MISUSE,
    "TransportError": _broken,
    "DecodingError": verdicts.CONFIRM_ONCE,
    "TooManyRedirects": verdicts.TOO_MANY_REDIRECTS,
    "InvalidURL": verdicts.MISUSE,
    "CookieConflict": verdicts.MISUSE,
    "StreamError": verdicts.MISUSE,
    "HTTPStatusError": answered,
}
_by_name: Final = by_class_name({"httpx": _CLASSES, "httpx2": _CLASSES})


def classify_httpx(exception: BaseException) -> Classification | None:
    """The verdict on an exception of httpx or httpx2; ``None`` on any other."""
    verdict = _by_name(exception)
    if verdict is None:
        return None
    idempotent = shown_idempotent(exception)
    return verdict if idempotent is None else flagged(verdict, "idempotent", idempotent)
