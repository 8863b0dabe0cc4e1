"""Rules for requests. Nothing here imports it.

What urllib3 says behind an exception is more exact: a ``ConnectionError`` is a refused port as well as an unknown host
or a body that stays away.
"""

from __future__ import annotations

from typing import Final

from otel_resilience._internal.foreign import args_of, attribute, is_a
from otel_resilience.classification.causes import by_class_name, nearest_verdict
from otel_resilience.classification.model import Classification, Rule
from otel_resilience.classification.rules import os_errors, verdicts
from otel_resilience.classification.rules.carried_status import classify_carried_status
from otel_resilience.classification.rules.urllib3 import classify_urllib3

_CLASSES: Final = {
    "ConnectTimeout": verdicts.CONNECT_TIMEOUT,
    "ReadTimeout": verdicts.READ_TIMEOUT,
    "Timeout": verdicts.READ_TIMEOUT,
    "ProxyError": verdicts.PROXY,
    "SSLError": os_errors.TLS_REFUSED,
    "ConnectionError": os_errors.BROKEN,
    "ChunkedEncodingError": verdicts.ENDED,
    "ContentDecodingError": verdicts.CONFIRM_ONCE,
    "InvalidJSONError": verdicts.CONFIRM_ONCE,
    "RetryError": verdicts.SERVER_ERROR,
    "TooManyRedirects": verdicts.TOO_MANY_REDIRECTS,
    "HTTPError": verdicts.CONFIRM_ONCE,
    "RequestException": verdicts.MISUSE,
}
_by_name: Final = by_class_name((f"requests.exceptions.{name}", verdict) for name, verdict in _CLASSES.items())
_LOOKED_BEHIND: Final = (os_errors.BROKEN, os_errors.TLS_REFUSED, verdicts.PROXY, verdicts.ENDED, verdicts.SERVER_ERROR)


def classify_requests(exception: BaseException) -> Classification | None:
    """The verdict on an exception of requests; ``None`` on any other."""
    verdict = _by_name(exception)
    if verdict is verdicts.CONFIRM_ONCE and attribute(exception, "response") is not None:
        return classify_carried_status(exception) or verdict
    if not any(verdict is each for each in _LOOKED_BEHIND):
        return verdict
    inner = args_of(exception)[:1]
    known = classify_urllib3(inner[0]) if inner and is_a(inner[0], BaseException) else None
    return known or nearest_verdict(exception, classify_urllib3) or verdict


RULES: Final[tuple[Rule, ...]] = (classify_requests,)
"""Silent on everything that it did not raise."""
