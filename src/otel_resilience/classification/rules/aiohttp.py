"""Rules for aiohttp's client. Nothing here imports it.

Its total timeout raises a plain ``TimeoutError``, which the standard library's rules handle.
"""

from __future__ import annotations

from typing import Final

from otel_resilience._internal.foreign import attribute, is_a
from otel_resilience.classification.causes import by_class_name, nearest_verdict
from otel_resilience.classification.model import Classification
from otel_resilience.classification.rules import os_errors, verdicts
from otel_resilience.classification.rules.carried_status import answered

_NO_HTTP: Final = {"aiohttp.http_exceptions": {"BadHttpMessage": verdicts.GARBAGE}}
_no_http: Final = by_class_name(_NO_HTTP)


def _answered(exception: BaseException) -> Classification:
    """By the status; an answer that is not HTTP is given status 400, which no server sent."""
    return nearest_verdict(exception, _no_http) or answered(exception)


def _connecting(exception: BaseException) -> Classification:
    reason = attribute(exception, "os_error")
    known = os_errors.judge(reason) if is_a(reason, BaseException) else None
    return os_errors.connecting(exception) if known is None else known.replace(unsent=True)


def _broken(exception: BaseException) -> Classification:
    return os_errors.judge(exception) or os_errors.BROKEN


classify_aiohttp: Final = by_class_name(
    {
        "aiohttp.client_exceptions": {
            "TooManyRedirects": verdicts.TOO_MANY_REDIRECTS,
            "ClientResponseError": _answered,
            "ConnectionTimeoutError": verdicts.CONNECT_TIMEOUT,
            "ServerTimeoutError": verdicts.READ_TIMEOUT,
            "ServerDisconnectedError": verdicts.KEEP_ALIVE_RACE,
            "ServerFingerprintMismatch": os_errors.CERTIFICATE,
            "ClientProxyConnectionError": verdicts.PROXY,
            "ClientConnectorCertificateError": os_errors.CERTIFICATE,
            "ClientConnectorError": _connecting,
            "ClientConnectionError": _broken,
            "ClientPayloadError": verdicts.ENDED,
            "ClientError": verdicts.MISUSE,
            "WSMessageTypeError": verdicts.GARBAGE,
        },
        **_NO_HTTP,
    }
)
"""The verdict on an exception of aiohttp's client; ``None`` on any other, and on what its server raises."""
