"""Rules for urllib3 1.26 and 2, alone and behind other clients. Nothing here imports it."""

from __future__ import annotations

import re
from typing import Final

from otel_resilience._internal.foreign import args_of, attribute, is_a
from otel_resilience.classification.causes import by_class_name, judged_behind, message_of
from otel_resilience.classification.model import Classification, Rule
from otel_resilience.classification.rules import os_errors, verdicts
from otel_resilience.classification.rules.http_status import judge_response
from otel_resilience.classification.rules.stdlib import classify_stdlib

_TOO_MANY: Final = re.compile(r"too many (\d{3} error responses|redirects|error responses)")


def _proxy(exception: BaseException) -> Classification:
    refuses = "407" in str(args_of(exception)[-1:])
    return verdicts.PROXY_REFUSES.replace(error_type="407") if refuses else verdicts.PROXY


def _other(exception: BaseException) -> Classification:
    """urllib3's own retries ended with error responses, of which it keeps only the status; otherwise misuse."""
    found = _TOO_MANY.match(message_of(exception))
    if found is None:
        return verdicts.MISUSE
    status = found[1][:3]
    if status.isdigit():
        return judge_response(int(status), None) or verdicts.MISUSE
    return verdicts.TOO_MANY_REDIRECTS if found[1] == "redirects" else verdicts.SERVER_ERROR


_CLASSES: Final[dict[str, Classification | Rule]] = {
    "NewConnectionError": os_errors.connecting,
    "ConnectTimeoutError": verdicts.CONNECT_TIMEOUT,
    "ReadTimeoutError": os_errors.read_timeout,
    "TimeoutError": verdicts.READ_TIMEOUT,
    "SSLError": judged_behind(classify_stdlib, os_errors.TLS_REFUSED, argument=-1),
    "ProxyError": _proxy,
    "ProtocolError": judged_behind(classify_stdlib, os_errors.BROKEN, argument=-1),
    "IncompleteRead": verdicts.ENDED,
    "InvalidChunkLength": verdicts.ENDED,
    "ResponseNotChunked": verdicts.MISUSE,
    "DecodeError": verdicts.CONFIRM_ONCE,
    "HeaderParsingError": verdicts.GARBAGE,
    "EmptyPoolError": verdicts.POOL,
    "FullPoolError": verdicts.POOL,
    "ClosedPoolError": verdicts.MISUSE,
    "HTTPError": _other,
}
_judge_reason: Final = by_class_name({"urllib3.exceptions": _CLASSES})


def _gave_up(exception: BaseException) -> Classification:
    """Its own retries have ended: judged by the last reason, which is never another MaxRetryError."""
    reason = attribute(exception, "reason")
    if is_a(reason, BaseException):
        return _judge_reason(reason) or classify_stdlib(reason) or verdicts.MISUSE
    return _other(exception)


classify_urllib3: Final = by_class_name({"urllib3.exceptions": {**_CLASSES, "MaxRetryError": _gave_up}})
"""The verdict on an exception of urllib3; ``None`` on any other."""
