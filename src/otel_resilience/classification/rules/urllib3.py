"""Rules for urllib3 1.26 and 2, alone and behind other clients. Nothing here imports it."""

from __future__ import annotations

import re
from typing import Final

from otel_resilience._internal.foreign import args_of, attribute, is_a
from otel_resilience.classification.causes import by_class_name, message_of, nearest_verdict
from otel_resilience.classification.model import Classification, Rule
from otel_resilience.classification.rules import os_errors, stdlib, verdicts
from otel_resilience.classification.rules.http_status import judge_response

_CONNECT: Final = os_errors.REFUSED
_TLS: Final = os_errors.TLS_REFUSED

_CLASSES: Final = {
    "NewConnectionError": _CONNECT,
    "ConnectTimeoutError": verdicts.CONNECT_TIMEOUT,
    "ReadTimeoutError": verdicts.READ_TIMEOUT,
    "TimeoutError": verdicts.READ_TIMEOUT,
    "SSLError": _TLS,
    "ProxyError": verdicts.PROXY,
    "ProtocolError": os_errors.BROKEN,
    "IncompleteRead": verdicts.ENDED,
    "InvalidChunkLength": verdicts.ENDED,
    "ResponseNotChunked": verdicts.MISUSE,
    "DecodeError": verdicts.CONFIRM_ONCE,
    "HeaderParsingError": verdicts.GARBAGE,
    "EmptyPoolError": verdicts.POOL,
    "FullPoolError": verdicts.POOL,
    "ClosedPoolError": verdicts.MISUSE,
    "HTTPError": verdicts.MISUSE,
}
_by_name: Final = by_class_name((f"urllib3.exceptions.{name}", verdict) for name, verdict in _CLASSES.items())
_TOO_MANY: Final = re.compile(r"too many (\d{3} error responses|redirects|error responses)")
_MOST_LEVELS: Final = 5


def classify_urllib3(exception: BaseException) -> Classification | None:
    """The verdict on an exception of urllib3; ``None`` on any other."""
    return _judge(exception, _MOST_LEVELS)


RULES: Final[tuple[Rule, ...]] = (classify_urllib3,)
"""Silent on everything that it did not raise."""


def _judge(exception: BaseException, levels: int) -> Classification | None:
    verdict = _by_name(exception)
    if verdict is None or not levels:
        return verdict
    reason = attribute(exception, "reason")
    if is_a(reason, BaseException):  # MaxRetryError
        return _judge(reason, levels - 1) or stdlib.classify_stdlib(reason) or verdict
    if verdict is _CONNECT:
        behind = nearest_verdict(exception, os_errors.judge)
        return _CONNECT if behind is None else behind.replace(unsent=True)
    if verdict is _TLS or verdict is verdicts.PROXY or verdict is os_errors.BROKEN:
        return _inner(exception, verdict)
    return _refused(message_of(exception)) or verdict


def _inner(exception: BaseException, verdict: Classification) -> Classification:
    """What the last argument, an exception, says, or what stands behind."""
    inner = args_of(exception)[-1:]
    if verdict is verdicts.PROXY:
        refuses = bool(inner) and "407" in str(inner[0])
        return verdicts.PROXY_REFUSES.replace(error_type="407") if refuses else verdict
    known = stdlib.classify_stdlib(inner[0]) if inner and is_a(inner[0], BaseException) else None
    return known or nearest_verdict(exception, stdlib.classify_stdlib) or verdict


def _refused(text: str) -> Classification | None:
    """What urllib3 says once its own retries have ended by answers, of which it keeps only the status."""
    found = _TOO_MANY.match(text)
    if found is None:
        return None
    status = found[1][:3]
    if status.isdigit():
        return judge_response(int(status), None)
    return verdicts.TOO_MANY_REDIRECTS if found[1] == "redirects" else verdicts.SERVER_ERROR
