"""Rules for aiohttp's client. Nothing here imports it.

Its total time limit ends in a plain ``TimeoutError``, which the standard library's rules know.
"""

from __future__ import annotations

from typing import Final

from otel_resilience._internal.foreign import attribute, is_a
from otel_resilience.classification.causes import by_class_name, nearest_verdict
from otel_resilience.classification.model import Classification, Rule
from otel_resilience.classification.rules import os_errors, verdicts
from otel_resilience.classification.rules.carried_status import classify_carried_status

_CONNECT: Final = os_errors.REFUSED
_ANSWERED: Final = verdicts.CONFIRM_ONCE

_CLASSES: Final = {
    "TooManyRedirects": verdicts.TOO_MANY_REDIRECTS,
    "ClientResponseError": _ANSWERED,
    "ConnectionTimeoutError": verdicts.CONNECT_TIMEOUT,
    "ServerTimeoutError": verdicts.READ_TIMEOUT,
    "ServerDisconnectedError": verdicts.KEEP_ALIVE_RACE,
    "ServerFingerprintMismatch": os_errors.CERTIFICATE,
    "ClientProxyConnectionError": verdicts.PROXY,
    "ClientConnectorCertificateError": os_errors.CERTIFICATE,
    "ClientConnectorError": _CONNECT,
    "ClientConnectionError": os_errors.BROKEN,
    "ClientPayloadError": verdicts.ENDED,
    "ClientError": verdicts.MISUSE,
    "WSMessageTypeError": verdicts.GARBAGE,
}
_by_name: Final = by_class_name(
    [
        *((f"aiohttp.client_exceptions.{name}", verdict) for name, verdict in _CLASSES.items()),
        ("aiohttp.http_exceptions.BadHttpMessage", verdicts.GARBAGE),
    ]
)


def classify_aiohttp(exception: BaseException) -> Classification | None:
    """The verdict on an exception of aiohttp's client; ``None`` on any other."""
    verdict = _by_name(exception)
    if verdict is _ANSWERED:
        return _answered(exception)
    if verdict is _CONNECT:
        reason = attribute(exception, "os_error")
        behind = os_errors.judge(reason) if is_a(reason, BaseException) else None
        behind = behind or nearest_verdict(exception, os_errors.judge)
        return _CONNECT if behind is None else behind.replace(unsent=True)
    if verdict is os_errors.BROKEN:
        return os_errors.judge(exception) or verdict
    return verdict


RULES: Final[tuple[Rule, ...]] = (classify_aiohttp,)
"""Silent on everything that it did not raise, and on what its server raises."""


def _answered(exception: BaseException) -> Classification:
    """By the status; an answer that is no HTTP has 400, which no server has said."""
    cause = nearest_verdict(exception, _by_name)
    return cause or classify_carried_status(exception) or _ANSWERED
